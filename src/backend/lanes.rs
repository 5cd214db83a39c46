//! A lane for each pool, for engines where calls on a pool may have to [wait for others](super::Backend::delays_by_pool).
//!
//! Always holds: the entries of a lane run in order on one thread, which ends when the lane is empty. No lane waits for another.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::ids::PoolId;
use crate::parallel::isolated;
use crate::sync::thread;

/// The most lanes that have a thread of their own.
const THREADS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Lanes<T> {
    /// The waiting entries of each lane that runs.
    running: Mutex<HashMap<PoolId, Vec<T>>>,
    changed: Condvar,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { running: Mutex::default(), changed: Condvar::new() }
    }
}

impl<T: Send + 'static> Lanes<T> {
    /// Adds an entry to a lane. If the lane does not run yet, it starts on a new thread, or on this one if there are too many.
    pub(crate) fn add(
        self: &Arc<Self>,
        pool: PoolId,
        added: T,
        run: impl Fn(Vec<T>) + Clone + Send + 'static,
    ) {
        let mut running = self.running.lock();
        let is_new = !running.contains_key(&pool);
        running.entry(pool).or_default().push(added);
        let may_start = running.len() <= THREADS_MAX;
        drop(running);
        if !is_new {
            return;
        }
        let (lanes, of_thread) = (Arc::clone(self), run.clone());
        let thread = thread::Builder::new().name("datapool-lane".to_owned());
        let is_started = may_start && thread.spawn(move || lanes.run(pool, of_thread)).is_ok();
        if !is_started {
            self.run(pool, run);
        }
    }

    fn run(&self, pool: PoolId, run: impl Fn(Vec<T>)) {
        while let Some(taken) = self.take(pool) {
            isolated(|| run(taken));
        }
    }

    /// Takes the waiting entries of a lane. If there are none, the lane ends.
    fn take(&self, pool: PoolId) -> Option<Vec<T>> {
        let mut running = self.running.lock();
        let taken = running.get_mut(&pool).map(std::mem::take).filter(|waiting| !waiting.is_empty());
        if taken.is_none() {
            running.remove(&pool);
        }
        self.changed.notify_all();
        taken
    }

    /// Waits until no lane runs, or until none has made progress for this time.
    #[cfg(feature = "async")]
    pub(crate) fn settle(&self, time: std::time::Duration) {
        let mut running = self.running.lock();
        while !running.is_empty() && !self.changed.wait_for(&mut running, time).timed_out() {}
    }
}
