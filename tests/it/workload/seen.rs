//! Everything that a store shows, in a form that can be compared with what it must show.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use datapool_store::{
    Claim, ClaimInfo, ClaimVerdict, DataPool, DataPoolStore, EntityTypeId, ErrorKind, FlowId, Key, Mode,
    Origin, Pool, PoolQuery, RecordFilter, RecordQuery, Result, Timestamp, Verdict, Version, WaitOutcome,
};

use super::guards::{Claims, Token};
use super::model::{ClaimModel, Model, Now, PoolModel, firsts};
use super::random::{VALUES, all_asked, all_items};
use crate::support::engine::is_embedded;
use crate::support::items::{Asked, Item, Row, rows};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pools: BTreeMap<u64, SeenPool>,
    flows: BTreeMap<String, String>,
    /// The state of each claim when it is taken up by its token; `None` if it does not exist.
    claims: BTreeMap<(u64, u64), Option<SeenClaim>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeenPool {
    row: String,
    live: Vec<Row>,
    /// By id.
    results: BTreeMap<u64, Vec<u8>>,
    /// In the order in which they were granted.
    claims: Vec<ListedClaim>,
    /// The verdict of a filter on every item.
    verdicts: Vec<Verdict>,
    /// The verdict of a filter on every item in one of its versions.
    of_versions: Vec<Verdict>,
    /// The outcome for every item of waiting without a timeout.
    standings: Vec<Standing>,
}

#[derive(Debug, Clone, PartialEq)]
enum Standing {
    Tracked(Row),
    Free,
    InFlight(Origin, Timestamp),
}

/// The data of a listed claim: its expiry, the number of its items, its origin, true if it has lapsed, its
/// owner, and the time of its grant.
type ListedClaim = (Timestamp, u64, Origin, bool, Option<String>, Timestamp);

/// A claim that is taken up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeenClaim {
    until: Timestamp,
    fence: Option<u64>,
    verdicts: Vec<(usize, ClaimVerdict)>,
    /// The items that it holds, by index.
    keys: Vec<(usize, String, Option<Version>)>,
}

impl Seen {
    pub(super) fn of(store: &DataPoolStore, tokens: &Claims) -> Result<Self> {
        let mut pools = BTreeMap::new();
        for pool in store.pools(&PoolQuery::new().per_page(100))?.data {
            assert_eq!(store.pool_named(&pool.name)?.id(), pool.id);
            pools.insert(pool.id.get(), SeenPool::of(&store.pool(pool.id)?, &pool)?);
        }
        let flows = store.flows().map(|flow| flow.map(|flow| (flow.id.to_string(), flow.name)));
        let flows = flows.collect::<Result<_>>()?;
        let mut claims = BTreeMap::new();
        for (which, token) in tokens {
            let seen = match store.resume_claim(&token.token) {
                Ok(claim) => {
                    let seen = SeenClaim::of(&claim);
                    // This keeps the guard from releasing anything.
                    let _ = claim.into_token();
                    Some(seen)
                }
                Err(error) if matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::NotFound) => None,
                Err(error) => return Err(error),
            };
            claims.insert(*which, seen);
        }
        Ok(Self { pools, flows, claims })
    }

    pub(super) fn expected(model: &Model, now: Now, tokens: &Claims) -> Self {
        let pools = model.pools.iter().map(|(id, pool)| (*id, SeenPool::expected(pool, now))).collect();
        let claim = |(which, token): (&(u64, u64), &Token)| {
            (*which, SeenClaim::expected(model, *which, Some(token.fence), now))
        };
        let claims = tokens.iter().map(claim).collect();
        Self { pools, flows: model.flows.clone(), claims }
    }

    pub(super) fn summary(&self) -> String {
        let pool = |(id, pool): (&u64, &SeenPool)| {
            format!("{id}: {} {} records, {} claims", pool.row, pool.live.len(), pool.claims.len())
        };
        format!("{:?}, {:?}", self.pools.iter().map(pool).collect::<Vec<_>>(), self.flows)
    }

    /// Describes the difference between two states.
    pub(super) fn difference(&self, other: &Self) -> String {
        let mut text = self.summary();
        for (id, pool) in &self.pools {
            let Some(other) = other.pools.get(id).filter(|other| *other != pool) else { continue };
            write!(text, "; pool {id}, {}", pool.difference(other)).unwrap();
        }
        if self.claims != other.claims {
            write!(text, "; claims {:?} found {:?}", self.claims, other.claims).unwrap();
        }
        text
    }
}

impl SeenPool {
    pub(super) fn of(pool: &Pool, row: &DataPool) -> Result<Self> {
        let row = (&row.name, &row.description, row.retention, row.capacity, row.created_at, row.updated_at);
        let live = pool.scan(&RecordFilter::new())?.map(|record| Ok(Row::from(&record?)));
        let live = live.collect::<Result<Vec<_>>>()?;
        let results = results(pool, live.last().map_or(0, |newest| newest.id + 1))?;
        let verdicts = pool.dedupe(Mode::Filter, all_items(), Item::key, &Origin::none())?;
        let of_versions = pool.dedupe(Mode::Filter, all_asked(), Asked::key, &Origin::none())?;
        let (row, verdicts) = (format!("{row:?}"), verdicts.as_slice().to_vec());
        let (of_versions, claims) = (of_versions.as_slice().to_vec(), listed_claims(pool)?);
        Ok(Self { row, live, results, claims, verdicts, of_versions, standings: standings(pool)? })
    }

