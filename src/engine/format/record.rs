//! A record's row: its byte layout, and the index entries that follow from a record.
//!
//! Layout: a tag byte; if bit 0 of the tag is set, the origin code as `slot - code` in LEB128; if bit 2 is
//! set, the length of the origin's row in LEB128, and that row; the entity type in LEB128; `created_at` minus
//! the segment's base time, in microseconds, in LEB128; if bit 3 of the tag is set, the 16 bytes of a content
//! digest, or if bit 4 is set, an ordinal as i64; the value's bytes up to the end. The code of an origin is
//! the slot of the first record that has it.
//!
//! A copy of the store has a stub instead of each dead record: the tag 1, and the time as above. Nothing else
//! of the record is left, but slots can still be searched by time.
//!
//! Always holds: writers and readers both use [`PostingKey`] to turn an attribute into the key of a posting
//! list.

use std::borrow::Cow;

use crate::engine::format::schema::Slot;
use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::model::{Origin, Version};
use crate::time::Timestamp;

/// The tag of a stub. It lacks the bit that is set in every record's tag.
const TAG_STUB: u8 = 0b001;
const TAG_PLAIN: u8 = 0b010;
const HAS_ORIGIN_CODE: u8 = 0b001;
const HAS_ORIGIN: u8 = 0b100;
const HAS_CONTENT: u8 = 0b1000;
const HAS_ORDINAL: u8 = 0b1_0000;

/// A record's origin as stored in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredOrigin<'a> {
    None,
    /// The table of origins has the origin's row under this code.
    Code(Slot),
    /// The record itself contains the origin's row.
    Here(Cow<'a, [u8]>),
}

/// A record as it is stored in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRecord<'a> {
    pub(crate) origin: StoredOrigin<'a>,
    pub(crate) entity_type: EntityTypeId,
    pub(crate) created_at: Timestamp,
    pub(crate) version: Option<Version>,
    pub(crate) value: &'a str,
}

impl StoredRecord<'_> {
    pub(crate) fn encode(&self, slot: Slot, base_time: Timestamp, out: &mut Vec<u8>) {
        out.clear();
        let tag = match self.version {
            None => TAG_PLAIN,
            Some(Version::Content(_)) => TAG_PLAIN | HAS_CONTENT,
            Some(Version::Ordinal(_)) => TAG_PLAIN | HAS_ORDINAL,
        };
        match &self.origin {
            StoredOrigin::None => out.push(tag),
            StoredOrigin::Code(code) => {
                out.push(tag | HAS_ORIGIN_CODE);
                push_leb128(u64::from(slot - code), out);
            }
            StoredOrigin::Here(row) => {
                out.push(tag | HAS_ORIGIN);
                push_leb128(row.len() as u64, out);
                out.extend_from_slice(row);
            }
        }
        push_leb128(u64::from(self.entity_type.get()), out);
        push_time(self.created_at, base_time, out);
        push_version(self.version, out);
        out.extend_from_slice(self.value.as_bytes());
    }
}

/// The contents of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Record(StoredRecord<'a>),
    /// The time of a dead record, of which nothing else is stored.
    Stub(Timestamp),
}

impl Stored<'_> {
    pub(crate) fn created_at(&self) -> Timestamp {
        match self {
            Self::Record(record) => record.created_at,
            Self::Stub(created_at) => *created_at,
        }
    }
}

/// Encodes a stub for a dead record with this time.
pub(crate) fn encode_stub(created_at: Timestamp, base_time: Timestamp, out: &mut Vec<u8>) {
    out.clear();
    out.push(TAG_STUB);
    push_time(created_at, base_time, out);
}

/// Decodes the row of a slot, whose record may be dead.
pub(crate) fn decode_slot(slot: Slot, base_time: Timestamp, bytes: &[u8]) -> Result<Stored<'_>> {
    match bytes.split_first() {
        Some((&TAG_STUB, mut rest)) => take_time(&mut rest, base_time)
            .filter(|_| rest.is_empty())
            .map(Stored::Stub)
            .ok_or_else(|| Error::corrupt(format!("the stub in slot {slot} is damaged"))),
        _ => decode(slot, base_time, bytes).map(Stored::Record),
    }
}

