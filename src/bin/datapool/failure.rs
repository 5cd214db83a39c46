//! Failures of commands, and their exit codes.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use datapool_store::{Error, ErrorKind};

use crate::plain::plain;

/// The exit code of a command that may succeed later: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: u8 = 75;

/// The reason why a command ends early, or with findings.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command cannot be done, for this reason.
    Message(String),
    /// The store's file is damaged, as this says.
    Damage(String),
    /// Another program has the store open.
    Held(String),
    /// The command is done, and has printed what it found: not everything is in order.
    Findings,
    /// The reader of the output is gone: `datapool ... | head`. This is no failure.
    ClosedPipe,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(message.into())
    }

    /// Creates the failure of a call about something that the error's message does not name.
    pub(crate) fn about(name: impl fmt::Display, error: Error) -> Self {
        match Self::from(error) {
            Self::Message(message) => Self::Message(format!("{name}: {message}")),
            Self::Damage(message) => Self::Damage(format!("{name}: {message}")),
            other => other,
        }
    }

    /// Prints the reason on standard error. Returns the exit code.
    pub(crate) fn report(self, file: impl fmt::Display) -> ExitCode {
        match self {
            Self::Message(message) => tell(&message),
            Self::Damage(message) => tell(&format!("{file}: {message}; `datapool FILE verify` tells more")),
            Self::Held(message) => {
                tell(&message);
                ExitCode::from(TRY_AGAIN)
            }
            Self::Findings => ExitCode::FAILURE,
            Self::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            _ if is_closed_pipe(&error) => Self::ClosedPipe,
            ErrorKind::Corrupt => Self::Damage(error.to_string()),
            _ => Self::Message(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// An error of standard output: all other input and output names itself.
    fn from(error: io::Error) -> Self {
        if is_closed_pipe(&error) {
            return Self::ClosedPipe;
        }
        Self::Message(format!("writing to standard output: {error}"))
    }
}

/// Prints the reason on standard error. Names of files may contain control characters, which are shown and not sent.
fn tell(message: &str) -> ExitCode {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "error: {}", plain(message));
    ExitCode::FAILURE
}

/// Silences the panics that the library contains and turns into errors: those of the storage on a damaged file. All
/// other panics are printed as usual.
pub(crate) fn keep_contained_panics_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_of_storage = panic.location().is_some_and(|place| place.file().contains("redb-"));
        if !is_of_storage {
            usual(panic);
        }
    }));
}

/// Returns true if the error, or its cause, is a pipe whose reader is gone.
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
