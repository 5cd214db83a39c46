//! The part of a pool that a group reads before it decides.
//!
//! Owns: [`Needs`], the keys, ids and claims that operations name, and the queries that read them. Always holds: the pool's head is
//! locked first, and everything is decided by what is read after that; nothing is decided by a statement that may have waited for
//! the lock. Must not know: what an operation decides.

use std::collections::{BTreeSet, HashMap, HashSet};

use tokio_postgres::Row;

use super::connection::{Connection, Failure, Step};
use super::draft::{ByFingerprint, Changes, Draft, StoredClaim};
use super::head::{self, Head};
use super::isolation::{BEGIN, BEGIN_READING, LONG_LIST, PLAN_WITH_VALUES};
use super::store::Postgres;
use super::values::{Bits, Columns, bigint};
use crate::backend::batch::Batch;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::backend::operation::Operation;
use crate::error::{Error, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::time::Timestamp;

/// The server's wall clock, with the oldest record that is not below the watermark. A join without LATERAL may be planned so that
/// it reads the records below it, too.
pub(super) const NOW: &str = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint AS now, o.id, o.created_at \
                              FROM {s}.head h LEFT JOIN LATERAL (SELECT r.id, r.created_at FROM {s}.record r \
                              WHERE r.pool = $1 AND r.id >= h.watermark ORDER BY r.id LIMIT 1) o ON true WHERE h.pool = $1";
const KNOWN: &str = "SELECT id, fingerprint, created_at, content, ordinal FROM {s}.record \
                     WHERE pool = $1 AND fingerprint = ANY($2)";
const OWNED: &str = "SELECT i.fingerprint, i.content, i.ordinal, c.id, c.nonce, c.until, c.lease, c.flow, c.run, c.step \
                     FROM {s}.claim_item i JOIN {s}.claim c ON c.pool = i.pool AND c.id = i.claim \
                     WHERE i.pool = $1 AND i.fingerprint = ANY($2) AND i.owned";
const CLAIMS: &str =
    "SELECT id, nonce, until, lease, flow, run, step FROM {s}.claim WHERE pool = $1 AND id = ANY($2)";
const IDS: &str = "SELECT id, created_at FROM {s}.record WHERE pool = $1 AND id = ANY($2)";

/// The part of a pool that a group needs.
#[derive(Default)]
pub(super) struct Needs {
    fingerprints: BTreeSet<Fingerprint>,
    ids: BTreeSet<RecordNumber>,
    claims: BTreeSet<ClaimId>,
    /// True if it needs the owners of values.
    owners: bool,
}

impl Needs {
    pub(super) fn of<'o>(operations: impl Iterator<Item = &'o Operation>) -> Self {
        let mut needs = Self::default();
        for operation in operations {
            needs.add(operation);
        }
        needs
    }

    fn add(&mut self, operation: &Operation) {
        let positioned = |batch: &Batch, positions: &[usize]| -> Vec<Fingerprint> {
            positions.iter().filter_map(|position| Some(batch.items().get(*position)?.fingerprint)).collect()
        };
        match operation {
            Operation::Dedupe { batch, .. } | Operation::Claim { batch, .. } => self.add_batch(batch),
            Operation::DeleteKeys(batch) => self.add_batch(batch),
            Operation::DeleteIds(ids) => self.ids.extend(ids),
            Operation::Confirm { held, batch, settled } | Operation::Release { held, batch, settled } => {
                self.fingerprints.extend(positioned(batch, &settled.positions));
                self.claims.insert(held.id);
            }
            Operation::Extend { held, batch, positions, .. } => {
                self.fingerprints.extend(positioned(batch, positions));
                self.claims.insert(held.id);
            }
            Operation::Renew(kept) => _ = self.claims.insert(kept.held.id),
            Operation::DeleteWhere(_)
            | Operation::Clear
            | Operation::TakeUp { .. }
            | Operation::ReleaseMatching(_) => {}
        }
        self.owners = true;
    }

    pub(super) fn add_batch(&mut self, batch: &Batch) {
        self.fingerprints.extend(batch.items().iter().map(|item| item.fingerprint));
    }

    fn fingerprints(&self) -> Vec<Bits> {
        self.fingerprints.iter().copied().map(Bits).collect()
    }
}

