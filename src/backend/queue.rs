//! Group commit: one commit for many callers.
//!
//! Owns: the choice of who leads and who waits. A caller enqueues its job. If no caller leads, it becomes the
//! leader: it takes the queued jobs, runs them, wakes the other callers with the result, and then passes the
//! lead to the next in line. There is no background thread, and a single caller waits for no other. Always
//! holds: jobs run in the order in which they were enqueued. The first job of a group is its leader's, so a
//! job that runs alone runs on its caller's own thread. If the leading thread submits another job, it is
//! refused, because it would wait for itself.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::backend::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::thread::{self, ThreadId};

/// The number of items at which a group is closed.
const GROUP_MAX_ITEMS: usize = 16_384;
/// The number of bytes of values at which a group is closed.
const GROUP_MAX_BYTES: usize = 4 << 20;

/// The share of a group that a job takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

impl Weight {
    /// The weight of a job that shares its group with no other job.
    pub(crate) const ALONE: Self = Self { items: usize::MAX, bytes: usize::MAX };
    /// The weight of a job about one claim, or a few claims.
    pub(crate) const ONE: Self = Self { items: 1, bytes: 0 };

    pub(crate) fn of(batch: &Batch) -> Self {
        Self { items: batch.len(), bytes: batch.bytes() }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { items: self.items.saturating_add(other.items), bytes: self.bytes.saturating_add(other.bytes) }
    }

    pub(crate) fn fits(self) -> bool {
        self.items <= GROUP_MAX_ITEMS && self.bytes <= GROUP_MAX_BYTES
    }
}

enum Turn {
    Waiting,
    Leading,
    Done(Result<()>),
}

struct Ticket<J> {
    job: Mutex<Option<J>>,
    weight: Weight,
    turn: Mutex<Turn>,
    changed: Condvar,
}

impl<J> Ticket<J> {
    fn set(&self, turn: Turn) {
        *self.turn.lock() = turn;
        self.changed.notify_one();
    }

    /// Waits. Returns the result if another caller has run this job, or `None` if it is this caller's turn to
    /// lead.
    fn wait(&self) -> Option<Result<()>> {
        let mut turn = self.turn.lock();
        loop {
            match &*turn {
                Turn::Waiting => self.changed.wait(&mut turn),
                Turn::Leading => return None,
                Turn::Done(result) => return Some(result.clone()),
            }
        }
    }
}

struct Line<J> {
    waiting: VecDeque<Arc<Ticket<J>>>,
    led: bool,
    /// The leading thread, if there is one.
    leader: Option<ThreadId>,
}

/// The queue of callers that wait for the writer.
pub(crate) struct Queue<J>(Mutex<Line<J>>);

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self(Mutex::new(Line { waiting: VecDeque::new(), led: false, leader: None }))
    }
}

impl<J> Queue<J> {
    /// Runs the job, by this caller with `lead` or by another one, and returns the result of that run.
    ///
    /// `lead` gets all jobs of a group, this caller's first. It must not panic.
    pub(crate) fn submit(
        &self,
        job: J,
        weight: Weight,
        lead: impl FnOnce(Vec<J>) -> Result<()>,
    ) -> Result<()> {
        let ticket = Arc::new(Ticket {
            job: Mutex::new(Some(job)),
            weight,
            turn: Mutex::new(Turn::Waiting),
            changed: Condvar::new(),
        });
        {
            let mut line = self.0.lock();
            if line.leader == Some(thread::current().id()) {
                // An observer or a logger runs on the leading thread. If it submitted a job, it would wait
                // for itself.
                return Err(Error::new(
                    ErrorKind::Busy,
                    "this thread is in the midst of a call that writes: nothing can be written from within it",
                ));
            }
            line.waiting.push_back(Arc::clone(&ticket));
            if !line.led {
                line.led = true;
                ticket.set(Turn::Leading);
            }
        }
        if let Some(result) = ticket.wait() {
            return result;
        }
        self.0.lock().leader = Some(thread::current().id());
        let group = self.take_group();
        let jobs = group.iter().filter_map(|ticket| ticket.job.lock().take()).collect();
        let result = lead(jobs);
        // Wake this group's callers before the next group starts. Their next jobs then join that group, which
        // halves the number of commits.
        for ticket in group {
            ticket.set(Turn::Done(result.clone()));
        }
        self.hand_over();
        result
    }

    #[cfg(datapool_shuttle)]
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    fn take_group(&self) -> Vec<Arc<Ticket<J>>> {
        let mut line = self.0.lock();
        let mut group: Vec<Arc<Ticket<J>>> = line.waiting.pop_front().into_iter().collect();
        let mut total = group.first().map_or(Weight::ALONE, |ticket| ticket.weight);
        while let Some(next) = line.waiting.front() {
            total = total.plus(next.weight);
            if !total.fits() {
                break;
            }
            group.extend(line.waiting.pop_front());
        }
        group
    }

    fn hand_over(&self) {
        let mut line = self.0.lock();
        line.leader = None;
        match line.waiting.front() {
            Some(next) => next.set(Turn::Leading),
            None => line.led = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_job_runs_once_and_one_group_at_a_time() {
        let queue = Queue::default();
        let (sum, running, groups) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (queue, sum, running, groups) = (&queue, &sum, &running, &groups);
                scope.spawn(move || {
                    for number in 0..500 {
                        let weight =
                            if number % 50 == 0 { Weight::ALONE } else { Weight { items: 1, bytes: 0 } };
                        let lead = |jobs: Vec<usize>| {
                            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                            sum.fetch_add(jobs.iter().sum::<usize>(), Ordering::SeqCst);
                            groups.fetch_add(1, Ordering::SeqCst);
                            running.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        };
                        queue.submit(thread * 500 + number, weight, lead).unwrap();
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), (0..4_000).sum::<usize>());
        assert!(groups.into_inner() <= 4_000);
    }
}
