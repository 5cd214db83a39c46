//! The flusher: one thread that brings relaxed commits to disk, parked while there is nothing to do.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::engine::Engine;
use crate::error::{Error, Result};

#[derive(Debug, Default)]
struct Wanted {
    flush: bool,
    stop: bool,
}

/// How the writer wakes the flusher.
#[derive(Debug, Default)]
pub(crate) struct FlushSignal {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl FlushSignal {
    /// There is something to flush.
    pub(crate) fn raise(&self) {
        let mut wanted = self.wanted.lock();
        if !wanted.flush {
            wanted.flush = true;
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.wanted.lock().stop = true;
        self.changed.notify_one();
    }

    /// Parks until there is something to flush, then waits out the interval. False when it is time to stop.
    fn wait(&self, interval: Duration) -> bool {
        let mut wanted = self.wanted.lock();
        self.changed.wait_while(&mut wanted, |wanted| !wanted.flush && !wanted.stop);
        self.changed.wait_while_for(&mut wanted, |wanted| !wanted.stop, interval);
        wanted.flush = false;
        !wanted.stop
    }
}

/// The running thread. Dropping it stops the thread; the last flush is the caller's.
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
    /// `Storage` if the system gives no thread.
    pub(crate) fn start(engine: &Arc<Engine>, interval: Duration) -> Result<Self> {
        let signal = Arc::clone(&engine.flush_signal);
        let engine = Arc::clone(engine);
        let run = move || {
            while engine.flush_signal.wait(interval) {
                // A failure makes the store refuse writes: the next writer hears of it.
                let _ = engine.flush();
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
            // It cannot have panicked with anything but a bug, which its own message told.
            let _ = thread.join();
        }
    }
}
