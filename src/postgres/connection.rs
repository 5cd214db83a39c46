//! Connections to the server: one that statements run on, and the store's set of them.
//!
//! Owns: [`Connection`], with the statements that it has prepared, and [`Connections`]. Always holds: statements of one
//! [`run`](Connection::run) are sent together and executed in order; a connection that was lost, or on which a transaction may be
//! open, is not used again.
//!
//! One thread of the store moves the bytes of all connections. Callers park until their answer is there, so they may be on any
//! thread, also on one of an async runtime.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::future::maybe_done;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};

use super::tls::{Tls, TlsStream};
use crate::backend::waiting::Unpark;
use crate::error::{Error, ErrorKind, Result};

/// A connection keeps this many prepared statements. Those of listings have many forms.
const STATEMENTS_MAX: usize = 200;
/// Point statements are planned once for all values: planning one takes longer than executing it. Citus must know the pool to plan.
const SETTINGS: &str = "SELECT set_config('plan_cache_mode', CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE \
                        extname = 'citus') THEN 'force_custom_plan' ELSE 'force_generic_plan' END, false)";
/// The time within which a connection must be made, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After this time a call that waits for a lock no longer counts as using a connection; and the most calls for which that holds.
const LENT_AFTER: Duration = Duration::from_millis(100);
const LENT_MAX: usize = 24;

/// The messages of a connection, which somebody must handle.
pub(super) type Messages = tokio_postgres::Connection<tokio_postgres::Socket, TlsStream>;

/// The parameters of a statement.
pub(super) type Params = Vec<Box<dyn ToSql + Sync + Send>>;

/// A step of what is sent together. In its text `{s}` stands for the schema's name.
pub(super) enum Step {
    /// Statements without parameters, and without an answer.
    Command(Cow<'static, str>),
    Query(Cow<'static, str>, Params),
    /// A query that may have to wait for a lock.
    Lock(&'static str, Params),
}

/// The failure of a statement.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection is lost, or the server is not there.
    Lost(Error),
    /// The server has ended the transaction because of another one: it can be tried again.
    Again(Error),
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Lost(error) | Self::Again(error) | Self::Refused(error) => error,
        }
    }
}

/// Sorts an error of the driver.
fn failure(error: tokio_postgres::Error) -> Failure {
    let Some(reason) = error.as_db_error() else {
        let text = format!("the connection to the server failed: {}", causes(&error));
        let is_lost = error.is_closed() || has_io_cause(&error);
        let made = Error::storage(text).with_source(error);
        return if is_lost { Failure::Lost(made) } else { Failure::Refused(made) };
    };
    let code = reason.code().clone();
    let text = format!("the server refused: {} ({})", reason.message(), code.code());
    let class = code.code().get(..2).unwrap_or_default();
    let is_stale = is_stale(reason);
    let kind = match class {
        "53" if code == SqlState::DISK_FULL => ErrorKind::StorageFull,
        "XX" => ErrorKind::Corrupt,
        _ if code == SqlState::READ_ONLY_SQL_TRANSACTION => ErrorKind::ReadOnly,
        _ => ErrorKind::Storage,
    };
    let made = Error::new(kind, text).with_source(error);
    match class {
        // Serialization failures and deadlocks; a name that another session took first, which the next attempt sees; and a
        // statement that must be prepared again: it was sent already, so that is left to the next attempt, too.
        "40" => Failure::Again(made),
        _ if is_stale => Failure::Again(made),
        _ if code == SqlState::UNIQUE_VIOLATION => Failure::Again(made),
        // Exceptions of connections, too many of them, and the server's operators.
        "08" | "57" => Failure::Lost(made),
        _ if code == SqlState::TOO_MANY_CONNECTIONS
            || code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT =>
        {
            Failure::Lost(made)
        }
        _ => Failure::Refused(made),
    }
}

/// Returns true if a statement was prepared for tables that have changed since, or is unknown: poolers change servers.
fn is_stale(reason: &DbError) -> bool {
    let code = reason.code();
    *code == SqlState::INVALID_SQL_STATEMENT_NAME
        || *code == SqlState::DUPLICATE_PSTATEMENT
        || *code == SqlState::FEATURE_NOT_SUPPORTED && reason.routine() == Some("RevalidateCachedQuery")
}

fn has_io_cause(error: &dyn StdError) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// Returns an error with its causes, down to the system's own reason.
fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Waits for a future on this thread.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = wait_for(future.as_mut(), Duration::MAX) {
            return output;
        }
    }
}

/// Waits for a future on this thread. Returns `None` if it is not ready in time.
fn wait_for<F: Future>(future: F, time: Duration) -> Option<F::Output> {
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
    let began = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match time.saturating_sub(began.elapsed()) {
            Duration::ZERO => return None,
            left => thread::park_timeout(left),
        }
    }
}

/// Returns the time that is left.
fn left(until: Option<Instant>) -> Duration {
    until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
}

