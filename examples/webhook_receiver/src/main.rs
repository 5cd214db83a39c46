//! Listens for webhooks: `webhook-receiver STORE ADDRESS`.

use std::error::Error;
use std::sync::Arc;

use datapool_store::{StoreOptions, Timestamp};
use webhook_receiver::{Work, routes};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, address] = arguments.as_slice() else {
        return Err("usage: webhook-receiver STORE ADDRESS".into());
    };
    let store = StoreOptions::new().open_async(store).await?;
    let pool = store.get_or_create_pool("webhooks").await?;
    let work: Work = Arc::new(|body| {
        Box::pin(async move {
            println!("{body}");
            Ok(format!("received {}\n", Timestamp::now()))
        })
    });
    let listener = tokio::net::TcpListener::bind(address).await?;
    eprintln!("listening on {}", listener.local_addr()?);
    axum::serve(listener, routes(pool, work)).with_graceful_shutdown(stopped()).await?;
    Ok(store.close().await?)
}

/// Completes on Ctrl-C or SIGTERM. Running requests are finished, and no others are accepted.
async fn stopped() {
    #[cfg(unix)]
    if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}