/// Selects how a pool is locked before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// Begins a transaction that locks the pool.
    ForUpdate,
    /// Locks the pool in the transaction that is under way.
    Within,
    /// Begins a transaction that only reads.
    None,
}

impl Postgres {
    /// Begins a transaction, and reads what a group needs.
    pub(super) fn read_draft(
        &self,
        connection: &mut Connection,
        pool: PoolId,
        needs: &Needs,
        lock: Lock,
    ) -> Result<Draft, Failure> {
        let id = bigint(pool.get());
        let (begin, head) = match lock {
            Lock::ForUpdate => (Some(BEGIN), head::lock(pool)),
            Lock::Within => (None, head::lock(pool)),
            Lock::None => (Some(BEGIN_READING), Step::Query(head::READ.into(), vec![Box::new(id)])),
        };
        let mut steps: Vec<Step> = begin.map(|begin| Step::Command(begin.into())).into_iter().collect();
        let first = steps.len();
        let asked = || Box::new(needs.fingerprints());
        steps.extend([
            head,
            Step::Query(NOW.into(), vec![Box::new(id)]),
            Step::Query(KNOWN.into(), vec![Box::new(id), asked()]),
        ]);
        let has_claims = self.has_claims(pool);
        let is_long = needs.fingerprints.len() >= LONG_LIST;
        if has_claims && is_long {
            steps.push(Step::Command(PLAN_WITH_VALUES.into()));
        }
        if has_claims {
            steps.push(Step::Query(OWNED.into(), vec![Box::new(id), asked()]));
        }
        let claims: Vec<i64> = needs.claims.iter().copied().map(bigint).collect();
        let ids: Vec<i64> = needs.ids.iter().copied().map(bigint).collect();
        let (asks_claims, asks_ids) = (!claims.is_empty(), !ids.is_empty());
        if asks_claims {
            steps.push(Step::Query(CLAIMS.into(), vec![Box::new(id), Box::new(claims)]));
        }
        if asks_ids {
            steps.push(Step::Query(IDS.into(), vec![Box::new(id), Box::new(ids)]));
        }
        let read = connection.run(steps)?;
        let [head, now, known, rest @ ..] = read.get(first..).unwrap_or_default() else {
            return Err(Error::storage("a statement returned no result").into());
        };
        let mut rest = rest.iter().map(Vec::as_slice);
        let mut rows_if =
            |asked: bool| if asked { rest.next().unwrap_or_default() } else { Default::default() };
        let _ = rows_if(has_claims && is_long);
        let (owned, claims, ids) = (rows_if(has_claims), rows_if(asks_claims), rows_if(asks_ids));
        let mut draft = self.draft_of(Head::of(pool, head)?, self.now_by(now)?);
        self.expire(connection, &mut draft, oldest_of(now)?)?;
        Self::read_keys(&mut draft, known)?;
        if has_claims {
            read_owners(&mut draft, owned.iter())?;
        } else if draft.head.next_claim > 1 {
            self.note_claims(pool);
            if is_long {
                connection.command(PLAN_WITH_VALUES)?;
            }
            let owned = connection.query(OWNED, vec![Box::new(id), asked()])?;
            read_owners(&mut draft, owned.iter())?;
        }
        for row in claims {
            let (id, claim) = stored_claim(row)?;
            draft.claims.insert(id, claim);
        }
        for row in ids {
            if draft.is_live(row)? {
                draft.live_ids.insert(row.number("id")?);
            }
        }
        Ok(draft)
    }

