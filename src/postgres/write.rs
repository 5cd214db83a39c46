//! Group commit: operations of the callers of a process on one pool share a transaction.
//!
//! Owns: [`Job`] and the transaction of a group. Always holds: the pool's head is locked first, and everything is decided by what
//! is read after that; nothing is decided by a statement that may have waited for the lock. A group is executed once: its
//! transaction leaves a mark, and before the group is tried again, the mark is looked for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use super::connection::{Connection, Failure, Params, Patience, Step};
use super::draft::{ByFingerprint, Changes, Decided, Draft, NewClaim, NewRecord, StoredClaim};
use super::head::{self, CATALOGUE, Head};
use super::job::{Answers, Job};
use super::listen;
use super::store::Postgres;
use super::values::{Bits, Columns, bigint, micros, origin_columns, version_columns};
use crate::backend::batch::Batch;
use crate::backend::claims::ClaimId;
use crate::backend::fingerprint::Fingerprint;
use crate::backend::operation::{Answer, Entry, Operation, Request};
use crate::backend::queue::Weight;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{PoolId, RecordNumber};
use crate::limits::CLAIM_KEPT_AFTER_LEASE;
use crate::model::{Origin, Record};
use crate::parallel::isolated;
use crate::random::random_bytes;
use crate::time::Timestamp;

/// Rows below the watermark that a commit removes at least, if there are some.
const RECLAIMED_ROWS: u64 = 1_000;
/// The least time for which marks of calls are kept. A call does not look for its mark once half of it has passed since its COMMIT.
const MARKS_KEPT: Duration = Duration::from_hours(1);
/// Claims that a commit sweeps at most.
const SWEPT_CLAIMS: i64 = 16;

pub(super) const BEGIN: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// The best plan of a listing depends on the values in its filter.
pub(super) const BEGIN_READING: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan";
/// Plans the statements of this transaction with their parameters. Of a list in a parameter, the server knows neither the length nor
/// a faster way than to compare each row with each element, unless it plans with the list.
pub(super) const PLAN_WITH_VALUES: &str = "SET LOCAL plan_cache_mode = force_custom_plan";
/// The length of lists from which statements are planned with them.
const LONG_LIST: usize = 64;
/// The server's wall clock; after the lock, because a statement may have waited for that.
pub(super) const CLOCK: &str = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint AS now";
/// The server's wall clock, with the oldest record that is not below the watermark. A join without LATERAL may be planned so that it
/// reads the records below it, too.
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
const SWEEPABLE: &str = "SELECT id FROM {s}.claim WHERE pool = $1 AND until <= $2 ORDER BY until LIMIT $3";
const EXECUTED: &str = "SELECT call FROM {s}.executed WHERE pool = $1 AND session = $2";

/// What a group reads of a pool.
#[derive(Default)]
pub(super) struct Needs {
    fingerprints: BTreeSet<Fingerprint>,
    ids: BTreeSet<RecordNumber>,
    claims: BTreeSet<ClaimId>,
    /// True if it needs the owners of values.
    owners: bool,
}

impl Needs {
    fn of<'o>(operations: impl Iterator<Item = &'o Operation>) -> Self {
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

/// An operation that shares its transaction with no other.
fn is_alone(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::DeleteWhere(_)
            | Operation::Clear
            | Operation::TakeUp { .. }
            | Operation::ReleaseMatching(_)
    )
}

impl Postgres {
    pub(super) fn submit_request(&self, request: Request) -> Result<Answer> {
        let (pool, weight) = (request.pool, request.weight);
        let mut answers = self.submit_job(pool, vec![request], weight);
        answers.pop().unwrap_or_else(|| Err(Error::storage("the operation was not performed")))
    }

    pub(super) fn submit_entries(&self, entries: Vec<Entry>) {
        let mut rest = entries.into_iter().peekable();
        while let Some(Entry { request, deliver }) = rest.next() {
            let (pool, mut weight) = (request.pool, request.weight);
            let (mut requests, mut delivers) = (vec![request], vec![deliver]);
            while let Some(next) =
                rest.next_if(|next| next.request.pool == pool && weight.plus(next.request.weight).fits())
            {
                weight = weight.plus(next.request.weight);
                requests.push(next.request);
                delivers.push(next.deliver);
            }
            let answers = self.submit_job(pool, requests, weight);
            for (deliver, answer) in delivers.into_iter().zip(answers) {
                // It wakes a task of the program that uses the store.
                isolated(|| deliver(answer));
            }
        }
    }

