//! Committing: how each commit begins, and the one way in which each ends.
//!
//! Always holds: nothing that readers see changes before redb's commit returned Ok, and a failed commit changes nothing in
//! memory; callers wake after the publication. After a commit whose outcome is unknown the store refuses to write.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use redb::{CommitError, WriteTransaction};

use crate::engine::Engine;
use crate::engine::pool::state::PoolState;
use crate::engine::read::published::Published;
use crate::engine::storage::database::closed;
use crate::engine::storage::failure::StorageResult;
use crate::engine::storage::poison::Reason;
use crate::engine::storage::space::{Need, Space};
use crate::engine::write::apply::{Written, write_head};
use crate::engine::write::counters::Work;
use crate::engine::write::log::{Event, log};
use crate::engine::write::turns::TURN_MIN_RECORDS;
use crate::engine::write::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::options::{Durability, Recovery};

/// The number of tails that a commit of few records freezes at most.
const FREEZE_MIN_POOLS: usize = 8;

/// What a commit changes of one pool.
#[derive(Debug)]
pub(crate) enum PoolChange {
    /// A draft that is in the transaction.
    Draft(Box<Written>),
    /// A state that was made without a draft: by an import, a rebuild, another policy.
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

/// What a commit does.
#[derive(Debug)]
pub(crate) struct Changes {
    /// What its room on the disk is for.
    pub(crate) need: Need,
    pub(crate) pools: Vec<PoolChange>,
    /// The work that it did besides, without that of its drafts.
    pub(crate) work: Work,
    /// What is told of it.
    pub(crate) event: Option<Event>,
}

impl Changes {
    /// A commit of which nothing is counted and told but that there was one.
    pub(crate) fn new(need: Need, pools: Vec<PoolChange>) -> Self {
        Self { need, pools, work: Work::default(), event: None }
    }
}

/// Beginning.
impl Engine {
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
}

/// Ending.
impl Engine {
    /// Ends a commit: evicts what is beyond the pools' capacity and writes their heads, commits, publishes, counts, logs.
    ///
    /// Drafts come with their evictions and heads: what they decide depends on them.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if the disk refuses; nothing has changed then, or, with `OutcomeUnknown`,
    /// may have on the disk alone.
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
        for change in &pools {
            if let PoolChange::Draft(written) = change {
                written.update_hot_indexes();
            }
        }
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

    /// Commits what changes no pool: [`commit`](Self::commit) without a writer.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
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
            published.take_handed_out()
        };
        drop((before, views));
        Ok(())
    }

    /// Lets readers see a change. Returns the work that it did besides.
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
                self.put_state(published, writer, written.publish(&self.tuning));
                work
            }
            PoolChange::State(state) => {
                // What was remembered is of what was there before.
                writer.forget_pool(state.id);
                self.put_state(published, writer, *state);
                Work::default()
            }
            PoolChange::Deleted(id) => {
                published.replace(id, None);
                self.forget_work(writer, id);
                Work::default()
            }
        }
    }

    /// Makes a state the pool's current one.
    fn put_state(&self, published: &mut Published, writer: &mut Writer, state: PoolState) {
        writer.set_work(&state);
        self.aging.lock().set(&state);
        published.replace(state.id, Some(Arc::new(state)));
    }

    /// When the active tails together hold too much, the longest ones start to be folded: after a commit of so many records as
    /// many as keep pace with it.
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
        self.commit_rows(txn, Need::Reserve)?;
        // NOTE: not before the disk has answered: whoever finds it false returns at once.
        self.unflushed.store(false, Ordering::Release);
        Ok(())
    }
}