    pub(super) fn expected(pool: &PoolModel, now: Now) -> Self {
        let row =
            (&pool.name, &pool.description, pool.retention, pool.capacity, pool.created_at, pool.updated_at);
        let claims = pool.claims.values().filter(|claim| !claim.is_over(now));
        let claims = claims.map(|claim| claim.listed(now)).collect();
        let without: Vec<Asked> = all_items().iter().cloned().map(Asked::from).collect();
        let verdicts = pool.verdicts(Mode::Filter, &without, now);
        let of_versions = pool.verdicts(Mode::Filter, all_asked(), now);
        let firsts = firsts(&pool.live);
        let standing = |item: &Item| match (firsts.get(item), pool.running(item, now)) {
            (Some(first), _) => Standing::Tracked(Row::clone(first)),
            (None, Some(claim)) => Standing::InFlight(claim.origin.clone(), claim.until),
            (None, None) => Standing::Free,
        };
        let standings = all_items().iter().map(standing).collect();
        let (row, live, results) = (format!("{row:?}"), pool.live.clone(), pool.results.clone());
        Self { row, live, results, claims, verdicts, of_versions, standings }
    }

    /// Describes the difference between two states.
    pub(super) fn difference(&self, other: &Self) -> String {
        let ids = |rows: &[Row]| rows.iter().map(|row| row.id).collect::<Vec<_>>();
        let verdicts = self.verdicts.iter().zip(&other.verdicts);
        let verdicts = verdicts.chain(self.of_versions.iter().zip(&other.of_versions)).enumerate();
        let differing: Vec<_> = verdicts.filter(|(_, (expected, found))| expected != found).collect();
        let standings = self.standings.iter().zip(&other.standings).enumerate();
        let waited: Vec<_> = standings.filter(|(_, (expected, found))| expected != found).collect();
        let (expected, found) =
            ((&self.row, ids(&self.live), &self.claims), (&other.row, ids(&other.live), &other.claims));
        let results = (self.results.keys(), other.results.keys(), self.results == other.results);
        format!(
            "is {expected:?}, found {found:?}; verdicts {differing:?}; waited for {waited:?}; results of {results:?}"
        )
    }
}

impl ClaimModel {
    pub(super) fn listed(&self, now: Now) -> ListedClaim {
        let (lapsed, owner) = (self.is_lapsed(now), self.owner.clone());
        (self.until, self.items.len() as u64, self.origin.clone(), lapsed, owner, self.since)
    }
}

pub(super) fn listed_claims(pool: &Pool) -> Result<Vec<ListedClaim>> {
    let claims = pool.claims()?;
    assert!(claims.is_sorted_by(|a, b| a.id < b.id));
    let listed = |claim: ClaimInfo| {
        (claim.until, claim.items, claim.origin, claim.is_lapsed, claim.owner, claim.since)
    };
    Ok(claims.into_iter().map(listed).collect())
}

/// Returns the results of records up to an id, by id.
pub(super) fn results(pool: &Pool, up_to: u64) -> Result<BTreeMap<u64, Vec<u8>>> {
    let results = (0..=up_to).map(|id| Ok(pool.result(id)?.map(|result| (id, result))));
    results.filter_map(Result::transpose).collect()
}

fn standings(pool: &Pool) -> Result<Vec<Standing>> {
    let keys: Vec<Key<'_>> = all_items().iter().map(Item::key).collect();
    let standing = |outcome| match outcome {
        WaitOutcome::Tracked(record) => Standing::Tracked(Row::from(&*record)),
        WaitOutcome::Free => Standing::Free,
        WaitOutcome::InFlight { by, until } => Standing::InFlight(by, until),
        other => panic!("{other:?}"),
    };
    Ok(pool.wait_for(&keys, Duration::ZERO)?.into_iter().map(standing).collect())
}

impl SeenClaim {
    pub(super) fn of(claim: &Claim) -> Self {
        let verdicts = claim.verdicts();
        // One more than the guard can know.
        let batch_len = verdicts.last().map_or(0, |(index, _)| index + 2);
        let split = claim.partition(0..batch_len);
        let of = |wanted: ClaimVerdict| {
            let indexes = verdicts.iter().filter(|(_, verdict)| *verdict == wanted).map(|(index, _)| *index);
            indexes.collect::<Vec<_>>()
        };
        assert_eq!((split.fresh, split.duplicates), (of(ClaimVerdict::Claimed), of(ClaimVerdict::Settled)));
        assert_eq!(split.in_flight, of(ClaimVerdict::Lost));
        let is_other = |index: &usize| verdicts.iter().all(|(of, _)| of != index);
        assert!(split.unmatched.into_iter().eq((0..batch_len).filter(is_other)));
        let keys: Vec<_> =
            claim.keys().map(|(index, key)| (index, key.value().to_owned(), key.version())).collect();
        assert_eq!(claim.held_count(), keys.len());
        Self { until: claim.until(), fence: claim.fencing_number(), verdicts: verdicts.to_vec(), keys }
    }

