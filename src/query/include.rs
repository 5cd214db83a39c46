//! The entries that a listing can include.

/// A kind of entry that a page adds to each record: see [`Included`](crate::Included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl RecordInclude {
    /// Everything that can be included.
    pub const ALL: [Self; 5] = [Self::Flow, Self::FlowRun, Self::FlowStep, Self::EntityType, Self::DataPool];

    /// Returns its name in a query string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::FlowRun => "flowRun",
            Self::FlowStep => "flowStep",
            Self::EntityType => "entityType",
            Self::DataPool => "dataPool",
        }
    }
}

/// A field that the API lets a listing of pools include. Both are part of every [`DataPool`](crate::DataPool) anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolInclude {
    /// The pool's name (`name`).
    Name,
    /// The pool's description (`description`).
    Description,
}

impl PoolInclude {
    /// Everything that can be included.
    pub const ALL: [Self; 2] = [Self::Name, Self::Description];

    /// Returns its name in a query string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Description => "description",
        }
    }
}
