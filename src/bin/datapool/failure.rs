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

/// The exit code of wrong usage, as clap has it.
const WRONG_USAGE: u8 = 2;
/// The exit code of a command that may succeed later: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: u8 = 75;

/// The reason why a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command failed for this reason. Without a kind, the reason is the tool's own.
    Message(Option<ErrorKind>, String),
    /// The arguments are wrong, as the library found before it connected. Nothing was changed.
    Usage(String),
    /// The store is damaged. The text says where.
    Damage(String),
    /// Another program has the store open.
    Held(String),
    /// The command has finished and printed the problems that it found.
    Findings,
    /// The reader of the output is gone: `datapool ... | head`. The exit code is 0.
    ClosedPipe,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message(None, message.into())
    }

    /// Creates a failure with a kind of the library, and a message for the tool's users.
    pub(crate) fn of(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Message(Some(kind), message.into())
    }

    /// Creates a failure whose message begins with a name that the error's own message lacks.
    pub(crate) fn about(name: impl fmt::Display, error: Error) -> Self {
        match Self::from(error) {
            Self::Message(kind, message) => Self::Message(kind, format!("{name}: {message}")),
            Self::Damage(message) => Self::Damage(format!("{name}: {message}")),
            other => other,
        }
    }

    /// Prints the reason on standard error. Returns the exit code. `of_damage` completes the message about a damaged
    /// store.
    pub(crate) fn report(self, of_damage: impl FnOnce(&str) -> String, format: Format) -> ExitCode {
        let (kind, message, code) = match self {
            Self::Message(kind, message) => {
                (kind.map_or("Failed".to_owned(), name), message, ExitCode::FAILURE)
            }
            Self::Usage(message) => ("Usage".to_owned(), message, ExitCode::from(WRONG_USAGE)),
            Self::Damage(message) => (name(ErrorKind::Corrupt), of_damage(&message), ExitCode::FAILURE),
            Self::Held(message) => (name(ErrorKind::AlreadyOpen), message, ExitCode::from(TRY_AGAIN)),
            Self::Findings => return ExitCode::FAILURE,
            Self::ClosedPipe => return ExitCode::SUCCESS,
        };
        match format {
            Format::Human => tell(&message),
            Format::Json => tell_json(&kind, &message),
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
    /// Converts an error of standard output. All other errors of input and output name their file.
    fn from(error: io::Error) -> Self {
        if is_closed_pipe(&error) {
            return Self::ClosedPipe;
        }
        Self::Message(Some(ErrorKind::Io), format!("writing to standard output: {error}"))
    }
}

/// Prints the reason on standard error. Escapes control characters, which the names of files may contain.
fn tell(message: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "{} {}", style("error:").for_stderr().red().bold(), plain(message));
}

/// Prints a note on standard error. If that is closed, the note is lost.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {}", plain(text));
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

/// Returns the name of a kind, without its fields.
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
