//! Rows of models as bytes. This is the only module that knows bincode.
//!
//! Layout of every row: one tag byte, then bincode 2 in its standard configuration. The tag is 1, or 2 for a
//! pool's row with a policy. With the tag, another codec can replace this one later. Always holds: decoding
//! is limited in bytes, consumes every byte, and turns damage into an error, never into a panic or a huge
//! allocation.

use std::time::Duration;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::engine::format::schema::{SegmentNumber, TableNumber};
use crate::error::{Error, Result};
use crate::ids::{FlowId, FlowRunId, FlowStepId, PoolId, RecordNumber};
use crate::model::{DataPool, Origin, Policy, RegisteredEntry};
use crate::time::Timestamp;

const TAG_BINCODE: u8 = 1;
/// The tag of a pool's row that ends with its retention and capacity.
const TAG_POOL_WITH_POLICY: u8 = 2;

/// The largest row that is decoded, in bytes. The largest real row is the head of a pool with 2^20 segments.
const ROW_MAX_BYTES: usize = 64 << 20;

fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>> {
    encode_tagged(TAG_BINCODE, row)
}

fn encode_tagged<T: Serialize>(tag: u8, row: &T) -> Result<Vec<u8>> {
    let mut bytes = bincode::serde::encode_to_vec(row, bincode::config::standard())
        .map_err(|error| Error::storage(format!("a row cannot be encoded: {error}")).with_source(error))?;
    bytes.insert(0, tag);
    Ok(bytes)
}

fn decode<'row, T: Deserialize<'row>>(what: &str, bytes: &'row [u8]) -> Result<T> {
    match bytes.split_first() {
        Some((&TAG_BINCODE, body)) => decode_body(what, body),
        Some((tag, _)) => Err(Error::corrupt(format!("{what}: unknown row tag {tag}"))),
        None => Err(Error::corrupt(format!("{what}: the row is empty"))),
    }
}

fn decode_body<'row, T: Deserialize<'row>>(what: &str, body: &'row [u8]) -> Result<T> {
    let config = bincode::config::standard().with_limit::<ROW_MAX_BYTES>();
    let (row, used) = bincode::serde::borrow_decode_from_slice(body, config)
        .map_err(|error| Error::corrupt(format!("{what}: {error}")).with_source(error))?;
    if used != body.len() {
        return Err(Error::corrupt(format!("{what}: {} bytes too many", body.len() - used)));
    }
    Ok(row)
}

#[derive(Serialize, Deserialize)]
struct PoolRow {
    name: String,
    description: Option<String>,
    created_at: i64,
    updated_at: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct PolicyRow {
    retention_micros: Option<u64>,
    capacity: Option<u64>,
}

pub(crate) fn encode_pool(pool: &DataPool) -> Result<Vec<u8>> {
    let row = PoolRow {
        name: pool.name.clone(),
        description: pool.description.clone(),
        created_at: pool.created_at.as_micros(),
        updated_at: pool.updated_at.as_micros(),
    };
    if pool.policy() == Policy::default() {
        return encode(&row);
    }
    let micros = |retention: Duration| u64::try_from(retention.as_micros()).unwrap_or(u64::MAX);
    let policy = PolicyRow { retention_micros: pool.retention.map(micros), capacity: pool.capacity };
    encode_tagged(TAG_POOL_WITH_POLICY, &(row, policy))
}

pub(crate) fn decode_pool(id: PoolId, bytes: &[u8]) -> Result<DataPool> {
    const WHAT: &str = "a pool's row";
    let (row, policy): (PoolRow, PolicyRow) = match bytes.split_first() {
        Some((&TAG_POOL_WITH_POLICY, body)) => decode_body(WHAT, body)?,
        _ => (decode(WHAT, bytes)?, PolicyRow::default()),
    };
    Ok(DataPool {
        id,
        name: row.name,
        description: row.description,
        created_at: Timestamp::from_micros(row.created_at),
        updated_at: Timestamp::from_micros(row.updated_at),
        retention: policy.retention_micros.map(Duration::from_micros),
        capacity: policy.capacity,
    })
}

#[derive(Serialize, Deserialize)]
struct OriginRow<'row> {
    #[serde(borrow)]
    flow: Option<&'row str>,
    #[serde(borrow)]
    run: Option<&'row str>,
    #[serde(borrow)]
    step: Option<&'row str>,
}

