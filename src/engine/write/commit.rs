//! The writer: running a group, committing it, publishing what it changed.
//!
//! Always holds: a group is decided before its transaction begins; nothing that readers see changes before
//! redb's commit returned Ok, and a failed commit changes nothing in memory; the group's callers wake after the
//! publication. After a commit whose outcome is unknown the store refuses to write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use redb::{CommitError, WriteTransaction};

use crate::dedupe::{Mode, Verdicts};
use crate::engine::Engine;
use crate::engine::pool::batch::Batch;
use crate::engine::pool::state::PoolState;
use crate::engine::read::published::Published;
use crate::engine::storage::backend::Backend;
use crate::engine::storage::database::closed;
use crate::engine::storage::failure::{StorageResult, contained, no_room};
use crate::engine::storage::poison::Reason;
use crate::engine::storage::space::{Need, Space, is_want_of_room};
use crate::engine::write::apply::{self, Written};
use crate::engine::write::counters::Work;
use crate::engine::write::draft::{Firsts, PoolDraft};
use crate::engine::write::group::{Group, Job};
use crate::engine::write::log::{Event, log};
use crate::engine::write::queue::Weight;
use crate::engine::write::upkeep::TURN_MIN_RECORDS;
use crate::engine::write::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::options::{Durability, Recovery};

