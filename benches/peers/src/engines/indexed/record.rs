//! The byte layouts of records and keys.
//!
//! Always holds: keys sort by pool, entity type and value. An absent attribute has no index entry.

use crate::Result;
use crate::common::Row;

/// The only pool. It is the first part of every key, as it must be if there are several pools.
const POOL: u32 = 1;
/// The number of bytes of a key before the value, for the pool and the entity type.
pub(super) const KEY_HEAD_BYTES: usize = 8;

/// A record's row: the entity type, the time, three ids with their lengths, and the value up to the end.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) entity_type: u32,
    pub(super) time: i64,
    /// The flow, run and step. Each is empty if it is absent.
    pub(super) origin: [&'a str; 3],
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.entity_type.to_be_bytes());
        out.extend_from_slice(&self.time.to_be_bytes());
        for id in self.origin {
            // Ids have at most 64 bytes.
            out.push(u8::try_from(id.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(id.as_bytes());
        }
        out.extend_from_slice(self.value);
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| "a record is damaged".into())
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (entity_type, rest) = bytes.split_first_chunk()?;
        let (time, mut rest) = rest.split_first_chunk()?;
        let mut origin = [""; 3];
        for id in &mut origin {
            let (length, behind) = rest.split_first()?;
            let (text, behind) = behind.split_at_checked(usize::from(*length))?;
            *id = std::str::from_utf8(text).ok()?;
            rest = behind;
        }
        let (entity_type, time) = (u32::from_be_bytes(*entity_type), i64::from_be_bytes(*time));
        Some(Self { entity_type, time, origin, value: rest })
    }
}

pub(super) fn push_key(entity_type: u32, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&POOL.to_be_bytes());
    out.extend_from_slice(&entity_type.to_be_bytes());
    out.extend_from_slice(value);
}

pub(super) fn key_of(row: &Row) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_HEAD_BYTES + row.value.len());
    push_key(row.entity_type, row.value.as_bytes(), &mut key);
    key
}

/// Writes an attribute's value followed by an id, for tables that have one value per key.
pub(in crate::engines) fn link_key(value: &[u8], id: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(value);
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

/// An attribute's value as stored in its index.
pub(super) enum LinkValue<'a> {
    Number([u8; 4]),
    Time([u8; 8]),
    Text(&'a str),
}

impl LinkValue<'_> {
    pub(super) fn as_ref(&self) -> &[u8] {
        match self {
            Self::Number(bytes) => bytes,
            Self::Time(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.as_ref().to_vec()
    }
}

impl Record<'_> {
    /// Returns the record's values for [`LINKS`](super::LINKS). An absent attribute has no entry.
    pub(super) fn link_values(&self) -> [Option<LinkValue<'_>>; 5] {
        let [flow, run, step] = self.origin.map(|id| (!id.is_empty()).then_some(LinkValue::Text(id)));
        let entity_type = LinkValue::Number(self.entity_type.to_be_bytes());
        [Some(entity_type), flow, run, step, Some(LinkValue::Time(self.time.to_be_bytes()))]
    }
}