pub(crate) fn encode_origin(origin: &Origin) -> Result<Vec<u8>> {
    encode(&origin_row(origin))
}

fn origin_row(origin: &Origin) -> OriginRow<'_> {
    OriginRow {
        flow: origin.flow().map(FlowId::as_str),
        run: origin.run().map(FlowRunId::as_str),
        step: origin.step().map(FlowStepId::as_str),
    }
}

pub(crate) fn decode_origin(bytes: &[u8]) -> Result<Origin> {
    decode("an origin", bytes).map(origin_of)
}

fn origin_of(row: OriginRow<'_>) -> Origin {
    Origin { flow: row.flow.map(Into::into), run: row.run.map(Into::into), step: row.step.map(Into::into) }
}

/// A claim's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    pub(crate) origin: Origin,
    /// The name of the runner that holds it, if it has one.
    pub(crate) owner: Option<String>,
    /// The time of the grant: when the claim was made, or taken up for its owner.
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) lease: Duration,
    pub(crate) nonce: u128,
    /// The fencing number of the grant.
    pub(crate) fence: u64,
    pub(crate) items: u32,
    pub(crate) settled: RoaringBitmap,
}

/// The stored form of a claim's row. Times and durations are in microseconds.
#[derive(Serialize, Deserialize)]
struct ClaimFields<'row> {
    #[serde(borrow)]
    origin: OriginRow<'row>,
    #[serde(borrow)]
    owner: Option<&'row str>,
    since: i64,
    until: i64,
    lease: u64,
    nonce: u128,
    fence: u64,
    items: u32,
    /// A bitmap in roaring's portable format; no bytes if it is empty.
    settled: Vec<u8>,
}

pub(crate) fn encode_claim(claim: &ClaimRow) -> Result<Vec<u8>> {
    let lease = u64::try_from(claim.lease.as_micros()).unwrap_or(u64::MAX);
    let mut settled = Vec::new();
    if !claim.settled.is_empty() {
        claim.settled.serialize_into(&mut settled).map_err(|error| {
            Error::storage(format!("a claim cannot be encoded: {error}")).with_source(error)
        })?;
    }
    encode(&ClaimFields {
        origin: origin_row(&claim.origin),
        owner: claim.owner.as_deref(),
        since: claim.since.as_micros(),
        until: claim.until.as_micros(),
        lease,
        nonce: claim.nonce,
        fence: claim.fence,
        items: claim.items,
        settled,
    })
}

pub(crate) fn decode_claim(bytes: &[u8]) -> Result<ClaimRow> {
    let fields: ClaimFields<'_> = decode("a claim", bytes)?;
    let settled = match fields.settled.as_slice() {
        [] => RoaringBitmap::new(),
        bytes => RoaringBitmap::deserialize_from(bytes)
            .map_err(|error| Error::corrupt(format!("a claim: {error}")).with_source(error))?,
    };
    Ok(ClaimRow {
        origin: origin_of(fields.origin),
        owner: fields.owner.map(str::to_owned),
        since: Timestamp::from_micros(fields.since),
        until: Timestamp::from_micros(fields.until),
        lease: Duration::from_micros(fields.lease),
        nonce: fields.nonce,
        fence: fields.fence,
        items: fields.items,
        settled,
    })
}

/// Encodes the row with the highest fencing number that a pool has given.
pub(crate) fn encode_fence(fence: u64) -> Result<Vec<u8>> {
    encode(&fence)
}

