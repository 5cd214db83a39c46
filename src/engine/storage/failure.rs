//! The mapping from redb's errors to this crate's errors.
//!
//! Owns: the mapping to kinds, and the containment of panics that damaged files cause in dependencies. Always
//! holds: no code above the engine sees a redb type.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::storage::space::Need;
use crate::error::{Error, ErrorKind, Result};
use crate::files::is_want_of_room;

/// Converts redb's results to the crate's.
pub(crate) trait StorageResult<T> {
    /// Returns the value, or the error with the matching kind.
    fn storage(self) -> Result<T>;
}

impl<T, E: Into<redb::Error>> StorageResult<T> for Result<T, E> {
    fn storage(self) -> Result<T> {
        self.map_err(|error| translate(error.into()))
    }
}

/// The message when the observer of a recovery stopped it.
pub(crate) const REPAIR_STOPPED: &str =
    "opening was stopped by the callback that watches the recovery; the store can be opened again";

/// Converts a storage error to the crate's own.
pub(crate) fn translate(error: redb::Error) -> Error {
    if matches!(error, redb::Error::RepairAborted) {
        return Error::new(ErrorKind::Cancelled, REPAIR_STOPPED);
    }
    if matches!(error, redb::Error::PreviousIo) {
        let text =
            "an earlier read or write of the store's file failed; open the store again to go on (`reopen`)";
        return Error::storage(text).with_source(error);
    }
    let kind = match &error {
        redb::Error::Corrupted(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => ErrorKind::Corrupt,
        redb::Error::DatabaseAlreadyOpen => ErrorKind::AlreadyOpen,
        redb::Error::DatabaseClosed => ErrorKind::Closed,
        _ => ErrorKind::Storage,
    };
    let text = match &error {
        redb::Error::Io(reason) => format!("reading or writing the store's file: {reason}"),
        redb::Error::Corrupted(reason) => format!("the store's file is damaged: {reason}"),
        other => format!("the store's file: {other}"),
    };
    Error::new(kind, text).with_source(error)
}

/// Creates the error for a disk that has no space for the file of a store.
pub(crate) fn no_room(location: impl std::fmt::Display, need: Need, error: std::io::Error) -> Error {
    let made = if is_want_of_room(&error) {
        let refused = match error.kind() {
            std::io::ErrorKind::FileTooLarge => {
                format!("a limit of the system keeps {location} from growing ({error})")
            }
            std::io::ErrorKind::QuotaExceeded => {
                format!("the quota has no room for more in {location} ({error})")
            }
            _ => format!("the disk has no room for more in {location} ({error})"),
        };
        let text = match need {
            Need::Adding => format!(
                "{refused}; nothing was changed. Make room, or compact the store if much of it was deleted, and call again; reading, \
                 deleting and clearing go on meanwhile"
            ),
            Need::Reserve => format!(
                "{refused}, and the reserve for calls that delete is used up; nothing was changed. Make room and call again; reading \
                 goes on meanwhile"
            ),
        };
        Error::new(ErrorKind::StorageFull, text)
    } else {
        Error::storage(format!("making {location} longer failed ({error}); nothing was changed"))
    };
    made.with_source(error)
}

/// Runs code that calls into the storage. A panic there, which only a damaged file can cause, becomes an
/// error.
pub(crate) fn contained<T>(doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(Error::corrupt(format!("the file is damaged: the storage panicked while {doing} ({reason})")))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_of_the_storage_has_the_kind_and_the_words_that_tell_what_to_do() {
        let kinds = [
            (redb::Error::Corrupted("page 7".into()), ErrorKind::Corrupt),
            (redb::Error::TableIsMultimap("pools".into()), ErrorKind::Corrupt),
            (redb::Error::DatabaseAlreadyOpen, ErrorKind::AlreadyOpen),
            (redb::Error::DatabaseClosed, ErrorKind::Closed),
            (redb::Error::RepairAborted, ErrorKind::Cancelled),
            (redb::Error::PreviousIo, ErrorKind::Storage),
            (redb::Error::Io(io::ErrorKind::TimedOut.into()), ErrorKind::Storage),
        ];
        for (error, kind) in kinds {
            let text = error.to_string();
            assert_eq!(translate(error).kind(), kind, "{text}");
        }
        let full = ErrorKind::StorageFull;
        let refusals = [
            (io::ErrorKind::FileTooLarge, full, "a limit of the system keeps the store from growing ("),
            (io::ErrorKind::QuotaExceeded, full, "the quota has no room for more in the store ("),
            (io::ErrorKind::StorageFull, full, "the disk has no room for more in the store ("),
            (io::ErrorKind::TimedOut, ErrorKind::Storage, "making the store longer failed ("),
        ];
        for (refused, kind, begins) in refusals {
            for (need, says) in
                [(Need::Adding, "reading, deleting and clearing go on"), (Need::Reserve, "reading goes on")]
            {
                let error = no_room("the store", need, refused.into());
                let text = error.to_string();
                assert_eq!(error.kind(), kind, "{text}");
                assert!(text.starts_with(begins) && text.contains("nothing was changed"), "{text}");
                assert_eq!(text.contains(says), kind == full, "{text}");
            }
        }
    }
}
