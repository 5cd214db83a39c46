//! Submitting operations of several callers from one thread, which tells each of them its answer.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::Engine;
use crate::engine::storage::failure::isolated;
use crate::engine::storage::space::Space;
use crate::engine::write::group::{Group, Job};
use crate::engine::write::queue::Weight;
use crate::engine::write::submit::{Submission, answer_of};
use crate::error::Result;

/// A submission, and who is told its answer.
pub(crate) struct Entry {
    weight: Weight,
    job: Box<dyn FnOnce(&mut Group<'_>) + Send>,
    done: Box<dyn FnOnce(Result<()>) + Send>,
}

impl Entry {
    /// `deliver` is called once, with the operation's answer or the error of the commit.
    pub(crate) fn new<T: Send + 'static>(
        submission: Submission<T>,
        deliver: impl FnOnce(Result<T>) + Send + 'static,
    ) -> Self {
        let Submission { weight, operation } = submission;
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        Self {
            weight,
            job: Box::new(move |group| *slot.lock() = Some(operation(group))),
            done: Box::new(move |committed| {
                let answer = answer.lock().take();
                deliver(answer_of(answer, committed));
            }),
        }
    }
}

impl Engine {
    /// Decides and commits operations, in order, as few commits as their weights allow. Blocks until all have an outcome.
    pub(crate) fn run_all(&self, entries: Vec<Entry>) {
        if let Err(refused) = self.check_may_write() {
            for entry in entries {
                isolated(|| (entry.done)(Err(refused.clone())));
            }
            return;
        }
        let mut rest = entries.into_iter().peekable();
        while let Some(Entry { mut weight, job, done }) = rest.next() {
            let (mut jobs, mut dones) = (vec![job], vec![done]);
            // As in `submit`: a call that deletes must not fail because others of its group add.
            if self.asks_disk(Space::is_full) {
                weight = Weight::ALONE;
            }
            while let Some(next) = rest.next_if(|next| weight.plus(next.weight).fits()) {
                weight = weight.plus(next.weight);
                jobs.push(next.job);
                dones.push(next.done);
            }
            let run = |group: &mut Group<'_>| jobs.into_iter().for_each(|job| job(group));
            let job: Job = Some(Box::new(run));
            let committed = self.submit_job(job, weight);
            for done in dones {
                // It wakes a task of the program that uses the store.
                isolated(|| done(committed.clone()));
            }
        }
    }
}
