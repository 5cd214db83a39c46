//! An embedded store of data pools: named sets of values that have been seen before.
//!
//! Programs that move data (flow runners, importers, webhook receivers) ask one question again and again:
//! which of these order numbers, e-mails, SKUs are new? This crate answers it in-process, over one file
//! or over PostgreSQL, atomically and durably, and lists, counts, imports, exports and deletes what was
//! tracked.
//!
//! ```
//! use datapool_store::{DataPoolStore, EntityTypeId, Key, Mode, Origin};
//!
//! const ORDERS: EntityTypeId = EntityTypeId::new(37);
//!
//! # fn main() -> datapool_store::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("pools.redb");
//! let store = DataPoolStore::open(path)?;
//! let pool = store.get_or_create_pool("orders")?;
//!
//! let orders = vec!["A-1", "A-2", "A-1"];
//! let origin = Origin::new("shop", "run 1", "read orders");
//! let verdicts = pool.dedupe(Mode::FilterAndTrack, &orders, |o| Key::new(ORDERS, *o), &origin)?;
//!
//! assert_eq!(verdicts.partition(orders).fresh, ["A-1", "A-2"]);
//! assert!(pool.contains(Key::new(ORDERS, "A-2"))?);
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! - [`DataPoolStore`] is one open store with any number of pools: a file, memory, or a schema of a
//!   server (feature `postgres`). [`StoreOptions`] has the
//!   options for opening it.
//! - [`Pool`] is a cheap handle on one pool: [dedupe](Pool::dedupe), [contains](Pool::contains),
//!   [lookup](Pool::lookup), [records](Pool::records), [scan](Pool::scan), [delete](Pool::delete_where),
//!   [import](Pool::import_csv), [export](Pool::export_csv). Handles can be cloned and used from any thread.
//! - [`Key`] is what is compared: a value (text or an integer) within an entity type. [`CompositeKey`] joins
//!   several fields into a value.
//! - [`Claim`] holds new values for one runner until its work is confirmed.
//! - [`Record`] is a tracked value with its [`Origin`] (flow, flow run, flow step) and time.
//! - Running a store: [stats](DataPoolStore::stats), [verify](DataPoolStore::verify), [rebuilding
//!   indexes](DataPoolStore::rebuild_indexes), [backup](DataPoolStore::backup_to),
//!   [compact](DataPoolStore::compact), [vacuum](DataPoolStore::vacuum), [close](DataPoolStore::close),
//!   [reopen](DataPoolStore::reopen). The feature `async` provides the calls as futures; `cli` builds the
//!   command-line tool `datapool`; `tracing` emits [events](#events).
//! - The feature `json` adds `Pool::dedupe_json`, which takes a JSON document and returns it without the
//!   items that have been seen. `JsonItems` describes where the items and their keys are.
//! - [`Error`] has a [kind](Error::kind) to react to and a message that names what was wrong and what is
//!   allowed. [`limits`] has every limit.
//!
//! # Which mode?
//!
//! | mode | passes on | tracks |
//! | --- | --- | --- |
//! | [`Mode::Filter`] | new items only | nothing |
//! | [`Mode::Track`] | everything | each value not yet in the pool |
//! | [`Mode::FilterAndTrack`] | new items only | each value not yet in the pool |
//!
//! With `Filter` at a flow's start and `Track` at its end, two overlapping runs can process an item twice.
//! With `FilterAndTrack` at the start that cannot happen, but an item whose processing fails stays tracked. A
//! [claim](Pool::claim) holds items until the work is [confirmed](Claim::confirm), and releases them if it
//! fails. [Which mode do I need?](modes) walks through all three.
//!
//! # What holds
//!
//! - **Atomic.** A call is one step. If several threads bring the same new value, exactly one gets it as new.
//!   A call that fails changes nothing.
//! - **Durable.** With [`Durability::Immediate`], the default, what a call wrote is on disk when it returns.
//!   Concurrent callers share commits. [`Durability::Relaxed`] is faster, but a crash may lose the last
//!   interval.
//! - **Exact.** Values are compared byte for byte. Totals are counts, not estimates.
//! - **Isolated.** Readers never wait for writers and see each commit whole or not at all.
//!
//! # Cookbook
//!
//! Seed a pool from a file, without adding values that are already in it:
//!
//! ```
//! # use datapool_store::{DataPoolStore, ImportOptions, OnDuplicate};
//! # fn main() -> datapool_store::Result<()> {
//! # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
//! let file = "value,entity_type_id\nA-1,37\nA-2,37\n";
//! let report = pool.import_csv(file.as_bytes(), &ImportOptions::new().on_duplicate(OnDuplicate::Skip))?;
//! println!("{} new, {} known", report.added, report.skipped);
//! # Ok(())
//! # }
//! ```
//!
//! Delete everything that one run tracked, so that it can be run again:
//!
//! ```
//! # use datapool_store::{DataPoolStore, RecordFilter};
//! # fn main() -> datapool_store::Result<()> {
//! # let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
//! let forgotten = pool.delete_where(&RecordFilter::new().flow_run_id("run 1"))?;
//! # assert_eq!(forgotten, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Identify an item by several fields:
//!
//! ```
//! # use datapool_store::{CompositeKey, DataPoolStore, Key, Mode, Origin};
//! # fn main() -> datapool_store::Result<()> {
//! # let pool = DataPoolStore::in_memory()?.get_or_create_pool("flights")?;
//! let flights = [("UA", 1545, "EWR"), ("UA", 1714, "LGA")];
//! let key = |f: &(&str, i32, &str)| CompositeKey::new().text(f.0).integer(f.1).text(f.2);
//! let verdicts = pool.dedupe(Mode::FilterAndTrack, &flights, |f| Key::new(37, key(f)), &Origin::none())?;
//! assert_eq!(verdicts.new_count(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! Keep a pool small: records expire at a certain age, or the oldest expire once there are too many.
//!
//! ```
//! # use std::time::Duration;
//! # use datapool_store::{DataPoolStore, NewPool};
//! # fn main() -> datapool_store::Result<()> {
//! # let store = DataPoolStore::in_memory()?;
//! let ninety_days = Duration::from_secs(90 * 24 * 60 * 60);
//! let pool = store.create_pool(NewPool::new("orders").retention(ninety_days).capacity(1_000_000))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Events
//!
//! With the feature `tracing`, the store emits an event for each commit, import, verification and so on, with
//! figures and durations as fields. The target is `datapool_store`; the level is `DEBUG`, or `WARN` for
//! events that need attention. There are no spans. A subscriber must not write to the store: it gets `Busy`.
//!
//! A program that uses `log` gets the events as records of `log`, if it enables a feature of `tracing` in its
//! `Cargo.toml`:
//!
//! ```toml
//! datapool-store = { version = "0.1", features = ["tracing"] }
//! tracing = { version = "0.1", default-features = false, features = ["log"] }
//! ```
//!
//! # More
//!
//! - [Which mode do I need?](modes), for authors of flows
//! - [In async code](in_async_code), [Processes and locks](processes), [Testing code that uses the
//!   store](testing_your_code), and with the feature `postgres` `over_postgresql`
//! - [The endpoints](endpoints): each endpoint and parameter of the HTTP API with the matching call
//! - [Erasing](erasing): how to remove every byte of a value
//! - [The design](design): how the store is built and what is in the file; [the decisions](decisions) explain why
//! - [The changelog](changelog)

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "async")]
mod asynchronous;
mod backend;
mod claim;
mod csv;
mod dedupe;
#[doc = include_str!("../docs/design.md")]
pub mod design {}
#[doc = include_str!("../docs/decisions.md")]
pub mod decisions {}
#[doc = include_str!("../docs/guides/endpoints.md")]
pub mod endpoints {}
#[doc = include_str!("../docs/guides/erasing.md")]
pub mod erasing {}
#[doc = include_str!("../docs/guides/modes.md")]
pub mod modes {}
#[doc = include_str!("../docs/guides/async.md")]
pub mod in_async_code {}
#[cfg(feature = "postgres")]
#[doc = include_str!("../docs/guides/postgres.md")]
pub mod over_postgresql {}
#[doc = include_str!("../docs/guides/processes.md")]
pub mod processes {}
#[doc = include_str!("../docs/guides/testing.md")]
pub mod testing_your_code {}
#[doc = include_str!("../CHANGELOG.md")]
pub mod changelog {}
mod disk;
mod engine;
mod error;
mod files;
mod ids;
#[cfg(feature = "json")]
mod json;
pub mod limits;
mod model;
mod operations;
mod options;
mod parallel;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod random;
mod registry;
mod results;
mod scan;
mod search;
mod shared;
mod snapshot;
mod store;
mod sync;
#[doc(hidden)]
pub mod testing;
mod time;
mod words;

