//! The data of a store: pools, records, origins, registered entries, and the keys that are compared.
//!
//! Owns: the rows as users see them, and the checks of their fields. Must not know: how rows are stored.

mod change;
mod claim;
mod key;
mod operation;
mod policy;
mod pool;
mod pruned;
mod record;
mod registered;
mod seconds;
mod stats;
mod token;
mod version;

pub use claim::{
    ClaimFilter, ClaimInfo, ClaimOptions, ClaimOutcome, ClaimVerdict, Confirmation, WaitOutcome,
};
pub(crate) use claim::{check_lease, check_owner};
pub(crate) use key::check_value;
pub use key::{CompositeKey, Key, KeyText};
pub use operation::{
    BackupReport, CompactReport, Finding, Progress, RebuildReport, VacuumReport, VerifyReport,
};
pub(crate) use policy::Policy;
pub use pool::{DataPool, NewPool, PoolUpdate};
pub use pruned::PruneReport;
pub use record::{Included, Origin, Record};
pub use registered::{EntityType, Flow, FlowRun, FlowStep, Registered};
pub(crate) use registered::{RegisteredEntry, RegisteredId, RegisteredKind};
pub use stats::{GroupSizes, PoolStats, SegmentFill, StoreStats};
pub use token::ClaimToken;
pub use version::Version;
