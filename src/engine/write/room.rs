//! Disk space: each commit checks that there is enough before redb writes.

use crate::engine::Engine;
use crate::engine::storage::backend::Backend;
use crate::engine::storage::failure::no_room;
use crate::engine::storage::space::{Need, Space};
use crate::error::{Error, Result};

impl Engine {
    /// Answers a question about the disk space.
    pub(crate) fn asks_disk(&self, question: impl FnOnce(&Space) -> bool) -> bool {
        self.session.read().as_ref().is_some_and(|session| question(session.backend.space()))
    }

    /// Returns an error if the disk has no space for a transaction.
    ///
    /// # Errors
    ///
    /// `StorageFull`, or `Storage` if the system reports another error.
    pub(crate) fn check_room(&self, need: Need) -> Result<()> {
        self.ask_for_room(need, |backend| backend.check_room(need))
    }

    /// Like [`check_room`](Self::check_room), but directly before redb commits.
    ///
    /// # Errors
    ///
    /// `StorageFull`, or `Storage` if the system reports another error.
    pub(crate) fn make_room(&self, need: Need) -> Result<()> {
        self.ask_for_room(need, |backend| backend.make_room(need))
    }

    /// Allocates the reserve again after redb has committed, if the commit could use it.
    pub(crate) fn keep_reserve(&self) {
        if self.asks_disk(Space::is_tight)
            && let Some(session) = &*self.session.read()
        {
            // If the disk has no space now, it is reserved when it is needed.
            let _ = session.backend.keep_reserve();
        }
    }

    fn ask_for_room(&self, need: Need, ask: impl FnOnce(&Backend) -> std::io::Result<()>) -> Result<()> {
        let session = self.session.read();
        let room = ask(&session.as_ref().ok_or_else(Error::closed)?.backend);
        room.map_err(|error| no_room(self.opener.location(), need, error))
    }

    /// Gives the space of deleted data back to the disk. With each commit, redb truncates some of the free
    /// pages at the end of the file.
    pub(crate) fn give_back(&self) -> Result<()> {
        let mut before = u64::MAX;
        while self.file_size()? < before {
            before = self.file_size()?;
            self.commit_rows(self.begin_durable()?, Need::Reserve)?;
        }
        Ok(())
    }
}
