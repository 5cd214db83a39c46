//! Notifications: callers that wait for values are woken by changes of other processes.
//!
//! Owns: when a process listens and notifies. Always holds: processes that listen have a row in `listener` that lasts
//! a while, and writers notify only while there is one. Notifications can be missed, and some poolers pass none on: so
//! a waiting caller also polls.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::AsyncMessage;

use super::connection::{Connection, Failure, Params, Step};
use super::listener::Listening;
use super::store::Postgres;
use super::values::{Bits, Columns};
use crate::backend::waiting::Waiting;
use crate::ids::PoolId;

/// A process counts as listening for this time after it last registered.
const LISTENING_FOR: Duration = Duration::from_mins(1);
/// The polling interval of a waiting caller with notifications; and without.
const LOOK_AGAIN_LISTENING: Duration = Duration::from_secs(1);
const LOOK_AGAIN_POLLING: Duration = Duration::from_millis(100);

/// Listens to the channel of a store's notifications. It has the schema's name. Their text is the pool's id.
const LISTEN: &str = "LISTEN {s}";
/// Counts the processes that listen. Runs in the transaction that writes.
const ANYBODY: &str = "SELECT count(*) AS count FROM {s}.listener WHERE until > \
                                  (extract(epoch from statement_timestamp()) * 1000000)::bigint";
const REGISTER: &str = "INSERT INTO {s}.listener (session, until) VALUES ($1, \
                        (extract(epoch from statement_timestamp()) * 1000000)::bigint + $2) \
                        ON CONFLICT (session) DO UPDATE SET until = excluded.until";
const FORGET: &str =
    "DELETE FROM {s}.listener WHERE until < (extract(epoch from statement_timestamp()) * 1000000)::bigint";

/// Returns the step that notifies processes that wait for values of a pool.
fn notify(schema: &str, pool: PoolId) -> Step {
    let params: Params = vec![Box::new(schema.to_owned()), Box::new(pool.to_string())];
    Step::Query("SELECT pg_notify($1, $2)".into(), params)
}

impl Postgres {
    /// Adds the step that wakes callers of other processes, if any process listens.
    pub(super) fn notify(
        connection: &mut Connection,
        pool: PoolId,
        steps: &mut Vec<Step>,
    ) -> Result<(), Failure> {
        let listening = connection.query(ANYBODY, Vec::new())?;
        if listening.first().map_or(Ok(0), |row| row.number("count"))? > 0 {
            steps.push(notify(connection.schema(), pool));
        }
        Ok(())
    }

    /// Listens for the next minute. Returns the polling interval of a caller that waits.
    pub(super) fn listen(&self) -> Duration {
        match self.try_to_listen() {
            Ok(()) => LOOK_AGAIN_LISTENING,
            Err(_) => LOOK_AGAIN_POLLING,
        }
    }

    fn try_to_listen(&self) -> Result<(), Failure> {
        let mut state = self.listener.state.lock();
        if state.as_ref().is_none_or(|listening| !listening.is_alive.load(Ordering::SeqCst)) {
            *state = None;
            let is_alive = Arc::new(AtomicBool::new(true));
            let (waiting, alive) = (Arc::clone(&self.waiting), Arc::clone(&is_alive));
            let mut connection = self.connections.connect_with(None, |mut messages| async move {
                while let Some(Ok(message)) = poll_fn(|context| messages.poll_message(context)).await {
                    if let AsyncMessage::Notification(notification) = message {
                        wake(&waiting, notification.payload());
                    }
                }
                alive.store(false, Ordering::SeqCst);
                // Notifications from here on are lost.
                waiting.wake_all();
                waiting.notify();
            })?;
            connection.run(vec![Step::Command(LISTEN.into())])?;
            self.register_listening(&mut connection)?;
            *state = Some(Listening { connection, is_alive, registered: Instant::now() });
        } else if let Some(listening) = &mut *state
            && listening.registered.elapsed() > LISTENING_FOR / 2
        {
            self.register_listening(&mut listening.connection)?;
            listening.registered = Instant::now();
        }
        Ok(())
    }

    fn register_listening(&self, connection: &mut Connection) -> Result<(), Failure> {
        let micros = i64::try_from(LISTENING_FOR.as_micros()).unwrap_or(i64::MAX);
        connection.query(FORGET, Vec::new())?;
        connection.query(REGISTER, vec![Box::new(Bits(self.session)), Box::new(micros)]).map(drop)
    }

    /// Stops listening, within a time.
    pub(super) fn stop_listening(&self, until: Instant) {
        // A call holds the lock for long only if the server does not answer.
        let listening = self.listener.state.try_lock_until(until).and_then(|mut state| state.take());
        if let Some(mut listening) = listening {
            listening.connection.answer_by(Some(until));
            // The row lasts a minute otherwise.
            let _ = listening
                .connection
                .query("DELETE FROM {s}.listener WHERE session = $1", vec![Box::new(Bits(self.session))]);
        }
    }
}

fn wake(waiting: &Waiting, payload: &str) {
    if let Ok(pool) = payload.parse::<PoolId>() {
        waiting.wake_pool(pool);
        waiting.notify();
    }
}