fn late() -> Failure {
    Failure::Lost(Error::storage("the server did not answer in time"))
}

/// One connection.
pub(super) struct Connection {
    client: Client,
    schema: Arc<str>,
    places: Arc<Places>,
    statements: HashMap<Cow<'static, str>, Statement>,
    /// The time by which the server must answer.
    until: Option<Instant>,
    /// True if it must not be used again.
    is_spent: bool,
}

impl Connection {
    /// Sets the time by which the server must answer. Otherwise the connection counts as lost.
    pub(super) fn answer_by(&mut self, until: Option<Instant>) {
        self.until = until;
    }

    /// Returns the schema's name, quoted where that is needed.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns a text with the schema's name in it.
    pub(super) fn named(&self, text: &str) -> String {
        text.replace("{s}", &self.schema)
    }

    /// Sends steps together, and returns the rows of each. After a failure in a transaction, the steps after it fail, too.
    pub(super) fn run(&mut self, steps: Vec<Step>) -> Result<Vec<Vec<Row>>, Failure> {
        let may_wait = steps.iter().any(|step| matches!(step, Step::Lock(..)));
        let (places, until) = (Arc::clone(&self.places), self.until);
        let ran = {
            let mut running = pin!(self.run_steps(steps));
            let soon = if may_wait { LENT_AFTER.min(left(until)) } else { left(until) };
            wait_for(running.as_mut(), soon).or_else(|| {
                let _lent = places.lend();
                wait_for(running, left(until))
            })
        };
        if let Some(ran) = ran {
            return ran.map_err(|error| self.failed(error));
        }
        self.is_spent = true;
        Err(late())
    }

    pub(super) fn query(
        &mut self,
        text: impl Into<Cow<'static, str>>,
        params: Params,
    ) -> Result<Vec<Row>, Failure> {
        Ok(self.run(vec![Step::Query(text.into(), params)])?.pop().unwrap_or_default())
    }

    pub(super) fn command(&mut self, text: &'static str) -> Result<(), Failure> {
        self.run(vec![Step::Command(text.into())]).map(drop)
    }