    /// Keeps what is live of the keys that were read.
    fn read_keys(draft: &mut Draft, known: &[Row]) -> Result<()> {
        for row in known {
            if draft.is_live(row)? {
                let Bits(fingerprint) = row.read("fingerprint")?;
                let (id, version) = (row.number("id")?, row.version()?);
                draft.keys.entry(fingerprint).or_default().live.push((id, version));
            }
        }
        draft.keys.values_mut().for_each(|key| key.live.sort_unstable_by_key(|(id, _)| *id));
        Ok(())
    }

    /// Returns a draft of a pool's head. A pool without a live record begins anew with the clock's time.
    pub(super) fn draft_of(&self, mut head: Head, now: Timestamp) -> Draft {
        if head.live == 0 {
            head.last_time = head.last_time.min(now);
            self.latest.forget(head.pool);
        }
        let time = head.last_time.max(self.latest.reach(head.pool, now));
        Draft {
            head,
            now,
            time,
            keys: ByFingerprint::default(),
            live_ids: HashSet::new(),
            claims: HashMap::new(),
            changes: Changes::default(),
        }
    }

    /// Moves the watermark over the records that have expired. `oldest` is the first at or above it.
    pub(super) fn expire(
        &self,
        connection: &mut Connection,
        draft: &mut Draft,
        oldest: Option<(RecordNumber, Timestamp)>,
    ) -> Result<(), Failure> {
        let Some(horizon) = draft.head.horizon(draft.time) else { return Ok(()) };
        let Some((from, oldest)) = oldest else { return Ok(()) };
        if oldest > horizon {
            return Ok(());
        }
        let pool = bigint(draft.head.pool.get());
        let first = connection.query(
            "SELECT id FROM {s}.record WHERE pool = $1 AND id >= $2 AND created_at > $3 ORDER BY id LIMIT 1",
            vec![Box::new(pool), Box::new(bigint(from)), Box::new(horizon.as_micros())],
        )?;
        let first = first.first().map_or(Ok(draft.head.next_id), |row| row.number("id"))?;
        let expired = connection.query(
            "SELECT count(*) AS count FROM {s}.record WHERE pool = $1 AND id >= $2 AND id < $3",
            vec![Box::new(pool), Box::new(bigint(from)), Box::new(bigint(first))],
        )?;
        let expired = expired.first().map_or(Ok(0), |row| row.number("count"))?;
        draft.head.watermark = first;
        draft.head.live = draft.head.live.saturating_sub(expired);
        if draft.head.live == 0 {
            draft.head.last_time = draft.head.last_time.min(draft.now);
            self.latest.forget(draft.head.pool);
            draft.time = draft.head.last_time.max(self.latest.reach(draft.head.pool, draft.now));
        }
        Ok(())
    }
}

/// Reads the oldest record in the answer to a statement such as [`NOW`].
pub(super) fn oldest_of(now: &[Row]) -> Result<Option<(RecordNumber, Timestamp)>> {
    let Some(row) = now.first() else { return Ok(None) };
    let (Some(id), Some(time)) = (row.numbered("id")?, row.read("created_at")?) else { return Ok(None) };
    Ok(Some((id, Timestamp::from_micros(time))))
}

/// Keeps the owners of values, with their claims.
fn read_owners<'r>(draft: &mut Draft, owned: impl Iterator<Item = &'r Row>) -> Result<()> {
    for row in owned {
        let Bits(fingerprint) = row.read("fingerprint")?;
        let (id, claim) = stored_claim(row)?;
        draft.keys.entry(fingerprint).or_default().owner = Some((id, row.version()?));
        draft.claims.insert(id, claim);
    }
    Ok(())
}

fn stored_claim(row: &Row) -> Result<(ClaimId, StoredClaim)> {
    let Bits(nonce) = row.read("nonce")?;
    let lease = row.duration("lease")?.unwrap_or_default();
    Ok((row.number("id")?, StoredClaim { nonce, until: row.time("until")?, lease, origin: row.origin()? }))
}
