//! One open store: what its calls share.
//!
//! Owns: [`Postgres`], and connecting it. Always holds: nothing here is needed by another process; the store is in the database.
//! Must not know: what calls do.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::{Config, Row};

use super::connection::{Connections, Failure};
use super::job::Job;
use super::listener::Listener;
use super::schema::{self, Missing};
use super::values::Columns;
use super::{tls, url};
use crate::backend::counters::Counters;
use crate::backend::fingerprint::HashKey;
use crate::backend::queue::Queue;
use crate::backend::waiting::Waiting;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::PoolId;
use crate::options::{Access, IfMissing, StoreOptions};
use crate::random::random_bytes;
use crate::time::{LatestTime, ManualClock, Timestamp};

/// The most connections that the calls of a process use at a time.
const CONNECTIONS: usize = 8;
/// The time for which a call that lost its connection is tried again.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// The server's wall clock; after the lock, because a statement may have waited for that.
pub(super) const CLOCK: &str = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint AS now";

/// One open store.
pub(crate) struct Postgres {
    /// This store, for readings that outlive a call.
    pub(super) own: Weak<Postgres>,
    pub(super) connections: Connections,
    pub(super) store_id: u128,
    pub(super) hash_key: HashKey,
    pub(super) clock: Option<ManualClock>,
    pub(super) access: Access,
    pub(super) retry_for: Duration,
    pub(super) counters: Counters,
    pub(super) waiting: Arc<Waiting>,
    /// The callers in line of each pool.
    pub(super) queues: Mutex<HashMap<PoolId, Arc<Queue<Job>>>>,
    pub(super) latest: LatestTimes,
    /// Pools that are known to have had a claim: only there owners are read with the rest.
    pub(super) claimed: Mutex<HashSet<PoolId>>,
    pub(super) listener: Listener,
    /// The number that identifies this process on the server.
    pub(super) session: u128,
    pub(super) calls: AtomicI64,
    /// The sessions of calls that are done, for the next ones.
    pub(super) sessions: Mutex<Vec<u128>>,
    /// The pools where this process has removed marks of calls that others left.
    pub(super) tidied: Mutex<HashSet<PoolId>>,
    /// The number of times that the store was closed.
    pub(super) closes: AtomicU64,
}

/// The latest time that this process has used for each pool.
#[derive(Debug, Default)]
pub(super) struct LatestTimes(Mutex<HashMap<PoolId, LatestTime>>);

impl LatestTimes {
    /// Moves a pool's time forward to `now` if that is later. Returns it.
    pub(super) fn reach(&self, pool: PoolId, now: Timestamp) -> Timestamp {
        self.0.lock().entry(pool).or_default().reach(now)
    }

    pub(super) fn get(&self, pool: PoolId) -> Option<Timestamp> {
        self.0.lock().get(&pool).map(LatestTime::get)
    }

    pub(super) fn forget(&self, pool: PoolId) {
        self.0.lock().remove(&pool);
    }

    pub(super) fn pools(&self) -> Vec<PoolId> {
        self.0.lock().keys().copied().collect()
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// The error for what this engine cannot do.
pub(super) fn unsupported(what: &str) -> Error {
    let text = format!(
        "{what} is for stores in a file; a store over PostgreSQL is operated with the server's own means"
    );
    Error::new(ErrorKind::Unsupported, text)
}

impl Postgres {
    /// Connects to the store that a URL names, and makes its tables if there are none.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a bad URL; the errors of [`StoreOptions::connect`].
    pub(crate) fn connect(url: &str, options: &StoreOptions) -> Result<Arc<Self>> {
        let config = with_limits(url::parse(url)?);
        check_schema(&options.schema)?;
        let tls = tls::tls(config.get_ssl_mode())?;
        let connections = Connections::new(config, tls, &options.schema, CONNECTIONS)?;
        let missing = match (options.if_missing, options.access) {
            (IfMissing::Create, Access::ReadWrite) => Missing::Create { hash_key: options.hash_key },
            _ => Missing::Fail,
        };
        let meta =
            connections.with(|connection| schema::open(connection, missing)).map_err(Failure::into_error)?;
        let session = u128::from_be_bytes(random_bytes()?);
        let store = Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            connections,
            store_id: meta.store_id,
            hash_key: HashKey::new(meta.hash_key),
            clock: options.clock.clone(),
            access: options.access,
            retry_for: RETRY_FOR,
            counters: Counters::default(),
            waiting: Arc::default(),
            queues: Mutex::default(),
            latest: LatestTimes::default(),
            claimed: Mutex::default(),
            listener: Listener::default(),
            session,
            calls: AtomicI64::new(1),
            sessions: Mutex::default(),
            tidied: Mutex::default(),
            closes: AtomicU64::new(0),
        });
        if options.access == Access::ReadWrite {
            // One batch, so that opening is not delayed for long. After a failure, the next removal continues.
            let _ = store.remove_some_leftovers();
        }
        Ok(store)
    }