/// Decodes the row of a live record.
pub(crate) fn decode(slot: Slot, base_time: Timestamp, bytes: &[u8]) -> Result<StoredRecord<'_>> {
    parse(slot, base_time, bytes).ok_or_else(|| match bytes.first() {
        Some(&TAG_STUB) => {
            Error::corrupt(format!("slot {slot} has a stub, as if its record were dead, and it is live"))
        }
        _ => Error::corrupt(format!("the record in slot {slot} is damaged")),
    })
}

fn parse(slot: Slot, base_time: Timestamp, bytes: &[u8]) -> Option<StoredRecord<'_>> {
    let (tag, mut rest) = bytes.split_first()?;
    let version = tag & (HAS_CONTENT | HAS_ORDINAL);
    let origin = match tag ^ version ^ TAG_PLAIN {
        0 => StoredOrigin::None,
        HAS_ORIGIN_CODE => {
            StoredOrigin::Code(slot.checked_sub(u32::try_from(take_leb128(&mut rest)?).ok()?)?)
        }
        HAS_ORIGIN => {
            let length = usize::try_from(take_leb128(&mut rest)?).ok()?;
            let (row, behind) = rest.split_at_checked(length)?;
            rest = behind;
            StoredOrigin::Here(row.into())
        }
        _ => return None,
    };
    let entity_type = EntityTypeId::new(u32::try_from(take_leb128(&mut rest)?).ok()?);
    let created_at = take_time(&mut rest, base_time)?;
    let version = match version {
        0 => None,
        HAS_CONTENT => Some(take_content(&mut rest)?),
        HAS_ORDINAL => Some(take_ordinal(&mut rest)?),
        _ => return None,
    };
    let value = std::str::from_utf8(rest).ok()?;
    Some(StoredRecord { origin, entity_type, created_at, version, value })
}

/// Writes a version without its kind, which is in the tag.
pub(crate) fn push_version(version: Option<Version>, out: &mut Vec<u8>) {
    match version {
        None => {}
        Some(Version::Content(digest)) => out.extend_from_slice(&digest),
        Some(Version::Ordinal(number)) => out.extend_from_slice(&number.to_le_bytes()),
    }
}

pub(crate) fn take_content(bytes: &mut &[u8]) -> Option<Version> {
    let (digest, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(Version::Content(*digest))
}

pub(crate) fn take_ordinal(bytes: &mut &[u8]) -> Option<Version> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(Version::Ordinal(i64::from_le_bytes(*number)))
}

fn push_time(time: Timestamp, base_time: Timestamp, out: &mut Vec<u8>) {
    let delta = time.as_micros().wrapping_sub(base_time.as_micros());
    push_leb128(delta.cast_unsigned(), out);
}

fn take_time(bytes: &mut &[u8], base_time: Timestamp) -> Option<Timestamp> {
    let delta = take_leb128(bytes)?;
    Some(Timestamp::from_micros(base_time.as_micros().wrapping_add(delta.cast_signed())))
}

