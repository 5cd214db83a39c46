//! One connection, which statements run on.
//!
//! Owns: [`Connection`], with the statements that it has prepared. Always holds: statements of one [`run`](Connection::run) are
//! sent together and executed in order; a connection that was lost, or on which a transaction may be open, is not used again.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::maybe_done;
use tokio_postgres::{Client, Row, Statement};

use super::deadline::{left, wait_for};
use super::failure::{Failure, failure, is_stale, late};
use super::places::Places;
use super::server::Server;
use super::step::{Params, Prepared, Step};

/// The most prepared statements that a connection keeps. Listings have many forms of statements.
const STATEMENTS_MAX: usize = 200;

/// After this time a call that waits for a lock no longer counts as using a connection.
const LENT_AFTER: Duration = Duration::from_millis(100);

/// One connection.
pub(crate) struct Connection {
    client: Client,
    server: Arc<Server>,
    schema: Arc<str>,
    places: Arc<Places<Connection>>,
    statements: HashMap<Cow<'static, str>, Statement>,
    /// The time by which the server must answer.
    until: Option<Instant>,
    /// True if it must not be used again.
    is_spent: bool,
}

impl Connection {
    pub(super) fn new(
        client: Client,
        server: Arc<Server>,
        schema: Arc<str>,
        places: Arc<Places<Self>>,
    ) -> Self {
        Self { client, server, schema, places, statements: HashMap::new(), until: None, is_spent: false }
    }

    /// Returns true if it must not be used again.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Sets the time by which the server must answer. Otherwise the connection counts as lost.
    pub(crate) fn answer_by(&mut self, until: Option<Instant>) {
        self.until = until;
    }

    /// Returns the schema's name.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Returns the server, which waits for answers to what is sent by [`client`](Self::client).
    pub(crate) fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a text with the schema's name in it, quoted, because it may be a reserved word.
    pub(crate) fn named(&self, text: &str) -> String {
        text.replace("{s}", &format!("\"{}\"", self.schema))
    }

    /// Sends steps together, and returns the rows of each. After a failure in a transaction, the steps after it fail, too.
    pub(crate) fn run(&mut self, steps: Vec<Step>) -> Result<Vec<Vec<Row>>, Failure> {
        let may_wait = steps.iter().any(|step| matches!(step, Step::Lock(..)));
        let (places, server, until) = (Arc::clone(&self.places), Arc::clone(&self.server), self.until);
        let ran = {
            let mut running = pin!(self.run_steps(steps));
            if may_wait {
                wait_for(running.as_mut(), LENT_AFTER.min(left(until))).or_else(|| {
                    let _lent = places.lend();
                    server.answer(running, until)
                })
            } else {
                server.answer(running, until)
            }
        };
        match ran {
            Some(ran) => ran.map_err(|error| self.failed(error)),
            None => Err(self.silent()),
        }
    }

    /// Marks the connection as lost, because the server did not answer.
    pub(crate) fn silent(&mut self) -> Failure {
        self.is_spent = true;
        late()
    }

    pub(crate) fn query(
        &mut self,
        text: impl Into<Cow<'static, str>>,
        params: Params,
    ) -> Result<Vec<Row>, Failure> {
        Ok(self.run(vec![Step::Query(text.into(), params)])?.pop().unwrap_or_default())
    }

    pub(crate) fn command(&mut self, text: &'static str) -> Result<(), Failure> {
        self.run(vec![Step::Command(text.into())]).map(drop)
    }

    /// Marks the connection if it was lost, and sorts the error.
    pub(crate) fn failed(&mut self, error: tokio_postgres::Error) -> Failure {
        if error.as_db_error().is_some_and(is_stale) {
            self.statements.clear();
        }
        let failure = failure(error);
        if matches!(failure, Failure::Lost(_)) || self.client.is_closed() {
            self.is_spent = true;
        }
        failure
    }

    /// Runs work in a transaction that commits if it succeeds.
    pub(crate) fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.command("BEGIN ISOLATION LEVEL READ COMMITTED")?;
        match work(self) {
            Ok(done) => self.command("COMMIT").map(|()| done),
            Err(failure) => {
                self.roll_back();
                Err(failure)
            }
        }
    }

    /// Ends a transaction that failed.
    pub(crate) fn roll_back(&mut self) {
        if !self.is_spent && self.command("ROLLBACK").is_err() {
            self.is_spent = true;
        }
    }

    async fn run_steps(&mut self, steps: Vec<Step>) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
        // All are prepared before the first one is sent: one that is prepared in between would be executed after those that follow
        // it, and so perhaps after COMMIT.
        let mut prepared = Vec::with_capacity(steps.len());
        for step in steps {
            prepared.push(match step {
                Step::Command(text) => Prepared::Command(self.named(&text)),
                Step::Query(text, params) => Prepared::Query(self.prepare(text).await?, params),
                Step::Lock(text, params) => Prepared::Query(self.prepare(text.into()).await?, params),
            });
        }
        let client = &self.client;
        let mut sent: Vec<_> =
            prepared.into_iter().map(|step| Box::pin(maybe_done(step.send(client)))).collect();
        // The first poll sends a step. After one that cannot be sent, no other is.
        poll_fn(|context| {
            for step in &mut sent {
                _ = step.as_mut().poll(context);
                if matches!(step.as_mut().output_mut(), Some(Err(_))) {
                    break;
                }
            }
            Poll::Ready(())
        })
        .await;
        // In order, so that the first failure is returned, and not what it does to the steps after it.
        let mut answers = Vec::with_capacity(sent.len());
        for mut step in sent {
            step.as_mut().await;
            answers.extend(step.as_mut().take_output().transpose()?);
        }
        Ok(answers)
    }

    async fn prepare(&mut self, text: Cow<'static, str>) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(&text) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        let statement = self.client.prepare(&self.named(&text)).await?;
        self.statements.insert(text, statement.clone());
        Ok(statement)
    }
}
