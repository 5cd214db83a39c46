//! The thread that moves the bytes of a store's connections.
//!
//! Owns: [`Reactor`], the thread, and [`Spawner`], which gives it work. Always holds: the thread ends when the reactor is dropped;
//! work that it has not done by then is dropped. Must not know: what the work is.

use std::future::Future;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::deadline::wait;
use crate::error::{Error, Result};

/// The thread, for as long as this lives.
pub(super) struct Reactor {
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reactor {
    pub(super) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::storage(format!("starting the thread of the connections: {error}")).with_source(error)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let run = move || {
            // The sender is never used: it is dropped.
            let _ = runtime.block_on(stopped);
            // Looking up a name may take long.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("datapool-io".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn spawner(&self) -> Spawner {
        Spawner(self.handle.clone())
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It can only have panicked because of a bug, and the panic has printed its own message.
            let _ = thread.join();
        }
    }
}

/// Gives work to the thread.
#[derive(Clone)]
pub(super) struct Spawner(Handle);

impl Spawner {
    /// Starts work that nobody waits for.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work);
    }

    /// Waits on this thread for work. Returns `None` if it is not done within the limit: then it is dropped.
    ///
    /// # Errors
    ///
    /// `Closed` if the reactor has ended.
    pub(super) fn run_within<F>(&self, limit: Duration, work: F) -> Result<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let done = wait(self.0.spawn(async move { tokio::time::timeout(limit, work).await }));
        done.map(std::result::Result::ok).map_err(|_| Error::closed())
    }
}
