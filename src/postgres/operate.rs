//! Operating a store: statistics, verifying, pruning, leaving, and deciding without writing.
//!
//! Always holds: pruning and verifying go in batches, so that other calls on the pool get their turns. Must not know: how operations
//! are grouped.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Failure, Step};
use super::head::{self, Head, head_step};
use super::isolation::BEGIN_READING;
use super::lookup::{Lock, Needs};
use super::reclaim::{reclaim_steps, remove_claims};
use super::store::{CLOCK, Postgres};
use super::transaction::{Commit, Outcome};
use super::values::{Columns, bigint};
use crate::backend::Observer;
use crate::backend::batch::Batch;
use crate::backend::operation::{Answer, Firsts};
use crate::dedupe::{Mode, Verdicts};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::limits::CLAIM_KEPT_AFTER_LEASE;
use crate::model::{Finding, PoolStats, Progress, PruneReport, StoreStats, VerifyReport};
use crate::options::Access;

/// The most findings that a report describes.
const FINDINGS_MAX: usize = 1_000;
/// The number of records that are pruned in one transaction.
const PRUNED_AT_ONCE: u64 = 50_000;
/// The most time that closing a store waits for the server.
const LEAVING_FOR: Duration = Duration::from_secs(3);

impl Postgres {
    /// Decides a batch in a mode that tracks nothing.
    pub(super) fn decide_only(
        &self,
        pool: PoolId,
        mode: Mode,
        batch: Batch,
        firsts: Firsts,
    ) -> Result<Verdicts> {
        let (batch, mut needs) = (Arc::new(batch), Needs::default());
        needs.add_batch(&batch);
        let answer = self.read(|connection| {
            let read = self.read_draft(connection, pool, &needs, Lock::None).and_then(|mut draft| {
                let decided = draft.dedupe(mode, &batch, firsts);
                let named: Vec<i64> = decided.records().into_iter().map(bigint).collect();
                let records = Self::records_of(connection, pool, named)?;
                connection.command("COMMIT")?;
                Ok(decided.finish(|id| records.get(&id).cloned()))
            });
            if read.is_err() {
                connection.roll_back();
            }
            read
        })?;
        match answer {
            Answer::Verdicts(verdicts) => Ok(verdicts),
            _ => Err(Error::storage("the operation got the answer of another kind")),
        }
    }

    /// Stores what must outlive this process, if the server answers in time.
    pub(super) fn leave(&self) {
        let until = Instant::now() + LEAVING_FOR;
        self.store_expiry(until);
        self.stop_listening(until);
    }

    /// Stores how far the pools of this process have expired, so that records stay expired if the clock is set back. A failure
    /// cannot be reported, and does no other harm.
    fn store_expiry(&self, until: Instant) {
        let pools: Vec<i64> = self.latest.pools().into_iter().map(|pool| bigint(pool.get())).collect();
        if self.access == Access::ReadOnly || self.connections.is_closed() || pools.is_empty() {
            return;
        }
        let _ = self.connections.with_until(Some(until), |connection| {
            let expiring = "SELECT pool FROM {s}.head WHERE pool = ANY($1) AND retention IS NOT NULL";
            for row in connection.query(expiring, vec![Box::new(pools)])? {
                let stored = self.store_expiry_of(connection, PoolId::new(row.number("pool")?));
                if stored.is_err() {
                    connection.roll_back();
                }
                if let Err(lost @ Failure::Lost(_)) = stored {
                    return Err(lost);
                }
            }
            Ok(())
        });
    }

    fn store_expiry_of(&self, connection: &mut Connection, pool: PoolId) -> Result<(), Failure> {
        let before = connection.query(head::READ, vec![Box::new(bigint(pool.get()))])?;
        let before = Head::of(pool, &before)?.watermark;
        let mut draft = self.read_draft(connection, pool, &Needs::default(), Lock::ForUpdate)?;
        let mut steps = Vec::new();
        if draft.head.watermark > before {
            steps.push(head_step(&mut draft.head));
        }
        steps.push(Step::Command("COMMIT".into()));
        connection.run(steps).map(drop)
    }

