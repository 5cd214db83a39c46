//! Submitting: operations of several callers become one commit, or one operation has the writer to itself.
//!
//! Always holds: a group is decided before its transaction begins; its callers wake after its commit was published or
//! has failed.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::dedupe::{Mode, Verdicts};
use crate::engine::Engine;
use crate::engine::pool::batch::Batch;
use crate::engine::storage::failure::contained;
use crate::engine::storage::space::{Need, Space};
use crate::engine::write::apply;
use crate::engine::write::commit::{Changes, PoolChange};
use crate::engine::write::counters::Work;
use crate::engine::write::draft::PoolDraft;
use crate::engine::write::draft::dedupe::Firsts;
use crate::engine::write::group::{Group, Job};
use crate::engine::write::log::Event;
use crate::engine::write::queue::Weight;
use crate::engine::write::writer::Writer;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::query::RecordFilter;

/// An operation that is to be submitted, and the share of a group that it takes.
pub(crate) struct Submission<T> {
    pub(super) weight: Weight,
    pub(super) operation: Operation<T>,
}

type Operation<T> = Box<dyn FnOnce(&mut Group<'_>) -> Result<T> + Send>;

impl<T> Submission<T> {
    pub(crate) fn new(
        weight: Weight,
        operation: impl FnOnce(&mut Group<'_>) -> Result<T> + Send + 'static,
    ) -> Self {
        Self { weight, operation: Box::new(operation) }
    }
}

/// Returns the answer of an operation that was run, and whose group was committed.
pub(super) fn answer_of<T>(answer: Option<Result<T>>, committed: Result<()>) -> Result<T> {
    match (answer, committed) {
        (Some(Err(refused)), _) => Err(refused),
        (_, Err(failed)) => Err(failed),
        (Some(Ok(answer)), Ok(())) => Ok(answer),
        (None, Ok(())) => Err(Error::storage("the operation was not run")),
    }
}

impl Engine {
    /// Submits an operation, and blocks until its commit has an outcome.
    ///
    /// # Errors
    ///
    /// The errors of [`submit`](Self::submit).
    pub(crate) fn run<T: Send + 'static>(&self, submission: Submission<T>) -> Result<T> {
        self.submit(submission.weight, submission.operation)
    }

    /// Decides and commits an operation, together with those of other callers. Blocks until the commit has an outcome.
    ///
    /// # Errors
    ///
    /// The errors of the operation, which then changed nothing; or the error of the commit, which all callers of the
    /// group get.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        weight: Weight,
        operation: impl FnOnce(&mut Group<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_may_write()?;
        // A call that deletes must not fail because others of its group add.
        let weight = if self.asks_disk(Space::is_full) { Weight::ALONE } else { weight };
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let job: Job = Some(Box::new(move |group| *slot.lock() = Some(operation(group))));
        let committed = self.submit_job(job, weight);
        let answer = answer.lock().take();
        answer_of(answer, committed)
    }

    pub(super) fn submit_job(&self, job: Job, weight: Weight) -> Result<()> {
        let committed = self.queue.submit(job, weight, |jobs| self.run_group(jobs));
        self.waiting.notify();
        committed
    }

    /// Runs work with the writer to itself, on this thread, when its turn comes.
    pub(crate) fn exclusive<T>(&self, work: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        let mut answer = None;
        let run = self.queue.submit(None, Weight::ALONE, |_| {
            let mut writer = self.writer.lock();
            let result = contained("writing", || work(&mut writer));
            answer = Some(self.recover(&mut writer, result));
            Ok(())
        });
        self.waiting.notify();
        run?;
        answer.unwrap_or_else(|| Err(Error::storage("the operation was not run")))
    }

    /// Deletes what matches a filter in all pools, and voids claims on the keys that it names, in one commit. Returns the
    /// number of records deleted.
    ///
    /// # Errors
    ///
    /// `Corrupt` or `Storage` if a pool cannot be read, which changes nothing; the errors of the commit.
    pub(crate) fn delete_in_all(&self, filter: &RecordFilter) -> Result<u64> {
        self.exclusive(|writer| {
            self.check_writable()?;
            let view = |id, time| self.view_at(id, time);
            let mut group = Group::new(self.clock.read(), &view);
            let mut deleted = 0;
            for pool in self.pool_rows()? {
                let draft = group.pool(pool.id)?;
                deleted += draft.delete_where(filter)?;
                draft.void_claims_on(filter)?;
            }
            self.commit_group(writer, group, 1)?;
            Ok(deleted)
        })
    }

    fn run_group(&self, jobs: Vec<Job>) -> Result<()> {
        let calls = jobs.len();
        let mut writer = self.writer.lock();
        let result = contained("writing", || {
            self.check_writable()?;
            let view = |id, time| self.view_at(id, time);
            let mut group = Group::new(self.clock.read(), &view);
            jobs.into_iter().flatten().for_each(|job| job(&mut group));
            self.commit_group(&mut writer, group, calls)
        });
        self.recover(&mut writer, result)
    }

    fn commit_group(&self, writer: &mut Writer, mut group: Group<'_>, calls: usize) -> Result<()> {
        let started = Instant::now();
        group.drafts.retain(|_, draft| draft.changes_something());
        if group.drafts.is_empty() {
            return Ok(());
        }
        let records = group.drafts.values().map(|draft| draft.new.len()).sum();
        let need = if group.drafts.values().any(PoolDraft::adds) { Need::Adding } else { Need::Reserve };
        let gives_room = need == Need::Reserve && self.asks_disk(Space::is_tight);
        let due = if gives_room { Vec::new() } else { self.due_work(writer, &group, records) };
        // A value that was promised to a caller must still be promised after a crash.
        let has_claims = group.drafts.values().any(|draft| !draft.claims.is_empty());
        let begin = || if has_claims { self.begin_durable() } else { self.begin() };
        let mut txn = begin()?;
        let pools = group.drafts.len();
        let incoming = Some(records);
        let mut written: Vec<PoolChange> = Vec::with_capacity(group.drafts.len() + due.len());
        for draft in due {
            let id = draft.state.id;
            let pool = writer.pool(id);
            let done = contained("writing", || apply::write(&txn, draft, pool, &self.tuning, incoming));
            if let Ok(done) = done {
                written.push(done.into());
            } else {
                // The group must not suffer from another pool's damage. The next user of that pool gets the error.
                self.forget_work(writer, id);
                writer.forget();
                written.clear();
                drop(txn);
                txn = begin()?;
                break;
            }
        }
        for (id, draft) in group.drafts {
            written.push(apply::write(&txn, draft, writer.pool(id), &self.tuning, incoming)?.into());
        }
        let event = Some(Event::Commit { calls, pools, records, started });
        self.commit(writer, txn, Changes { need, pools: written, work: Work::default(), event })
    }

    /// Decides a batch as of the last commit, without changing anything.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Storage` or `Corrupt` if reading fails.
    pub(crate) fn decide_only(
        &self,
        id: PoolId,
        mode: Mode,
        batch: Batch,
        firsts: Firsts,
    ) -> Result<Verdicts> {
        let now = self.clock.read();
        let mut draft = PoolDraft::new(self.view_at(id, now.time)?, now);
        contained("checking values", || draft.dedupe(mode, &Arc::new(batch), firsts))
    }
}
