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

/// What a check of the file found.
pub(super) enum Checked {
    Sound,
    /// The list of used pages was wrong. redb has rebuilt it.
    PutInOrder,
    /// The file is damaged, for this reason. Calls that write are refused until the store is opened again.
    Damaged(String),
}

impl Engine {
    /// Lets redb check its checksums and its list of used pages.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open; `ReadOnly`; the errors of a commit.
    pub(super) fn check_file(&self, wanted: &str) -> Result<Checked> {
        self.exclusive(|writer| {
            if self.poison.reason() == Some(Reason::CheckFailed) {
                let reason = "an earlier verification found it damaged; open the store again";
                return Ok(Checked::Damaged(reason.to_owned()));
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
                Ok(true) => self.keep_recovery_instant().map(|()| Checked::Sound),
                Ok(false) => {
                    // redb may have returned to an earlier commit, so everything is read again.
                    if let Some(mut session) = self.detach(writer) {
                        session.database.close()?;
                    }
                    self.attach()?;
                    Ok(Checked::PutInOrder)
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.poison.raise(Reason::CheckFailed);
                    Ok(Checked::Damaged(error.to_string()))
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
        match self.check_file(wanted)? {
            Checked::Sound | Checked::PutInOrder => Ok(()),
            Checked::Damaged(reason) => Err(Error::corrupt(format!(
                "{wanted} would hide damage: {reason}. Nothing was changed; restore a backup, or export what can be read"
            ))),
        }
    }
}
