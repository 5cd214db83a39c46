//! Access to any table of the file, for work on all of them.
//!
//! Always holds: a table that [`AnyTable::named`] does not know belongs to no store.

use redb::{Key, TableDefinition, TableHandle, Value};

use crate::engine::format::schema::{
    CLAIM_ITEMS, CLAIMED, CLAIMS, DELETED, ENTITY_TYPES, FILTERS, FINGERPRINTS, FLOW_RUNS, FLOW_STEPS, FLOWS,
    META, ORIGINS, POOL_HEADS, POOL_NAMES, POOLS, PostingsDefinition, RecordsDefinition, ResultsDefinition,
    SegmentTables, TIMES,
};
use crate::engine::storage::failure::StorageResult;
use crate::error::Result;
use redb::ReadableTable;

/// Any table of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnyTable {
    Meta,
    Pools,
    PoolNames,
    PoolHeads,
    EntityTypes,
    Flows,
    FlowRuns,
    FlowSteps,
    Fingerprints,
    Filters,
    Origins,
    Times,
    Deleted,
    Claims,
    ClaimItems,
    Claimed,
    /// A table of one segment, with its full name.
    Records(String),
    Postings(String),
    Results(String),
}

/// An action on a table of any row type.
pub(crate) trait TableVisitor {
    fn visit<K: Key + 'static, V: Value + 'static>(&mut self, table: TableDefinition<'_, K, V>)
    -> Result<()>;
}

impl AnyTable {
    /// Returns the table of that name, or `None` if a store has no such table.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let shared = [
            (META.name(), Self::Meta),
            (POOLS.name(), Self::Pools),
            (POOL_NAMES.name(), Self::PoolNames),
            (POOL_HEADS.name(), Self::PoolHeads),
            (ENTITY_TYPES.name(), Self::EntityTypes),
            (FLOWS.name(), Self::Flows),
            (FLOW_RUNS.name(), Self::FlowRuns),
            (FLOW_STEPS.name(), Self::FlowSteps),
            (FINGERPRINTS.name(), Self::Fingerprints),
            (FILTERS.name(), Self::Filters),
            (ORIGINS.name(), Self::Origins),
            (TIMES.name(), Self::Times),
            (DELETED.name(), Self::Deleted),
            (CLAIMS.name(), Self::Claims),
            (CLAIM_ITEMS.name(), Self::ClaimItems),
            (CLAIMED.name(), Self::Claimed),
        ];
        if let Some((_, table)) = shared.into_iter().find(|(shared, _)| *shared == name) {
            return Some(table);
        }
        let (pool, segment) = SegmentTables::owner(name)?;
        let names = SegmentTables::new(pool, segment);
        let own = [
            (names.records, Self::Records as fn(String) -> Self),
            (names.postings, Self::Postings),
            (names.results, Self::Results),
        ];
        own.into_iter().find(|(own, _)| own == name).map(|(own, table)| table(own))
    }

    pub(crate) fn visit(&self, visitor: &mut impl TableVisitor) -> Result<()> {
        match self {
            Self::Meta => visitor.visit(META),
            Self::Pools => visitor.visit(POOLS),
            Self::PoolNames => visitor.visit(POOL_NAMES),
            Self::PoolHeads => visitor.visit(POOL_HEADS),
            Self::EntityTypes => visitor.visit(ENTITY_TYPES),
            Self::Flows => visitor.visit(FLOWS),
            Self::FlowRuns => visitor.visit(FLOW_RUNS),
            Self::FlowSteps => visitor.visit(FLOW_STEPS),
            Self::Fingerprints => visitor.visit(FINGERPRINTS),
            Self::Filters => visitor.visit(FILTERS),
            Self::Origins => visitor.visit(ORIGINS),
            Self::Times => visitor.visit(TIMES),
            Self::Deleted => visitor.visit(DELETED),
            Self::Claims => visitor.visit(CLAIMS),
            Self::ClaimItems => visitor.visit(CLAIM_ITEMS),
            Self::Claimed => visitor.visit(CLAIMED),
            Self::Records(name) => visitor.visit(RecordsDefinition::new(name)),
            Self::Postings(name) => visitor.visit(PostingsDefinition::new(name)),
            Self::Results(name) => visitor.visit(ResultsDefinition::new(name)),
        }
    }
}

/// Returns the number of records in a segment's table: the last slot plus one.
pub(crate) fn record_count(table: &impl ReadableTable<u32, &'static [u8]>) -> Result<u32> {
    Ok(table.last().storage()?.map_or(0, |(slot, _)| slot.value() + 1))
}

/// Changes a pool's head in a closed file.
#[cfg(test)]
pub(crate) fn change_head<T>(
    path: &std::path::Path,
    pool: crate::ids::PoolId,
    change: impl FnOnce(&mut crate::engine::format::codec::HeadRow) -> T,
) -> T {
    use crate::engine::format::codec;

    let database = redb::Database::create(path).unwrap();
    let txn = database.begin_write().unwrap();
    let mut heads = txn.open_table(POOL_HEADS).unwrap();
    let row = heads.get(pool).unwrap().unwrap().value().to_vec();
    let mut head = codec::decode_head(&row).unwrap();
    let changed = change(&mut head);
    heads.insert(pool, codec::encode_head(&head).unwrap().as_slice()).unwrap();
    drop(heads);
    txn.commit().unwrap();
    changed
}