    pub(super) fn stats_of_pool(&self, pool: PoolId) -> Result<PoolStats> {
        self.see(pool, |seen| {
            let live = seen.live();
            let rows = seen.query(
                "SELECT count(*) AS count, min(created_at) AS oldest, max(created_at) AS newest FROM {s}.record",
                live,
                "",
            )?;
            let row = rows.first().ok_or_else(|| Error::storage("a statement returned no result"))?;
            let id = bigint(pool.get());
            let read = seen.connection.run(vec![
                Step::Query(CLOCK.into(), Vec::new()),
                Step::Query("SELECT count(*) AS count FROM {s}.record WHERE pool = $1".into(), vec![Box::new(id)]),
            ])?;
            let [clock, all] = read.as_slice() else {
                return Err(Error::storage("a statement returned no result").into());
            };
            let now = self.now_by(clock)?;
            let claims = super::claims::infos(seen.connection, pool, now)?.len() as u64;
            let mut stats = PoolStats::new(row.number("count")?, claims, 0);
            let stored = all.first().map_or(Ok(0), |row| row.number("count"))?;
            stats.expired = stored.saturating_sub(stats.live);
            let (oldest, newest): (Option<i64>, Option<i64>) = (row.read("oldest")?, row.read("newest")?);
            stats.oldest = oldest.map(crate::time::Timestamp::from_micros);
            stats.newest = newest.map(crate::time::Timestamp::from_micros);
            if stats.live > 0 {
                stats.time_ahead = seen.time.since(now);
            }
            Ok(stats)
        })
    }

    pub(super) fn stats_of_store(&self) -> Result<StoreStats> {
        let rows = self
            .read(|connection| connection.query("SELECT count(*) AS count FROM {s}.catalogue", Vec::new()))?;
        let pools = rows.first().map_or(Ok(0), |row| row.number("count"))?;
        Ok(StoreStats { pools, ..self.counters.read() })
    }

    /// Removes the rows of dead records, of claims whose lease ended long ago, and of deleted pools.
    pub(super) fn prune_pool(&self, pool: PoolId) -> Result<PruneReport> {
        self.check_writable()?;
        let mut report = PruneReport::default();
        loop {
            let (records, claims, more) = self.execute_once(pool, |connection| {
                let mut draft = self.read_draft(connection, pool, &Needs::default(), Lock::ForUpdate)?;
                let id = bigint(pool.get());
                let gone = draft.now.saturating_sub(CLAIM_KEPT_AFTER_LEASE).as_micros();
                let end = draft.head.watermark.min(draft.head.reclaimed.saturating_add(PRUNED_AT_ONCE));
                let counts = connection.run(vec![
                    Step::Query(
                        "SELECT count(*) AS count FROM {s}.record WHERE pool = $1 AND id >= $2 AND id < $3"
                            .into(),
                        vec![Box::new(id), Box::new(bigint(draft.head.reclaimed)), Box::new(bigint(end))],
                    ),
                    Step::Query(
                        "SELECT id FROM {s}.claim WHERE pool = $1 AND until <= $2".into(),
                        vec![Box::new(id), Box::new(gone)],
                    ),
                ])?;
                let [records, claims] = counts.as_slice() else {
                    return Err(Error::storage("a statement returned no result").into());
                };
                let records = records.first().map_or(Ok(0), |row| row.number("count"))?;
                let claims = claims.iter().map(|row| row.read("id")).collect::<Result<Vec<i64>>>()?;
                let more = end < draft.head.watermark;
                let answer = (records, claims.len() as u64, more);
                let mut steps = reclaim_steps(&draft.head, PRUNED_AT_ONCE / 2);
                if !claims.is_empty() {
                    remove_claims(id, claims, &mut steps);
                }
                steps.push(head_step(&mut draft.head));
                Ok(Outcome { answer, commit: Commit::new(steps, || {}) })
            })?;
            report.records += records;
            report.claims += claims;
            if !more {
                break;
            }
        }
        // After a failure here, the next removal continues.
        let _ = self.remove_leftovers();
        Ok(report)
    }