    /// Submits operations on a pool. Returns an answer for each, in order.
    fn submit_job(&self, pool: PoolId, requests: Vec<Request>, weight: Weight) -> Vec<Result<Answer>> {
        let count = requests.len();
        let answers = Answers::default();
        let queue = Arc::clone(self.queues.lock().entry(pool).or_default());
        let job = Job { requests, answers: Arc::clone(&answers) };
        let ran = queue.submit(job, weight, |jobs| {
            self.run_jobs(pool, jobs);
            Ok(())
        });
        self.waiting.notify();
        let mut answers = std::mem::take(&mut *answers.lock());
        answers.resize_with(count, || None);
        let refused = ran.err().unwrap_or_else(|| Error::storage("the operation was not performed"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(refused.clone()))).collect()
    }

    /// Runs the jobs of a group: in one transaction, or in several if an operation must end its own.
    fn run_jobs(&self, pool: PoolId, jobs: Vec<Job>) {
        let places: Vec<(usize, usize)> = jobs
            .iter()
            .enumerate()
            .flat_map(|(job, of)| (0..of.requests.len()).map(move |request| (job, request)))
            .collect();
        let operations: Vec<&Operation> =
            jobs.iter().flat_map(|job| job.requests.iter().map(|request| &request.operation)).collect();
        let mut answers: Vec<Result<Answer>> = Vec::with_capacity(operations.len());
        while let Some(rest) = operations.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            match self.run_group(pool, rest) {
                Ok(mut done) if !done.is_empty() => answers.append(&mut done),
                Ok(_) => answers.push(Err(Error::storage("the operation was not performed"))),
                Err(failed) => {
                    let count = rest.len();
                    answers.extend((0..count).map(|_| Err(failed.clone())));
                }
            }
        }
        for ((job, request), answer) in places.into_iter().zip(answers) {
            if let Some(job) = jobs.get(job) {
                let mut slots = job.answers.lock();
                if slots.len() <= request {
                    slots.resize_with(request + 1, || None);
                }
                if let Some(slot) = slots.get_mut(request) {
                    *slot = Some(answer);
                }
            }
        }
    }

    /// Performs operations from the first one on, until one must end its transaction. Returns the answers to those performed.
    fn run_group(&self, pool: PoolId, operations: &[&Operation]) -> Result<Vec<Result<Answer>>> {
        if let [first, ..] = operations
            && is_alone(first)
        {
            return self.run_alone(pool, first).map(|answer| vec![Ok(answer)]);
        }
        let shared = operations.iter().take_while(|operation| !is_alone(operation)).count();
        let operations = operations.get(..shared).unwrap_or_default();
        let needs = Needs::of(operations.iter().copied());
        self.execute_once(pool, |connection| {
            let mut draft = self.read_draft(connection, pool, &needs, Lock::ForUpdate)?;
            let mut decided = Vec::with_capacity(operations.len());
            for operation in operations {
                decided.push(draft.perform(operation));
                // The next operation must not see what this one evicts.
                if draft.head.excess() > 0 {
                    break;
                }
            }
            self.write(connection, draft, decided)
        })
    }

    /// Returns the mark of a call. No other call that is under way has its session, so a pool has few marks of a process.
    fn begin_call(&self) -> Result<Call> {
        let free = self.sessions.lock().pop();
        let session = free.map_or_else(|| Ok(u128::from_be_bytes(random_bytes()?)), Ok::<_, Error>)?;
        Ok(Call { session, number: self.next_call() })
    }

    /// Runs a transaction that is executed once, however often the connection is lost.
    pub(super) fn execute_once<T>(
        &self,
        pool: PoolId,
        work: impl FnMut(&mut Connection) -> Result<Outcome<T>, Failure>,
    ) -> Result<T> {
        let call = self.begin_call()?;
        let done = self.execute_call(pool, call, work);
        self.sessions.lock().push(call.session);
        done
    }

    fn execute_call<T>(
        &self,
        pool: PoolId,
        call: Call,
        mut work: impl FnMut(&mut Connection) -> Result<Outcome<T>, Failure>,
    ) -> Result<T> {
        let forgets = !self.tidied.lock().contains(&pool);
        // The time at which the last COMMIT was sent.
        let mut sent = Timestamp::now();
        let mut patience = Patience::new(self.retry_for);
        // The transaction's answer, if it turns out to be committed.
        let mut unknown: Option<Executed<T>> = None;
        loop {
            let attempt = self.connections.with(|connection| {
                if let Some(executed) = unknown.take() {
                    match was_executed(connection, pool, call) {
                        Ok(true) => return Ok(executed),
                        // Later, its mark may have been forgotten.
                        Ok(false) if Timestamp::now().since(sent) < MARKS_KEPT / 2 => {}
                        Ok(false) => return Err(unknown_outcome("it took too long to ask").into()),
                        Err(failure) => {
                            unknown = Some(executed);
                            return Err(failure);
                        }
                    }
                }
                let run = work(connection).and_then(|Outcome { answer, commit }| {
                    let Commit { mut steps, wrote, done } = commit;
                    if wrote == Wrote::Something {
                        steps.push(call.mark(pool));
                        steps.extend(forgets.then(|| forget_marks(pool)));
                    }
                    steps.push(Step::Command("COMMIT".into()));
                    let executed = Executed { answer, wrote, done };
                    sent = Timestamp::now();
                    match connection.run(steps) {
                        Ok(_) => Ok(executed),
                        Err(failure) => {
                            if let Failure::Lost(_) = failure {
                                unknown = Some(executed);
                            }
                            Err(failure)
                        }
                    }
                });
                // A connection that was lost is not used again.
                run.inspect_err(|_| connection.roll_back())
            });
            match attempt {
                Ok(Executed { answer, wrote, done }) => {
                    done();
                    if wrote == Wrote::Something {
                        self.counters.commit();
                        if forgets {
                            self.tidied.lock().insert(pool);
                        }
                    }
                    return Ok(answer);
                }
                Err(failure) => patience.next(failure).map_err(|error| {
                    if unknown.is_none() {
                        return error;
                    }
                    let text = format!(
                        "for {} s there was no other to find out: {error}",
                        self.retry_for.as_secs_f64()
                    );
                    unknown_outcome(&text).with_source(error)
                })?,
            }
        }
    }

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
            return Err(Error::storage("a statement gave no answer").into());
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

    /// Returns the answers to what was decided, and the steps that write and commit it.
    pub(super) fn write(
        &self,
        connection: &mut Connection,
        mut draft: Draft,
        decided: Vec<Result<Decided>>,
    ) -> Result<Outcome<Vec<Result<Answer>>>, Failure> {
        let records = Self::records_named(connection, &draft, &decided)?;
        let record = |id: RecordNumber| records.get(&id).cloned().or_else(|| draft.new_record(id));
        let finish = |decided: Result<Decided>| decided.map(|decided| decided.finish(record));
        let answered = decided.len();
        let answer = decided.into_iter().map(finish).collect();
        let (pool, freed) = (draft.head.pool, freed_by(&draft.changes));
        if !draft.changes_something() {
            return Ok(Outcome { answer, commit: Commit::nothing() });
        }
        self.counters.group(answered);
        let mut steps = Vec::new();
        if draft.changes.longest_list() >= LONG_LIST {
            steps.push(Step::Command(PLAN_WITH_VALUES.into()));
        }
        Self::sweep(connection, &draft, &mut steps)?;
        if !freed.is_empty() {
            Self::notify(connection, pool, &mut steps)?;
        }
        write_changes(&mut draft, &mut steps);
        steps.push(head_step(&mut draft));
        steps.extend(reclaim_steps(&draft.head, draft.changes.new.len() as u64));
        let waiting = Arc::clone(&self.waiting);
        let done = move || waiting.wake(pool, freed.into_iter());
        Ok(Outcome { answer, commit: Commit::new(steps, done) })
    }

    /// Reads the stored records that answers name, before they may be deleted.
    fn records_named(
        connection: &mut Connection,
        draft: &Draft,
        decided: &[Result<Decided>],
    ) -> Result<HashMap<RecordNumber, Record>, Failure> {
        let named: BTreeSet<RecordNumber> = decided.iter().flatten().flat_map(Decided::records).collect();
        let stored: Vec<i64> =
            named.into_iter().filter(|id| !draft.changes.new.contains_key(id)).map(bigint).collect();
        if stored.is_empty() {
            return Ok(HashMap::new());
        }
        Self::records_of(connection, draft.head.pool, stored)
    }

    /// Adds the steps that remove claims whose lease ended long ago.
    pub(super) fn sweep(
        connection: &mut Connection,
        draft: &Draft,
        steps: &mut Vec<Step>,
    ) -> Result<(), Failure> {
        if draft.head.next_claim == 1 {
            return Ok(());
        }
        let pool = bigint(draft.head.pool.get());
        let before = draft.now.saturating_sub(CLAIM_KEPT_AFTER_LEASE).as_micros();
        let rows =
            connection.query(SWEEPABLE, vec![Box::new(pool), Box::new(before), Box::new(SWEPT_CLAIMS)])?;
        let ids = rows.iter().map(|row| row.read("id")).collect::<Result<Vec<i64>>>()?;
        if !ids.is_empty() {
            remove_claims(pool, ids, steps);
        }
        Ok(())
    }

    /// Adds the step that wakes callers of other processes, if some wait.
    pub(super) fn notify(
        connection: &mut Connection,
        pool: PoolId,
        steps: &mut Vec<Step>,
    ) -> Result<(), Failure> {
        let listening = connection.query(listen::ANYBODY, Vec::new())?;
        if listening.first().map_or(Ok(0), |row| row.number("count"))? > 0 {
            steps.push(listen::notify(pool));
        }
        Ok(())
    }
}

