//! The items of a claim, in blocks.
//!
//! Layout of a block: for each item its index in the claimed batch, minus that of the item before it in the block, its
//! entity type and the length of its value, all in LEB128, and the value. Items are in the batch's order. Blocks are
//! filled up to 4,064 bytes, and each can be read by itself.

use crate::engine::format::record::{push_leb128, take_leb128};
use crate::engine::format::schema::BLOCK_MAX_BYTES;
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, PoolId};
use crate::limits;

/// Returns the range of the rows with a claim's items.
pub(crate) fn blocks_of(pool: PoolId, claim: u64) -> std::ops::RangeInclusive<(PoolId, u64, u32)> {
    (pool, claim, 0)..=(pool, claim, u32::MAX)
}

/// Encodes items as blocks. Each item has its index in the claimed batch; the indexes ascend.
pub(crate) fn encode_blocks<'a>(
    items: impl IntoIterator<Item = (usize, EntityTypeId, &'a str)>,
) -> Vec<Vec<u8>> {
    let (mut blocks, mut block, mut before) = (Vec::new(), Vec::new(), 0);
    let mut entry = Vec::new();
    for (index, entity_type, value) in items {
        entry.clear();
        push_leb128(entity_type.get().into(), &mut entry);
        push_leb128(value.len() as u64, &mut entry);
        entry.extend_from_slice(value.as_bytes());
        let mut difference = Vec::new();
        push_leb128((index - before) as u64, &mut difference);
        if !block.is_empty() && block.len() + difference.len() + entry.len() > BLOCK_MAX_BYTES {
            blocks.push(std::mem::take(&mut block));
            difference.clear();
            push_leb128(index as u64, &mut difference);
        }
        block.extend_from_slice(&difference);
        block.extend_from_slice(&entry);
        before = index;
    }
    blocks.push(block);
    blocks
}

/// Calls `each` for the items of a block, with their indexes in the batch.
pub(crate) fn decode_block(bytes: &[u8], mut each: impl FnMut(u32, EntityTypeId, &str)) -> Result<()> {
    let (mut rest, mut before) = (bytes, 0);
    while !rest.is_empty() {
        let (index, entity_type, value) = take_item(&mut rest, before)
            .ok_or_else(|| Error::corrupt("a claim's block of items is damaged"))?;
        each(index, entity_type, value);
        before = index;
    }
    Ok(())
}

/// Takes an item, whose index is stored as its distance from `before`.
fn take_item<'b>(rest: &mut &'b [u8], before: u32) -> Option<(u32, EntityTypeId, &'b str)> {
    let index = u64::from(before).checked_add(take_leb128(rest)?)?;
    let index = u32::try_from(index).ok().filter(|index| (*index as usize) < limits::BATCH_MAX_ITEMS)?;
    let entity_type = u32::try_from(take_leb128(rest)?).ok()?;
    let length = usize::try_from(take_leb128(rest)?).ok()?;
    let (value, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some((index, EntityTypeId::new(entity_type), std::str::from_utf8(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_of_items_read_back(
            items in proptest::collection::vec((any::<u32>(), "\\PC{1,700}", 0..4_usize), 1..40),
        ) {
            let (mut claimed, mut index) = (Vec::new(), 0);
            // Some items between them, and before the first one, are not claimed.
            for (entity_type, value, between) in &items {
                index += between;
                claimed.push((index, EntityTypeId::new(*entity_type), value.as_str()));
                index += 1;
            }
            let blocks = encode_blocks(claimed.iter().copied());
            let mut read = Vec::new();
            for block in &blocks {
                prop_assert!(block.len() <= BLOCK_MAX_BYTES);
                let push = |index, of: EntityTypeId, value: &str| read.push((index, of.get(), value.to_owned()));
                decode_block(block, push).unwrap();
            }
            for pair in blocks.windows(2) {
                prop_assert!(pair[0].len() + pair[1].len() > BLOCK_MAX_BYTES, "one would do");
            }
            let written = claimed.into_iter().map(|(index, of, value)| {
                (u32::try_from(index).unwrap(), of.get(), value.to_owned())
            });
            prop_assert_eq!(read, written.collect::<Vec<_>>());
        }

        #[test]
        fn damaged_blocks_never_panic(bytes: Vec<u8>) {
            let _ = decode_block(&bytes, |_, _, _| {});
        }
    }
}
