//! The signals by which callers wait until a value is no longer in flight.
//!
//! Owns: [`Waiting`], the signals of the values that are waited for. Always holds: who waits takes the signal before it reads
//! the view by which it decides to wait, and a commit raises signals while it is published, so no change is missed. A commit
//! raises only the signals of values whose claims it changed; a lease that ends raises none, since who waits knows when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::engine::format::schema::Fingerprint;
use crate::ids::PoolId;

/// The signal of one value, shared by all that wait for it.
#[derive(Debug, Default)]
pub(super) struct Signal {
    /// The number of times it was raised.
    raised: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// The number of times it was raised.
    pub(super) fn raised(&self) -> u64 {
        *self.raised.lock()
    }

    fn raise(&self) {
        *self.raised.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until it was raised more often than so many times, or until some time.
    pub(super) fn wait(&self, seen: u64, until: Option<Instant>) {
        let mut raised = self.raised.lock();
        let is_unchanged = |raised: &mut u64| *raised == seen;
        match until {
            Some(until) => _ = self.changed.wait_while_until(&mut raised, is_unchanged, until),
            None => self.changed.wait_while(&mut raised, is_unchanged),
        }
    }
}

/// The signals of all values of a store that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Their number, so that a commit for which nobody waits takes no lock.
    count: AtomicUsize,
    signals: Mutex<HashMap<(PoolId, Fingerprint), Arc<Signal>>>,
}

/// Keeps a value's signal as long as somebody waits for it.
pub(super) struct Registered<'w> {
    waiting: &'w Waiting,
    key: (PoolId, Fingerprint),
    pub(super) signal: Arc<Signal>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut signals = self.waiting.signals.lock();
        // One in the map, one here: nobody else waits.
        if Arc::strong_count(&self.signal) == 2 {
            signals.remove(&self.key);
            self.waiting.count.store(signals.len(), Ordering::SeqCst);
        }
    }
}

impl Waiting {
    pub(super) fn register(&self, pool: PoolId, fingerprint: Fingerprint) -> Registered<'_> {
        let key = (pool, fingerprint);
        let mut signals = self.signals.lock();
        let signal = Arc::clone(signals.entry(key).or_default());
        self.count.store(signals.len(), Ordering::SeqCst);
        Registered { waiting: self, key, signal }
    }

    fn is_idle(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// The claims on some values of a pool have changed.
    pub(crate) fn wake(&self, pool: PoolId, fingerprints: impl Iterator<Item = Fingerprint>) {
        if self.is_idle() {
            return;
        }
        let signals = self.signals.lock();
        for fingerprint in fingerprints {
            if let Some(signal) = signals.get(&(pool, fingerprint)) {
                signal.raise();
            }
        }
    }

    /// Any value of a pool may be free now.
    pub(crate) fn wake_pool(&self, pool: PoolId) {
        if !self.is_idle() {
            let signals = self.signals.lock();
            signals.iter().filter(|((of, _), _)| *of == pool).for_each(|(_, signal)| signal.raise());
        }
    }

    /// The clock was moved by hand, or the store is closed or opened again.
    pub(crate) fn wake_all(&self) {
        self.signals.lock().values().for_each(|signal| signal.raise());
    }
}
