//! Operations with a transaction of their own: what they change is not known before they run.
//!
//! Owns: deleting by a filter, clearing, and taking up and releasing claims. Always holds: each is one transaction under the
//! locks of the pools that it changes. Must not know: which operations share a group.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connection::{Connection, Failure, Step};
use super::draft::Draft;
use super::filter::Condition;
use super::head::{CATALOGUE, head_step, lock_catalogue};
use super::isolation::BEGIN;
use super::lookup::{Lock, Needs};
use super::reclaim::remove_claims;
use super::store::Postgres;
use super::transaction::{Commit, Outcome};
use super::values::{Bits, Columns, bigint};
use crate::backend::claims::Held;
use crate::backend::operation::{Answer, Operation};
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::limits::CLAIM_KEPT_AFTER_LEASE;
use crate::model::ClaimFilter;
use crate::query::RecordFilter;

impl Postgres {
    pub(super) fn run_alone(&self, pool: PoolId, operation: &Operation) -> Result<Answer> {
        self.execute_once(pool, |connection| {
            let draft = self.read_draft(connection, pool, &Needs::default(), Lock::ForUpdate)?;
            match operation {
                Operation::DeleteWhere(filter) => self.delete_matching(connection, draft, filter),
                Operation::Clear => Ok(self.clear_pool(draft)),
                Operation::TakeUp { owner, nonce } => self.take_up(connection, draft, owner, *nonce),
                Operation::ReleaseMatching(filter) => self.release_matching(connection, draft, filter),
                _ => Err(Error::storage("the operation shares its group").into()),
            }
        })
    }

    fn delete_matching(
        &self,
        connection: &mut Connection,
        mut draft: Draft,
        filter: &RecordFilter,
    ) -> Result<Outcome<Answer>, Failure> {
        let deleted = self.delete_live(connection, &mut draft, filter)?;
        let steps = vec![head_step(&mut draft.head)];
        Ok(Outcome { answer: Answer::Count(deleted), commit: Commit::new(steps, || {}) })
    }

    /// Deletes the live records that match a filter. Returns their number.
    pub(super) fn delete_live(
        &self,
        connection: &mut Connection,
        draft: &mut Draft,
        filter: &RecordFilter,
    ) -> Result<u64, Failure> {
        let condition = || Condition::live(&draft.head, draft.time).matching(filter, &self.hash_key);
        let Condition { text, params } = condition();
        let results = format!(
            "DELETE FROM {{s}}.result WHERE pool = $1 AND record IN (SELECT id FROM {{s}}.record WHERE {text})"
        );
        connection.query(results, params)?;
        let Condition { text, params } = condition();
        let deleted =
            connection.query(format!("DELETE FROM {{s}}.record WHERE {text} RETURNING id"), params)?;
        let deleted = deleted.len() as u64;
        draft.head.live = draft.head.live.saturating_sub(deleted);
        Ok(deleted)
    }

    fn clear_pool(&self, mut draft: Draft) -> Outcome<Answer> {
        let (pool, now, live) = (draft.head.pool, draft.now, draft.head.live);
        draft.head.watermark = draft.head.next_id;
        draft.head.live = 0;
        draft.head.last_time = now;
        self.latest.forget(pool);
        let steps = vec![head_step(&mut draft.head)];
        Outcome { answer: Answer::Count(live), commit: Commit::new(steps, || {}) }
    }

    fn take_up(
        &self,
        connection: &mut Connection,
        mut draft: Draft,
        owner: &str,
        nonce: u128,
    ) -> Result<Outcome<Answer>, Failure> {
        let (pool, now) = (draft.head.pool, draft.now);
        let id = bigint(pool.get());
        let gone = now.saturating_sub(CLAIM_KEPT_AFTER_LEASE).as_micros();
        let rows = connection.query(
            "SELECT id FROM {s}.claim WHERE pool = $1 AND owner = $2 AND until > $3 ORDER BY id",
            vec![Box::new(id), Box::new(owner.as_bytes().to_vec()), Box::new(gone)],
        )?;
        let (mut held, mut columns) = (Vec::new(), (Vec::new(), Vec::new(), Vec::new()));
        for row in &rows {
            let claim = row.number("id")?;
            let by = Held { id: claim, nonce: nonce.wrapping_add(claim.into()) };
            columns.0.push(bigint(claim));
            columns.1.push(Bits(by.nonce));
            columns.2.push(bigint(draft.head.next_fence(now)));
            held.push(by);
        }
        if held.is_empty() {
            return Ok(Outcome { answer: Answer::TakenUp(held), commit: Commit::nothing() });
        }
        let grant = "UPDATE {s}.claim c SET nonce = u.nonce, fence = u.fence, since = $5::bigint, until = least($5::bigint::numeric + c.lease, 9223372036854775807)::bigint FROM \
                     unnest($2::bigint[], $3::uuid[], $4::bigint[]) AS u(id, nonce, fence) WHERE c.pool = $1 AND c.id = u.id";
        let grant = Step::Query(
            grant.into(),
            vec![
                Box::new(id),
                Box::new(columns.0),
                Box::new(columns.1),
                Box::new(columns.2),
                Box::new(now.as_micros()),
            ],
        );
        let mut steps = vec![grant, head_step(&mut draft.head)];
        Self::notify(connection, pool, &mut steps)?;
        let waiting = Arc::clone(&self.waiting);
        let done = move || waiting.wake_pool(pool);
        Ok(Outcome { answer: Answer::TakenUp(held), commit: Commit::new(steps, done) })
    }

