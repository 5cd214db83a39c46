//! Submitting: the operations of several callers become one commit, or one operation has the writer to
//! itself.
//!
//! Always holds: a group is decided before its transaction begins. Its callers wake after its commit was
//! published or has failed.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::batch::Batch;
use crate::backend::counters::Work;
use crate::backend::operation::{Answer, Entry, Firsts, Request};
use crate::backend::queue::Weight;
use crate::dedupe::{Mode, Verdicts};
use crate::engine::Engine;
use crate::engine::storage::failure::contained;
use crate::engine::storage::space::{Need, Space};
use crate::engine::write::apply;
use crate::engine::write::commit::{Changes, PoolChange};
use crate::engine::write::draft::PoolDraft;
use crate::engine::write::group::{Answers, Group, Job};
use crate::engine::write::log::Event;
use crate::engine::write::writer::Writer;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::parallel::isolated;
use crate::query::RecordFilter;

/// Returns the answer of an operation, if its group was committed.
fn answer_of(answer: Option<Result<Answer>>, committed: Result<()>) -> Result<Answer> {
    match (answer, committed) {
        (Some(Err(refused)), _) => Err(refused),
        (_, Err(failed)) => Err(failed),
        (Some(Ok(answer)), Ok(())) => Ok(answer),
        (None, Ok(())) => Err(Error::storage("the operation was not performed")),
    }
}

impl Engine {
    /// Decides and commits an operation, together with those of other callers. Blocks until the commit has an
    /// outcome.
    ///
    /// # Errors
    ///
    /// The errors of the operation, which then changed nothing. If the commit fails, all callers of the group
    /// get its error.
    pub(crate) fn submit(&self, request: Request) -> Result<Answer> {
        self.check_may_write()?;
        let weight = self.weight_of(&request);
        let (answers, committed) = self.submit_job(vec![request], weight);
        answer_of(answers.into_iter().next(), committed)
    }

    /// Decides and commits operations, in order, in as few commits as their weights allow. Blocks until all
    /// have an outcome.
    pub(crate) fn submit_all(&self, entries: Vec<Entry>) {
        if let Err(refused) = self.check_may_write() {
            for entry in entries {
                isolated(|| (entry.deliver)(Err(refused.clone())));
            }
            return;
        }
        let mut rest = entries.into_iter().peekable();
        while let Some(Entry { request, deliver }) = rest.next() {
            let mut weight = self.weight_of(&request);
            let (mut requests, mut delivers) = (vec![request], vec![deliver]);
            while let Some(next) = rest.next_if(|next| weight.plus(next.request.weight).fits()) {
                weight = weight.plus(next.request.weight);
                requests.push(next.request);
                delivers.push(next.deliver);
            }
            let (answers, committed) = self.submit_job(requests, weight);
            let answers = answers.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
            for (deliver, answer) in delivers.into_iter().zip(answers) {
                // Delivering may wake a task of the calling program.
                isolated(|| deliver(answer_of(answer, committed.clone())));
            }
        }
    }

    fn weight_of(&self, request: &Request) -> Weight {
        // A call that deletes must not fail because other calls of its group add data.
        if self.asks_disk(Space::is_full) { Weight::ALONE } else { request.weight }
    }

    fn submit_job(&self, requests: Vec<Request>, weight: Weight) -> (Vec<Result<Answer>>, Result<()>) {
        let answers = Answers::default();
        let job = Some((requests, Arc::clone(&answers)));
        let committed = self.queue.submit(job, weight, |jobs| self.run_group(jobs));
        self.waiting.notify();
        let answers = std::mem::take(&mut *answers.lock());
        (answers, committed)
    }

    /// Runs work with exclusive use of the writer, on this thread, when its turn comes.
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

    /// Deletes the records that match a filter in all pools, and voids claims on the keys that it names, in
    /// one commit. Returns the number of records deleted.
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
            for job in jobs {
                group.perform(job);
            }
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
        // A value that was promised to a caller must still be promised after a crash, so claims are always
        // durable.
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
                // Damage in another pool must not fail the group. The next caller that uses that pool gets
                // the error.
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

    /// Decides a batch on the state of the last commit. Changes nothing.
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
