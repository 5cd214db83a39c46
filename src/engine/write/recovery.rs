//! Recovery after a failed commit, and after a write that failed because the disk is full.
//!
//! Always holds: the effects of a failed call are forgotten before the next call begins. redb accepts nothing
//! more after a failed write. So the file is opened again, or the store refuses to write until it is reopened
//! (see [`Poison`](crate::engine::storage::poison::Poison)).

use std::sync::atomic::Ordering;

use crate::engine::Engine;
use crate::engine::storage::failure::no_room;
use crate::engine::storage::poison::Reason;
use crate::engine::storage::space::{Need, Space};
use crate::engine::write::writer::Writer;
use crate::error::{Error, Result};
use crate::files::is_want_of_room;

impl Engine {
    /// Cleans up after a call. After a failure, the writer forgets everything. If the disk is full, the space
    /// that the call has freed is given back to it. If the disk had no space for that or for the call, the file
    /// is opened again.
    pub(crate) fn recover<T>(&self, writer: &mut Writer, result: Result<T>) -> Result<T> {
        if result.is_err() {
            writer.forget();
        } else if self.asks_disk(Space::is_full) {
            // The call itself has succeeded, so a failure here is ignored.
            let _ = self.give_back();
        }
        if self.poison.reason() == Some(Reason::NoRoom) {
            // Once a write has failed, redb accepts nothing more for the file.
            let reattached = self.reattach(writer);
            // What has succeeded is on disk, even if the store is closed now.
            if result.is_err() {
                reattached?;
            }
        }
        result
    }

    /// Handles a failed write of redb, after which redb accepts nothing more. If the disk had no space,
    /// nothing is committed, and the file is opened again before the call returns. Otherwise the store
    /// refuses to write, for `reason`.
    pub(crate) fn failed(
        &self,
        error: redb::Error,
        need: Need,
        reason: Reason,
        otherwise: impl FnOnce(redb::Error) -> Error,
    ) -> Error {
        match error {
            // Unflushed acknowledged changes would be lost, too, and their writers must learn of that.
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
