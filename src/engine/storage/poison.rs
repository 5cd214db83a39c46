//! The reason why the store refuses to write until it is opened again.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A reason for refusing to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// A commit failed and may or may not be on disk.
    OutcomeUnknown = 1,
    /// The check by the storage found the file damaged, or could not finish.
    CheckFailed = 2,
    /// The disk had no space for a commit, which is not on disk. The file is opened again before the call
    /// returns.
    NoRoom = 3,
}

/// The reason for refusing to write, if there is one. It is checked before each commit.
#[derive(Debug, Default)]
pub(crate) struct Poison(AtomicU8);

impl Poison {
    pub(crate) fn raise(&self, reason: Reason) {
        self.0.store(reason as u8, Ordering::Release);
    }

    pub(crate) fn lift(&self) {
        self.0.store(0, Ordering::Release);
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        let reasons = [Reason::OutcomeUnknown, Reason::CheckFailed, Reason::NoRoom];
        let raised = self.0.load(Ordering::Acquire);
        reasons.into_iter().find(|reason| *reason as u8 == raised)
    }

    /// Returns an error if there is a reason for refusing to write.
    ///
    /// # Errors
    ///
    /// `OutcomeUnknown`, `StorageFull` or `Corrupt`, depending on the reason.
    pub(crate) fn check(&self) -> Result<()> {
        match self.reason() {
            None => Ok(()),
            Some(Reason::OutcomeUnknown) => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "an earlier write failed, and may or may not be on disk: open the store again (`reopen`) to find out",
            )),
            Some(Reason::NoRoom) => Err(Error::new(
                ErrorKind::StorageFull,
                "the disk had no room for an earlier commit; open the store again (`reopen`)",
            )),
            Some(Reason::CheckFailed) => Err(Error::corrupt(
                "verifying found the file damaged, or could not be brought to its end: open the store again (`reopen`) \
                 before anything is written",
            )),
        }
    }
}
