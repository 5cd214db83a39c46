//! Failures of statements, sorted by what a call can do about them.
//!
//! Owns: [`Failure`]. Must not know: which call failed, and if it is tried again.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::{DbError, SqlState};

use crate::error::{Error, ErrorKind};

/// The failure of a statement.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection is lost, or the server is not there.
    Lost(Error),
    /// The server has ended the transaction because of another one: it can be tried again.
    Again(Error),
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    /// Returns true if the server ended the transaction because it waited for the client for too long. So the transaction was not
    /// committed.
    pub(crate) fn was_idle(&self) -> bool {
        let Self::Lost(error) = self else { return false };
        let cause = error.source().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
        cause.and_then(|cause| cause.code()) == Some(&SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT)
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Again(error) | Self::Refused(error) => error,
        }
    }
}

/// Sorts an error of the driver.
pub(super) fn failure(error: tokio_postgres::Error) -> Failure {
    let Some(reason) = error.as_db_error() else {
        let text = format!("the connection to the server failed: {}", causes(&error));
        let is_lost = error.is_closed() || io_cause(&error).is_some();
        let made = Error::storage(text).with_source(error);
        return if is_lost { Failure::Lost(made) } else { Failure::Refused(made) };
    };
    let code = reason.code().clone();
    let text = format!("the server refused: {} ({})", reason.message(), code.code());
    let class = code.code().get(..2).unwrap_or_default();
    let is_stale = is_stale(reason);
    let kind = match class {
        "53" if code == SqlState::DISK_FULL => ErrorKind::StorageFull,
        "XX" => ErrorKind::Corrupt,
        _ if code == SqlState::READ_ONLY_SQL_TRANSACTION => ErrorKind::ReadOnly,
        _ => ErrorKind::Storage,
    };
    let made = Error::new(kind, text).with_source(error);
    match class {
        // Serialization failures and deadlocks; a name that another session took first, which the next attempt sees; and a
        // statement that must be prepared again: it was sent already, so that is left to the next attempt, too.
        "40" => Failure::Again(made),
        _ if is_stale => Failure::Again(made),
        _ if code == SqlState::UNIQUE_VIOLATION => Failure::Again(made),
        // By a limit of time, which would be met again, or by an operator.
        _ if code == SqlState::QUERY_CANCELED => Failure::Refused(made),
        // Exceptions of connections, too many of them, and the server's operators.
        "08" | "57" => Failure::Lost(made),
        _ if code == SqlState::TOO_MANY_CONNECTIONS
            || code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT =>
        {
            Failure::Lost(made)
        }
        _ => Failure::Refused(made),
    }
}

/// Returns true if a statement was prepared for tables that have changed since, or is unknown: poolers change servers.
pub(super) fn is_stale(reason: &DbError) -> bool {
    let code = reason.code();
    *code == SqlState::INVALID_SQL_STATEMENT_NAME
        || *code == SqlState::DUPLICATE_PSTATEMENT
        || *code == SqlState::FEATURE_NOT_SUPPORTED && reason.routine() == Some("RevalidateCachedQuery")
}

/// Returns the error of the system that caused an error, if there is one.
fn io_cause(error: &dyn StdError) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// Returns true if the host took no connection in time.
pub(super) fn is_timeout(error: &tokio_postgres::Error) -> bool {
    io_cause(error).is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// Returns an error with its causes, down to the system's own reason.
fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The failure of a server that does not answer in time.
pub(super) fn late() -> Failure {
    let text =
        "the server did not answer in time; connect_timeout and tcp_user_timeout in the URL set the limits";
    Failure::Lost(Error::storage(text))
}
