//! Everything that a store shows, comparable with what it must show.

use std::collections::BTreeMap;
use std::fmt::Write;

use datapool_store::{
    ClaimVerdict, DataPoolStore, ErrorKind, Key, Mode, Origin, Pool, PoolQuery, RecordFilter, RecordQuery,
    Result, Timestamp, Verdict,
};

use super::Claims;
use super::model::{Model, PoolModel};
use super::random::{VALUES, all_items};
use crate::support::items::{Item, Row, rows};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pools: BTreeMap<u64, SeenPool>,
    flows: BTreeMap<String, String>,
    /// What taking each claim up by its token says; none if it is not there.
    claims: BTreeMap<(u64, u64), Option<Vec<ClaimVerdict>>>,
}

#[derive(Debug, Clone, PartialEq)]
struct SeenPool {
    row: String,
    live: Vec<Row>,
    /// Of each claim its end, how many items it has, its origin, and whether it has lapsed.
    claims: Vec<(Timestamp, u64, Origin, bool)>,
    /// What filtering says of every item.
    verdicts: Vec<Verdict>,
}

impl Seen {
    pub(super) fn of(store: &DataPoolStore, tokens: &Claims) -> Result<Self> {
        let mut pools = BTreeMap::new();
        let items = all_items();
        for pool in store.pools(&PoolQuery::new().per_page(100))?.data {
            let row = (
                &pool.name,
                &pool.description,
                pool.retention,
                pool.capacity,
                pool.created_at,
                pool.updated_at,
            );
            let handle = store.pool(pool.id)?;
            let live = handle.scan(&RecordFilter::new())?.map(|record| Ok(Row::from(&record?)));
            let live = live.collect::<Result<Vec<_>>>()?;
            let verdicts = handle.dedupe(Mode::Filter, &items, Item::key, &Origin::none())?;
            let claims = handle.claims()?.into_iter();
            let mut claims: Vec<_> =
                claims.map(|claim| (claim.until, claim.items, claim.origin, claim.is_lapsed)).collect();
            claims.sort();
            let (row, verdicts) = (format!("{row:?}"), verdicts.as_slice().to_vec());
            pools.insert(pool.id, SeenPool { row, live, claims, verdicts });
        }
        let flows = store.flows().map(|flow| flow.map(|flow| (flow.id.to_string(), flow.name)));
        let flows = flows.collect::<Result<_>>()?;
        let mut claims = BTreeMap::new();
        for (which, token) in tokens {
            let verdicts = match store.resume_claim(token) {
                Ok(claim) => {
                    let verdicts = claim.verdicts().iter().map(|(_, verdict)| verdict.clone()).collect();
                    // Nothing is released.
                    let _ = claim.into_token();
                    Some(verdicts)
                }
                Err(error) if matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::NotFound) => None,
                Err(error) => return Err(error),
            };
            claims.insert(*which, verdicts);
        }
        Ok(Self { pools, flows, claims })
    }

    pub(super) fn expected(model: &Model, now: Timestamp, tokens: &Claims) -> Self {
        let pools = model.pools.iter().map(|(id, pool)| (*id, SeenPool::expected(pool, now))).collect();
        let claims = tokens.keys().map(|which| (*which, verdicts_of(model, *which))).collect();
        Self { pools, flows: model.flows.clone(), claims }
    }

    pub(super) fn summary(&self) -> String {
        let pool = |(id, pool): (&u64, &SeenPool)| {
            format!("{id}: {} {} records, {} claims", pool.row, pool.live.len(), pool.claims.len())
        };
        format!("{:?}, {:?}", self.pools.iter().map(pool).collect::<Vec<_>>(), self.flows)
    }

    /// Where another differs from this one.
    pub(super) fn difference(&self, other: &Self) -> String {
        let mut text = self.summary();
        for (id, pool) in &self.pools {
            let Some(other) = other.pools.get(id).filter(|other| *other != pool) else { continue };
            let ids = |rows: &[Row]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
            write!(text, "; pool {id}, records {:?} found {:?}", ids(&pool.live), ids(&other.live)).unwrap();
            write!(text, "; claims {:?} found {:?}", pool.claims, other.claims).unwrap();
            let verdicts = pool.verdicts.iter().zip(&other.verdicts).enumerate();
            let differing: Vec<_> = verdicts.filter(|(_, (expected, found))| expected != found).collect();
            write!(text, "; verdicts {differing:?}").unwrap();
        }
        if self.claims != other.claims {
            write!(text, "; claims {:?} found {:?}", self.claims, other.claims).unwrap();
        }
        text
    }
}

impl SeenPool {
    fn expected(pool: &PoolModel, now: Timestamp) -> Self {
        let row =
            (&pool.name, &pool.description, pool.retention, pool.capacity, pool.created_at, pool.updated_at);
        let claims = pool.claims.values();
        let claim = |claim: &super::model::ClaimModel| {
            (claim.until, claim.items.len() as u64, claim.origin.clone(), claim.until <= now)
        };
        let mut claims: Vec<_> = claims.map(claim).collect();
        claims.sort();
        let verdicts = pool.verdicts(Mode::Filter, &all_items(), now);
        Self { row: format!("{row:?}"), live: pool.live.clone(), claims, verdicts }
    }
}

fn verdicts_of(model: &Model, (pool, id): (u64, u64)) -> Option<Vec<ClaimVerdict>> {
    let pool = model.pools.get(&pool)?;
    let claim = pool.claims.get(&id)?;
    let verdict = |(item, open): (&Item, &bool)| match open {
        false => ClaimVerdict::Settled,
        true if pool.owners.get(item) == Some(&id) => ClaimVerdict::Claimed,
        true => ClaimVerdict::Lost,
    };
    Some(claim.items.iter().zip(&claim.open).map(verdict).collect())
}

/// Asks by indexes: the first record of every value, counts and pages of attributes.
pub(super) fn answers_agree(pool: &Pool, model: &PoolModel) -> Result<()> {
    let items = all_items();
    let keys: Vec<Key<'_>> = items.iter().map(Item::key).collect();
    let mut firsts: BTreeMap<&Item, &Row> = BTreeMap::new();
    model.live.iter().rev().for_each(|row| {
        firsts.insert(&row.item, row);
    });
    for (item, found) in items.iter().zip(pool.lookup(&keys)?) {
        assert_eq!(found.as_ref().map(Row::from).as_ref(), firsts.get(item).copied(), "first of {item:?}");
    }
    assert_eq!(
        pool.contains_many(&keys)?,
        items.iter().map(|it| firsts.contains_key(it)).collect::<Vec<_>>()
    );
    for flow in 0..3_u64 {
        let of_flow = |row: &&Row| row.origin.flow().is_some_and(|id| id.to_string() == flow.to_string());
        let expected: Vec<Row> = model.live.iter().filter(of_flow).cloned().collect();
        let filter = RecordFilter::new().flow_id(flow);
        let page = pool.records(&RecordQuery::new().filter(filter).per_page(100))?;
        assert_eq!(page.meta.total, expected.len() as u64, "records of flow {flow}");
        assert_eq!(rows(&page.data), expected[..expected.len().min(100)]);
    }
    for entity_type in items.iter().step_by(usize::try_from(VALUES).unwrap()).map(|item| item.entity_type) {
        let expected = model.live.iter().filter(|row| row.item.entity_type == entity_type).count() as u64;
        assert_eq!(pool.count(&RecordFilter::new().entity_type_id(entity_type))?, expected);
    }
    Ok(())
}
