//! Why a command did not do its work, and the exit code that says so.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use datapool_store::Error;

/// Why a command ends early, or with bad news.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be done, for this reason.
    Message(String),
    /// It was done, and what it found is printed already: not everything is as it must be.
    Findings,
    /// Nobody reads what is printed any more: `datapool ... | head`. No failure.
    ClosedPipe,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// The failure of a call that is about something its message does not name.
    pub(crate) fn about(name: impl fmt::Display, error: Error) -> Self {
        match Self::from(error) {
            Self::Message(message) => Self::Message(format!("{name}: {message}")),
            other => other,
        }
    }

    /// Says why on standard error; the exit code of it.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Message(message) => {
                // Nobody is left to hear that standard error is closed.
                let _ = writeln!(io::stderr(), "error: {message}");
                ExitCode::FAILURE
            }
            Self::Findings => ExitCode::FAILURE,
            Self::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if is_closed_pipe(&error) { Self::ClosedPipe } else { Self::Message(error.to_string()) }
    }
}

impl From<io::Error> for Failure {
    /// Of standard output: what else is read and written names itself.
    fn from(error: io::Error) -> Self {
        if is_closed_pipe(&error) {
            return Self::ClosedPipe;
        }
        Self::Message(format!("writing to standard output: {error}"))
    }
}

/// Whether the error, or what caused it, is a pipe that nobody reads.
fn is_closed_pipe(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let error_of_pipe = error.downcast_ref::<io::Error>();
        if error_of_pipe.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = error.source();
    }
    false
}
