//! The entries that a listing can include.

use crate::words::words;

/// A kind of entry that a page adds to each record: see [`Included`](crate::Included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordInclude {
    /// The flow that tracked the record (`flow`).
    Flow,
    /// The flow run that tracked it (`flowRun`).
    FlowRun,
    /// The flow step that tracked it (`flowStep`).
    FlowStep,
    /// Its entity type (`entityType`).
    EntityType,
    /// The pool that holds it (`dataPool`).
    DataPool,
}

words!(
    RecordInclude, "something to include":
    Flow => "flow",
    FlowRun => "flowRun",
    FlowStep => "flowStep",
    EntityType => "entityType",
    DataPool => "dataPool",
);

/// A field that the API lets a listing of pools include. Both are part of every [`DataPool`](crate::DataPool)
/// anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PoolInclude {
    /// The pool's name (`name`).
    Name,
    /// The pool's description (`description`).
    Description,
}

words!(PoolInclude, "something to include": Name => "name", Description => "description");
