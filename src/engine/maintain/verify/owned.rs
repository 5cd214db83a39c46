//! The segments and tables of each pool.

use std::collections::BTreeMap;

use crate::engine::format::schema::{SegmentNumber, TableNumber};
use crate::ids::PoolId;

/// The numbers of a pool's segments and tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    pub(crate) segments: Vec<SegmentNumber>,
    pub(crate) tables: Vec<TableNumber>,
}

/// The numbers of each pool; `None` for a pool whose head cannot be read.
pub(crate) type Owned = BTreeMap<PoolId, Option<Numbers>>;
