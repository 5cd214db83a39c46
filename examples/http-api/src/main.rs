//! Serves a store file: `DATA_POOL_API_KEY=... http-api [ADDRESS] [FILE]`.

use std::env;
use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use datapool_store::DataPoolStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

const USAGE: &str = "usage: DATA_POOL_API_KEY=<key> http-api [ADDRESS [FILE]]
ADDRESS is 127.0.0.1:8080 unless given, FILE is pools.redb; a missing file is made.";

/// The time that running requests get to finish. Stalled clients must not keep the program alive.
const LAST_REQUESTS: Duration = Duration::from_mins(1);

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (address, file) = match arguments.as_slice() {
        [] => ("127.0.0.1:8080", "pools.redb"),
        [address] if !address.starts_with('-') => (address.as_str(), "pools.redb"),
        [address, file] if !address.starts_with('-') => (address.as_str(), file.as_str()),
        _ => return Err(USAGE.to_owned()),
    };
    let key = env::var("DATA_POOL_API_KEY").ok().filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| {
        format!("DATA_POOL_API_KEY is not set: it is the key that clients must send\n{USAGE}")
    })?;

    // Bind before creating the file, so that a wrong address leaves no file.
    let listener = TcpListener::bind(address).await.map_err(at(address))?;
    let store = DataPoolStore::open(file).map_err(|error| error.to_string())?;
    println!("{file} is served on http://{}/api/v1/data-pool", listener.local_addr().map_err(at(address))?);

    let stop = stop().map_err(at("signals"))?;
    let (stopping, mut stopped) = watch::channel(false);
    let serving = axum::serve(listener, http_api::router(store, key)).with_graceful_shutdown(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let given_up = async {
        // An error means that the server has ended, and then nothing waits for this.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        sleep(LAST_REQUESTS).await;
    };
    tokio::select! {
        served = serving => served.map_err(at(address)),
        () = given_up => {
            eprintln!("requests that were not sent, or answers that were not read, within {LAST_REQUESTS:?} are given up");
            Ok(())
        }
    }
}

fn at(place: &str) -> impl Fn(io::Error) -> String {
    move |error: io::Error| format!("{place}: {}", &error as &dyn Display)
}

/// Completes on Ctrl-C, and on the SIGTERM of a service manager.
fn stop() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let terminated = async move {
        #[cfg(unix)]
        terminate.recv().await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    };
    Ok(async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
    })
}
