//! The signal with which the writer wakes the flusher.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
struct Wanted {
    flush: bool,
    stop: bool,
}

/// The signal with which the writer wakes the flusher.
#[derive(Debug, Default)]
pub(crate) struct FlushSignal {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl FlushSignal {
    /// Signals that there is something to flush.
    pub(crate) fn raise(&self) {
        let mut wanted = self.wanted.lock();
        if !wanted.flush {
            wanted.flush = true;
            self.changed.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.wanted.lock().stop = true;
        self.changed.notify_one();
    }

    /// Waits until there is something to flush, and then for the interval. Returns false when the thread must
    /// stop.
    pub(crate) fn wait(&self, interval: Duration) -> bool {
        let mut wanted = self.wanted.lock();
        self.changed.wait_while(&mut wanted, |wanted| !wanted.flush && !wanted.stop);
        self.changed.wait_while_for(&mut wanted, |wanted| !wanted.stop, interval);
        wanted.flush = false;
        !wanted.stop
    }
}
