//! A transaction that is executed once, however often its connection is lost.
//!
//! Owns: [`Outcome`], the answer of a transaction with the steps that commit it. Always holds: a transaction that writes leaves a
//! mark, and before it is tried again, the mark is looked for. Must not know: how operations are decided.

use super::connection::{Connection, Failure, Patience, Step};
use super::marks::{Call, MARKS_KEPT, forget_marks, was_executed};
use super::store::Postgres;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::random::random_bytes;
use crate::time::Timestamp;

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

impl Postgres {
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
        // The answer of a transaction that may have been committed.
        let mut unknown: Option<Executed<T>> = None;
        loop {
            let attempt = self.connections.with(|connection| {
                if let Some(executed) = unknown.take() {
                    match was_executed(connection, pool, call) {
                        Ok(true) => return Ok(executed),
                        // Later, its mark may have been forgotten.
                        Ok(false) if Timestamp::now().since(sent) < MARKS_KEPT / 2 => {}
                        Ok(false) => {
                            return Err(
                                unknown_outcome("the server was reached too late to ask for it").into()
                            );
                        }
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
                            if matches!(failure, Failure::Lost(_)) && !failure.was_idle() {
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
                        "no other connection could be made for {} s: {error}",
                        self.retry_for.as_secs_f64()
                    );
                    unknown_outcome(&text).with_source(error)
                })?,
            }
        }
    }
}

fn unknown_outcome(reason: &str) -> Error {
    let text = format!("the connection was lost during a commit, and its outcome is unknown: {reason}");
    Error::new(ErrorKind::OutcomeUnknown, text)
}
