//! Committing: how each commit begins, and the single way in which each ends.
//!
//! Always holds: nothing that readers see changes before redb's commit has returned `Ok`, and a failed commit
//! changes nothing in memory. Callers wake after the publication. After a commit with an unknown outcome, the
//! store refuses to write.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{CommitError, WriteTransaction};

use crate::backend::counters::Work;
use crate::engine::Engine;
use crate::engine::pool::state::PoolState;
use crate::engine::read::published::Published;
use crate::engine::storage::failure::StorageResult;
use crate::engine::storage::poison::Reason;
use crate::engine::storage::space::{Need, Space};
use crate::engine::write::apply::{Written, write_head};
use crate::engine::write::log::{Event, log};
use crate::engine::write::turns::TURN_MIN_RECORDS;
use crate::engine::write::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::options::{Durability, Recovery};

/// The largest number of tails that a commit of few records freezes.
const FREEZE_MIN_POOLS: usize = 8;

/// The change of one pool in a commit.
#[derive(Debug)]
pub(crate) enum PoolChange {
    /// A draft that was written in the transaction.
    Draft(Box<Written>),
    /// A state that was computed without a draft: by an import, a rebuild or a change of policy.
    State(Box<PoolState>),
    Deleted(PoolId),
}

impl From<Written> for PoolChange {
    fn from(written: Written) -> Self {
        Self::Draft(Box::new(written))
    }
}

impl From<PoolState> for PoolChange {
    fn from(state: PoolState) -> Self {
        Self::State(Box::new(state))
    }
}

/// The changes of a commit.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The purpose of the commit, for the check of disk space.
    pub(crate) need: Need,
    pub(crate) pools: Vec<PoolChange>,
    /// The background work that it performed, without that of its drafts.
    pub(crate) work: Work,
    /// The event to log for the commit.
    pub(crate) event: Option<Event>,
}

impl Changes {
    /// Creates the changes of a commit without background work of its own, and without an event.
    pub(crate) fn new(need: Need, pools: Vec<PoolChange>) -> Self {
        Self { need, pools, work: Work::default(), event: None }
    }
}

/// Beginning.
impl Engine {
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.poison.check()
    }

    /// Begins a transaction that is on disk once it is committed.
    pub(crate) fn begin_durable(&self) -> Result<WriteTransaction> {
        self.check_writable()?;
        let mut txn = self.session.read().as_ref().ok_or_else(Error::closed)?.database.begin_write()?;
        txn.set_quick_repair(self.recovery == Recovery::Instant);
        Ok(txn)
    }

    /// Begins a transaction with the store's durability.
    pub(crate) fn begin(&self) -> Result<WriteTransaction> {
        let mut txn = self.begin_durable()?;
        // If disk space is short, each commit must check if there is enough.
        if matches!(self.durability, Durability::Relaxed { .. }) && !self.asks_disk(Space::is_tight) {
            txn.set_durability(redb::Durability::None).storage()?;
        }
        Ok(txn)
    }
}

/// Ending.
impl Engine {
    /// Ends a commit: evicts records beyond the pools' capacities, writes the heads, commits, publishes,
    /// counts and logs.
    ///
    /// Drafts already have their evictions and heads written, because their decisions depend on them.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails. Then nothing has changed,
    /// but with `OutcomeUnknown` the change may be on disk.
    pub(crate) fn commit(&self, writer: &mut Writer, txn: WriteTransaction, changes: Changes) -> Result<()> {
        let Changes { need, mut pools, mut work, event } = changes;
        let mut records = 0;
        for change in &mut pools {
            match change {
                PoolChange::Draft(written) => records += written.records(),
                PoolChange::State(state) => {
                    state.evict();
                    write_head(&txn, state)?;
                }
                PoolChange::Deleted(_) => {}
            }
        }
        self.check_room(need)?;
        self.commit_and_publish(txn, need, |published| {
            for change in pools {
                work += self.publish(published, writer, change);
            }
            self.freeze_longest_tails(published, writer, records);
        })?;
        self.counters.work(work);
        if work.segments_dropped > 0 {
            self.note_drop();
        }
        writer.log_events();
        if let Some(event) = event {
            if let Event::Commit { calls, .. } = event {
                self.counters.group(calls);
            }
            log(&event);
        }
        Ok(())
    }