/// Adds the steps that remove claims with their items.
pub(super) fn remove_claims(pool: i64, ids: Vec<i64>, steps: &mut Vec<Step>) {
    for delete in [
        "DELETE FROM {s}.claim_item WHERE pool = $1 AND claim = ANY($2)",
        "DELETE FROM {s}.claim WHERE pool = $1 AND id = ANY($2)",
    ] {
        steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(ids.clone())]));
    }
}

/// Reads the oldest record in the answer to [`NOW`].
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

/// Returns the values that may be free, or tracked, after a group.
fn freed_by(changes: &Changes) -> Vec<Fingerprint> {
    changes.voided.iter().copied().collect()
}

fn stored_claim(row: &Row) -> Result<(ClaimId, StoredClaim)> {
    let Bits(nonce) = row.read("nonce")?;
    let lease = row.duration("lease")?.unwrap_or_default();
    Ok((row.number("id")?, StoredClaim { nonce, until: row.time("until")?, lease, origin: row.origin()? }))
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

/// The mark of a call: a number in a session.
#[derive(Debug, Clone, Copy)]
struct Call {
    session: u128,
    number: i64,
}

impl Call {
    /// Returns the step that leaves the mark. It is left under the pool's lock, so numbers of a session ascend.
    fn mark(self, pool: PoolId) -> Step {
        let mark = "INSERT INTO {s}.executed (pool, session, call, at) VALUES ($1, $2, $3, \
                    (extract(epoch from clock_timestamp()) * 1000000)::bigint) \
                    ON CONFLICT (pool, session) DO UPDATE SET call = excluded.call, at = excluded.at";
        let params: Params =
            vec![Box::new(bigint(pool.get())), Box::new(Bits(self.session)), Box::new(self.number)];
        Step::Query(mark.into(), params)
    }
}

/// Returns the step that removes expired marks: mostly those of processes that have ended.
fn forget_marks(pool: PoolId) -> Step {
    let forget = "DELETE FROM {s}.executed WHERE pool = $1 AND at < (extract(epoch from now()) * 1000000)::bigint - $2";
    Step::Query(forget.into(), vec![Box::new(bigint(pool.get())), Box::new(micros(MARKS_KEPT))])
}

fn unknown_outcome(reason: &str) -> Error {
    let text =
        format!("the connection was lost during a commit, and it is not known if that took place: {reason}");
    Error::new(ErrorKind::OutcomeUnknown, text)
}

/// The answer of a transaction, and what writes and commits it.
pub(super) struct Outcome<T> {
    pub(super) answer: T,
    pub(super) commit: Commit,
}

/// The last steps of a transaction, before its mark and COMMIT.
pub(super) struct Commit {
    steps: Vec<Step>,
    wrote: Wrote,
    /// Runs after they have succeeded.
    done: Box<dyn FnOnce()>,
}

/// The outcome of deciding: a transaction with changes, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    Nothing,
    Something,
}

