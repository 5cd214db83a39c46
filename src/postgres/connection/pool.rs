//! The connections of a store.
//!
//! Owns: [`Connections`]. Always holds: each call has its connection to itself; after one was lost, the free ones are dropped, too.
//! Must not know: what calls do.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Config;

use super::failure::Failure;
use super::places::Places;
use super::reactor::Reactor;
use super::server::{Messages, Server};
use super::session::Connection;
use crate::error::Result;
use crate::postgres::tls::Tls;

/// The connections of a store.
pub(crate) struct Connections {
    server: Arc<Server>,
    schema: Arc<str>,
    places: Arc<Places<Connection>>,
    /// Dropped last: connections end on it.
    _reactor: Reactor,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Connections {
    pub(crate) fn new(config: Config, tls: Tls, schema: &str, most: usize) -> Result<Self> {
        let reactor = Reactor::start()?;
        let server = Arc::new(Server::new(config, tls, reactor.spawner()));
        Ok(Self { server, schema: schema.into(), places: Arc::new(Places::new(most)), _reactor: reactor })
    }

    /// Makes a connection.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        self.connect_until(None)
    }

    fn connect_until(&self, until: Option<Instant>) -> Result<Connection, Failure> {
        // It ends when the client is dropped, or with an error that the client reports.
        self.connect_with(until, |connection| async move { _ = connection.await })
    }

    /// Makes a connection whose messages are handled by `handle`.
    pub(crate) fn connect_with<F: Future<Output = ()> + Send + 'static>(
        &self,
        until: Option<Instant>,
        handle: impl FnOnce(Messages) -> F + Send + 'static,
    ) -> Result<Connection, Failure> {
        let client = self.server.connect(until, handle)?;
        let mut connection = Connection::new(
            client,
            Arc::clone(&self.server),
            Arc::clone(&self.schema),
            Arc::clone(&self.places),
        );
        connection.answer_by(until);
        Ok(connection)
    }

    /// Runs work on a connection, exclusively.
    ///
    /// # Errors
    ///
    /// `Closed`; the errors of the work.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_until(None, work)
    }

    /// Like [`with`](Self::with), for work that the server must answer in time.
    pub(crate) fn with_until<T>(
        &self,
        until: Option<Instant>,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut connection = match self.places.take(until)? {
            Some(connection) => connection,
            None => self.connect_until(until).inspect_err(|_| self.places.give_up())?,
        };
        connection.answer_by(until);
        let done = work(&mut connection);
        connection.answer_by(None);
        if matches!(done, Err(Failure::Lost(_))) {
            // The server has probably ended the others, too.
            self.places.drop_free();
        }
        self.give_back(connection);
        done
    }

    fn give_back(&self, connection: Connection) {
        if connection.is_spent() {
            drop(connection);
            self.places.give_up();
        } else {
            self.places.give_back(connection);
        }
    }

    /// Closes the connections that are free, and the others when they are returned.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    /// Goes on with new connections, whether they were closed or not.
    pub(crate) fn reopen(&self) {
        self.places.reopen();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.places.drop_free();
    }
}