/// The number of tails that a commit of few records freezes at most.
const FREEZE_MIN_POOLS: usize = 8;
impl Engine {
    /// Has an operation decided and committed, together with those of other callers. Blocks until the commit has
    /// an outcome.
    ///
    /// # Errors
    ///
    /// The operation's own, in which case it changed nothing; or the commit's, which all of its group get.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        weight: Weight,
        operation: impl FnOnce(&mut Group<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_may_write()?;
        // A call that takes away must not fail because others of its group add.
        let weight = if self.asks_disk(Space::is_full) { Weight::ALONE } else { weight };
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let job: Job = Some(Box::new(move |group| *slot.lock() = Some(operation(group))));
        let committed = self.queue.submit(job, weight, |jobs| self.run_group(jobs));
        let answer = answer.lock().take();
        match (answer, committed) {
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(failed)) => Err(failed),
            (Some(Ok(answer)), Ok(())) => Ok(answer),
            (None, Ok(())) => Err(Error::storage("the operation was not run")),
        }
    }

    /// Runs work with the writer to itself, on this thread, when its turn comes.
    pub(crate) fn exclusive<T>(&self, work: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        let mut answer = None;
        self.queue.submit(None, Weight::ALONE, |_| {
            let mut writer = self.writer.lock();
            let result = contained("writing", || work(&mut writer));
            answer = Some(self.recover(&mut writer, result));
            Ok(())
        })?;
        answer.unwrap_or_else(|| Err(Error::storage("the operation was not run")))
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

    /// Brings the writer in order after a failure.
    fn recover<T>(&self, writer: &mut Writer, result: Result<T>) -> Result<T> {
        if result.is_err() {
            writer.forget();
        }
        if self.poison.reason() == Some(Reason::NoRoom) {
            // redb takes nothing more from a file once a write of it has failed.
            self.reattach(writer)?;
        }
        if result.is_ok() && self.asks_disk(Space::is_full) {
            // The call's work is done.
            let _ = self.give_back();
        }
        result
    }

    /// What a call has deleted becomes room on the disk: with each commit redb cuts some of the free pages at the file's end.
    fn give_back(&self) -> Result<()> {
        let mut before = u64::MAX;
        while self.file_size()? < before {
            before = self.file_size()?;
            self.commit(self.begin_durable()?, Need::Reserve, |_| {})?;
        }
        Ok(())
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
        // Whoever was promised a value must find it promised after a crash, too.
        let has_claims = group.drafts.values().any(|draft| !draft.claims.is_empty());
        let begin = || if has_claims { self.begin_durable() } else { self.begin() };
        let mut txn = begin()?;
        let pools = group.drafts.len();
        let incoming = Some(records);
        let mut written = Vec::with_capacity(group.drafts.len() + due.len());
        for draft in due {
            let id = draft.state.id;
            let pool = writer.pools.entry(id).or_default();
            let done = contained("writing", || apply::write(&txn, draft, pool, &self.tuning, incoming));
            if let Ok(done) = done {
                written.push(done);
            } else {
                // The group must not suffer from another pool's damage. Whoever uses that pool hears of it.
                self.forget_work(writer, id);
                writer.forget();
                written.clear();
                drop(txn);
                txn = begin()?;
                break;
            }
        }
        for (id, draft) in group.drafts {
            written.push(apply::write(
                &txn,
                draft,
                writer.pools.entry(id).or_default(),
                &self.tuning,
                incoming,
            )?);
        }
        self.check_room(need)?;
        written.iter().for_each(Written::update_hot_indexes);
        self.commit(txn, need, |published| {
            for written in written {
                self.publish(published, writer, written);
            }
            self.freeze_longest_tails(published, writer, records);
        })?;
        writer.log_events();
        self.counters.group(calls);
        log(&Event::Commit { calls, pools, records, took: started.elapsed() });
        Ok(())
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.poison.check()
    }

    /// Begins a transaction that is on disk when it is committed.
    pub(crate) fn begin_durable(&self) -> Result<WriteTransaction> {
        self.check_writable()?;
        let mut txn = self.session.read().as_ref().ok_or_else(closed)?.database.begin_write()?;
        txn.set_quick_repair(self.recovery == Recovery::Instant);
        Ok(txn)
    }

    /// Begins a transaction of the store's durability.
    pub(crate) fn begin(&self) -> Result<WriteTransaction> {
        let mut txn = self.begin_durable()?;
        // With little room on the disk each commit is to find out whether it has enough.
        if matches!(self.durability, Durability::Relaxed { .. }) && !self.asks_disk(Space::is_tight) {
            txn.set_durability(redb::Durability::None).storage()?;
        }
        Ok(txn)
    }

    /// Whether something holds of the room on the disk.
    fn asks_disk(&self, question: impl FnOnce(&Space) -> bool) -> bool {
        self.session.read().as_ref().is_some_and(|session| question(session.backend.space()))
    }

    /// Refuses to go on with a transaction that the disk has no room for.
    ///
    /// # Errors
    ///
    /// `StorageFull`, or `Storage` if the system refuses for another reason.
    pub(crate) fn check_room(&self, need: Need) -> Result<()> {
        self.ask_for_room(need, |backend| backend.check_room(need))
    }

    /// As [`check_room`](Self::check_room), right before redb commits.
    ///
    /// # Errors
    ///
    /// `StorageFull`, or `Storage` if the system refuses for another reason.
    pub(crate) fn make_room(&self, need: Need) -> Result<()> {
        self.ask_for_room(need, |backend| backend.make_room(need))
    }

    /// After redb committed, if it had the reserve for that.
    pub(crate) fn keep_reserve(&self) {
        if self.asks_disk(Space::is_tight)
            && let Some(session) = &*self.session.read()
        {
            // What cannot be had now is asked for when it is needed.
            let _ = session.backend.keep_reserve();
        }
    }

    fn ask_for_room(&self, need: Need, ask: impl FnOnce(&Backend) -> std::io::Result<()>) -> Result<()> {
        let session = self.session.read();
        let room = ask(&session.as_ref().ok_or_else(closed)?.backend);
        room.map_err(|error| no_room(self.opener.location(), need, error))
    }

    /// redb failed as it wrote, and takes nothing more. For want of room what it wrote is not committed, and the file is opened
    /// again before the call returns; else the store refuses to write, for a reason.
    pub(crate) fn failed(
        &self,
        error: redb::Error,
        need: Need,
        reason: Reason,
        otherwise: impl FnOnce(redb::Error) -> Error,
    ) -> Error {
        match error {
            // What was acknowledged and not flushed would be lost with it: whoever wrote it must hear of that.
            redb::Error::Io(cause)
                if is_want_of_room(&cause)
                    && self.asks_disk(Space::is_incomplete)
                    && !self.unflushed.load(Ordering::Acquire) =>
            {
                self.poison.raise(Reason::NoRoom);
                no_room(self.opener.location(), need, cause)
            }
            error => {
                self.poison.raise(reason);
                otherwise(error)
            }
        }
    }

    /// Commits, and lets readers see it.
    pub(crate) fn commit(
        &self,
        txn: WriteTransaction,
        need: Need,
        publish: impl FnOnce(&mut Published),
    ) -> Result<()> {
        self.make_room(need)?;
        // NOTE: readers who come while redb commits must still find the snapshot that fits the published states.
        let before = self.snapshot()?;
        match txn.commit() {
            Ok(()) => {}
            Err(CommitError::TransactionPoisoned) => {
                return Err(Error::storage(
                    "reading or writing the store's file failed during the call; nothing was changed. Open the store again (`reopen`) and call again",
                ));
            }
            Err(error) => {
                return Err(self.failed(error.into(), need, Reason::OutcomeUnknown, |error| {
                    log(&Event::OutcomeUnknown);
                    let text = format!("the commit failed and may or may not be on disk; open the store again (`reopen`) to find out: {error}");
                    Error::new(ErrorKind::OutcomeUnknown, text).with_source(error)
                }));
            }
        }
        self.counters.commit();
        self.keep_reserve();
        if matches!(self.durability, Durability::Relaxed { .. }) {
            self.unflushed.store(true, Ordering::Release);
            self.flush_signal.raise();
        }
        let views = {
            let mut published = self.published.write();
            publish(&mut published);
            published.snapshot = None;
            std::mem::take(&mut published.views)
        };
        drop((before, views));
        Ok(())
    }

    pub(crate) fn publish(&self, published: &mut Published, writer: &mut Writer, written: Written) {
        let (work, took) = (written.work(), written.took);
        if work != Work::default() || !written.pruned.is_nothing() {
            self.counters.work(work);
            writer.events.push(Event::Work { pool: written.pool(), work, pruned: written.pruned, took });
        }
        if !written.pruned.is_nothing() {
            self.note_drop();
        }
        self.put_state(published, writer, written.publish(&self.tuning));
    }

    /// Makes a state the pool's current one.
    pub(crate) fn put_state(&self, published: &mut Published, writer: &mut Writer, state: PoolState) {
        if state.has_work() {
            writer.work.insert(state.id);
        } else {
            writer.work.remove(&state.id);
        }
        self.aging.lock().set(&state);
        published.replace(state.id, Some(Arc::new(state)));
    }

    /// When the active tails together hold too much, the longest ones start to be folded: after a commit of so many records as
    /// many as keep pace with it.
    fn freeze_longest_tails(&self, published: &mut Published, writer: &mut Writer, records: usize) {
        for _ in 0..FREEZE_MIN_POOLS.max(records / TURN_MIN_RECORDS) {
            if published.unfolded.records() <= self.tuning.tails_max_entries {
                return;
            }
            let longest = published.unfolded.longest().and_then(|id| published.pools.get(&id)?.clone());
            let Some(longest) = longest else { return };
            let mut state = PoolState::clone(&longest);
            state.freeze();
            self.put_state(published, writer, state);
        }
    }

    /// Brings every relaxed commit to disk.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if the disk refuses.
    pub(crate) fn flush(&self) -> Result<()> {
        if !self.unflushed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.exclusive(|_| self.flush_now())
    }

    /// As [`flush`](Self::flush), from within [`exclusive`](Self::exclusive).
    pub(crate) fn flush_now(&self) -> Result<()> {
        if !self.unflushed.load(Ordering::Acquire) {
            return Ok(());
        }
        let txn = self.begin_durable()?;
        self.commit(txn, Need::Reserve, |_| {})?;
        // NOTE: not before the disk has answered: whoever finds it false returns at once.
        self.unflushed.store(false, Ordering::Release);
        Ok(())
    }
}

impl Engine {
    /// Decides a batch as of the last commit, changing nothing.
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