impl Commit {
    /// Ends a transaction that has written nothing.
    pub(super) fn nothing() -> Self {
        Self { steps: Vec::new(), wrote: Wrote::Nothing, done: Box::new(|| {}) }
    }

    /// Writes and commits.
    pub(super) fn new(steps: Vec<Step>, done: impl FnOnce() + 'static) -> Self {
        Self { steps, wrote: Wrote::Something, done: Box::new(done) }
    }
}

/// A transaction that was committed, or may have been.
struct Executed<T> {
    answer: T,
    wrote: Wrote,
    done: Box<dyn FnOnce()>,
}

/// Returns true if a call was committed. Waits for the pool's lock, so an execution that is still under way has ended by then.
fn was_executed(connection: &mut Connection, pool: PoolId, call: Call) -> Result<bool, Failure> {
    let id = bigint(pool.get());
    let read = connection.run(vec![
        Step::Command(BEGIN.into()),
        if pool == CATALOGUE { head::lock_catalogue() } else { head::lock(pool) },
        Step::Query(EXECUTED.into(), vec![Box::new(id), Box::new(Bits(call.session))]),
        Step::Command("COMMIT".into()),
    ]);
    let read = match read {
        Ok(read) => read,
        Err(failure) => {
            connection.roll_back();
            return Err(failure);
        }
    };
    let last = read.get(2).and_then(|rows| rows.first());
    let last: Option<i64> = last.map(|row| row.read("call")).transpose()?;
    Ok(last.is_some_and(|last| last >= call.number))
}