pub(crate) fn push_leb128(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

pub(crate) fn take_leb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The attributes that have posting lists. The numbers are part of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Attribute {
    EntityType = 1,
    Flow = 2,
    Run = 3,
    Step = 4,
}

impl Attribute {
    pub(crate) const ALL: [Self; 4] = [Self::EntityType, Self::Flow, Self::Run, Self::Step];

    /// Returns a description of the attribute and its value, for messages.
    fn describe(self, value: &[u8]) -> String {
        let text = || String::from_utf8_lossy(value);
        match self {
            Self::EntityType => match value.try_into() {
                Ok(number) => format!("entity type {}", u32::from_be_bytes(number)),
                Err(_) => format!("entity type {}", value.escape_ascii()),
            },
            Self::Flow => format!("flow {}", text()),
            Self::Run => format!("run {}", text()),
            Self::Step => format!("step {}", text()),
        }
    }
}

/// A posting list's key without the chunk: the attribute's number, the length of the value, and the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PostingKey(Vec<u8>);

impl PostingKey {
    fn new(attribute: Attribute, value: &[u8]) -> Self {
        let mut key = Vec::with_capacity(value.len() + 6);
        key.push(attribute as u8);
        // Ids have at most 64 bytes (limits::ID_MAX_BYTES), so the length fits in a byte.
        key.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        key.extend_from_slice(value);
        Self(key)
    }

    /// Returns the key range of all lists of an attribute: the first key, and the first key past the range.
    pub(crate) fn range_of(attribute: Attribute) -> (Vec<u8>, Vec<u8>) {
        (vec![attribute as u8], vec![attribute as u8 + 1])
    }

    /// Splits a row's key into the attribute, its value and the chunk. Returns `None` if the key has another
    /// form.
    pub(crate) fn parse(key: &[u8]) -> Option<(Attribute, &[u8], u32)> {
        let (rest, chunk) = key.split_last_chunk::<4>()?;
        let (head, value) = rest.split_first_chunk::<2>()?;
        let [number, length] = *head;
        let attribute = Attribute::ALL.into_iter().find(|attribute| *attribute as u8 == number)?;
        (usize::from(length) == value.len()).then(|| (attribute, value, u32::from_be_bytes(*chunk)))
    }

    /// Returns a description of a row's key, for messages.
    pub(crate) fn describe(key: &[u8]) -> String {
        match Self::parse(key) {
            Some((attribute, value, chunk)) => format!("{}, chunk {chunk}", attribute.describe(value)),
            None => key.escape_ascii().to_string(),
        }
    }

    pub(crate) fn of_entity_type(entity_type: EntityTypeId) -> Self {
        Self::new(Attribute::EntityType, &entity_type.get().to_be_bytes())
    }

    pub(crate) fn of_flow(id: &str) -> Self {
        Self::new(Attribute::Flow, id.as_bytes())
    }

    pub(crate) fn of_run(id: &str) -> Self {
        Self::new(Attribute::Run, id.as_bytes())
    }

    pub(crate) fn of_step(id: &str) -> Self {
        Self::new(Attribute::Step, id.as_bytes())
    }

    /// Returns the key of the bitmap of one chunk: this key and the chunk number, big-endian, so that chunks
    /// sort in order.
    pub(crate) fn at_chunk(&self, chunk: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.len() + 4);
        key.extend_from_slice(&self.0);
        key.extend_from_slice(&chunk.to_be_bytes());
        key
    }
}

