//! The tables of a store, and the migrations that make them.
//!
//! Always holds: every table but the catalogue's has the pool first in its key, so that on Citus a pool lies on one shard. Tables
//! are changed only by migrations, in one transaction, under an advisory lock. Must not know: what the tables are used for.

use std::fmt::Write as _;

use super::connection::{Connection, Failure, Step};
use super::values::{Bits, Columns};
use crate::error::{Error, ErrorKind, Result};
use crate::random::random_bytes;

/// The version of the tables below. A store with a later one is refused.
pub(super) const VERSION: u32 = 1;

/// The migrations, in order. `{s}` stands for the schema's name.
const MIGRATIONS: [&str; 1] = [r"
CREATE TABLE {s}.meta (name text PRIMARY KEY, bits uuid, number bigint);
CREATE TABLE {s}.catalogue (
    id bigint PRIMARY KEY,
    name bytea NOT NULL UNIQUE,
    description bytea,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    retention bigint,
    capacity bigint,
    made_by uuid NOT NULL
);
CREATE TABLE {s}.head (
    pool bigint PRIMARY KEY,
    next_id bigint NOT NULL DEFAULT 1,
    watermark bigint NOT NULL DEFAULT 1,
    reclaimed bigint NOT NULL DEFAULT 1,
    live bigint NOT NULL DEFAULT 0,
    last_time bigint NOT NULL,
    next_claim bigint NOT NULL DEFAULT 1,
    fence bigint NOT NULL DEFAULT 0,
    retention bigint,
    capacity bigint
) WITH (fillfactor = 50);
CREATE TABLE {s}.record (
    pool bigint NOT NULL,
    id bigint NOT NULL,
    fingerprint uuid NOT NULL,
    entity_type bigint NOT NULL,
    value bytea NOT NULL,
    flow bytea,
    run bytea,
    step bytea,
    created_at bigint NOT NULL,
    content uuid,
    ordinal bigint,
    PRIMARY KEY (pool, id)
);
CREATE INDEX record_fingerprint ON {s}.record (pool, fingerprint, id);
CREATE INDEX record_entity_type ON {s}.record (pool, entity_type, id);
CREATE INDEX record_flow ON {s}.record (pool, flow, id) WHERE flow IS NOT NULL;
CREATE INDEX record_run ON {s}.record (pool, run, id) WHERE run IS NOT NULL;
CREATE INDEX record_step ON {s}.record (pool, step, id) WHERE step IS NOT NULL;
CREATE TABLE {s}.result (
    pool bigint NOT NULL,
    record bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (pool, record)
);
CREATE TABLE {s}.claim (
    pool bigint NOT NULL,
    id bigint NOT NULL,
    nonce uuid NOT NULL,
    owner bytea,
    flow bytea,
    run bytea,
    step bytea,
    since bigint NOT NULL,
    until bigint NOT NULL,
    lease bigint NOT NULL,
    fence bigint NOT NULL,
    items bigint NOT NULL,
    open bigint NOT NULL,
    PRIMARY KEY (pool, id)
);
CREATE INDEX claim_owner ON {s}.claim (pool, owner) WHERE owner IS NOT NULL;
CREATE INDEX claim_until ON {s}.claim (pool, until);
CREATE TABLE {s}.claim_item (
    pool bigint NOT NULL,
    claim bigint NOT NULL,
    item bigint NOT NULL,
    fingerprint uuid NOT NULL,
    entity_type bigint NOT NULL,
    value bytea NOT NULL,
    content uuid,
    ordinal bigint,
    seen bigint NOT NULL,
    settled boolean NOT NULL DEFAULT false,
    owned boolean NOT NULL DEFAULT true,
    PRIMARY KEY (pool, claim, item)
);
CREATE UNIQUE INDEX claim_item_owned ON {s}.claim_item (pool, fingerprint) WHERE owned;
CREATE TABLE {s}.executed (
    pool bigint NOT NULL,
    session uuid NOT NULL,
    call bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (pool, session)
) WITH (fillfactor = 50);
CREATE TABLE {s}.listener (session uuid PRIMARY KEY, until bigint NOT NULL);
CREATE TABLE {s}.registered (
    kind bigint NOT NULL,
    key bytea NOT NULL,
    name bytea NOT NULL,
    attributes bytea NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (kind, key)
);
"];

/// The tables that Citus distributes by pool, colocated with the first of them; and those that each node has a copy of.
const DISTRIBUTED: [&str; 6] = ["head", "record", "result", "claim", "claim_item", "executed"];
const COPIED: [&str; 4] = ["meta", "catalogue", "registered", "listener"];

/// The identity of a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) store_id: u128,
    pub(super) hash_key: [u8; 16],
}

/// The reaction to a database without a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create { hash_key: Option<[u8; 16]> },
    Fail,
}

const VERSION_OF: &str = "SELECT number FROM {s}.meta WHERE name = 'version'";
/// Reads the system's tables, and so sees what others made while this transaction waited. `to_regclass` may answer from a cache.
const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                      WHERE n.nspname = $1 AND c.relname = 'meta') AS exists";