/// Adds the steps that write what a group changes.
fn write_changes(draft: &mut Draft, steps: &mut Vec<Step>) {
    let pool = bigint(draft.head.pool.get());
    let changes = &draft.changes;
    if !changes.deleted.is_empty() {
        let ids: Vec<i64> = changes.deleted.iter().copied().map(bigint).collect();
        for delete in [
            "DELETE FROM {s}.result WHERE pool = $1 AND record = ANY($2)",
            "DELETE FROM {s}.record WHERE pool = $1 AND id = ANY($2)",
        ] {
            steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(ids.clone())]));
        }
    }
    if !changes.voided.is_empty() {
        let voided: Vec<Bits> = changes.voided.iter().copied().map(Bits).collect();
        let void =
            "UPDATE {s}.claim_item SET owned = false WHERE pool = $1 AND fingerprint = ANY($2) AND owned";
        steps.push(Step::Query(void.into(), vec![Box::new(pool), Box::new(voided)]));
    }
    for (claim, items) in &changes.settled {
        let items: Vec<i64> = items.iter().map(|item| i64::from(*item)).collect();
        let claim = bigint(*claim);
        let settle =
            "UPDATE {s}.claim_item SET settled = true WHERE pool = $1 AND claim = $2 AND item = ANY($3)";
        let count = "UPDATE {s}.claim SET open = (SELECT count(*) FROM {s}.claim_item i WHERE i.pool = $1 AND i.claim = $2 \
                     AND NOT i.settled) WHERE pool = $1 AND id = $2";
        steps.push(Step::Query(settle.into(), vec![Box::new(pool), Box::new(claim), Box::new(items)]));
        steps.push(Step::Query(count.into(), vec![Box::new(pool), Box::new(claim)]));
        for delete in [
            "DELETE FROM {s}.claim_item WHERE pool = $1 AND claim = $2 AND NOT EXISTS (SELECT 1 FROM {s}.claim c \
             WHERE c.pool = $1 AND c.id = $2 AND c.open > 0)",
            "DELETE FROM {s}.claim WHERE pool = $1 AND id = $2 AND open = 0",
        ] {
            steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(claim)]));
        }
    }
    if !changes.leases.is_empty() {
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for (id, (until, lease)) in &changes.leases {
            columns.0.push(bigint(*id));
            columns.1.push(until.as_micros());
            columns.2.push(micros(*lease));
        }
        let restart = "UPDATE {s}.claim c SET until = u.until, lease = u.lease FROM unnest($2::bigint[], $3::bigint[], \
                       $4::bigint[]) AS u(id, until, lease) WHERE c.pool = $1 AND c.id = u.id";
        let params: Params =
            vec![Box::new(pool), Box::new(columns.0), Box::new(columns.1), Box::new(columns.2)];
        steps.push(Step::Query(restart.into(), params));
    }
    for claim in &changes.claims {
        write_claim(draft, claim, steps);
    }
    write_records(draft, steps);
}

