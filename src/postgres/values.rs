//! The crate's values as PostgreSQL stores them.
//!
//! Owns: [`Bits`] and [`Columns`]. Always holds: text is `bytea`, because PostgreSQL's text has no NUL; fingerprints and nonces
//! are `uuid`, which compares like the number; ids and times (microseconds) are `bigint`.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::error::{Error, Result};
use crate::ids::{FlowId, FlowRunId, FlowStepId};
use crate::model::{Origin, Version};
use crate::time::Timestamp;

/// 128 bits: a fingerprint, a nonce, or the digest of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits(pub(super) u128);

impl ToSql for Bits {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u128(self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for Bits {
    fn from_sql(_: &Type, raw: &'r [u8]) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(u128::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }
}

/// Returns an id as a `bigint`. No id of a store is above `i64::MAX`.
pub(super) fn bigint(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Returns the microseconds of a duration as a `bigint`.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the columns of a version: a content's digest, and an ordinal.
pub(super) fn version_columns(version: Option<Version>) -> (Option<Bits>, Option<i64>) {
    match version {
        None => (None, None),
        Some(Version::Content(digest)) => (Some(Bits(u128::from_be_bytes(digest))), None),
        Some(Version::Ordinal(ordinal)) => (None, Some(ordinal)),
    }
}

/// Returns the version that the columns of [`version_columns`] stand for.
pub(super) fn version_of(content: Option<Bits>, ordinal: Option<i64>) -> Option<Version> {
    match (content, ordinal) {
        (Some(Bits(digest)), _) => Some(Version::Content(digest.to_be_bytes())),
        (None, Some(ordinal)) => Some(Version::Ordinal(ordinal)),
        (None, None) => None,
    }
}

/// Returns the columns of an origin: flow, run and step.
pub(super) fn origin_columns(origin: &Origin) -> [Option<Vec<u8>>; 3] {
    let bytes = |id: &str| id.as_bytes().to_vec();
    [
        origin.flow.as_ref().map(|id| bytes(id.as_str())),
        origin.run.as_ref().map(|id| bytes(id.as_str())),
        origin.step.as_ref().map(|id| bytes(id.as_str())),
    ]
}

/// Reads the columns of a row.
pub(super) trait Columns {
    /// Reads a column.
    ///
    /// # Errors
    ///
    /// `Corrupt` if it is missing or of another type.
    fn read<'r, T: FromSql<'r>>(&'r self, column: &str) -> Result<T>;

    /// Reads a number that is not negative.
    fn number(&self, column: &str) -> Result<u64> {
        let number: i64 = self.read(column)?;
        u64::try_from(number).map_err(|_| damaged(column, format!("it is {number}")))
    }

    fn numbered(&self, column: &str) -> Result<Option<u64>> {
        let number: Option<i64> = self.read(column)?;
        number
            .map(|number| u64::try_from(number).map_err(|_| damaged(column, format!("it is {number}"))))
            .transpose()
    }

    fn time(&self, column: &str) -> Result<Timestamp> {
        Ok(Timestamp::from_micros(self.read(column)?))
    }

    fn duration(&self, column: &str) -> Result<Option<Duration>> {
        Ok(self.numbered(column)?.map(Duration::from_micros))
    }

    fn text(&self, column: &str) -> Result<String> {
        let bytes: Vec<u8> = self.read(column)?;
        String::from_utf8(bytes).map_err(|error| damaged(column, error))
    }

    fn optional_text(&self, column: &str) -> Result<Option<String>> {
        let bytes: Option<Vec<u8>> = self.read(column)?;
        bytes.map(|bytes| String::from_utf8(bytes).map_err(|error| damaged(column, error))).transpose()
    }

    /// Reads the version in the columns `content` and `ordinal`.
    fn version(&self) -> Result<Option<Version>> {
        Ok(version_of(self.read("content")?, self.read("ordinal")?))
    }

    /// Reads the origin in the columns `flow`, `run` and `step`.
    fn origin(&self) -> Result<Origin> {
        Ok(Origin {
            flow: self.optional_text("flow")?.map(FlowId::from),
            run: self.optional_text("run")?.map(FlowRunId::from),
            step: self.optional_text("step")?.map(FlowStepId::from),
        })
    }
}

impl Columns for Row {
    fn read<'r, T: FromSql<'r>>(&'r self, column: &str) -> Result<T> {
        self.try_get(column).map_err(|error| damaged(column, error))
    }
}

fn damaged(column: &str, reason: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the column {column} of the store's tables cannot be read: {reason}"))
}
