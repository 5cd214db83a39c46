//! Registered entity types, flows, flow runs and flow steps.
//!
//! Owns: the table `registered`. Always holds: changes are made under the catalogue's lock, each executed once. Must not know:
//! records.

use tokio_postgres::Row;

use super::connection::{Connection, Failure, Params};
use super::head::CATALOGUE;
use super::store::Postgres;
use super::transaction::{Commit, Outcome};
use super::values::{Columns, bigint};
use crate::error::Result;
use crate::model::{RegisteredEntry, RegisteredKind};
use crate::time::Timestamp;

/// Returns the number of a kind in the tables. It must never change.
fn number(kind: RegisteredKind) -> i64 {
    match kind {
        RegisteredKind::EntityType => 1,
        RegisteredKind::Flow => 2,
        RegisteredKind::FlowRun => 3,
        RegisteredKind::FlowStep => 4,
    }
}

fn entry_of(row: &Row) -> Result<RegisteredEntry> {
    Ok(RegisteredEntry {
        key: row.read("key")?,
        name: row.text("name")?,
        attributes: row.text("attributes")?,
    })
}

/// Reads the entries of some keys.
pub(super) fn entries(
    connection: &mut Connection,
    kind: RegisteredKind,
    keys: Vec<Vec<u8>>,
) -> Result<Vec<RegisteredEntry>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let select = "SELECT key, name, attributes FROM {s}.registered WHERE kind = $1 AND key = ANY($2)";
    let rows = connection.query(select, vec![Box::new(number(kind)), Box::new(keys)])?;
    Ok(rows.iter().map(entry_of).collect::<Result<_>>()?)
}

impl Postgres {
    pub(super) fn register(&self, kind: RegisteredKind, entries: Vec<RegisteredEntry>) -> Result<()> {
        self.check_writable()?;
        // The last of several entries with one key is kept.
        let mut by_key = std::collections::BTreeMap::new();
        for entry in entries {
            by_key.insert(entry.key, (entry.name.into_bytes(), entry.attributes.into_bytes()));
        }
        let (keys, rest): (Vec<_>, Vec<_>) = by_key.into_iter().unzip();
        let (names, attributes): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
        if keys.is_empty() {
            return Ok(());
        }
        let put = "INSERT INTO {s}.registered (kind, key, name, attributes, at) SELECT $1::bigint, u.*, \
                   coalesce($5::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) \
                   FROM unnest($2::bytea[], $3::bytea[], $4::bytea[]) AS u ON CONFLICT (kind, key) DO UPDATE SET \
                   name = excluded.name, attributes = excluded.attributes, at = excluded.at";
        self.change_registered(put, || {
            vec![
                Box::new(number(kind)),
                Box::new(keys.clone()),
                Box::new(names.clone()),
                Box::new(attributes.clone()),
                Box::new(self.manual_now().map(Timestamp::as_micros)),
            ]
        })
        .map(drop)
    }

    /// Executes a statement once. Returns the number of rows in its answer.
    fn change_registered(&self, statement: &'static str, params: impl Fn() -> Params) -> Result<u64> {
        self.execute_once(CATALOGUE, |connection| {
            self.lock_catalogue(connection)?;
            let answer = connection.query(statement, params())?.len() as u64;
            Ok(Outcome { answer, commit: Commit::new(Vec::new(), || {}) })
        })
    }

    pub(super) fn forget_registered(&self, kind: RegisteredKind, key: &[u8]) -> Result<bool> {
        self.check_writable()?;
        let delete = "DELETE FROM {s}.registered WHERE kind = $1 AND key = $2 RETURNING key";
        let params = || -> Params { vec![Box::new(number(kind)), Box::new(key.to_vec())] };
        Ok(self.change_registered(delete, params)? > 0)
    }

    pub(super) fn forget_registered_before(&self, kind: RegisteredKind, time: Timestamp) -> Result<u64> {
        self.check_writable()?;
        let delete = "DELETE FROM {s}.registered WHERE kind = $1 AND at < $2 RETURNING key";
        self.change_registered(delete, || vec![Box::new(number(kind)), Box::new(time.as_micros())])
    }

    pub(super) fn read_registered(
        &self,
        kind: RegisteredKind,
        key: &[u8],
    ) -> Result<Option<RegisteredEntry>> {
        Ok(self.read(|connection| entries(connection, kind, vec![key.to_vec()]))?.pop())
    }

    pub(super) fn read_registered_after(
        &self,
        kind: RegisteredKind,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RegisteredEntry>> {
        let select = "SELECT key, name, attributes FROM {s}.registered WHERE kind = $1 AND ($2::bytea IS NULL OR key > $2) \
                      ORDER BY key LIMIT $3";
        let rows = self.read(|connection| {
            let params: Params = vec![
                Box::new(number(kind)),
                Box::new(after.map(<[u8]>::to_vec)),
                Box::new(bigint(limit as u64)),
            ];
            connection.query(select, params)
        })?;
        rows.iter().map(entry_of).collect()
    }
}
