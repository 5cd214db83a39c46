//! The caller's observer of an operation over the store.
//!
//! Always holds: a panic of the observer is not treated as damage of the store. The panic resumes when the
//! operation ends, after everything that the operation did was undone.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::backend::Observer;
use crate::engine::storage::session::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Progress;

/// An observer, and its panic if it panicked.
pub(crate) struct Watch<'o> {
    observer: Observer<'o>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<'o> Watch<'o> {
    /// Runs an operation with an observer.
    pub(crate) fn over<T>(observer: Observer<'o>, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut watch = Self { observer, panic: None };
        let done = run(&mut watch);
        match watch.panic {
            Some(panic) => resume_unwind(panic),
            None => done,
        }
    }

    /// Calls the observer. Returns an error if the operation must stop.
    ///
    /// # Errors
    ///
    /// `Closed`; `Cancelled` by the observer.
    pub(crate) fn tell(&mut self, progress: Progress, reader: &Reader) -> Result<()> {
        reader.check_open()?;
        let told = catch_unwind(AssertUnwindSafe(|| (self.observer)(progress)));
        match told {
            // The observer may have closed the store.
            Ok(ControlFlow::Continue(())) => return reader.check_open(),
            Ok(ControlFlow::Break(())) => {}
            Err(panic) => self.panic = Some(panic),
        }
        Err(Error::new(ErrorKind::Cancelled, "the call was stopped by its progress callback"))
    }
}
