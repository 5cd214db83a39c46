//! The reason why the store refuses to write until it is opened again.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

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
pub(crate) struct Poison {
    raised: AtomicU8,
    /// True if no caller has had an error about it yet.
    is_unheard: AtomicBool,
}

impl Poison {
    pub(crate) fn raise(&self, reason: Reason) {
        self.raised.store(reason as u8, Ordering::Release);
    }

    pub(crate) fn lift(&self) {
        self.raised.store(0, Ordering::Release);
        self.is_unheard.store(false, Ordering::Release);
    }

    /// Runs work of which no caller gets the error. A reason that it raises, or that it is refused for, is still
    /// to be told to a caller.
    pub(crate) fn unheard<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let stays_unheard = self.reason().is_none() || self.is_unheard.load(Ordering::Acquire);
        if stays_unheard {
            // NOTE: before the work, so that nobody takes a reason for one that was told.
            self.is_unheard.store(true, Ordering::Release);
        }
        let done = work();
        self.is_unheard.store(stays_unheard && self.reason().is_some(), Ordering::Release);
        done
    }

    /// Returns true if there is a reason of which a caller has been told.
    pub(crate) fn is_heard(&self) -> bool {
        self.reason().is_some() && !self.is_unheard.load(Ordering::Acquire)
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        let reasons = [Reason::OutcomeUnknown, Reason::CheckFailed, Reason::NoRoom];
        let raised = self.raised.load(Ordering::Acquire);
        reasons.into_iter().find(|reason| *reason as u8 == raised)
    }

    /// Returns an error if there is a reason for refusing to write. The caller is told with it.
    ///
    /// # Errors
    ///
    /// `OutcomeUnknown`, `StorageFull` or `Corrupt`, depending on the reason.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(reason) = self.reason() else { return Ok(()) };
        self.is_unheard.store(false, Ordering::Release);
        match reason {
            Reason::OutcomeUnknown => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "an earlier write failed, and may or may not be on disk: open the store again (`reopen`) to find out",
            )),
            Reason::NoRoom => Err(Error::new(
                ErrorKind::StorageFull,
                "the disk had no room for an earlier commit; open the store again (`reopen`)",
            )),
            Reason::CheckFailed => Err(Error::corrupt(
                "verifying found the file damaged, or could not be brought to its end: open the store again (`reopen`) \
                 before anything is written",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_unheard_until_a_caller_gets_the_error() {
        let poison = Poison::default();
        poison.unheard(|| Ok(())).unwrap();
        poison.check().unwrap();
        let fail = || {
            poison.raise(Reason::OutcomeUnknown);
            Err::<(), _>(Error::closed())
        };
        poison.unheard(fail).unwrap_err();
        assert!(!poison.is_heard());
        poison.unheard(|| poison.check()).unwrap_err();
        assert!(!poison.is_heard(), "no caller was there when the work was refused");
        poison.check().unwrap_err();
        assert!(poison.is_heard());
        poison.unheard(|| poison.check()).unwrap_err();
        assert!(poison.is_heard());
        poison.lift();
        assert!(!poison.is_heard());
        poison.check().unwrap();
    }
}
