//! Gathering the statistics, and converting them to JSON.

use datapool_store::{
    DataPool, DataPoolStore, EntityTypeId, FlowId, Pool, PoolId, PoolQuery, PoolStats, RecordQuery,
    StoreStats, limits,
};
use serde::Serialize;
use serde_json::Value;

use super::calendar::{Day, day_of, end_of};
use crate::failure::Failure;
use crate::output;

/// A pool, and the statistics that the store computes cheaply.
#[derive(Debug, Serialize)]
pub(super) struct PoolSums {
    pub(super) id: PoolId,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) stats: PoolStats,
}

/// A pool, its statistics, and the groups into which its records fall.
#[derive(Debug, Serialize)]
pub(super) struct PoolFigures {
    #[serde(flatten)]
    pub(super) sums: PoolSums,
    /// Days that have records, oldest first.
    pub(super) per_day: Vec<Day>,
    /// The entity types, the largest share first.
    pub(super) entity_types: Vec<EntityTypeShare>,
    /// The flows, the largest share first. Records without a flow are not counted.
    pub(super) flows: Vec<FlowShare>,
}

#[derive(Debug, Serialize)]
pub(super) struct EntityTypeShare {
    entity_type_id: EntityTypeId,
    pub(super) records: u64,
    /// The name that is registered for it.
    #[serde(skip)]
    name: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct FlowShare {
    flow_id: FlowId,
    pub(super) records: u64,
    /// The name that is registered for it.
    #[serde(skip)]
    name: Option<String>,
}

/// The store's statistics, and those of each pool.
#[derive(Debug)]
pub(super) struct StoreFigures {
    stats: StoreStats,
    pools: Vec<PoolFigures>,
}

impl PoolSums {
    fn gather(store: &DataPoolStore, id: PoolId, name: String) -> Result<Self, Failure> {
        Ok(Self { id, name, stats: store.pool(id)?.stats()? })
    }
}

impl PoolFigures {
    pub(super) fn gather(store: &DataPoolStore, pool: &Pool) -> Result<Self, Failure> {
        let name = pool.info()?.name;
        let entity_types = pool.entity_type_counts()?.into_iter().map(|(entity_type_id, records)| {
            let name = store.entity_type(entity_type_id)?.map(|registered| registered.name);
            Ok(EntityTypeShare { entity_type_id, records, name })
        });
        let flows = pool.flow_counts()?.into_iter().map(|(flow_id, records)| {
            let name = store.flow(flow_id.clone())?.map(|registered| registered.name);
            Ok(FlowShare { flow_id, records, name })
        });
        Ok(Self {
            sums: PoolSums::gather(store, pool.id(), name)?,
            per_day: per_day(pool)?,
            entity_types: entity_types.collect::<Result<_, Failure>>()?,
            flows: flows.collect::<Result<_, Failure>>()?,
        })
    }
}

impl EntityTypeShare {
    pub(super) fn label(&self) -> String {
        output::named(self.entity_type_id, self.name.as_deref())
    }
}

impl FlowShare {
    pub(super) fn label(&self) -> String {
        output::named(&self.flow_id, self.name.as_deref())
    }
}

impl StoreFigures {
    pub(super) fn gather(store: &DataPoolStore) -> Result<Self, Failure> {
        let rows = pool_rows(store)?.into_iter();
        let pools = rows.map(|row| PoolFigures::gather(store, &store.pool(row.id)?));
        Ok(Self { pools: pools.collect::<Result<_, Failure>>()?, stats: store.stats()? })
    }

    /// Returns the store's statistics, with the pools themselves in place of their number.
    pub(super) fn to_json(&self) -> Result<Value, Failure> {
        let failed = |error| Failure::new(format!("writing the figures as JSON: {error}"));
        let mut figures = serde_json::to_value(&self.stats).map_err(failed)?;
        if let Some(figures) = figures.as_object_mut() {
            figures.insert("pools".to_owned(), serde_json::to_value(&self.pools).map_err(failed)?);
        }
        Ok(figures)
    }
}

/// Returns every pool and its statistics, lowest id first.
pub(super) fn all_pools(store: &DataPoolStore) -> Result<Vec<PoolSums>, Failure> {
    pool_rows(store)?.into_iter().map(|row| PoolSums::gather(store, row.id, row.name)).collect()
}

fn pool_rows(store: &DataPoolStore) -> Result<Vec<DataPool>, Failure> {
    let mut rows = Vec::new();
    let mut query = PoolQuery::new().per_page(limits::PER_PAGE_MAX);
    loop {
        let page = store.pools(&query)?;
        rows.extend(page.data);
        if page.links.next.is_none() {
            return Ok(rows);
        }
        query = query.page(page.meta.current_page + 1);
    }
}

/// Returns the number of records of each day. A page of one record gives the next day with records, and the total from
/// there on.
fn per_day(pool: &Pool) -> Result<Vec<Day>, Failure> {
    let mut days: Vec<Day> = Vec::new();
    let mut query = RecordQuery::new().per_page(1);
    loop {
        let page = pool.records(&query)?;
        if let Some(day) = days.last_mut() {
            day.records -= page.meta.total.min(day.records);
        }
        let Some(first) = page.data.first() else { return Ok(days) };
        let number = day_of(first.created_at);
        days.push(Day { number, records: page.meta.total });
        query = RecordQuery::new().per_page(1).created_after(end_of(number));
    }
}