#[cfg(feature = "async")]
pub use crate::asynchronous::{AsyncClaim, AsyncPool, AsyncStore, StoreFuture};
pub use crate::claim::Claim;
pub use crate::csv::{
    BadRow, CellQuoting, ExportColumns, ExportOptions, ExportReport, ImportOptions, ImportProgress,
    ImportReport, OnBadRow, OnDuplicate,
};
pub use crate::dedupe::{Mode, Split, Verdict, Verdicts};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId, PoolId, RecordId};
#[cfg(feature = "json")]
pub use crate::json::{DedupedJson, JsonItems, OnMissingKey};
pub use crate::model::{
    BackupReport, ClaimFilter, ClaimInfo, ClaimOptions, ClaimOutcome, ClaimToken, ClaimVerdict,
    CompactReport, CompositeKey, Confirmation, DataPool, EntityType, Finding, Flow, FlowRun, FlowStep,
    GroupSizes, Included, Key, KeyText, NewPool, Origin, PoolStats, PoolUpdate, Progress, PruneReport,
    RebuildReport, Record, Registered, SegmentFill, StoreStats, VacuumReport, VerifyReport, Version,
    WaitOutcome,
};
pub use crate::options::{Access, Durability, IfMissing, Recovery, StoreOptions};
pub use crate::pool::Pool;
pub use crate::query::{
    AttributeUse, Blocks, Cursor, Explanation, ListUse, Page, PageLinks, PageMeta, PoolFilter, PoolInclude,
    PoolQuery, PoolSort, RecordFilter, RecordInclude, RecordQuery, RecordSort,
};
pub use crate::registry::Registrations;
pub use crate::scan::Scan;
pub use crate::snapshot::PoolSnapshot;
pub use crate::store::DataPoolStore;
pub use crate::time::{ManualClock, Timestamp};

/// Runs the README's example as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