fn write_claim(draft: &Draft, claim: &NewClaim, steps: &mut Vec<Step>) {
    let pool = bigint(draft.head.pool.get());
    let origin = claim.batch.origin().map(|origin| Origin::clone(origin)).unwrap_or_default();
    let [flow, run, step] = origin_columns(&origin);
    let insert = "INSERT INTO {s}.claim (pool, id, nonce, owner, flow, run, step, since, until, lease, fence, items, open) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
    let items = bigint(claim.items.len() as u64);
    let owner = claim.owner.as_ref().map(|owner| owner.as_bytes().to_vec());
    steps.push(Step::Query(
        insert.into(),
        vec![
            Box::new(pool),
            Box::new(bigint(claim.id)),
            Box::new(Bits(claim.nonce)),
            Box::new(owner),
            Box::new(flow),
            Box::new(run),
            Box::new(step),
            Box::new(draft.now.as_micros()),
            Box::new(claim.until.as_micros()),
            Box::new(micros(claim.lease)),
            Box::new(bigint(claim.fence)),
            Box::new(items),
        ],
    ));
    let (mut indexes, mut newest_seen, mut is_owned) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = ItemColumns::default();
    for (index, newest) in &claim.items {
        indexes.push(bigint(*index as u64));
        newest_seen.push(bigint(*newest));
        // A later operation of the group may have taken it away.
        is_owned.push(
            claim.batch.items().get(*index).is_some_and(|item| draft.is_owner(claim.id, item.fingerprint)),
        );
        rows.push(&claim.batch, *index);
    }
    let insert = "INSERT INTO {s}.claim_item (pool, claim, item, fingerprint, entity_type, value, content, ordinal, seen, owned) \
                  SELECT h.pool, $2, u.* FROM {s}.head h, unnest($3::bigint[], $4::uuid[], $5::bigint[], $6::bytea[], \
                  $7::uuid[], $8::bigint[], $9::bigint[], $10::boolean[]) AS u WHERE h.pool = $1";
    let ItemColumns { fingerprints, entity_types, values, contents, ordinals } = rows;
    steps.push(Step::Query(
        insert.into(),
        vec![
            Box::new(pool),
            Box::new(bigint(claim.id)),
            Box::new(indexes),
            Box::new(fingerprints),
            Box::new(entity_types),
            Box::new(values),
            Box::new(contents),
            Box::new(ordinals),
            Box::new(newest_seen),
            Box::new(is_owned),
        ],
    ));
}

/// The columns of some items.
#[derive(Default)]
struct ItemColumns {
    fingerprints: Vec<Bits>,
    entity_types: Vec<i64>,
    values: Vec<Vec<u8>>,
    contents: Vec<Option<Bits>>,
    ordinals: Vec<Option<i64>>,
}

impl ItemColumns {
    fn push(&mut self, batch: &Batch, index: usize) {
        let Some(item) = batch.items().get(index) else { return };
        let (content, ordinal) = version_columns(batch.version(index));
        self.fingerprints.push(Bits(item.fingerprint));
        self.entity_types.push(item.entity_type.get().into());
        self.values.push(batch.value(index).as_bytes().to_vec());
        self.contents.push(content);
        self.ordinals.push(ordinal);
    }
}

