//! Which segments and tables each pool has.

use std::collections::BTreeMap;

use crate::engine::format::schema::{SegmentNumber, TableNumber};
use crate::ids::PoolId;

/// What a pool has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    pub(crate) segments: Vec<SegmentNumber>,
    pub(crate) tables: Vec<TableNumber>,
}

/// What each pool has; none for a pool whose head cannot be read.
pub(crate) type Owned = BTreeMap<PoolId, Option<Numbers>>;
