//! Claims as of now: listing them, reading one, and the standing of values for callers that wait.
//!
//! Always holds: claims whose lease ended over an hour ago do not exist, even before their rows are removed. Must not know: how
//! claims are changed.

use std::collections::HashMap;

use super::connection::{Connection, Failure, Step};
use super::lookup::{Lock, Needs};
use super::store::{CLOCK, Postgres};
use super::values::{Bits, Columns, bigint};
use crate::backend::InFlight;
use crate::backend::batch::Batch;
use crate::backend::claims::{Held, Standing, StoredClaim};
use crate::backend::rules::{Owner, Standing as KeyStanding};
use crate::error::Result;
use crate::ids::{PoolId, RecordNumber};
use crate::limits::CLAIM_KEPT_AFTER_LEASE;
use crate::model::{ClaimInfo, Record, Version, WaitOutcome};
use crate::time::Timestamp;

/// Reads the claims that exist, oldest first.
pub(super) fn infos(
    connection: &mut Connection,
    pool: PoolId,
    now: Timestamp,
) -> Result<Vec<ClaimInfo>, Failure> {
    let gone = now.saturating_sub(CLAIM_KEPT_AFTER_LEASE).as_micros();
    let rows = connection.query(
        "SELECT * FROM {s}.claim WHERE pool = $1 AND until > $2 ORDER BY id",
        vec![Box::new(bigint(pool.get())), Box::new(gone)],
    )?;
    let info = |row: &tokio_postgres::Row| {
        let until = row.time("until")?;
        Ok(ClaimInfo {
            id: row.number("id")?,
            origin: row.origin()?,
            owner: row.optional_text("owner")?,
            since: row.time("since")?,
            until,
            is_lapsed: until <= now,
            items: row.number("items")?,
        })
    };
    Ok(rows.iter().map(info).collect::<Result<_>>()?)
}

impl Postgres {
    pub(super) fn list_claims(&self, pool: PoolId) -> Result<Vec<ClaimInfo>> {
        self.see(pool, |seen| {
            let clock = seen.connection.query(CLOCK, Vec::new())?;
            infos(seen.connection, pool, self.now_by(&clock)?)
        })
    }

    pub(super) fn claim_as_stored(&self, pool: PoolId, held: Held) -> Result<Option<StoredClaim>> {
        self.see(pool, |seen| {
            let (id, claim) = (bigint(pool.get()), bigint(held.id));
            let read = seen.connection.run(vec![
                Step::Query(CLOCK.into(), Vec::new()),
                Step::Query(
                    "SELECT * FROM {s}.claim WHERE pool = $1 AND id = $2".into(),
                    vec![Box::new(id), Box::new(claim)],
                ),
                Step::Query(
                    "SELECT * FROM {s}.claim_item WHERE pool = $1 AND claim = $2 ORDER BY item".into(),
                    vec![Box::new(id), Box::new(claim)],
                ),
            ])?;
            let [clock, claims, items] = read.as_slice() else { return Ok(None) };
            let Some(row) = claims.first() else { return Ok(None) };
            let (Bits(nonce), until) = (row.read("nonce")?, row.time("until")?);
            let gone = self.now_by(clock)?.saturating_sub(CLAIM_KEPT_AFTER_LEASE);
            if nonce != held.nonce || until <= gone {
                return Ok(None);
            }
            let mut batch = Batch::default();
            let (mut indexes, mut saw, mut standings) = (Vec::new(), Vec::new(), Vec::new());
            for item in items {
                let entity_type = u32::try_from(item.number("entity_type")?).unwrap_or(u32::MAX);
                batch.push(&self.hash_key, entity_type.into(), &item.text("value")?, item.version()?);
                indexes.push(u32::try_from(item.number("item")?).unwrap_or(u32::MAX));
                saw.push(item.number("seen")?);
                standings.push(match (item.read("settled")?, item.read("owned")?) {
                    (true, _) => Standing::Settled,
                    (false, true) => Standing::Held,
                    (false, false) => Standing::Lost,
                });
            }
            let (lease, fence) = (row.duration("lease")?.unwrap_or_default(), row.number("fence")?);
            let batch = batch.with_origin(&row.origin()?);
            Ok(Some(StoredClaim { until, lease, fence, batch, indexes, seen: saw, standings }))
        })
    }

    /// Reads what is known of a batch's keys, and returns the standing of each item.
    fn standings(&self, pool: PoolId, batch: &Batch) -> Result<(Vec<KeyStanding>, super::draft::Draft)> {
        let mut needs = Needs::default();
        needs.add_batch(batch);
        let draft = self.read(|connection| {
            let draft = self.read_draft(connection, pool, &needs, Lock::None);
            match draft {
                Ok(draft) => connection.command("COMMIT").map(|()| draft),
                Err(failure) => {
                    connection.roll_back();
                    Err(failure)
                }
            }
        })?;
        let standing = |(index, item): (usize, &crate::backend::batch::Item)| {
            let (asked, key) = (batch.version(index), draft.key_state(item.fingerprint, None));
            match (key.owner, key.live.ids.first().filter(|_| key.live.contain(asked))) {
                (_, Some(first)) if !Version::is_content(asked) => KeyStanding::Tracked(*first),
                (Owner::Running(claim), _) => KeyStanding::Owned(claim),
                (_, Some(first)) => KeyStanding::Tracked(*first),
                (_, None) => KeyStanding::Free,
            }
        };
        let standings = batch.items().iter().enumerate().map(standing).collect();
        Ok((standings, draft))
    }

    pub(super) fn find_in_flight(
        &self,
        pool: PoolId,
        batch: &Batch,
        from: usize,
    ) -> Result<Option<InFlight>> {
        // First it listens, then it looks, so that no change in between is missed.
        let look_again = self.listen();
        let (standings, draft) = self.standings(pool, batch)?;
        let found = standings.iter().enumerate().skip(from).find_map(|(item, standing)| match standing {
            KeyStanding::Owned(claim) => Some((item, *claim)),
            _ => None,
        });
        Ok(found.map(|(item, claim)| {
            let left = draft.claims.get(&claim).map_or(look_again, |claim| claim.until.since(draft.now));
            InFlight { item, look_again_in: Some(left.min(look_again)) }
        }))
    }

    pub(super) fn outcomes_of_waiting(&self, pool: PoolId, batch: &Batch) -> Result<Vec<WaitOutcome>> {
        let (standings, draft) = self.standings(pool, batch)?;
        let tracked = standings.iter().filter_map(|standing| match standing {
            KeyStanding::Tracked(id) => Some(bigint(*id)),
            _ => None,
        });
        let tracked: Vec<i64> = tracked.collect();
        let records: HashMap<RecordNumber, Record> = if tracked.is_empty() {
            HashMap::new()
        } else {
            self.read(|connection| Self::records_of(connection, pool, tracked.clone()))?
        };
        let outcome = |standing: KeyStanding| match standing {
            KeyStanding::Tracked(id) => records
                .get(&id)
                .map_or(WaitOutcome::Free, |record| WaitOutcome::Tracked(Box::new(record.clone()))),
            KeyStanding::Owned(claim) => match draft.claims.get(&claim) {
                Some(claim) => WaitOutcome::InFlight { by: claim.origin.clone(), until: claim.until },
                None => WaitOutcome::Free,
            },
            KeyStanding::Free | KeyStanding::Changes(_) => WaitOutcome::Free,
        };
        Ok(standings.into_iter().map(outcome).collect())
    }
}