/// Opens the store in a schema. Creates or migrates its tables if `missing` says so.
///
/// # Errors
///
/// `NotFound` if there is none and it must exist; `UnsupportedFormat` if it is of a later version.
pub(super) fn open(connection: &mut Connection, missing: Missing) -> Result<Meta, Failure> {
    let exists = |connection: &mut Connection| -> Result<bool, Failure> {
        let schema = connection.schema().to_owned();
        let rows = connection.query(EXISTS, vec![Box::new(schema)])?;
        Ok(rows.first().map(|row| row.read("exists")).transpose()?.unwrap_or(false))
    };
    let version = |connection: &mut Connection| -> Result<u32, Failure> {
        let rows = connection.query(VERSION_OF, Vec::new())?;
        let version: i64 = rows.first().map(|row| row.read("number")).transpose()?.unwrap_or(0);
        Ok(u32::try_from(version).unwrap_or(u32::MAX))
    };
    if exists(connection)? && version(connection)? == VERSION {
        return meta(connection);
    }
    let Missing::Create { hash_key } = missing else {
        if exists(connection)? {
            check_version(version(connection)?)?;
            return meta(connection);
        }
        let text = format!("there is no store in the schema {}", connection.schema());
        return Err(Error::not_found(text).into());
    };
    connection.in_transaction(|connection| {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('datapool-store ' || $1, 0))::text AS locked";
        let schema = connection.schema().to_owned();
        connection.query(lock, vec![Box::new(schema)])?;
        let found = if exists(connection)? { version(connection)? } else { 0 };
        check_version(found)?;
        if found == 0 && !has_schema(connection)? {
            connection.command("CREATE SCHEMA {s}")?;
        }
        for migration in MIGRATIONS.iter().skip(found as usize) {
            connection.command(migration)?;
        }
        if found == 0 {
            distribute(connection)?;
            let key = hash_key.map_or_else(random_bytes, Ok)?;
            let put = "INSERT INTO {s}.meta (name, bits, number) VALUES ('store id', $1, NULL), ('hash key', $2, NULL), \
                       ('next pool', NULL, 1), ('version', NULL, 0)";
            let (id, key) = (u128::from_be_bytes(random_bytes()?), u128::from_be_bytes(key));
            connection.query(put, vec![Box::new(Bits(id)), Box::new(Bits(key))])?;
        }
        let raise = "UPDATE {s}.meta SET number = $1 WHERE name = 'version'";
        connection.query(raise, vec![Box::new(i64::from(VERSION))])?;
        Ok(())
    })?;
    meta(connection)
}

/// Returns true if the schema is there. Creating one needs rights in the database even then.
fn has_schema(connection: &mut Connection) -> Result<bool, Failure> {
    let schema = connection.schema().to_owned();
    let found = "SELECT 1 AS found FROM pg_namespace WHERE nspname = $1";
    Ok(!connection.query(found, vec![Box::new(schema)])?.is_empty())
}

fn check_version(found: u32) -> Result<()> {
    if found <= VERSION {
        return Ok(());
    }
    let text =
        format!("the store's tables are of version {found}; this program reads versions up to {VERSION}");
    Err(Error::new(ErrorKind::UnsupportedFormat { found, supported: VERSION }, text))
}

fn meta(connection: &mut Connection) -> Result<Meta, Failure> {
    let (mut store_id, mut hash_key) = (None, None);
    for row in connection.query("SELECT name, bits FROM {s}.meta WHERE bits IS NOT NULL", Vec::new())? {
        let Bits(bits) = row.read("bits")?;
        match row.read("name")? {
            "store id" => store_id = Some(bits),
            "hash key" => hash_key = Some(bits.to_be_bytes()),
            _ => {}
        }
    }
    match (store_id, hash_key) {
        (Some(store_id), Some(hash_key)) => Ok(Meta { store_id, hash_key }),
        _ => Err(Error::corrupt("the store's table meta has no store id or no hash key").into()),
    }
}

/// Distributes the tables, if the database has Citus.
fn distribute(connection: &mut Connection) -> Result<(), Failure> {
    let citus = "SELECT 1 AS found FROM pg_extension WHERE extname = 'citus'";
    if connection.query(citus, Vec::new())?.is_empty() {
        return Ok(());
    }
    let mut commands = String::new();
    for table in COPIED {
        _ = writeln!(commands, "SELECT create_reference_table('{{s}}.{table}');");
    }
    let first = DISTRIBUTED[0];
    for table in DISTRIBUTED {
        let beside = if table == first { "none".to_owned() } else { format!("{{s}}.{first}") };
        _ = writeln!(
            commands,
            "SELECT create_distributed_table('{{s}}.{table}', 'pool', colocate_with => '{beside}');"
        );
    }
    connection.run(vec![Step::Command(commands.into())]).map(drop)
}
