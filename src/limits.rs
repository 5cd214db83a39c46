//! Every limit, in one place.
//!
//! Going over one is an error of kind [`LimitExceeded`](crate::ErrorKind::LimitExceeded) (in a listing's
//! query, [`InvalidQuery`](crate::ErrorKind::InvalidQuery)) that names the limit and the offending size.

use std::time::Duration;

/// The longest value, in bytes of UTF-8. The shortest is 1.
pub const VALUE_MAX_BYTES: usize = 4_096;

/// The most items one call takes (keys to check or track, ids to delete, entries to register).
pub const BATCH_MAX_ITEMS: usize = 1_048_576;

/// The shortest pool name, in characters (Unicode scalar values).
pub const POOL_NAME_MIN_CHARS: usize = 3;

/// The longest pool name, in characters (Unicode scalar values).
pub const POOL_NAME_MAX_CHARS: usize = 100;

/// The longest pool description, in characters (Unicode scalar values).
pub const DESCRIPTION_MAX_CHARS: usize = 255;

/// The shortest retention of a pool.
pub const RETENTION_MIN: Duration = Duration::from_millis(1);

/// The longest retention of a pool: 36,500 days.
pub const RETENTION_MAX: Duration = Duration::from_hours(36_500 * 24);

/// The shortest lease of a claim.
pub const LEASE_MIN: Duration = Duration::from_millis(1);

/// The longest lease of a claim: 365 days.
pub const LEASE_MAX: Duration = Duration::from_hours(365 * 24);

/// The shortest lease that [`Claim::keep_alive`](crate::Claim::keep_alive) renews.
pub const KEPT_LEASE_MIN: Duration = Duration::from_secs(1);

/// The length of a lease unless [`ClaimOptions`](crate::ClaimOptions) say otherwise.
pub const LEASE_DEFAULT: Duration = Duration::from_mins(5);

/// The longest name of a claim's owner, in bytes of UTF-8. The shortest is 1.
pub const OWNER_MAX_BYTES: usize = 64;

/// The time for which a claim is kept after its lease expires. During this time it can still be confirmed,
/// unless another caller took its items over. Then it is swept.
pub const CLAIM_KEPT_AFTER_LEASE: Duration = Duration::from_hours(1);

/// The largest result that is kept with a record, in bytes.
pub const RESULT_MAX_BYTES: usize = 65_536;

/// The largest total size of the results of one call that confirms items, in bytes.
pub const RESULTS_MAX_BYTES: usize = 67_108_864;

/// The longest flow, flow run or flow step id, in bytes of UTF-8. The shortest is 1.
pub const ID_MAX_BYTES: usize = 64;

/// The longest name of a registered entity type, flow, flow run or flow step, in characters (Unicode scalar
/// values).
pub const REGISTERED_NAME_MAX_CHARS: usize = 255;

/// The largest attributes of a registered entity type, flow, flow run or flow step, in bytes of JSON text.
pub const ATTRIBUTES_MAX_BYTES: usize = 65_536;

/// The deepest nesting of arrays and objects in such attributes.
pub const ATTRIBUTES_MAX_DEPTH: usize = 64;

/// The most items on a page.
pub const PER_PAGE_MAX: u32 = 100;

/// The number of items per page unless the query says otherwise.
pub const PER_PAGE_DEFAULT: u32 = 15;

/// The largest CSV record (one row, quoted line breaks included), in bytes.
pub const CSV_RECORD_MAX_BYTES: u64 = 1_048_576;

/// The number of bad rows that an import report describes. All of them are counted.
pub const IMPORT_REPORT_MAX_ERRORS: usize = 100;

/// The most terms one filter of a query may list.
pub const FILTER_MAX_TERMS: usize = 1_000;
