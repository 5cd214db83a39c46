//! Marks of calls: they tell, after a lost connection, if a transaction was committed.
//!
//! Owns: the table `executed`. Always holds: a transaction that writes leaves the mark of its call under the pool's lock, so the
//! numbers of a session ascend. Must not know: what a transaction writes.

use std::time::Duration;

use super::connection::{Connection, Failure, Params, Step};
use super::head::{self, CATALOGUE};
use super::isolation::BEGIN;
use super::values::{Bits, Columns, bigint, micros};
use crate::error::Result;
use crate::ids::PoolId;

/// The least time for which marks of calls are kept. A call does not look for its mark once half of it has passed since its COMMIT.
pub(super) const MARKS_KEPT: Duration = Duration::from_hours(1);

const EXECUTED: &str = "SELECT call FROM {s}.executed WHERE pool = $1 AND session = $2";

/// The mark of a call: a number in a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) session: u128,
    pub(super) number: i64,
}

impl Call {
    /// Returns the step that leaves the mark. It is left under the pool's lock, so numbers of a session ascend.
    pub(super) fn mark(self, pool: PoolId) -> Step {
        let mark = "INSERT INTO {s}.executed (pool, session, call, at) VALUES ($1, $2, $3, \
                    (extract(epoch from clock_timestamp()) * 1000000)::bigint) \
                    ON CONFLICT (pool, session) DO UPDATE SET call = excluded.call, at = excluded.at";
        let params: Params =
            vec![Box::new(bigint(pool.get())), Box::new(Bits(self.session)), Box::new(self.number)];
        Step::Query(mark.into(), params)
    }
}

/// Returns the step that removes expired marks: mostly those of processes that have ended.
pub(super) fn forget_marks(pool: PoolId) -> Step {
    let forget = "DELETE FROM {s}.executed WHERE pool = $1 AND at < (extract(epoch from now()) * 1000000)::bigint - $2";
    Step::Query(forget.into(), vec![Box::new(bigint(pool.get())), Box::new(micros(MARKS_KEPT))])
}

/// Returns true if a call was committed. Waits for the pool's lock, so an execution that is still under way has ended by then.
pub(super) fn was_executed(connection: &mut Connection, pool: PoolId, call: Call) -> Result<bool, Failure> {
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
