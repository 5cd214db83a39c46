//! A flow runner on tokio: claims orders, delivers them, confirms each. See the README beside this package.
//!
//! ```sh
//! cargo run -p tokio-runner -- pools.redb orders.txt delivered.txt
//! ```

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use datapool_store::{AsyncClaim, AsyncPool, ClaimOptions, EntityTypeId, Key, Origin, StoreOptions};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

const ORDERS: EntityTypeId = EntityTypeId::new(37);
/// The name of this runner. Two runners that run at the same time need different names.
const OWNER: &str = "tokio-runner";
/// The time after which others may take an order whose runner is gone. It is renewed while the runner lives.
const LEASE: Duration = Duration::from_mins(10);
/// The number of orders that are delivered at the same time.
const BATCH: usize = 20;
const ATTEMPTS: u32 = 3;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, orders, sink] = arguments.as_slice() else {
        eprintln!("usage: tokio-runner STORE ORDERS SINK");
        return ExitCode::from(2);
    };
    match run(store.as_ref(), orders.as_ref(), sink.as_ref()).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} orders could not be delivered; the next run tries them again");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Delivers the orders of a file. Returns the number of those that could not be delivered.
async fn run(store: &Path, orders: &Path, sink: &Path) -> Outcome<usize> {
    let text = tokio::fs::read_to_string(orders).await?;
    let orders: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let sink = Arc::new(Sink::open(sink).await?);
    let stop = stop_signal()?;

    // A runner that was just stopped may still be closing the file.
    let store = StoreOptions::new().open_timeout(Duration::from_secs(5)).open_async(store).await?;
    let pool = store.get_or_create_pool("orders").await?;
    let mut failed = 0;
    for claim in pool.resume_claims_of(OWNER).await? {
        println!("taking up {} orders of a runner that was killed", claim.held_count());
        failed += work(claim, &sink).await?;
    }
    for batch in orders.chunks(BATCH) {
        if *stop.borrow() {
            println!("stopping");
            break;
        }
        failed += work(claim(&pool, batch).await?, &sink).await?;
    }
    // Finishes what was submitted, and closes the file before the process ends.
    store.close().await?;
    Ok(failed)
}

/// Claims the orders of a batch that no runner has delivered or is delivering.
async fn claim(pool: &AsyncPool, batch: &[&str]) -> datapool_store::Result<AsyncClaim> {
    let options = ClaimOptions::new().owner(OWNER).lease(LEASE);
    let origin = Origin::new("deliveries", "nightly", "deliver");
    pool.claim_with(batch, |order| Key::new(ORDERS, *order), &origin, &options).await
}

/// Delivers the orders of a claim concurrently, and confirms each when it is delivered. Returns the number of
/// failed orders.
async fn work(mut claim: AsyncClaim, sink: &Arc<Sink>) -> Outcome<usize> {
    let Some(fence) = claim.fencing_number() else {
        return Ok(0); // Every order of the batch is already delivered.
    };
    if claim.held_count() == 0 {
        return Ok(0);
    }
    claim.keep_alive().await?;
    let mut deliveries = JoinSet::new();
    for (index, key) in claim.keys() {
        let (order, sink) = (key.value().to_owned(), Arc::clone(sink));
        deliveries.spawn(async move { (index, deliver(&sink, &order, fence).await) });
    }
    let mut failed = 0;
    while let Some(delivery) = deliveries.join_next().await {
        let (index, delivered) = delivery?;
        match delivered {
            // If another runner has tracked the order meanwhile, it was delivered twice, and this reports an
            // error.
            Ok(()) => claim.confirm_items(&[index]).await?.all_confirmed()?,
            Err(reason) => {
                eprintln!("{reason}");
                failed += 1;
                claim.release_items(&[index]).await?;
            }
        }
    }
    Ok(failed)
}

/// Delivers an order. If that fails, tries again after a pause that grows each time.
async fn deliver(sink: &Sink, order: &str, fence: u64) -> Outcome<()> {
    let mut attempt = 1;
    loop {
        match sink.write(order, fence, attempt).await {
            Err(_) if attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(10) * 2_u32.pow(attempt)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// The system to which orders are delivered: a file. It sometimes fails, as such systems do.
struct Sink(Mutex<File>);

impl Sink {
    async fn open(path: &Path) -> Outcome<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        Ok(Self(Mutex::new(file)))
    }

    /// Refuses orders that begin with `refused`, and the first attempt for those that begin with `flaky`.
    async fn write(&self, order: &str, fence: u64, attempt: u32) -> Outcome<()> {
        tokio::time::sleep(Duration::from_millis(2)).await;
        if order.starts_with("refused") || order.starts_with("flaky") && attempt == 1 {
            return Err(format!("the sink refuses {order}").into());
        }
        let mut file = self.0.lock().await;
        file.write_all(format!("{order} {fence}\n").as_bytes()).await?;
        Ok(file.flush().await?)
    }
}

/// Becomes true on Ctrl-C or SIGTERM. The current batch is finished, and no other is begun.
fn stop_signal() -> Outcome<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
        let _ = stop.send(true);
    });
    Ok(stopped)
}
