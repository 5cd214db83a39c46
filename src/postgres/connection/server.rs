//! The server of a store, and making connections to it.
//!
//! Owns: [`Server`], what a new connection needs. Always holds: making a connection takes a bounded time. Must not know: what a
//! connection is used for.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config};

use super::deadline::left;
use super::failure::{Failure, failure, late};
use super::reactor::Spawner;
use crate::postgres::tls::{Tls, TlsStream};

/// Point statements are planned once for all values: planning one takes longer than executing it. Citus must know the pool to plan.
const SETTINGS: &str = "SELECT set_config('plan_cache_mode', CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE \
                        extname = 'citus') THEN 'force_custom_plan' ELSE 'force_generic_plan' END, false)";
/// The time within which a connection must be made, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The messages of a connection, which somebody must handle.
pub(crate) type Messages = tokio_postgres::Connection<tokio_postgres::Socket, TlsStream>;

/// What a connection is made with.
pub(super) struct Server {
    config: Config,
    tls: Tls,
    spawner: Spawner,
}

impl Server {
    pub(super) fn new(config: Config, tls: Tls, spawner: Spawner) -> Self {
        Self { config, tls, spawner }
    }

    /// Makes a connection whose messages are handled by `handle`.
    pub(super) fn connect<F: Future<Output = ()> + Send + 'static>(
        &self,
        until: Option<Instant>,
        handle: impl FnOnce(Messages) -> F + Send + 'static,
    ) -> Result<Client, Failure> {
        let (config, tls, spawner) = (self.config.clone(), self.tls.clone(), self.spawner.clone());
        let limit = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let limit = limit.min(left(until));
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
}
