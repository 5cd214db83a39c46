//! Why a command did not do its work, and the exit code that says so.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use datapool_store::{Error, ErrorKind};

use crate::plain::plain;

/// The exit code of a command that may succeed later: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: u8 = 75;

/// Why a command ends early, or with bad news.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be done, for this reason.
    Message(String),
    /// The store's file is damaged, as this tells.
    Damage(String),
    /// Another program has the store open.
    Held(String),
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
            Self::Damage(message) => Self::Damage(format!("{name}: {message}")),
            other => other,
        }
    }

    /// Says why on standard error; the exit code of it.
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
    /// Of standard output: what else is read and written names itself.
    fn from(error: io::Error) -> Self {
        if is_closed_pipe(&error) {
            return Self::ClosedPipe;
        }
        Self::Message(format!("writing to standard output: {error}"))
    }
}

/// Says why on standard error. Names of files may hold what a terminal would obey: it is shown, not sent.
fn tell(message: &str) -> ExitCode {
    // Nobody is left to hear that standard error is closed.
    let _ = writeln!(io::stderr(), "error: {}", plain(message));
    ExitCode::FAILURE
}

/// The library contains the panics of the storage on a damaged file and makes errors of them: these are told, and nothing
/// else is.
pub(crate) fn keep_contained_panics_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_of_storage = panic.location().is_some_and(|place| place.file().contains("redb-"));
        if !is_of_storage {
            usual(panic);
        }
    }));
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