    /// Checks what the database does not: that fingerprints match their values, and that heads agree with the records.
    pub(super) fn verify_store(&self, observer: Observer<'_>) -> Result<VerifyReport> {
        let mut report = VerifyReport { ok: true, ..VerifyReport::default() };
        let add = |report: &mut VerifyReport, finding: Finding| {
            report.ok = false;
            report.findings_count += 1;
            if report.findings.len() < FINDINGS_MAX {
                report.findings.push(finding);
            }
        };
        let pools = self.rows_of_pools()?;
        let mut total = 0;
        for pool in &pools {
            total += match self.see(pool.id, |seen| Ok(seen.head.live)) {
                Ok(live) => live,
                Err(error) if Self::is_gone(&error) => 0,
                Err(error) => return Err(error),
            };
        }
        for pool in &pools {
            let mut next = 0_i64;
            loop {
                let rows = self.read(|connection| {
                    connection.query(
                        "SELECT id, fingerprint, entity_type, value, created_at FROM {s}.record WHERE pool = $1 AND id > $2 \
                         ORDER BY id LIMIT 4096",
                        vec![Box::new(bigint(pool.id.get())), Box::new(next)],
                    )
                })?;
                for row in &rows {
                    next = row.read("id")?;
                    let super::values::Bits(fingerprint) = row.read("fingerprint")?;
                    let entity_type = u32::try_from(row.number("entity_type")?).unwrap_or(u32::MAX);
                    let value = row.text("value");
                    let is_right = value.as_ref().is_ok_and(|value| {
                        self.hash_key.fingerprint(entity_type.into(), value) == fingerprint
                    });
                    if !is_right {
                        let reason = value
                            .err()
                            .map_or("the fingerprint does not match the value".to_owned(), |error| {
                                error.to_string()
                            });
                        add(&mut report, Finding::new(Some(pool.id), "record", next.to_string(), reason));
                    }
                    report.records += 1;
                }
                let progress = Progress::new(report.records.min(total), total);
                if let ControlFlow::Break(()) = observer(progress) {
                    return Err(Error::new(ErrorKind::Cancelled, "the callback stopped the verification"));
                }
                if rows.len() < 4096 {
                    break;
                }
            }
            match self.check_head(pool.id) {
                Ok(reasons) => {
                    for reason in reasons {
                        add(&mut report, Finding::new(Some(pool.id), "head", pool.id.to_string(), reason));
                    }
                    report.pools += 1;
                }
                Err(error) if Self::is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// Returns what is wrong with a pool's head.
    fn check_head(&self, pool: PoolId) -> Result<Vec<String>> {
        self.read(|connection| {
            let id = bigint(pool.get());
            let read = connection.run(vec![
                Step::Command(BEGIN_READING.into()),
                Step::Query(head::READ.into(), vec![Box::new(id)]),
                Step::Query(
                    "SELECT count(*) FILTER (WHERE r.id >= h.watermark) AS live, max(r.id) AS last, \
                     max(r.created_at) AS newest FROM {s}.head h LEFT JOIN {s}.record r ON r.pool = h.pool WHERE h.pool = $1"
                        .into(),
                    vec![Box::new(id)],
                ),
                Step::Query(
                    "SELECT count(*) AS count FROM {s}.claim_item i WHERE i.pool = $1 AND NOT EXISTS (SELECT 1 FROM {s}.claim c \
                     WHERE c.pool = $1 AND c.id = i.claim)"
                        .into(),
                    vec![Box::new(id)],
                ),
                Step::Command("COMMIT".into()),
            ]);
            let read = read.inspect_err(|_: &Failure| connection.roll_back())?;
            let [_, head, records, strays, _] = read.as_slice() else {
                return Err(Error::storage("a statement returned no result").into());
            };
            let head = Head::of(pool, head)?;
            let mut reasons = Vec::new();
            if let Some(row) = records.first() {
                let live = row.number("live")?;
                if live != head.live {
                    reasons.push(format!("it counts {} live records, but the pool has {live}", head.live));
                }
                if row.numbered("last")?.is_some_and(|last| last >= head.next_id) {
                    reasons.push(format!("the next id is {}, but a record has that id or a later one", head.next_id));
                }
            }
            let strays = strays.first().map_or(Ok(0), |row| row.number("count"))?;
            if strays > 0 {
                reasons.push(format!("{strays} claimed items belong to no claim"));
            }
            Ok(reasons)
        })
    }
}
