//! Results: the bytes that are kept with records when they are confirmed.
//!
//! Part of the public API: each method is a few lines over the backend.
//! [`Claim::confirm_with`](crate::Claim::confirm_with) stores them.

use crate::error::Result;
use crate::ids::RecordId;
use crate::model::Key;
use crate::pool::Pool;
use crate::snapshot::PoolSnapshot;

impl Pool {
    /// Returns the result that was kept with a record by [`Claim::confirm_with`](crate::Claim::confirm_with).
    /// Returns `None` if the record has none, is deleted or expired, or does not exist.
    ///
    /// A [`Duplicate`](crate::ClaimVerdict::Duplicate) names the record that was first.
    ///
    /// # Errors
    ///
    /// `NotFound` for a deleted pool; `Corrupt` or `Storage` if reading fails.
    #[doc(alias("response", "idempotency", "get"))]
    pub fn result(&self, record: impl Into<RecordId>) -> Result<Option<Vec<u8>>> {
        self.reading()?.result(record.into())
    }

    /// Returns for each key, in order, the result of the record that was first with its value. All answers
    /// are as of one moment. Each result has up to 65,536 bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`contains_many`](Self::contains_many); `Corrupt` or `Storage` if reading fails.
    #[doc(alias("responses", "mget"))]
    pub fn results(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.reading()?.results_of(keys)
    }
}

impl PoolSnapshot {
    /// Returns the result that was kept with a record. Returns `None` if the record has none or was not live.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::result`]; `Closed`.
    pub fn result(&self, record: impl Into<RecordId>) -> Result<Option<Vec<u8>>> {
        self.reading()?.result(record.into())
    }

    /// Returns for each key, in order, the result of the record that was first with its value.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::results`]; `Closed`.
    pub fn results(&self, keys: &[Key<'_>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.reading()?.results_of(keys)
    }
}
