//! Keeping leases alive: a thread renews each lease after a third of its length. It is parked while there are
//! no leases.
//!
//! Owns: [`KeepAlive`], the thread. Always holds: all leases that are due at the same time are renewed in one
//! commit; or in one for each pool, if calls on a pool may have to wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

use super::Backend;
use super::lanes::Lanes;
use super::lease::Kept;
use super::operation::{Entry, Operation, Submission};
use super::queue::Weight;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Instant;
use crate::sync::thread::{self, JoinHandle};
use crate::time::Timestamp;

/// The smallest number of leases at which dropped ones are searched for and removed.
const CLEAN_MIN: usize = 64;

#[derive(Debug, Default)]
struct Due {
    /// The leases by the time at which they are due. The number distinguishes equal times.
    leases: BTreeMap<(Instant, u64), Weak<Kept>>,
    /// Once there are this many leases, dropped ones are removed. Otherwise a dropped lease is removed when
    /// it is due.
    clean_at: usize,
    next_number: u64,
    stop: bool,
}

impl Due {
    fn add(&mut self, kept: &Arc<Kept>) {
        if self.leases.len() >= self.clean_at {
            self.leases.retain(|_, kept| kept.strong_count() > 0);
            self.clean_at = CLEAN_MIN.max(self.leases.len() * 2);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.leases.insert((Instant::now() + kept.interval(), number), Arc::downgrade(kept));
    }

    /// Removes and returns the leases that are due.
    fn take(&mut self, now: Instant) -> Vec<Arc<Kept>> {
        let later = self.leases.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.leases, later).into_values().filter_map(|kept| kept.upgrade()).collect()
    }
}

#[derive(Debug, Default)]
struct Schedule {
    due: Mutex<Due>,
    changed: Condvar,
}

impl Schedule {
    fn add(&self, kept: &Arc<Kept>) {
        self.due.lock().add(kept);
        self.changed.notify_one();
    }

    /// Waits until leases are due, and returns them. Returns `None` when the thread must stop.
    fn wait(&self) -> Option<Vec<Arc<Kept>>> {
        let mut due = self.due.lock();
        loop {
            if due.stop {
                return None;
            }
            let taken = due.take(Instant::now());
            if !taken.is_empty() {
                return Some(taken);
            }
            match due.leases.first_key_value().map(|((at, _), _)| *at) {
                Some(at) => _ = self.changed.wait_until(&mut due, at),
                None => self.changed.wait(&mut due),
            }
        }
    }
}

/// The thread that renews leases. It starts with the first lease; dropping this value stops it.
#[derive(Debug, Default)]
pub(crate) struct KeepAlive {
    schedule: Arc<Schedule>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl KeepAlive {
    /// Renews a lease until its [`Kept`] is dropped.
    ///
    /// # Errors
    ///
    /// `Storage` if the system cannot start a thread.
    pub(crate) fn keep(&self, backend: &Arc<dyn Backend>, kept: &Arc<Kept>) -> Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (schedule, backend) = (Arc::clone(&self.schedule), Arc::clone(backend));
            let (lanes, may_delay) = (Arc::<Lanes<Arc<Kept>>>::default(), backend.delays_by_pool());
            let run = move || {
                while let Some(due) = schedule.wait() {
                    let (schedule, backend) = (Arc::clone(&schedule), Arc::clone(&backend));
                    let run = move |leases: Vec<Arc<Kept>>| {
                        for kept in renew(&*backend, leases) {
                            schedule.add(&kept);
                        }
                    };
                    if !may_delay {
                        run(due);
                        continue;
                    }
                    for kept in due {
                        lanes.add(kept.pool, kept, run.clone());
                    }
                }
            };
            let started = thread::Builder::new().name("datapool-leases".to_owned()).spawn(run);
            *thread = Some(started.map_err(|error| {
                Error::storage(format!("starting the thread that renews leases: {error}")).with_source(error)
            })?);
        }
        self.schedule.add(kept);
        Ok(())
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.schedule.due.lock().stop = true;
        self.schedule.changed.notify_one();
        if let Some(thread) = self.thread.get_mut().take() {
            // The thread can only have panicked because of a bug, and then the panic has printed its message.
            let _ = thread.join();
        }
    }
}

/// Renews leases in one commit. Returns those to renew again, whose claims may still exist.
pub(crate) fn renew(backend: &dyn Backend, leases: Vec<Arc<Kept>>) -> Vec<Arc<Kept>> {
    let again = Arc::new(Mutex::new(Vec::with_capacity(leases.len())));
    let entries = leases.into_iter().map(|kept| {
        let renewal = Submission::new(kept.pool, Weight::ONE, Operation::Renew(Arc::clone(&kept)));
        let again = Arc::clone(&again);
        Entry::new(renewal, move |renewed: Result<Option<Timestamp>>| {
            let is_gone = match renewed {
                Ok(Some(until)) => {
                    kept.renewed(until);
                    false
                }
                Ok(None) => true,
                // Before the lease expires, the disk may have space again, or the store may be opened again.
                Err(error) => error.kind() == ErrorKind::NotFound,
            };
            if !is_gone {
                again.lock().push(kept);
            }
        })
    });
    backend.submit_all(entries.collect());
    std::mem::take(&mut *again.lock())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::backend::claims::Held;
    use crate::ids::PoolId;

    /// A lease may be a year long, so a dropped lease must not stay until it is due.
    #[test]
    fn leases_that_are_not_kept_any_more_take_no_room() {
        let mut due = Due::default();
        let kept = || {
            let held = Held { id: 1, nonce: 1 };
            Kept::new(PoolId::new(1), held, Duration::from_hours(24), Timestamp::from_micros(0))
        };
        let others: Vec<_> = (0..100).map(|_| kept()).collect();
        for kept in &others {
            due.add(kept);
        }
        (0..10_000).for_each(|_| due.add(&kept()));
        assert!(due.leases.len() <= 2 * others.len(), "{}", due.leases.len());
        let left = due.leases.values().filter(|kept| kept.strong_count() > 0).count();
        assert_eq!(left, others.len());
    }
}
