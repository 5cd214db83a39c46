//! Closing, opening again, and work that needs exclusive access to the file.
//!
//! Always holds: the leader of the writer's queue does all of this, so no commit is under way. The snapshot
//! and views given to readers are taken back under the same lock under which readers get them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redb::{CompactionError, Database, StorageBackend};

use crate::engine::Engine;
use crate::engine::read::published::Published;
use crate::engine::storage::database::read_only;
use crate::engine::storage::poison::Reason;
use crate::engine::storage::session::{Reader, ReaderKind, Readers, Session};
use crate::engine::storage::space::Need;
use crate::engine::write::log::{Event, log};
use crate::engine::write::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::model::CompactReport;
use crate::options::Recovery;

/// The time that exclusive work waits for running reads to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest time for which it keeps others from reading in one attempt.
const GATE_CLOSED_FOR: Duration = Duration::from_millis(20);

impl Engine {
    /// Registers a reader that lives longer than one call.
    ///
    /// # Errors
    ///
    /// `Closed`; `Busy` during a vacuum, and for a vacuum if there is another reader.
    pub(crate) fn reader(&self, kind: ReaderKind) -> Result<Reader> {
        let session = self.session.read();
        session.as_ref().ok_or_else(Error::closed)?.readers.register(kind)
    }

