//! Serves a store file: `DATA_POOL_API_KEY=... http-api [ADDRESS] [FILE]`.

use std::env;
use std::error::Error;

use datapool_store::DataPoolStore;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let file = arguments.next().unwrap_or_else(|| "pools.redb".to_owned());
    let key = env::var("DATA_POOL_API_KEY").ok().filter(|key| !key.is_empty());
    let key = key.ok_or("DATA_POOL_API_KEY is not set: it is the key that clients must send")?;

    let store = DataPoolStore::open(&file)?;
    let listener = TcpListener::bind(&address).await?;
    println!("{file} is served on http://{}/api/v1/data-pool", listener.local_addr()?);
    axum::serve(listener, http_api::router(store, key)).with_graceful_shutdown(stop()?).await?;
    Ok(())
}

/// Ends with Ctrl-C, and with the SIGTERM of a service manager: requests under way are answered.
fn stop() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
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
