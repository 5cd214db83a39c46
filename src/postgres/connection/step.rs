//! Steps: the statements that are sent together.
//!
//! Must not know: the connection that sends them.

use std::borrow::Cow;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// The parameters of a statement.
pub(crate) type Params = Vec<Box<dyn ToSql + Sync + Send>>;

/// A step of what is sent together. In its text `{s}` stands for the schema's name.
pub(crate) enum Step {
    /// Statements without parameters, and without an answer.
    Command(Cow<'static, str>),
    Query(Cow<'static, str>, Params),
    /// A query that may have to wait for a lock.
    Lock(&'static str, Params),
}

/// A step that is ready to be sent.
pub(super) enum Prepared {
    Command(String),
    Query(Statement, Params),
}

impl Prepared {
    pub(super) async fn send(self, client: &Client) -> Result<Vec<Row>, tokio_postgres::Error> {
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