pub(crate) fn decode_fence(bytes: &[u8]) -> Result<u64> {
    decode("a pool's fencing number", bytes)
}

#[derive(Serialize, Deserialize)]
struct RegisteredRow {
    name: String,
    /// JSON text, because bincode cannot read self-describing values.
    attributes: String,
    /// The time of registration or replacement, in microseconds since 1970.
    registered_at: i64,
}

pub(crate) fn encode_registered(entry: RegisteredEntry, now: Timestamp) -> Result<Vec<u8>> {
    let RegisteredEntry { name, attributes, .. } = entry;
    encode(&RegisteredRow { name, attributes, registered_at: now.as_micros() })
}

/// Returns the time at which an entry was registered or last replaced.
pub(crate) fn registered_at(bytes: &[u8]) -> Result<Timestamp> {
    let row: RegisteredRow = decode("a registered row", bytes)?;
    Ok(Timestamp::from_micros(row.registered_at))
}

pub(crate) fn decode_registered(key: &[u8], bytes: &[u8]) -> Result<RegisteredEntry> {
    let RegisteredRow { name, attributes, .. } = decode("a registered row", bytes)?;
    Ok(RegisteredEntry { key: key.to_vec(), name, attributes })
}

/// A pool's head: the part of its state that plain commits do not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRow {
    /// Records below this id are dead.
    pub(crate) watermark: RecordNumber,
    /// Records below this id are in their segments' indexes.
    pub(crate) folded_to: RecordNumber,
    /// The highest `created_at` ever stored, even if its record was dropped. The times in an empty segment
    /// are relative to it.
    pub(crate) last_time: i64,
    /// The segments that hold records, oldest first. The last is the open one.
    pub(crate) segments: Vec<SegmentRow>,
    /// Dropped segments whose rows must still be removed.
    pub(crate) dropped: Vec<SegmentNumber>,
    /// The tables of fingerprints, oldest first.
    pub(crate) tables: Vec<TableRow>,
    /// The tables being written by merges. Each has the ids of the tables that it is merged from.
    pub(crate) merging: Vec<TableRow>,
    /// Tables that were merged or whose records are dead. Their rows must still be removed.
    pub(crate) dropped_tables: Vec<TableNumber>,
    /// The number of the next table.
    pub(crate) next_table: TableNumber,
}

/// The row of a fingerprint table in a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableRow {
    pub(crate) number: TableNumber,
    /// The first id of the records with entries in the table.
    pub(crate) first_id: RecordNumber,
    pub(crate) end_id: RecordNumber,
    /// The approximate number of entries. It determines the size of the filter.
    pub(crate) len: u64,
    /// The number of its rows.
    pub(crate) rows: u32,
}

/// The row of a segment in a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRow {
    pub(crate) number: SegmentNumber,
    pub(crate) first_id: RecordNumber,
    /// The number of records in a sealed segment; 0 for the open segment, whose length follows from its last
    /// record.
    pub(crate) sealed_len: u32,
}

pub(crate) fn encode_head(head: &HeadRow) -> Result<Vec<u8>> {
    encode(head)
}

pub(crate) fn decode_head(bytes: &[u8]) -> Result<HeadRow> {
    decode("a pool's head", bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_rows_are_errors_and_never_panic_or_allocate_without_bound() {
        let good = encode_origin(&Origin::new("flow", "run", "step")).unwrap();
        assert_eq!(decode_origin(&good).unwrap(), Origin::new("flow", "run", "step"));
        for end in 0..good.len() {
            assert!(decode_origin(&good[..end]).is_err());
        }
        let mut long = good.clone();
        long.push(0);
        assert!(decode_origin(&long).is_err());
        // A length of 2^63 must be refused before anything is allocated.
        assert!(decode_origin(&[1, 1, 253, 0, 0, 0, 0, 0, 0, 0, 128]).is_err());
        assert!(decode_origin(&[2, 0, 0, 0]).is_err());
    }
}
