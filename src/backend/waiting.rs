//! The signals by which callers wait until a value is no longer in flight.
//!
//! Owns: [`Waiting`], the signals of all values that are waited for. Always holds: a waiter prepares its
//! sleep before it reads the view by which it decides to wait, and a commit raises signals when it is
//! published, so no change is missed. A commit raises only the signals of values whose claims it changed. A
//! lease that expires raises none, because waiters know when it expires.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Wake, Waker};

use parking_lot::Mutex;

use crate::backend::fingerprint::Fingerprint;
use crate::ids::PoolId;
use crate::parallel::isolated;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread::{self, Thread};

/// The signal of one value. All callers that wait for the value share it.
#[derive(Debug, Default)]
struct Signal(Mutex<Listeners>);

#[derive(Debug, Default)]
struct Listeners {
    /// The number of times the signal was raised.
    raised: u64,
    /// The wakers of sleeping callers, each with its own number.
    wakers: BTreeMap<u64, Waker>,
    next_number: u64,
}

impl Signal {
    /// Raises the signal. Returns the wakers of the sleeping callers.
    fn raise(&self) -> impl Iterator<Item = Waker> + use<> {
        let mut listeners = self.0.lock();
        listeners.raised += 1;
        std::mem::take(&mut listeners.wakers).into_values()
    }
}

/// A sleep until a signal is raised, a lease expires, or the timeout is over.
#[derive(Debug)]
pub(crate) struct Sleep {
    registered: Arc<Registered>,
    /// The number of times the signal had been raised when the caller last looked.
    seen: u64,
    number: Option<u64>,
    /// The time to look again even if the signal was not raised.
    pub(crate) until: Option<Instant>,
}

impl Sleep {
    /// Returns true if it is time to look again. Otherwise registers the waker, which is woken when the
    /// signal is raised.
    pub(crate) fn is_over(&mut self, waker: &Waker) -> bool {
        let mut listeners = self.registered.signal.0.lock();
        if listeners.raised != self.seen || self.until.is_some_and(|until| until <= Instant::now()) {
            return true;
        }
        let number = *self.number.get_or_insert_with(|| {
            listeners.next_number += 1;
            listeners.next_number
        });
        let replaced = listeners.wakers.insert(number, waker.clone());
        drop(listeners);
        // Outside the lock: dropping a waker may run any code.
        drop(replaced);
        false
    }

    /// Blocks this thread until the sleep is over.
    pub(super) fn block(mut self) {
        let waker = Arc::new(Unpark(thread::current())).into();
        while !self.is_over(&waker) {
            match self.until {
                Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let removed = self.registered.signal.0.lock().wakers.remove(&number);
            drop(removed);
        }
    }
}

/// Wakes a thread.
pub(crate) struct Unpark(pub(crate) Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The signals of all values of a store that callers wait for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// The number of signals. If it is 0, a commit takes no lock.
    count: AtomicUsize,
    signals: Mutex<Signals>,
    /// The wakers of raised signals. A waker may run any code, so they are woken where no lock is held.
    raised: Mutex<Vec<Waker>>,
}

type Signals = HashMap<(PoolId, Fingerprint), Arc<Signal>>;

/// Keeps the signal of a value for as long as a caller waits for it.
#[derive(Debug)]
pub(super) struct Registered {
    waiting: Arc<Waiting>,
    key: (PoolId, Fingerprint),
    signal: Arc<Signal>,
}

impl Registered {
    /// Prepares to sleep until the signal is raised next. Call this before looking at the value.
    pub(super) fn sleep(self: &Arc<Self>) -> Sleep {
        let seen = self.signal.0.lock().raised;
        Sleep { registered: Arc::clone(self), seen, number: None, until: None }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut signals = self.waiting.signals.lock();
        // One reference is in the map and one is here, so nobody else waits.
        if Arc::strong_count(&self.signal) == 2 {
            signals.remove(&self.key);
            self.waiting.count.store(signals.len(), Ordering::SeqCst);
        }
    }
}

impl Waiting {
    pub(super) fn register(self: &Arc<Self>, pool: PoolId, fingerprint: Fingerprint) -> Arc<Registered> {
        let key = (pool, fingerprint);
        let mut signals = self.signals.lock();
        let signal = Arc::clone(signals.entry(key).or_default());
        self.count.store(signals.len(), Ordering::SeqCst);
        Arc::new(Registered { waiting: Arc::clone(self), key, signal })
    }

    fn is_idle(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Raises the signals of some values of a pool, because claims on them have changed.
    pub(crate) fn wake(&self, pool: PoolId, fingerprints: impl Iterator<Item = Fingerprint>) {
        if !self.is_idle() {
            let keys = fingerprints.map(|fingerprint| (pool, fingerprint));
            self.raise(|signals| {
                keys.filter_map(|key| signals.get(&key)).flat_map(|signal| signal.raise()).collect()
            });
        }
    }

    /// Raises the signals of all values of a pool, because any of them may be free now.
    pub(crate) fn wake_pool(&self, pool: PoolId) {
        if !self.is_idle() {
            self.raise(|signals| {
                let of_pool = signals.iter().filter(|((of, _), _)| *of == pool);
                of_pool.flat_map(|(_, signal)| signal.raise()).collect()
            });
        }
    }

    /// Raises all signals, because the store was closed or opened again.
    pub(crate) fn wake_all(&self) {
        self.raise(|signals| signals.values().flat_map(|signal| signal.raise()).collect());
    }

    /// Raises signals. [`notify`](Self::notify) wakes the callers that sleep.
    fn raise(&self, raise: impl FnOnce(&Signals) -> Vec<Waker>) {
        let wakers = raise(&self.signals.lock());
        self.raised.lock().extend(wakers);
    }

    /// Wakes the callers whose signals were raised. Call it where no lock is held and nobody waits for this
    /// thread.
    pub(crate) fn notify(&self) {
        if !self.is_idle() {
            let wakers = std::mem::take(&mut *self.raised.lock());
            for waker in wakers {
                isolated(|| waker.wake());
            }
        }
    }
}
