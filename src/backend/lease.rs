//! A lease that is kept alive for as long as its claim's guard holds it.

use std::sync::Arc;
use std::time::Duration;

use super::claims::Held;
use crate::ids::PoolId;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use crate::time::Timestamp;

/// A lease that is being renewed.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) pool: PoolId,
    pub(crate) held: Held,
    pub(crate) lease: Duration,
    /// Its expiry, in microseconds.
    until: AtomicI64,
    /// True once renewals have ended. One may still be under way.
    ended: AtomicBool,
}

impl Kept {
    pub(crate) fn new(pool: PoolId, held: Held, lease: Duration, until: Timestamp) -> Arc<Self> {
        let (until, ended) = (AtomicI64::new(until.as_micros()), AtomicBool::new(false));
        Arc::new(Self { pool, held, lease, until, ended })
    }

    /// Ends the renewals. Anything submitted later comes after the last of them.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Records a renewal.
    pub(super) fn renewed(&self, until: Timestamp) {
        self.until.store(until.as_micros(), Ordering::SeqCst);
    }

    pub(crate) fn until(&self) -> Timestamp {
        Timestamp::from_micros(self.until.load(Ordering::SeqCst))
    }

    pub(super) fn interval(&self) -> Duration {
        self.lease / 3
    }
}
