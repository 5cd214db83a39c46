//! Failures of commands, and their exit codes.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use console::style;
use datapool_store::{Error, ErrorKind};
use serde::Serialize;

use crate::format::Format;
use crate::plain::plain;

/// The exit code of a command that may succeed later: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: u8 = 75;

/// The reason why a command ends early, or with findings.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command cannot be done, for this reason. Without a kind it is one of the tool's own.
    Message(Option<ErrorKind>, String),
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
        Self::Message(None, message.into())
    }

    /// Creates a failure of the library's kind, with a message for the tool's users.
    pub(crate) fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Message(Some(kind), message.into())
    }

    /// Creates the failure of a call about something that the error's message does not name.
    pub(crate) fn about(name: impl fmt::Display, error: Error) -> Self {
        match Self::from(error) {
            Self::Message(kind, message) => Self::Message(kind, format!("{name}: {message}")),
            Self::Damage(message) => Self::Damage(format!("{name}: {message}")),
            other => other,
        }
    }

    /// Prints the reason on standard error. Returns the exit code.
    pub(crate) fn report(self, file: impl fmt::Display, format: Format) -> ExitCode {
        let (kind, message, code) = match self {
            Self::Message(kind, message) => (kind, message, ExitCode::FAILURE),
            Self::Damage(message) => {
                let message = format!("{file}: {message}; `datapool FILE verify` tells more");
                (Some(ErrorKind::Corrupt), message, ExitCode::FAILURE)
            }
            Self::Held(message) => (Some(ErrorKind::AlreadyOpen), message, ExitCode::from(TRY_AGAIN)),
            Self::Findings => return ExitCode::FAILURE,
            Self::ClosedPipe => return ExitCode::SUCCESS,
        };
        match format {
            Format::Human => tell(&message),
            Format::Json => tell_json(&kind.map_or("Failed".to_owned(), name), &message),
        }
        code
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            _ if is_closed_pipe(&error) => Self::ClosedPipe,
            ErrorKind::Corrupt => Self::Damage(error.to_string()),
            kind => Self::Message(Some(kind), error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    /// An error of standard output: all other input and output names itself.
    fn from(error: io::Error) -> Self {
        if is_closed_pipe(&error) {
            return Self::ClosedPipe;
        }
        Self::Message(Some(ErrorKind::Io), format!("writing to standard output: {error}"))
    }
}

/// Prints the reason on standard error. Names of files may contain control characters, which are shown and not sent.
fn tell(message: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "{} {}", style("error:").for_stderr().red().bold(), plain(message));
}

/// Prints the reason on standard error, for programs.
pub(crate) fn tell_json(kind: &str, message: &str) {
    #[derive(Serialize)]
    struct Told<'a> {
        error: Reason<'a>,
    }
    #[derive(Serialize)]
    struct Reason<'a> {
        kind: &'a str,
        message: &'a str,
    }
    let text = serde_json::to_string(&Told { error: Reason { kind, message } }).unwrap_or_default();
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Returns the name of a kind, without what it carries.
fn name(kind: ErrorKind) -> String {
    let text = format!("{kind:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
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
