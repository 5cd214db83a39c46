//! Checks the file's checksums.
//!
//! Always holds: work that gives pages new checksums, which would hide damage, checks them first.

use redb::{DatabaseError, StorageError};

use crate::engine::Engine;
use crate::engine::maintain::lifecycle::Alone;
use crate::engine::storage::failure::{contained, translate};
use crate::engine::storage::poison::Reason;
use crate::engine::storage::space::Need;
use crate::error::{Error, ErrorKind, Result};

impl Engine {
    /// Lets redb check its checksums and its list of used pages. Returns what was wrong, if anything. After
    /// damage that cannot be put in order, calls that write are refused until the store is opened again.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open; `ReadOnly`; the errors of a commit.
    pub(super) fn check_file(&self, wanted: &str) -> Result<Option<String>> {
        self.exclusive(|writer| {
            if self.poison.reason() == Some(Reason::CheckFailed) {
                return Ok(Some("an earlier verification found it damaged; open the store again".to_owned()));
            }
            self.check_writable()?;
            self.flush_now()?;
            self.make_room(Need::Reserve)?;
            let checked = self.alone(wanted, |database| {
                contained(wanted, || match database.check_integrity() {
                    Ok(is_sound) => Ok(Alone::Done(Ok(is_sound))),
                    Err(DatabaseError::TransactionInProgress) => Ok(Alone::NotYet),
                    Err(DatabaseError::Storage(StorageError::Corrupted(reason))) => {
                        Err(Error::corrupt(format!("the file is damaged: {reason}")))
                    }
                    Err(error) => Ok(Alone::Done(Err(error))),
                })
            });
            self.keep_reserve();
            // It is no longer known which pages are in use.
            let failed = |error: DatabaseError| {
                self.failed(error.into(), Need::Reserve, Reason::CheckFailed, translate)
            };
            let checked = checked.and_then(|checked| checked.map_err(failed));
            match checked {
                Ok(true) => self.keep_recovery_instant().map(|()| None),
                Ok(false) => {
                    // redb may have returned to an earlier commit, so everything is read again.
                    if let Some(mut session) = self.detach(writer) {
                        session.database.close()?;
                    }
                    self.attach()?;
                    Ok(Some("it was not in order; the storage has put it in order".to_owned()))
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.poison.raise(Reason::CheckFailed);
                    Ok(Some(error.to_string()))
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Checks the file before all of it is written anew.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is damaged; the errors of [`check_file`](Self::check_file).
    pub(in crate::engine::maintain) fn refuse_damage(&self, wanted: &str) -> Result<()> {
        let found = self.check_file(wanted)?;
        match found {
            Some(reason) if self.poison.reason() == Some(Reason::CheckFailed) => {
                Err(Error::corrupt(format!(
                    "{wanted} would hide damage: {reason}. Nothing was changed; restore a backup, or export what can be read"
                )))
            }
            Some(_) | None => Ok(()),
        }
    }
}
