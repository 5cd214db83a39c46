//! The server of a store: making connections to it, and waiting for its answers.
//!
//! Owns: [`Server`], what a new connection needs. Always holds: making a connection takes a bounded time; so does an answer of a
//! server that takes no connections. Must not know: what a connection is used for.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config};

use super::deadline::{left, wait_for};
use super::failure::{Failure, failure, is_timeout, late};
use super::reactor::Spawner;
use crate::postgres::tls::{Tls, TlsStream};

/// Statements are planned once for all values, because planning one takes longer than executing it. Citus plans with the values,
/// because it must know the pool.
const SETTINGS: &str = "SELECT set_config('plan_cache_mode', CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE \
                        extname = 'citus') THEN 'force_custom_plan' ELSE 'force_generic_plan' END, false)";
/// The time within which a connection must be made, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The messages of a connection, which somebody must handle.
pub(crate) type Messages = tokio_postgres::Connection<tokio_postgres::Socket, TlsStream>;

/// The time without an answer after which a call looks if the server is there, unless the URL has a `tcp_user_timeout`.
const SILENCE: Duration = Duration::from_secs(30);

/// The settings that connections are made with.
pub(crate) struct Server {
    config: Config,
    tls: Tls,
    spawner: Spawner,
}

impl Server {
    pub(super) fn new(config: Config, tls: Tls, spawner: Spawner) -> Self {
        Self { config, tls, spawner }
    }

    /// The time within which a connection must be made.
    fn connect_timeout(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT)
    }

    /// Makes a connection whose messages are handled by `handle`.
    pub(super) fn connect<F: Future<Output = ()> + Send + 'static>(
        &self,
        until: Option<Instant>,
        handle: impl FnOnce(Messages) -> F + Send + 'static,
    ) -> Result<Client, Failure> {
        let (config, tls, spawner) = (self.config.clone(), self.tls.clone(), self.spawner.clone());
        let limit = self.connect_timeout().min(left(until));
        let connecting = async move {
            let (client, connection) = config.connect(tls).await?;
            spawner.spawn(handle(connection));
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        match self.spawner.run_within(limit, connecting) {
            Ok(Some(connected)) => connected.map_err(failure),
            Ok(None) => Err(late()),
            Err(closed) => Err(Failure::Lost(closed)),
        }
    }

    /// Waits on this thread for an answer, for as long as the server is there. Returns `None` if it is not, or the time is over.
    ///
    /// A statement may take any time: it waits for locks, or imports a large file. And the host of a server that has stopped still
    /// acknowledges what is sent, so the connection itself shows nothing. A server that works takes new connections meanwhile.
    pub(crate) fn answer<F: Future>(&self, answer: F, until: Option<Instant>) -> Option<F::Output> {
        let silence = self.config.get_tcp_user_timeout().copied().unwrap_or(SILENCE);
        let mut answer = pin!(answer);
        loop {
            let answered = wait_for(answer.as_mut(), silence.min(left(until)));
            if answered.is_some() {
                return answered;
            }
            if left(until).is_zero() || !self.is_there(until) {
                // The answer may have come in the meantime.
                return wait_for(answer, Duration::ZERO);
            }
        }
    }

    /// Returns true unless making a connection takes too long. A server that refuses one is there: it may have too many of them, or
    /// wait for those that it has before it stops.
    fn is_there(&self, until: Option<Instant>) -> bool {
        let (config, tls, spawner) = (self.config.clone(), self.tls.clone(), self.spawner.clone());
        let looking = async move {
            let (_, connection) = config.connect(tls).await?;
            // The client is dropped, so this only says goodbye.
            spawner.spawn(async move { _ = connection.await });
            Ok(())
        };
        match self.spawner.run_within(self.connect_timeout().min(left(until)), looking) {
            // The driver has the same limit for each host.
            Ok(Some(Err(error))) => !is_timeout(&error),
            Ok(None) => false,
            // After `Err` the store is gone, and so is the connection that the call waits for.
            Ok(Some(Ok(()))) | Err(_) => true,
        }
    }
}