    fn release_matching(
        &self,
        connection: &mut Connection,
        draft: Draft,
        filter: &ClaimFilter,
    ) -> Result<Outcome<Answer>, Failure> {
        let (pool, now) = (draft.head.pool, draft.now);
        let infos = super::claims::infos(connection, pool, now)?;
        let ids: Vec<i64> =
            infos.iter().filter(|info| filter.takes(info, now)).map(|info| bigint(info.id)).collect();
        let answer = Answer::Count(ids.len() as u64);
        if ids.is_empty() {
            return Ok(Outcome { answer, commit: Commit::nothing() });
        }
        let mut steps = Vec::new();
        remove_claims(bigint(pool.get()), ids, &mut steps);
        Self::notify(connection, pool, &mut steps)?;
        let waiting = Arc::clone(&self.waiting);
        let done = move || waiting.wake_pool(pool);
        Ok(Outcome { answer, commit: Commit::new(steps, done) })
    }

    /// Deletes the records that match a filter in all pools, and voids claims on the values that it names, in one transaction.
    pub(super) fn delete_everywhere(&self, filter: &RecordFilter) -> Result<u64> {
        self.check_writable()?;
        self.execute_once(CATALOGUE, |connection| {
            connection.command(BEGIN)?;
            let pools = connection.query("SELECT pool FROM {s}.head ORDER BY pool", Vec::new())?;
            let (mut deleted, mut steps) = (0, vec![lock_catalogue()]);
            for row in &pools {
                let pool = PoolId::new(row.number("pool")?);
                let mut draft = match self.read_draft(connection, pool, &Needs::default(), Lock::Within) {
                    // The pool was deleted in between.
                    Err(Failure::Refused(error)) if Self::is_gone(&error) => continue,
                    draft => draft?,
                };
                deleted += self.delete_live(connection, &mut draft, filter)?;
                self.void_claims_on(connection, &draft, filter)?;
                steps.push(head_step(&mut draft.head));
                Self::notify(connection, pool, &mut steps)?;
            }
            let waiting = Arc::clone(&self.waiting);
            let done = move || waiting.wake_all();
            Ok(Outcome { answer: deleted, commit: Commit::new(steps, done) })
        })
    }

    /// Takes the values that a filter names away from the claims that own them.
    fn void_claims_on(
        &self,
        connection: &mut Connection,
        draft: &Draft,
        filter: &RecordFilter,
    ) -> Result<(), Failure> {
        if !filter.may_name_claimed() {
            return Ok(());
        }
        let pool = bigint(draft.head.pool.get());
        let mut claims: BTreeSet<(i64, i64)> = BTreeSet::new();
        for value in &filter.values {
            let range = self.hash_key.range_of_value(value);
            let rows = connection.query(
                "SELECT i.claim, i.item, i.entity_type, c.flow, c.run, c.step FROM {s}.claim_item i JOIN {s}.claim c \
                 ON c.pool = i.pool AND c.id = i.claim WHERE i.pool = $1 AND i.fingerprint >= $2 AND i.fingerprint <= $3 \
                 AND i.value = $4 AND i.owned",
                vec![
                    Box::new(pool),
                    Box::new(Bits(*range.start())),
                    Box::new(Bits(*range.end())),
                    Box::new(value.as_bytes().to_vec()),
                ],
            )?;
            for row in &rows {
                let entity_type = u32::try_from(row.number("entity_type")?).unwrap_or(u32::MAX);
                if filter.takes_entity_type(entity_type.into()) && filter.takes_origin(&row.origin()?) {
                    claims.insert((row.read("claim")?, row.read("item")?));
                }
            }
        }
        for (claim, item) in claims {
            connection.query(
                "UPDATE {s}.claim_item SET owned = false WHERE pool = $1 AND claim = $2 AND item = $3",
                vec![Box::new(pool), Box::new(claim), Box::new(item)],
            )?;
        }
        Ok(())
    }
}