    /// Returns what a guard or token of the grant with this number must show.
    pub(super) fn expected(
        model: &Model,
        (pool, id): (u64, u64),
        fence: Option<u64>,
        now: Now,
    ) -> Option<Self> {
        let pool = model.pools.get(&pool)?;
        let claim = pool.claims.get(&id).filter(|claim| !claim.is_over(now) && Some(claim.fence) == fence)?;
        let verdict = |(item, open): (&Item, &bool)| match open {
            false => ClaimVerdict::Settled,
            true if pool.owners.get(item) == Some(&id) => ClaimVerdict::Claimed,
            true => ClaimVerdict::Lost,
        };
        let verdicts = claim.items.iter().zip(&claim.open).map(verdict);
        let verdicts: Vec<_> = claim.indexes.iter().copied().zip(verdicts).collect();
        let items = claim.items.iter().zip(&claim.versions);
        let held = verdicts.iter().zip(items).filter(|((_, is), _)| *is == ClaimVerdict::Claimed);
        let keys = held.map(|((index, _), (item, version))| (*index, item.value.clone(), *version)).collect();
        Some(Self { until: claim.until, fence, verdicts, keys })
    }
}

/// Checks queries that use indexes: the first record of every value, counts, statistics, and pages by
/// attributes.
pub(super) fn answers_agree(pool: &Pool, model: &PoolModel, now: Now) -> Result<()> {
    let (items, firsts) = (all_items(), firsts(&model.live));
    let keys: Vec<Key<'_>> = items.iter().map(Item::key).collect();
    let found = pool.lookup(&keys)?;
    assert_eq!(found.len(), items.len());
    for (item, found) in items.iter().zip(found) {
        assert_eq!(found.as_ref().map(Row::from).as_ref(), firsts.get(item).copied(), "first of {item:?}");
    }
    assert_eq!(results(pool, model.next_id)?, model.results);
    let result = |item: &Item| model.results.get(&firsts.get(item)?.id).cloned();
    assert_eq!(pool.results(&keys)?, items.iter().map(result).collect::<Vec<_>>());
    let is_there = |item: &Item| firsts.contains_key(item);
    assert_eq!(pool.contains_many(&keys)?, items.iter().map(is_there).collect::<Vec<_>>());
    for item in items.iter().step_by(7) {
        assert_eq!(pool.contains(item.key())?, is_there(item), "{item:?}");
    }
    let of_versions: Vec<Key<'_>> = all_asked().iter().map(Asked::key).collect();
    let expected: Vec<bool> = all_asked().iter().map(|asked| model.contains(asked)).collect();
    assert_eq!(pool.contains_many(&of_versions)?, expected);
    for (key, expected) in of_versions.into_iter().zip(expected).step_by(9) {
        assert_eq!(pool.contains(key)?, expected);
    }
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
    figures_agree(pool, model, now)
}

fn figures_agree(pool: &Pool, model: &PoolModel, now: Now) -> Result<()> {
    let stats = pool.stats()?;
    assert_eq!((stats.live, pool.count(&RecordFilter::new())?), (model.live.len() as u64, stats.live));
    assert_eq!(stats.oldest, model.live.first().map(|row| row.created_at));
    assert_eq!(stats.newest, model.live.last().map(|row| row.created_at));
    assert_eq!(stats.claims, model.claims.values().filter(|claim| !claim.is_over(now)).count() as u64);
    assert_eq!(stats.segments, stats.fill.len() as u64);
    // A server has no segments.
    if is_embedded() {
        assert_eq!(stats.fill.iter().map(|segment| segment.live).sum::<u64>(), stats.live);
        let stored: u64 = stats.fill.iter().map(|segment| segment.records).sum();
        assert_eq!(stored, stats.live + stats.expired + stats.deleted);
    }
    let mut types: BTreeMap<EntityTypeId, u64> = BTreeMap::new();
    let mut flows: BTreeMap<FlowId, u64> = BTreeMap::new();
    for row in &model.live {
        *types.entry(row.item.entity_type).or_default() += 1;
        if let Some(flow) = row.origin.flow() {
            *flows.entry(flow.clone()).or_default() += 1;
        }
    }
    let counted = pool.entity_type_counts()?;
    assert!(counted.is_sorted_by(|a, b| a.1 >= b.1));
    assert_eq!(counted.into_iter().collect::<BTreeMap<_, _>>(), types);
    assert_eq!(pool.flow_counts()?.into_iter().collect::<BTreeMap<_, _>>(), flows);
    Ok(())
}
