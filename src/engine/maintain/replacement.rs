//! Replaces the store's file with a copy, atomically.
//!
//! Always holds: the old file stays locked until the new one, which is already locked, has its name. A copy
//! that does not replace the file is removed.

use std::io;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::engine::maintain::backup::BACKUP_PREFIX;
use crate::engine::maintain::opener::{Location, Opener, file_medium};
use crate::engine::storage::backend::Medium;
use crate::engine::storage::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::files::is_want_of_room;
use crate::files::{
    FileId, ReadableBy, directory_of, follow_links, make_alike, new_file_in, remove_left_over,
    try_sync_directory,
};

/// The prefix of a copy's file name until it gets the name of the store.
const PREFIX: &str = ".datapool-vacuum-";

/// An empty medium for a copy of the store.
pub(crate) struct Replacement {
    pub(crate) medium: Medium,
    /// The file of the medium, and the path of the file that it replaces.
    file: Option<(NamedTempFile, PathBuf)>,
}

impl Opener {
    /// Creates an empty medium beside the store's own. Removes the left-over copies of killed processes.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `Io` or `Storage`.
    pub(crate) fn replacement(&self) -> Result<Replacement> {
        match &self.location {
            Location::Path(path) => {
                // A link to the file stays a link.
                let target = follow_links(path);
                let directory = directory_of(&target);
                // The left-over of a killed backup would still have the erased data.
                remove_left_over(directory, BACKUP_PREFIX);
                let file = new_file_in(directory, PREFIX, ReadableBy::Owner)
                    .map_err(|error| self.not_copied(error))?;
                let medium = file_medium(file.path(), file.as_file())?;
                Ok(Replacement { medium, file: Some((file, target)) })
            }
            Location::Kept(medium) => {
                let medium = medium.beside().map_err(|error| self.not_copied(error))?;
                Ok(Replacement { medium, file: None })
            }
        }
    }

    /// Creates the error for a copy that cannot be written.
    pub(crate) fn not_copied(&self, error: io::Error) -> Error {
        let kind = match self.location {
            _ if is_want_of_room(&error) => ErrorKind::StorageFull,
            Location::Path(_) => ErrorKind::Io,
            Location::Kept(_) => ErrorKind::Storage,
        };
        let text = format!(
            "vacuuming writes a copy beside {}, and that failed ({error}); nothing was changed",
            self.location()
        );
        Error::new(kind, text).with_source(error)
    }

    /// Replaces the store's file with a copy, and the current session with the copy's.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `Io` or `Storage`: the session is the old one, or there is none if the old medium
    /// cannot be opened any more. `OutcomeUnknown` if a loss of power may bring back the old file: the
    /// session is the new one.
    pub(crate) fn replace(
        &self,
        replacement: Replacement,
        session: &mut Option<Session>,
        store_id: u128,
    ) -> Result<()> {
        let Replacement { medium, file } = replacement;
        match (&self.location, file) {
            (Location::Kept(own), _) => {
                if let Some(mut before) = session.take() {
                    let _ = before.database.close();
                }
                let replaced = own.take_over(&medium);
                let (opened, _) = self.open(Some(store_id))?;
                *session = Some(opened);
                replaced.map_err(|error| self.not_copied(error))
            }
            (Location::Path(_), Some((file, target))) => {
                if session.as_ref().and_then(|session| session.file).is_some_and(|old| !old.is_at(&target)) {
                    let reason = if target.exists() {
                        "another one took its place, and is left as it is"
                    } else {
                        "it was removed or renamed"
                    };
                    return Err(Error::storage(format!(
                        "{} is not the file any more that this store has open: {reason}; nothing was changed",
                        target.display()
                    )));
                }
                let id = FileId::of(file.as_file()).map_err(|error| self.not_copied(error))?;
                let opened = self.open_medium(&medium, Some(id))?;
                make_alike(file.as_file(), &target).map_err(|error| {
                    let text = format!(
                        "the copy cannot get the owner and the permissions of {} ({error}); only the file's owner or root \
                         can vacuum it; nothing was changed",
                        target.display()
                    );
                    Error::new(ErrorKind::Io, text).with_source(error)
                })?;
                file.as_file().sync_all().map_err(|error| self.not_copied(error))?;
                // If the disk has no space now, it is reserved when it is needed.
                let _ = opened.backend.keep_all();
                file.persist(&target).map_err(|error| self.not_copied(error.error))?;
                *session = Some(opened);
                try_sync_directory(directory_of(&target)).map_err(|error| {
                    let text = format!(
                        "the vacuumed file is in its place, but a loss of power may bring back the old one: syncing the \
                         directory failed; open the store again to go on: {error}"
                    );
                    Error::new(ErrorKind::OutcomeUnknown, text).with_source(error)
                })
            }
            (Location::Path(_), None) => Err(Error::storage("the copy is no file")),
        }
    }
}