    /// Commits a transaction that changes no pool. Like [`commit`](Self::commit), but without a writer.
    ///
    /// # Errors
    ///
    /// The errors of [`commit`](Self::commit).
    pub(crate) fn commit_rows(&self, txn: WriteTransaction, need: Need) -> Result<()> {
        self.commit_and_publish(txn, need, |_| {})
    }

    fn commit_and_publish(
        &self,
        txn: WriteTransaction,
        need: Need,
        publish: impl FnOnce(&mut Published),
    ) -> Result<()> {
        self.make_room(need)?;
        // NOTE: readers that arrive while redb commits must still find the snapshot that matches the
        // published states.
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
            published.take_handed_out()
        };
        drop((before, views));
        Ok(())
    }

    /// Makes a change visible to readers. Returns its background work.
    fn publish(&self, published: &mut Published, writer: &mut Writer, change: PoolChange) -> Work {
        match change {
            PoolChange::Draft(written) => {
                let (pool, work, pruned, took) =
                    (written.pool(), written.work(), written.pruned, written.took);
                if work != Work::default() || !pruned.is_nothing() {
                    writer.tell(Event::Work { pool, work, pruned, took });
                }
                if !pruned.is_nothing() {
                    self.note_drop();
                }
                let claims = written.claims();
                if claims.leases_changed {
                    self.waiting.wake_pool(pool);
                } else {
                    self.waiting.wake(pool, claims.owners.keys().copied());
                }
                self.put_state(published, writer, written.publish(&self.tuning));
                work
            }
            PoolChange::State(state) => {
                // The remembered work belongs to the state before.
                writer.forget_pool(state.id);
                self.waiting.wake_pool(state.id);
                self.put_state(published, writer, *state);
                Work::default()
            }
            PoolChange::Deleted(id) => {
                published.replace(id, None);
                self.latest_times.lock().remove(&id);
                self.waiting.wake_pool(id);
                self.forget_work(writer, id);
                Work::default()
            }
        }
    }

    /// Makes a state the pool's current one.
    fn put_state(&self, published: &mut Published, writer: &mut Writer, state: PoolState) {
        writer.set_work(&state);
        self.aging.lock().set(&state);
        self.latest_times.lock().insert(state.id, state.latest.clone());
        published.replace(state.id, Some(Arc::new(state)));
    }

    /// If the active tails together hold too many records, freezes the longest ones so that they are folded.
    /// After a commit of `records` records, it freezes as many as keep pace with it.
    fn freeze_longest_tails(&self, published: &mut Published, writer: &mut Writer, records: usize) {
        for _ in 0..FREEZE_MIN_POOLS.max(records / TURN_MIN_RECORDS) {
            let Some(longest) = published.longest_tail(self.tuning.tails_max_entries) else { return };
            let mut state = PoolState::clone(longest);
            state.freeze();
            self.put_state(published, writer, state);
        }
    }
}

/// Relaxed commits.
impl Engine {
    /// Writes every relaxed commit to disk.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails.
    pub(crate) fn flush(&self) -> Result<()> {
        if !self.unflushed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.exclusive(|_| self.flush_now())
    }

    /// Like [`flush`](Self::flush), for a thread of the store. The next caller gets the error.
    pub(crate) fn flush_unheard(&self) -> Result<()> {
        if !self.unflushed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.exclusive(|_| self.poison.unheard(|| self.flush_now()))
    }

    /// Like [`flush`](Self::flush), from within [`exclusive`](Self::exclusive).
    pub(crate) fn flush_now(&self) -> Result<()> {
        if !self.unflushed.load(Ordering::Acquire) {
            return Ok(());
        }
        let txn = self.begin_durable()?;
        self.commit_rows(txn, Need::Reserve)?;
        // NOTE: clear it only after the commit is on disk, because a caller that finds it false returns at
        // once.
        self.unflushed.store(false, Ordering::Release);
        Ok(())
    }
}
