//! The items of a claim, in blocks.
//!
//! Layout of an item in a block: its index in the claimed batch minus that of the previous item in the block,
//! its entity type, and four times the length of its value plus the kind of its version, all in LEB128; then
//! the value. If the kind is 1 or 2, a content digest or an ordinal follows, then the id of the record that
//! the claim saw, in LEB128. Items are in the order of the batch. Blocks are filled up to 4,064 bytes, and
//! each can be read independently.

use crate::engine::format::record::{push_leb128, push_version, take_content, take_leb128, take_ordinal};
use crate::engine::format::schema::BLOCK_MAX_BYTES;
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, PoolId, RecordNumber};
use crate::limits;
use crate::model::Version;

const CONTENT: u64 = 1;
const ORDINAL: u64 = 2;

/// A claimed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimedItem<'a> {
    /// Its index in the claimed batch.
    pub(crate) index: u32,
    pub(crate) entity_type: EntityTypeId,
    pub(crate) value: &'a str,
    pub(crate) version: Option<Version>,
    /// The newest record of its key when it was claimed; 0 if there was none. Only an item with a version can
    /// have one.
    pub(crate) seen: RecordNumber,
}

/// Returns the range of the rows that hold a claim's items.
pub(crate) fn blocks_of(pool: PoolId, claim: u64) -> std::ops::RangeInclusive<(PoolId, u64, u32)> {
    (pool, claim, 0)..=(pool, claim, u32::MAX)
}

/// Encodes items as blocks. The items' indexes must ascend.
pub(crate) fn encode_blocks<'a>(items: impl IntoIterator<Item = ClaimedItem<'a>>) -> Vec<Vec<u8>> {
    let (mut blocks, mut block, mut before) = (Vec::new(), Vec::new(), 0);
    let mut entry = Vec::new();
    for ClaimedItem { index, entity_type, value, version, seen } in items {
        entry.clear();
        push_leb128(entity_type.get().into(), &mut entry);
        let kind = match version {
            None => 0,
            Some(Version::Content(_)) => CONTENT,
            Some(Version::Ordinal(_)) => ORDINAL,
        };
        push_leb128((value.len() as u64) << 2 | kind, &mut entry);
        entry.extend_from_slice(value.as_bytes());
        if version.is_some() {
            push_version(version, &mut entry);
            push_leb128(seen, &mut entry);
        }
        let mut difference = Vec::new();
        push_leb128((index - before).into(), &mut difference);
        if !block.is_empty() && block.len() + difference.len() + entry.len() > BLOCK_MAX_BYTES {
            blocks.push(std::mem::take(&mut block));
            difference.clear();
            push_leb128(index.into(), &mut difference);
        }
        block.extend_from_slice(&difference);
        block.extend_from_slice(&entry);
        before = index;
    }
    blocks.push(block);
    blocks
}

/// Calls `each` for the items of a block.
pub(crate) fn decode_block(bytes: &[u8], mut each: impl FnMut(ClaimedItem<'_>)) -> Result<()> {
    let (mut rest, mut before) = (bytes, 0);
    while !rest.is_empty() {
        let item = take_item(&mut rest, before)
            .ok_or_else(|| Error::corrupt("a claim's block of items is damaged"))?;
        each(item);
        before = item.index;
    }
    Ok(())
}

/// Decodes an item. Its index is stored as the distance from `before`.
fn take_item<'b>(rest: &mut &'b [u8], before: u32) -> Option<ClaimedItem<'b>> {
    let index = u64::from(before).checked_add(take_leb128(rest)?)?;
    let index = u32::try_from(index).ok().filter(|index| (*index as usize) < limits::BATCH_MAX_ITEMS)?;
    let entity_type = EntityTypeId::new(u32::try_from(take_leb128(rest)?).ok()?);
    let length_and_kind = take_leb128(rest)?;
    let (value, behind) = rest.split_at_checked(usize::try_from(length_and_kind >> 2).ok()?)?;
    *rest = behind;
    let version = match length_and_kind & 0b11 {
        0 => None,
        CONTENT => Some(take_content(rest)?),
        ORDINAL => Some(take_ordinal(rest)?),
        _ => return None,
    };
    let seen = if version.is_some() { take_leb128(rest)? } else { 0 };
    Some(ClaimedItem { index, entity_type, value: std::str::from_utf8(value).ok()?, version, seen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::format::record::tests::versions;
    use proptest::prelude::*;

    /// Every later version must be able to read stored items.
    #[test]
    fn the_layout_is_frozen() {
        let entity_type = EntityTypeId::new(300);
        let plain = ClaimedItem { index: 1, entity_type, value: "A-1", version: None, seen: 0 };
        let content = Some(Version::Content(*b"0123456789abcdef"));
        let new = ClaimedItem { index: 3, version: content, ..plain };
        let changed = ClaimedItem { index: 4, version: Some(Version::Ordinal(-2)), seen: 300, ..plain };
        let block = b"\x01\xac\x02\x0cA-1\
            \x02\xac\x02\x0dA-10123456789abcdef\0\
            \x01\xac\x02\x0eA-1\xfe\xff\xff\xff\xff\xff\xff\xff\xac\x02";
        assert_eq!(encode_blocks([plain, new, changed]), [block]);
    }

    proptest! {
        #[test]
        fn blocks_of_items_read_back(
            items in proptest::collection::vec((any::<u32>(), "\\PC{1,700}", 0..4_u32, versions(), any::<u64>()), 1..40),
        ) {
            let (mut claimed, mut index) = (Vec::new(), 0);
            // Unclaimed items lie between the claimed ones, and before the first one.
            for (entity_type, value, between, version, seen) in &items {
                index += between;
                let (entity_type, seen) = (EntityTypeId::new(*entity_type), version.map_or(0, |_| *seen));
                claimed.push(ClaimedItem { index, entity_type, value, version: *version, seen });
                index += 1;
            }
            let blocks = encode_blocks(claimed.iter().copied());
            let mut read = Vec::new();
            for block in &blocks {
                prop_assert!(block.len() <= BLOCK_MAX_BYTES);
                let mut at = claimed.iter().skip(read.len());
                decode_block(block, |item| read.push(Some(&item) == at.next())).unwrap();
            }
            for pair in blocks.windows(2) {
                prop_assert!(pair[0].len() + pair[1].len() > BLOCK_MAX_BYTES, "one would do");
            }
            prop_assert_eq!(read, vec![true; claimed.len()]);
        }

        #[test]
        fn damaged_blocks_never_panic(bytes: Vec<u8>) {
            let _ = decode_block(&bytes, |_| {});
        }
    }
}