/// Returns the keys of the posting lists that contain an origin's records.
pub(crate) fn origin_posting_keys(origin: &Origin) -> impl Iterator<Item = PostingKey> {
    let flow = origin.flow().map(|id| PostingKey::of_flow(id.as_str()));
    let run = origin.run().map(|id| PostingKey::of_run(id.as_str()));
    let step = origin.step().map(|id| PostingKey::of_step(id.as_str()));
    flow.into_iter().chain(run).chain(step)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Origins of each kind. A generated code is its distance from the slot.
    fn origins() -> impl Strategy<Value = StoredOrigin<'static>> {
        prop_oneof![
            Just(StoredOrigin::None),
            (0_u32..1 << 20).prop_map(StoredOrigin::Code),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(|row| StoredOrigin::Here(row.into())),
        ]
    }

    pub(crate) fn versions() -> impl Strategy<Value = Option<Version>> {
        prop_oneof![
            Just(None),
            any::<[u8; 16]>().prop_map(|digest| Some(Version::Content(digest))),
            any::<i64>().prop_map(|number| Some(Version::Ordinal(number))),
        ]
    }

    #[test]
    fn a_posting_lists_key_is_described_by_attribute_value_and_chunk() {
        let keys = [
            (PostingKey::of_entity_type(EntityTypeId::new(37)).at_chunk(0), "entity type 37, chunk 0"),
            (PostingKey::of_flow("shop").at_chunk(3), "flow shop, chunk 3"),
            (PostingKey::of_run("r-1").at_chunk(258), "run r-1, chunk 258"),
            (PostingKey::of_step("").at_chunk(1), "step , chunk 1"),
            // Damaged: an entity type of three bytes, no such attribute, another length, and too short.
            (vec![1, 3, 0, 0, 37, 0, 0, 0, 0], "entity type \\x00\\x00%, chunk 0"),
            (vec![9, 1, b'a', 0, 0, 0, 0], "\\t\\x01a\\x00\\x00\\x00\\x00"),
            (vec![2, 1, b'a', b'b', 0, 0, 0, 0], "\\x02\\x01ab\\x00\\x00\\x00\\x00"),
            (vec![2, 0, 0], "\\x02\\x00\\x00"),
        ];
        for (key, description) in keys {
            assert_eq!(PostingKey::describe(&key), description, "{key:?}");
        }
    }

    /// Every later version must be able to read stored rows.
    #[test]
    fn the_layout_is_frozen() {
        let versioned = |origin, version| {
            let (entity_type, created_at) = (EntityTypeId::new(300), Timestamp::from_micros(1_129));
            let mut bytes = Vec::new();
            let record = StoredRecord { origin, entity_type, created_at, version, value: "A-1" };
            record.encode(7, Timestamp::from_micros(1_000), &mut bytes);
            bytes
        };
        let row = |origin| versioned(origin, None);
        assert_eq!(row(StoredOrigin::None), b"\x02\xac\x02\x81\x01A-1");
        assert_eq!(row(StoredOrigin::Code(5)), b"\x03\x02\xac\x02\x81\x01A-1");
        assert_eq!(row(StoredOrigin::Here(b"origin".into())), b"\x06\x06origin\xac\x02\x81\x01A-1");
        let content = Some(Version::Content(*b"0123456789abcdef"));
        assert_eq!(versioned(StoredOrigin::None, content), b"\x0a\xac\x02\x81\x010123456789abcdefA-1");
        let ordinal = Some(Version::Ordinal(-2));
        assert_eq!(
            versioned(StoredOrigin::Code(5), ordinal),
            b"\x13\x02\xac\x02\x81\x01\xfe\xff\xff\xff\xff\xff\xff\xffA-1"
        );
        let mut stub = Vec::new();
        encode_stub(Timestamp::from_micros(1_129), Timestamp::from_micros(1_000), &mut stub);
        assert_eq!(stub, b"\x01\x81\x01");
    }

    proptest! {
        #[test]
        fn a_row_reads_back_as_it_was_written(
            slot in 0_u32..1 << 20, origin in origins(), entity_type: u32, base: i64, time: i64, version in versions(),
            value in "\\PC{1,40}",
        ) {
            let origin = match origin {
                StoredOrigin::Code(back) => StoredOrigin::Code(slot.saturating_sub(back)),
                other => other,
            };
            let record = StoredRecord {
                origin,
                entity_type: EntityTypeId::new(entity_type),
                created_at: Timestamp::from_micros(time),
                version,
                value: &value,
            };
            let mut bytes = Vec::new();
            record.encode(slot, Timestamp::from_micros(base), &mut bytes);
            prop_assert_eq!(decode(slot, Timestamp::from_micros(base), &bytes).unwrap(), record);
        }

        #[test]
        fn a_stub_reads_back_as_its_time_and_as_no_record(slot: u32, base: i64, time: i64, more: Vec<u8>) {
            let (base, time) = (Timestamp::from_micros(base), Timestamp::from_micros(time));
            let mut bytes = Vec::new();
            encode_stub(time, base, &mut bytes);
            prop_assert_eq!(decode_slot(slot, base, &bytes).unwrap(), Stored::Stub(time));
            prop_assert!(decode(slot, base, &bytes).is_err());
            bytes.extend_from_slice(&more);
            prop_assert_eq!(decode_slot(slot, base, &bytes).is_ok(), more.is_empty());
        }

        #[test]
        fn damaged_rows_never_panic(slot: u32, bytes: Vec<u8>) {
            let _ = decode_slot(slot, Timestamp::from_micros(0), &bytes);
        }
    }
}
