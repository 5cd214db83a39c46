//! Rows of a table of fingerprints: ascending entries of 16 bytes.
//!
//! Owns: [`Entry`], and the number of entries in a row. An entry is a little-endian u128. Its high 96 bits
//! are those of the fingerprint. The next 31 bits are the record's id minus the table's first id. The lowest
//! bit is set if the record has a version, so that records are read for their versions only where there are
//! some. Always holds: 96 bits distinguish fingerprints. Among 2^30 records, the probability that an absent
//! value is reported as present is 2^-66.

use crate::backend::fingerprint::Fingerprint;
use crate::engine::format::schema::BLOCK_MAX_BYTES;
use crate::error::{Error, Result};

/// An entry of a table of fingerprints.
pub(crate) type Entry = u128;

const ENTRY_BYTES: usize = size_of::<Entry>();
/// The number of bits for the id and the version flag.
const LOW_BITS: u32 = 32;
const HAS_VERSION: Entry = 1;
/// The largest offset of an id from its table's first id.
pub(crate) const OFFSET_MAX: u64 = (1 << 31) - 1;
/// The most entries in one part of a row. Larger rows continue in further parts.
pub(crate) const PART_ENTRIES: usize = BLOCK_MAX_BYTES / ENTRY_BYTES;

/// Returns the entry of a record. The offset must be at most [`OFFSET_MAX`].
pub(crate) fn entry(fingerprint: Fingerprint, offset: u64, has_version: bool) -> Entry {
    identity(fingerprint, has_version) | u128::from(offset.min(OFFSET_MAX)) << 1
}

/// Returns the bits of an entry that do not depend on its table.
pub(crate) fn identity(fingerprint: Fingerprint, has_version: bool) -> Entry {
    key_of(fingerprint) | Entry::from(has_version)
}

/// Returns the bits of a fingerprint that its entries keep. No entry of the fingerprint is smaller.
pub(crate) fn key_of(fingerprint: Fingerprint) -> Entry {
    fingerprint >> LOW_BITS << LOW_BITS
}

/// Returns the id of an entry's record, minus the table's first id.
#[allow(clippy::cast_possible_truncation, reason = "31 bits")]
pub(crate) fn offset_of(entry: Entry) -> u64 {
    (entry >> 1 & u128::from(OFFSET_MAX)) as u64
}

/// Returns true if the record has a version.
pub(crate) fn has_version(entry: Entry) -> bool {
    entry & HAS_VERSION != 0
}

/// Decodes one part of a row and appends its entries.
pub(crate) fn decode(bytes: &[u8], entries: &mut Vec<Entry>) -> Result<()> {
    let (all, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() || all.len() > PART_ENTRIES {
        return Err(Error::corrupt(format!("a row of fingerprints has {} bytes", bytes.len())));
    }
    entries.extend(all.iter().map(|bytes| Entry::from_le_bytes(*bytes)));
    Ok(())
}

/// Encodes the entries of a row as its parts.
pub(crate) fn encode(entries: &[Entry]) -> impl Iterator<Item = Vec<u8>> {
    entries.chunks(PART_ENTRIES).map(|part| part.iter().flat_map(|entry| entry.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_damaged_ones_are_errors() {
        let entries: Vec<Entry> = (0..600_u64)
            .map(|number| entry(u128::from(number) << 40, 600 - number, number % 3 == 0))
            .collect();
        let parts: Vec<Vec<u8>> = encode(&entries).collect();
        assert_eq!(parts.len(), 3);
        let mut read = Vec::new();
        for part in &parts {
            decode(part, &mut read).unwrap();
        }
        assert_eq!(read, entries);
        assert!(entries.is_sorted());
        assert_eq!((offset_of(entries[7]), key_of(7 << 40)), (593, 7 << 40));
        assert_eq!((has_version(entries[6]), has_version(entries[7])), (true, false));
        assert_eq!(
            entry(7 << 40, OFFSET_MAX, true) + 1,
            entry(7 << 40 | 1 << 32, 0, false),
            "a mark does not disturb the order"
        );
        assert!(decode(&parts[0][1..], &mut read).is_err());
        assert!(decode(&[0; BLOCK_MAX_BYTES + 16], &mut read).is_err());
    }
}
