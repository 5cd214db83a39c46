//! The flusher: a thread that writes relaxed commits to disk. It is parked while there is nothing to do.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::write::flush_signal::FlushSignal;
use crate::error::{Error, Result};

/// The running thread. Dropping this stops it. The caller must make the last flush.
#[derive(Debug)]
pub(crate) struct Flusher {
    signal: Arc<FlushSignal>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// `Storage` if the system cannot start a thread.
    pub(crate) fn start(engine: &Arc<Engine>, interval: Duration) -> Result<Self> {
        let signal = Arc::clone(&engine.flush_signal);
        let engine = Arc::clone(engine);
        let run = move || {
            while engine.flush_signal.wait(interval) {
                // After a failure, the store refuses to write. The next caller that writes or closes gets the error.
                let _ = engine.flush_unheard();
            }
        };
        let thread =
            thread::Builder::new().name("datapool-flusher".to_owned()).spawn(run).map_err(|error| {
                Error::storage(format!("starting the flusher thread: {error}")).with_source(error)
            })?;
        Ok(Self { signal, thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.signal.stop();
        if let Some(thread) = self.thread.take() {
            // The thread can only have panicked because of a bug, and then the panic has printed its message.
            let _ = thread.join();
        }
    }
}