fn write_records(draft: &Draft, steps: &mut Vec<Step>) {
    let (pool, changes) = (bigint(draft.head.pool.get()), &draft.changes);
    let (mut ids, mut rows) = (Vec::new(), ItemColumns::default());
    let (mut flows, mut runs, mut origin_steps) = (Vec::new(), Vec::new(), Vec::new());
    for (id, NewRecord { batch, item }) in &changes.new {
        let none = Origin::none();
        let [flow, run, step] = origin_columns(batch.origin().map_or(&none, |origin| &**origin));
        ids.push(bigint(*id));
        rows.push(batch, *item);
        flows.push(flow);
        runs.push(run);
        origin_steps.push(step);
    }
    if !ids.is_empty() {
        let insert = "INSERT INTO {s}.record (pool, id, fingerprint, entity_type, value, content, ordinal, flow, run, step, \
                      created_at) SELECT h.pool, u.*, $11::bigint FROM {s}.head h, unnest($2::bigint[], $3::uuid[], \
                      $4::bigint[], $5::bytea[], $6::uuid[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[]) AS u \
                      WHERE h.pool = $1";
        let ItemColumns { fingerprints, entity_types, values, contents, ordinals } = rows;
        steps.push(Step::Query(
            insert.into(),
            vec![
                Box::new(pool),
                Box::new(ids),
                Box::new(fingerprints),
                Box::new(entity_types),
                Box::new(values),
                Box::new(contents),
                Box::new(ordinals),
                Box::new(flows),
                Box::new(runs),
                Box::new(origin_steps),
                Box::new(draft.time.as_micros()),
            ],
        ));
    }
    let results = changes.results.iter().filter(|(id, _)| changes.new.contains_key(id));
    let (ids, bytes): (Vec<i64>, Vec<Vec<u8>>) =
        results.map(|(id, bytes)| (bigint(*id), bytes.as_slice().to_vec())).unzip();
    if !ids.is_empty() {
        let insert = "INSERT INTO {s}.result (pool, record, bytes) SELECT h.pool, u.* FROM {s}.head h, \
                      unnest($2::bigint[], $3::bytea[]) AS u WHERE h.pool = $1";
        steps.push(Step::Query(insert.into(), vec![Box::new(pool), Box::new(ids), Box::new(bytes)]));
    }
}

/// Returns the step that stores a head, evicts what is over the capacity, and removes some rows of dead records.
pub(super) fn head_step(draft: &mut Draft) -> Step {
    let excess = draft.head.excess();
    let head = &mut draft.head;
    head.live -= excess;
    let store = "UPDATE {s}.head SET next_id = $2, live = $3, last_time = $4, next_claim = $5, fence = $6, retention = $7, \
                 capacity = $8, watermark = CASE WHEN $10::bigint = 0 THEN $9::bigint ELSE coalesce((SELECT r.id FROM {s}.record r \
                 WHERE r.pool = $1 AND r.id >= $9 ORDER BY r.id OFFSET $10 LIMIT 1), $2) END WHERE pool = $1";
    let capacity = head.policy.capacity.map(bigint);
    Step::Query(
        store.into(),
        vec![
            Box::new(bigint(head.pool.get())),
            Box::new(bigint(head.next_id)),
            Box::new(bigint(head.live)),
            Box::new(head.last_time.as_micros()),
            Box::new(bigint(head.next_claim)),
            Box::new(bigint(head.fence)),
            Box::new(head.policy.retention.map(micros)),
            Box::new(capacity),
            Box::new(bigint(head.watermark)),
            Box::new(bigint(excess)),
        ],
    )
}

/// Returns the steps that remove rows of dead records: about twice as many as were added, and a thousand at least.
pub(super) fn reclaim_steps(head: &Head, added: u64) -> Vec<Step> {
    if head.reclaimed >= head.watermark {
        return Vec::new();
    }
    let end = head.watermark.min(head.reclaimed.saturating_add(RECLAIMED_ROWS.max(2 * added)));
    let (pool, from, to) = (bigint(head.pool.get()), bigint(head.reclaimed), bigint(end));
    let mut steps = Vec::new();
    for delete in [
        "DELETE FROM {s}.result WHERE pool = $1 AND record >= $2 AND record < $3",
        "DELETE FROM {s}.record WHERE pool = $1 AND id >= $2 AND id < $3",
    ] {
        steps.push(Step::Query(delete.into(), vec![Box::new(pool), Box::new(from), Box::new(to)]));
    }
    let moved = "UPDATE {s}.head SET reclaimed = $2 WHERE pool = $1";
    steps.push(Step::Query(moved.into(), vec![Box::new(pool), Box::new(to)]));
    steps
}
