//! Backup: a copy of the live data of the store, as of one commit.
//!
//! Always holds: a file with its final name is complete and on disk.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use crate::backend::Observer;
use crate::engine::Engine;
use crate::engine::maintain::copy::{Copied, CopyError, Source, copy};
use crate::engine::maintain::observer::Watch;
use crate::engine::maintain::opener::file_medium;
use crate::engine::storage::failure::contained;
use crate::engine::storage::session::ReaderKind;
use crate::engine::write::log::{Event, log};
use crate::error::{Error, Result};
use crate::files::{Existing, ReadableBy, directory_of, new_file_in, publish};
use crate::model::BackupReport;

/// The prefix of a backup's file name until it gets its final name.
pub(super) const BACKUP_PREFIX: &str = ".datapool-backup-";

impl Engine {
    /// Copies the store to a new file.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; `Io`; `Cancelled`; `Closed`; `Corrupt` or `Storage` if the store cannot be read.
    pub(crate) fn backup(&self, path: &Path, observer: Observer<'_>) -> Result<BackupReport> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(exists(path));
        }
        let failed = |error| Error::io(format_args!("writing {}", path.display()), error);
        let started = Instant::now();
        let reader = self.reader(ReaderKind::Backup)?;
        let snapshot = contained("copying the store", || self.snapshot())?;
        let like = self.opener.existing_path();
        // The copy gets the store's permissions at the end. Until then, no more users may read it than the
        // store.
        let readable = if like.is_some() { ReadableBy::Owner } else { ReadableBy::Usual };
        let file = new_file_in(directory_of(path), BACKUP_PREFIX, readable).map_err(failed)?;
        let source = Source { engine: self, snapshot, reader: &reader, now: self.clock.read() };
        let medium = file_medium(path, file.as_file())?;
        let Copied { records, rows } = Watch::over(observer, |watch| {
            copy(&source, &medium, watch).map_err(|error| match error {
                CopyError::Written(error) => failed(error),
                CopyError::Other(error) => error,
            })
        })?;
        let bytes = file.as_file().metadata().map_err(failed)?.len();
        // Users who may not read the store may not read its copy. The permissions are set last, because a
        // read-only store can be backed up, too.
        publish(file, path, like, Existing::Kept).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => failed(error),
        })?;
        log(&Event::BackedUp { rows, bytes, took: started.elapsed() });
        Ok(BackupReport { records, rows, bytes })
    }
}

fn exists(path: &Path) -> Error {
    Error::already_exists(format!("{} exists; a backup is written to a new file", path.display()))
}
