//! Recovering after a failed commit, and after a write that failed for want of room.
//!
//! Always holds: what a failed call did is forgotten before the next one begins. redb accepts nothing more after a
//! failed write, so the file is opened again, or the store refuses to write until it is reopened (see
//! [`Poison`](crate::engine::storage::poison::Poison)).

use std::sync::atomic::Ordering;

use crate::engine::Engine;
use crate::engine::storage::failure::no_room;
use crate::engine::storage::poison::Reason;
use crate::engine::storage::space::{Need, Space};
use crate::engine::write::writer::Writer;
use crate::error::{Error, Result};
use crate::files::is_want_of_room;

impl Engine {
    /// Cleans up after a call. After a failure, the writer forgets what it remembered. If the disk had no room, the
    /// file is opened again. If the disk is full, space that the call has freed is given back to it.
    pub(crate) fn recover<T>(&self, writer: &mut Writer, result: Result<T>) -> Result<T> {
        if result.is_err() {
            writer.forget();
        }
        if self.poison.reason() == Some(Reason::NoRoom) {
            // redb accepts nothing more for a file once a write of it has failed.
            self.reattach(writer)?;
        }
        if result.is_ok() && self.asks_disk(Space::is_full) {
            // The call itself has succeeded.
            let _ = self.give_back();
        }
        result
    }

    /// Handles a failure of redb while it wrote, after which redb accepts nothing more. If the disk had no room,
    /// nothing is committed, and the file is opened again before the call returns. Otherwise the store refuses to
    /// write, for `reason`.
    pub(crate) fn failed(
        &self,
        error: redb::Error,
        need: Need,
        reason: Reason,
        otherwise: impl FnOnce(redb::Error) -> Error,
    ) -> Error {
        match error {
            // Acknowledged changes that are not flushed would be lost with it, and their writers must learn of that.
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
}
