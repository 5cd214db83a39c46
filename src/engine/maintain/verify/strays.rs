//! Finds rows and tables that belong to no segment, no pool or no store. Also checks the rows of registered
//! entries.

use redb::{Key, ReadableTable, TableDefinition, TableHandle, Value};

use super::Verification;
use super::owned::{Numbers, Owned};
use crate::engine::format::codec;
use crate::engine::format::schema::{self, RegistryTable, SegmentNumber, SegmentTables, TableNumber};
use crate::engine::format::tables::AnyTable;
use crate::engine::read::snapshot::Snapshot;
use crate::engine::storage::failure::StorageResult;
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, FlowRunId, FlowStepId, PoolId};
use crate::model::{RegisteredEntry, RegisteredId};

/// An id below those of all pools.
const BELOW_ALL: PoolId = PoolId::new(0);

/// A row or table that belongs to no pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stray {
    /// A whole table.
    Table(String),
    /// The rows of one segment in a shared table.
    Rows { table: &'static str, pool: PoolId, segment: SegmentNumber },
    /// The rows of one table of fingerprints, or of its filter.
    TableRows { name: &'static str, pool: PoolId, table: TableNumber },
    /// The rows of one pool in a shared table.
    PoolRows { table: &'static str, pool: PoolId },
}

/// Returns everything that belongs to no pool.
pub(crate) fn find_strays(snapshot: &Snapshot, owned: &Owned) -> Result<Vec<Stray>> {
    let belongs_to = |pool: PoolId, has: &dyn Fn(&Numbers) -> bool| match owned.get(&pool) {
        None => false,
        Some(None) => true,
        Some(Some(numbers)) => has(numbers),
    };
    let belongs = |pool, segment| belongs_to(pool, &|numbers| numbers.segments.contains(&segment));
    let mut strays = Vec::new();
    for name in snapshot.table_names()? {
        let is_known = match SegmentTables::owner(&name) {
            Some((pool, segment)) => belongs(pool, segment),
            None => true,
        };
        if !is_known || AnyTable::named(&name).is_none() {
            strays.push(Stray::Table(name));
        }
    }
    let mut rows = |table, owners: Vec<(PoolId, SegmentNumber)>| {
        let lost = owners.into_iter().filter(|(pool, segment)| !belongs(*pool, *segment));
        strays.extend(lost.map(|(pool, segment)| Stray::Rows { table, pool, segment }));
    };
    let first = |key: (PoolId, u32, u32)| (key.0, key.1);
    let behind = |(pool, segment)| (pool, segment, u32::MAX);
    rows("origins", owners(snapshot, schema::ORIGINS, (BELOW_ALL, 0, 0), first, behind)?);
    rows("times", owners(snapshot, schema::TIMES, (BELOW_ALL, 0, 0), first, behind)?);
    rows("deleted", owners(snapshot, schema::DELETED, (BELOW_ALL, 0, 0), first, behind)?);
    let mut rows = |name, owners: Vec<(PoolId, TableNumber)>| {
        let is_known = |pool, table| belongs_to(pool, &|numbers| numbers.tables.contains(&table));
        let lost = owners.into_iter().filter(|(pool, table)| !is_known(*pool, *table));
        strays.extend(lost.map(|(pool, table)| Stray::TableRows { name, pool, table }));
    };
    rows("filters", owners(snapshot, schema::FILTERS, (BELOW_ALL, 0, 0), first, behind)?);
    let first = |key: (PoolId, u32, u32, u32)| (key.0, key.1);
    let behind = |(pool, table)| (pool, table, u32::MAX, u32::MAX);
    rows("fingerprints", owners(snapshot, schema::FINGERPRINTS, (BELOW_ALL, 0, 0, 0), first, behind)?);
    let mut rows = |table, owners: Vec<(PoolId, ())>| {
        let lost = owners.into_iter().filter(|(pool, ())| !owned.contains_key(pool));
        strays.extend(lost.map(|(pool, ())| Stray::PoolRows { table, pool }));
    };
    rows(
        "pool heads",
        owners(snapshot, schema::POOL_HEADS, BELOW_ALL, |pool| (pool, ()), |(pool, ())| pool)?,
    );
    rows(
        "claims",
        owners(snapshot, schema::CLAIMS, (BELOW_ALL, 0), |key| (key.0, ()), |(pool, ())| (pool, u64::MAX))?,
    );
    let behind = |(pool, ())| (pool, u64::MAX, u32::MAX);
    rows("claim items", owners(snapshot, schema::CLAIM_ITEMS, (BELOW_ALL, 0, 0), |key| (key.0, ()), behind)?);
    let behind = |(pool, ())| (pool, u128::MAX);
    rows("claimed", owners(snapshot, schema::CLAIMED, (BELOW_ALL, 0), |key| (key.0, ()), behind)?);
    Ok(strays)
}

/// Returns the owners of a table's rows. Does one lookup per owner.
fn owners<K, V, O>(
    snapshot: &Snapshot,
    table: TableDefinition<'_, K, V>,
    start: K,
    owner_of: impl Fn(K) -> O,
    behind: impl Fn(O) -> K,
) -> Result<Vec<O>>
where
    K: Key + for<'k> Value<SelfType<'k> = K> + Copy + 'static,
    V: Value + 'static,
    O: Copy + PartialOrd,
{
    let mut owners: Vec<O> = Vec::new();
    let name = table.name().to_owned();
    let Some(table) = snapshot.table(table)? else { return Ok(owners) };
    let mut rest = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
    loop {
        let Some(row) = table.range::<K>(rest).storage()?.next() else { return Ok(owners) };
        let owner = owner_of(row.storage()?.0.value());
        // In a damaged table, rows may be out of order. The loop must still end.
        if owners.last().is_some_and(|last| *last >= owner) {
            return Err(Error::corrupt(format!("the rows of table {name:?} are out of order")));
        }
        owners.push(owner);
        rest.0 = std::ops::Bound::Excluded(behind(owner));
    }
}

impl Verification<'_, '_, '_> {
    pub(super) fn check_strays(&mut self, owned: &Owned) -> Result<()> {
        for stray in find_strays(&self.snapshot, owned)? {
            match stray {
                Stray::Table(name) if AnyTable::named(&name).is_none() => {
                    self.findings.add(None, &name, "", "no store has such a table");
                }
                Stray::Table(name) => {
                    let pool = SegmentTables::owner(&name).map(|(pool, _)| pool);
                    self.findings.add(pool, &name, "", "no pool has such a segment");
                }
                Stray::Rows { table, pool, segment } => {
                    let key = format!("{pool}, {segment}");
                    self.findings.add(Some(pool), table, key, "no pool has such a segment");
                }
                Stray::TableRows { name, pool, table } => {
                    let key = format!("{pool}, {table}");
                    self.findings.add(Some(pool), name, key, "no pool has such a table of fingerprints");
                }
                Stray::PoolRows { table, pool } => {
                    self.findings.add(Some(pool), table, pool.to_string(), "there is no such pool");
                }
            }
        }
        Ok(())
    }

    /// Checks that the rows of registered entries can be read.
    pub(super) fn check_registered(&mut self) -> Result<()> {
        self.check_registry::<EntityTypeId>(schema::ENTITY_TYPES, "entity types")?;
        self.check_registry::<FlowId>(schema::FLOWS, "flows")?;
        self.check_registry::<FlowRunId>(schema::FLOW_RUNS, "flow runs")?;
        self.check_registry::<FlowStepId>(schema::FLOW_STEPS, "flow steps")
    }

    fn check_registry<Id: RegisteredId>(&mut self, table: RegistryTable, name: &str) -> Result<()> {
        let Some(table) = self.snapshot.table(table)? else { return Ok(()) };
        for row in ReadableTable::iter(&table).storage()? {
            let (key, row) = row.storage()?;
            let read = codec::decode_registered(key.value(), row.value());
            if let Err(error) = read.and_then(RegisteredEntry::read::<Id>) {
                let text = String::from_utf8_lossy(key.value()).into_owned();
                self.findings.add(None, name, text, error.to_string());
            }
        }
        Ok(())
    }
}