    /// Marks the connection if it was lost, and sorts the error.
    pub(super) fn failed(&mut self, error: tokio_postgres::Error) -> Failure {
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
    pub(super) fn in_transaction<T>(
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
    pub(super) fn roll_back(&mut self) {
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

/// A step that is ready to be sent.
enum Prepared {
    Command(String),
    Query(Statement, Params),
}

impl Prepared {
    async fn send(self, client: &Client) -> Result<Vec<Row>, tokio_postgres::Error> {
        match self {
            Self::Command(text) => client.batch_execute(&text).await.map(|()| Vec::new()),
            Self::Query(statement, params) => {
                let params: Vec<&(dyn ToSql + Sync)> =
                    params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
                client.query(&statement, &params).await
            }
        }
    }
}

/// The thread that moves the bytes of a store's connections.
struct Io {
    handle: Handle,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Io {
    fn start() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::storage(format!("starting the thread of the connections: {error}")).with_source(error)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), oneshot::channel::<()>());
        let run = move || {
            // The sender is never used: it is dropped.
            let _ = runtime.block_on(stopped);
            // Looking up a name may take long.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("datapool-io".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }
}

/// The connections of a store.
pub(super) struct Connections {
    config: Config,
    tls: Tls,
    schema: Arc<str>,
    places: Arc<Places>,
    io: Io,
}

/// The connections that calls use. Snapshots have others.
struct Places {
    /// The most that are in use at a time, not counting calls that wait for a lock.
    most: usize,
    free: Mutex<Free>,
    returned: Condvar,
}

#[derive(Default)]
struct Free {
    connections: Vec<Connection>,
    /// The number of those that are free or in use.
    open: usize,
    /// The number of those whose calls wait for a lock.
    lent: usize,
    closed: bool,
}

impl Places {
    /// Lets another call use a connection while one waits for a lock: that other call may be on a pool that nobody has locked.
    fn lend(self: &Arc<Self>) -> Option<Lent> {
        let mut free = self.free.lock();
        if free.lent >= LENT_MAX {
            return None;
        }
        free.lent += 1;
        drop(free);
        self.returned.notify_one();
        Some(Lent(Arc::clone(self)))
    }

    fn may_open(&self, free: &Free) -> bool {
        free.open < self.most + free.lent
    }
}

/// The place of a call that waits for a lock.
struct Lent(Arc<Places>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.free.lock().lent -= 1;
    }
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(config: Config, tls: Tls, schema: &str, most: usize) -> Result<Self> {
        let places = Places { most, free: Mutex::default(), returned: Condvar::new() };
        Ok(Self { config, tls, schema: schema.into(), places: Arc::new(places), io: Io::start()? })
    }

    /// Makes a connection.
    pub(super) fn connect(&self) -> Result<Connection, Failure> {
        self.connect_until(None)
    }

    fn connect_until(&self, until: Option<Instant>) -> Result<Connection, Failure> {
        // It ends when the client is dropped, or with an error that the client reports.
        self.connect_with(until, |connection| async move { _ = connection.await })
    }

    /// Makes a connection whose messages are handled by `handle`.
    pub(super) fn connect_with<F: Future<Output = ()> + Send + 'static>(
        &self,
        until: Option<Instant>,
        handle: impl FnOnce(Messages) -> F + Send + 'static,
    ) -> Result<Connection, Failure> {
        let (config, tls) = (self.config.clone(), self.tls.clone());
        let limit = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let limit = limit.min(left(until));
        let connecting = async move {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(handle(connection));
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        let connecting = self.io.handle.spawn(async move { tokio::time::timeout(limit, connecting).await });
        match wait(connecting) {
            Ok(Ok(Ok(client))) => Ok(Connection {
                client,
                schema: Arc::clone(&self.schema),
                places: Arc::clone(&self.places),
                statements: HashMap::new(),
                until,
                is_spent: false,
            }),
            Ok(Ok(Err(error))) => Err(failure(error)),
            Ok(Err(_)) => Err(late()),
            Err(_) => Err(Failure::Lost(Error::closed())),
        }
    }

    /// Runs work on a connection, exclusively.
    ///
    /// # Errors
    ///
    /// `Closed`; the errors of the work.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.with_until(None, work)
    }

    /// Like [`with`](Self::with), for work that the server must answer in time.
    pub(super) fn with_until<T>(
        &self,
        until: Option<Instant>,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut connection = match self.take(until)? {
            Some(connection) => connection,
            None => self.connect_until(until).inspect_err(|_| self.give_up())?,
        };
        connection.answer_by(until);
        let done = work(&mut connection);
        connection.answer_by(None);
        if matches!(done, Err(Failure::Lost(_))) {
            // The server has probably ended the others, too.
            self.drop_free();
        }
        self.give_back(connection);
        done
    }

    /// Takes a free connection, or the right to make one (`None`).
    fn take(&self, until: Option<Instant>) -> Result<Option<Connection>, Failure> {
        let mut free = self.places.free.lock();
        loop {
            if free.closed {
                return Err(Error::closed().into());
            }
            if let Some(connection) = free.connections.pop() {
                return Ok(Some(connection));
            }
            if self.places.may_open(&free) {
                free.open += 1;
                return Ok(None);
            }
            match until {
                None => self.places.returned.wait(&mut free),
                Some(until) if self.places.returned.wait_until(&mut free, until).timed_out() => {
                    return Err(late());
                }
                Some(_) => {}
            }
        }
    }

    fn give_up(&self) {
        self.places.free.lock().open -= 1;
        self.places.returned.notify_one();
    }

    fn give_back(&self, connection: Connection) {
        let mut free = self.places.free.lock();
        let is_one_too_many = free.open > self.places.most + free.lent;
        if connection.is_spent || free.closed || is_one_too_many {
            free.open -= 1;
            drop(free);
            drop(connection);
        } else {
            free.connections.push(connection);
            drop(free);
        }
        self.places.returned.notify_one();
    }

    fn drop_free(&self) {
        let mut free = self.places.free.lock();
        free.open -= free.connections.len();
        let dropped = std::mem::take(&mut free.connections);
        drop(free);
        drop(dropped);
        self.places.returned.notify_all();
    }

    /// Closes the connections that are free, and the others when they are returned.
    pub(super) fn close(&self) {
        self.places.free.lock().closed = true;
        self.drop_free();
    }

    /// Goes on with new connections, whether they were closed or not.
    pub(super) fn reopen(&self) {
        self.places.free.lock().closed = false;
        self.drop_free();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.places.free.lock().closed
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.drop_free();
        drop(self.io.stop.take());
        if let Some(thread) = self.io.thread.take() {
            // It can only have panicked because of a bug, and the panic has printed its own message.
            let _ = thread.join();
        }
    }
}

/// The bounds within which a call is tried again.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
    conflicts: u32,
}

/// The number of conflicts after which a transaction is not tried again.
const CONFLICTS_MAX: u32 = 20;

impl Patience {
    pub(super) fn new(retry_for: Duration) -> Self {
        Self { until: Instant::now() + retry_for, pause: Duration::from_millis(5), conflicts: 0 }
    }

    /// Waits before the next attempt. Returns the error if there is none.
    pub(super) fn next(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::Refused(error) => return Err(error),
            Failure::Again(error) if self.conflicts >= CONFLICTS_MAX => return Err(error),
            Failure::Again(_) => self.conflicts += 1,
            Failure::Lost(error) if error.kind() == ErrorKind::Closed || Instant::now() >= self.until => {
                return Err(error);
            }
            Failure::Lost(_) => {}
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(250));
        Ok(())
    }
}