    pub(super) fn own(&self) -> Result<Arc<Self>> {
        self.own.upgrade().ok_or_else(Error::closed)
    }

    pub(super) fn has_claims(&self, pool: PoolId) -> bool {
        self.claimed.lock().contains(&pool)
    }

    pub(super) fn note_claims(&self, pool: PoolId) {
        self.claimed.lock().insert(pool);
    }

    /// Removes what this process remembers of a pool that is deleted.
    pub(super) fn forget_pool(&self, pool: PoolId) {
        self.queues.lock().remove(&pool);
        self.latest.forget(pool);
        self.claimed.lock().remove(&pool);
        self.tidied.lock().remove(&pool);
    }

    pub(super) fn next_call(&self) -> i64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn closes(&self) -> u64 {
        self.closes.load(Ordering::SeqCst)
    }

    pub(super) fn manual_now(&self) -> Option<Timestamp> {
        self.clock.as_ref().map(ManualClock::now)
    }

    /// Returns the time of the manual clock, or of the server's clock as [`CLOCK`] read it.
    pub(super) fn now_by(&self, clock: &[Row]) -> Result<Timestamp> {
        match (self.manual_now(), clock.first()) {
            (Some(now), _) => Ok(now),
            (None, Some(row)) => row.time("now"),
            (None, None) => Err(Error::storage("the server's clock returned no result")),
        }
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => {
                let text =
                    "the store is open for reading only: open it with `Access::ReadWrite` to write to it";
                Err(Error::new(ErrorKind::ReadOnly, text))
            }
        }
    }
}

/// Limits the time after which a silent host counts as lost, unless the URL has its own limits. The system's defaults are hours.
fn with_limits(mut config: Config) -> Config {
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(RETRY_FOR);
    }
    if config.get_keepalives_interval().is_none() && config.get_keepalives_retries().is_none() {
        config.keepalives_idle(RETRY_FOR / 2).keepalives_interval(RETRY_FOR / 6).keepalives_retries(3);
    }
    config
}

/// The name becomes part of statements, so it is checked.
fn check_schema(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    let is_of_server = name.starts_with("pg_") || name == "information_schema";
    if begins_well && name.len() <= 63 && name.bytes().all(is_plain) && !is_of_server {
        return Ok(());
    }
    let text = format!(
        "{name:?} is not a name for the store's schema; allowed are 1 to 63 lower-case letters, digits and underscores, not a digit \
         first, and not a schema of the server itself"
    );
    Err(Error::invalid_argument(text).with_parameter("schema"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_silent_host_counts_as_lost_after_half_a_minute_unless_the_url_says_otherwise() {
        let limits = |parameters: &str| {
            let url = format!("postgresql://host/base?{parameters}");
            let config = with_limits(url::parse(&url).unwrap());
            (
                config.get_tcp_user_timeout().map(Duration::as_secs),
                config.get_keepalives_idle().as_secs(),
                config.get_keepalives_interval().map(|interval| interval.as_secs()),
                config.get_keepalives_retries(),
            )
        };
        assert_eq!(limits(""), (Some(30), 15, Some(5), Some(3)));
        assert_eq!(limits("tcp_user_timeout=7"), (Some(7), 15, Some(5), Some(3)));
        let of_driver = Config::new().get_keepalives_idle().as_secs();
        assert_eq!(limits("keepalives_interval=7"), (Some(30), of_driver, Some(7), None));
        assert_eq!(limits("keepalives_retries=9"), (Some(30), of_driver, None, Some(9)));
    }

    #[test]
    fn a_schemas_name_becomes_part_of_statements_so_only_plain_names_are_taken() {
        for name in ["a", "_", "a1", "data_pools", "pg", "select", &"x".repeat(63)] {
            check_schema(name).unwrap();
        }
        let long = "x".repeat(64);
        for name in
            ["", "1a", "A", "\u{e4}", "a b", "a\"b", "a;b", "a.b", "a-b", "pg_a", "information_schema", &long]
        {
            let error = check_schema(name).unwrap_err();
            assert_eq!(
                (error.kind(), error.parameter()),
                (ErrorKind::InvalidArgument, Some("schema")),
                "{error}"
            );
            assert!(error.to_string().contains("1 to 63 lower-case letters"), "{error}");
        }
    }
}