    /// Returns true if the store was opened for reading only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.session.read().as_ref().is_some_and(|session| session.database.is_read_only())
    }

    /// Returns an error if the store is closed, or was opened for reading only. Every call that writes checks
    /// this first.
    ///
    /// # Errors
    ///
    /// `Closed`; `ReadOnly`.
    pub(crate) fn check_may_write(&self) -> Result<()> {
        let session = self.session.read();
        let session = session.as_ref().ok_or_else(Error::closed)?;
        if session.database.is_read_only() { Err(read_only()) } else { Ok(()) }
    }

    /// Returns an error if the store is closed.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.session.read().is_some() { Ok(()) } else { Err(Error::closed()) }
    }

    /// Writes everything to disk and closes the file. Does nothing if the file is closed.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails. The file is closed anyway.
    pub(crate) fn close(&self) -> Result<()> {
        let is_heard = self.poison.is_heard();
        let expired = if self.is_read_only() { Ok(()) } else { self.store_expiry() };
        self.exclusive(|writer| {
            let flushed = self.flush_now();
            let Some(mut session) = self.detach(writer) else { return Ok(()) };
            let closed = session.database.close();
            log(&Event::Closed);
            self.waiting.wake_all();
            // An earlier error has already reported that only opening again shows what is on disk.
            if is_heard { Ok(()) } else { expired.and(flushed).and(closed) }
        })
    }

    /// Closes the file, if it is open, and opens it again.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if unflushed changes cannot be flushed; then the file
    /// stays open. Otherwise the errors of opening; then the store is closed.
    pub(crate) fn reopen(&self) -> Result<()> {
        // NOTE: other failures do not stop this, because opening again shows what is on disk.
        let is_heard = self.poison.is_heard();
        let _ = self.store_expiry();
        self.exclusive(|writer| {
            if let Err(error) = self.flush_now()
                && !is_heard
            {
                // The caller must learn that acknowledged changes may be lost. If it calls again, it accepts
                // that.
                self.poison.raise(Reason::OutcomeUnknown);
                return Err(error);
            }
            self.reattach(writer)
        })
    }

    /// Closes the file, even if that fails, and opens it again, which shows what is on disk.
    pub(crate) fn reattach(&self, writer: &mut Writer) -> Result<()> {
        if let Some(mut session) = self.detach(writer) {
            let _ = session.database.close();
        }
        self.attach()
    }

    /// Opens the store's file again. Call it from within [`exclusive`](Self::exclusive), after
    /// [`detach`](Self::detach).
    pub(crate) fn attach(&self) -> Result<()> {
        let started = Instant::now();
        let opened = self.opener.open(Some(self.store_id)).map(|(session, _)| {
            log(&Event::Opened { took: started.elapsed() });
            *self.session.write() = Some(session);
        });
        // The time left of each lease is computed again, and a commit with an unknown outcome may have become
        // visible. Or the store stays closed.
        self.waiting.wake_all();
        opened
    }

    /// Shrinks the file as much as possible.
    ///
    /// # Errors
    ///
    /// `Busy`; `ReadOnly`; `Corrupt` if the file is damaged; the errors of the commit.
    pub(crate) fn compact(&self) -> Result<CompactReport> {
        self.check_may_write()?;
        self.refuse_damage("compacting")?;
        self.exclusive(|_| {
            self.check_writable()?;
            self.flush_now()?;
            self.make_room(Need::Reserve)?;
            let (started, before) = (Instant::now(), self.file_size()?);
            let compacted = self.alone("compacting", |database| match database.compact() {
                Ok(_) => Ok(Alone::Done(Ok(()))),
                Err(CompactionError::TransactionInProgress) => Ok(Alone::NotYet),
                Err(error) => Ok(Alone::Done(Err(error))),
            })?;
            self.keep_reserve();
            compacted.map_err(|error| {
                self.failed(error.into(), Need::Reserve, Reason::OutcomeUnknown, |error| {
                    let text = format!("compacting failed; open the store again to go on: {error}");
                    Error::new(ErrorKind::OutcomeUnknown, text).with_source(error)
                })
            })?;
            self.keep_recovery_instant()?;
            let after = self.file_size()?;
            log(&Event::Compacted { before, after, took: started.elapsed() });
            Ok(CompactReport::new(before, after))
        })
    }

    /// Commits once more if the store promises instant recovery. redb has made a commit of its own, but
    /// instant recovery needs a last commit that supports it.
    pub(crate) fn keep_recovery_instant(&self) -> Result<()> {
        match self.recovery {
            Recovery::Instant => self.commit_rows(self.begin_durable()?, Need::Reserve),
            Recovery::Rebuild => Ok(()),
        }
    }

    /// Returns the size of the file in bytes.
    pub(crate) fn file_size(&self) -> Result<u64> {
        let session = self.session.read();
        let session = session.as_ref().ok_or_else(Error::closed)?;
        session
            .backend
            .len()
            .map_err(|error| Error::storage(format!("asking for the length of the store's file: {error}")))
    }

    /// Counts a commit that dropped rows, which readers of earlier snapshots still hold.
    pub(crate) fn note_drop(&self) {
        if let Some(session) = &*self.session.read() {
            session.readers.note_drop();
        }
    }

    /// Takes the session out of the engine, and forgets everything that readers and the writer remember of
    /// it.
    pub(crate) fn detach(&self, writer: &mut Writer) -> Option<Session> {
        let mut published = self.published.write();
        let session = self.session.write().take()?;
        self.forget_session(&session.readers, &mut published, writer);
        Some(session)
    }

    /// Ends the readers of a session, and forgets everything that readers and the writer remember of it.
    fn forget_session(&self, readers: &Readers, published: &mut Published, writer: &mut Writer) {
        readers.close();
        *published = Published::default();
        *writer = Writer::default();
        *self.aging.lock() = crate::engine::Aging::default();
        self.unflushed.store(false, Ordering::Release);
        self.poison.lift();
    }

    /// Lets `exchange` replace the session at a moment when no call reads. Calls that arrive meanwhile wait,
    /// and notice nothing. Call it from within [`exclusive`](Self::exclusive).
    ///
    /// # Errors
    ///
    /// `Busy` if running reads do not end in time; the errors of `exchange`.
    pub(crate) fn exchange_session(
        &self,
        writer: &mut Writer,
        wanted: &str,
        exchange: impl FnOnce(&mut Option<Session>) -> Result<()>,
    ) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let handed_out = self.published.write().take_handed_out();
            drop(handed_out);
            let mut published = self.published.write();
            let mut session = self.session.write();
            let readers = Arc::clone(&session.as_ref().ok_or_else(Error::closed)?.readers);
            if !readers.wait_for_snapshots(GATE_CLOSED_FOR) {
                continue;
            }
            let exchanged = exchange(&mut session);
            if session.as_ref().is_none_or(|session| !Arc::ptr_eq(&session.readers, &readers)) {
                self.forget_session(&readers, &mut published, writer);
                self.waiting.wake_all();
            }
            return exchanged;
        }
        Err(never_alone(wanted))
    }

    /// Does work that redb does only without readers. Other readers and writers wait meanwhile. Call it from
    /// within [`exclusive`](Self::exclusive).
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open, or if running reads do not end in time; the errors of
    /// `work`.
    pub(crate) fn alone<T>(
        &self,
        wanted: &str,
        mut work: impl FnMut(&mut Database) -> Result<Alone<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let handed_out = self.published.write().take_handed_out();
            drop(handed_out);
            let mut session = self.session.write();
            let session = session.as_mut().ok_or_else(Error::closed)?;
            session.readers.check_none(wanted)?;
            // NOTE: wait only briefly, because a reader may wait for a lock that is held here before it drops
            // its snapshot.
            if !session.readers.wait_for_snapshots(GATE_CLOSED_FOR) {
                continue;
            }
            match work(session.database.writable()?)? {
                Alone::Done(value) => return Ok(value),
                Alone::NotYet => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Err(never_alone(wanted))
    }
}

fn never_alone(wanted: &str) -> Error {
    let text = format!(
        "{wanted} must be alone with the file, and some call has been reading it for {} s: try again",
        PATIENCE.as_secs()
    );
    Error::new(ErrorKind::Busy, text)
}

/// The outcome of work that needs exclusive access to the file.
pub(crate) enum Alone<T> {
    Done(T),
    /// Some table is still in use. The work is tried again.
    NotYet,
}
