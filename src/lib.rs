//! An embedded store of data pools.

mod csv;
mod dedupe;
pub mod design {
    //! The design.
}
mod disk;
mod engine;
mod error;
mod ids;
pub mod limits;
mod model;
mod options;
mod pool;
mod query;
mod scan;
mod store;
#[doc(hidden)]
pub mod testing;
mod time;

pub use crate::csv::{
    BadRow, CellQuoting, ExportColumns, ExportOptions, ExportReport, ImportOptions, ImportProgress,
    ImportReport, OnBadRow, OnDuplicate,
};
pub use crate::dedupe::{Mode, Split, Verdict, Verdicts};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId, PoolId, RecordId};
pub use crate::model::{CompositeKey, DataPool, Key, NewPool, Origin, PoolUpdate, Record};
pub use crate::options::{Durability, IfMissing, StoreOptions};
pub use crate::pool::{Pool, PoolSnapshot};
pub use crate::query::{
    Cursor, Page, PageMeta, PoolFilter, PoolQuery, PoolSort, RecordFilter, RecordQuery, RecordSort,
};
pub use crate::scan::Scan;
pub use crate::store::DataPoolStore;
pub use crate::time::{ManualClock, Timestamp};
