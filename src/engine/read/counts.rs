//! Counts live records by an attribute, in one pass over its posting lists and the tails.

use std::collections::HashMap;

use crate::engine::format::postings;
use crate::engine::format::record::{Attribute, PostingKey};
use crate::engine::pool::state::PoolState;
use crate::engine::pool::tail::{TailEntry, TailView};
use crate::engine::read::view::View;
use crate::engine::storage::failure::{StorageResult, contained};
use crate::error::{Error, Result};
use crate::ids::{EntityTypeId, FlowId, RecordNumber};

impl View {
    /// Returns the number of live records of each entity type, the largest first.
    pub(crate) fn entity_type_counts(&self) -> Result<Vec<(EntityTypeId, u64)>> {
        let id = |value: &[u8]| Some(EntityTypeId::new(u32::from_be_bytes(value.try_into().ok()?)));
        self.counts(Attribute::EntityType, id, |entry| Some(entry.entity_type))
    }

    /// Returns the number of live records that each flow tracked, the largest first.
    pub(crate) fn flow_counts(&self) -> Result<Vec<(FlowId, u64)>> {
        let id = |value: &[u8]| Some(FlowId::from(std::str::from_utf8(value).ok()?));
        self.counts(Attribute::Flow, id, |entry| entry.origin.as_ref()?.flow().cloned())
    }

    fn counts<T: std::hash::Hash + Ord + Clone>(
        &self,
        attribute: Attribute,
        id_of: impl Fn(&[u8]) -> Option<T>,
        id_in: impl Fn(&TailEntry) -> Option<T>,
    ) -> Result<Vec<(T, u64)>> {
        contained("counting", || {
            let mut counts: HashMap<T, u64> = HashMap::new();
            for index in 0..self.state.segments.len() {
                self.count_lists(index, attribute, &id_of, &mut counts)?;
            }
            let state = &self.state;
            let entries = state.frozen.iter().chain([&state.active]).flat_map(TailView::entries);
            for (_, entry) in entries.filter(|(id, _)| state.is_live(*id)) {
                if let Some(id) = id_in(&entry) {
                    *counts.entry(id).or_default() += 1;
                }
            }
            let mut counts: Vec<(T, u64)> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
            counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            Ok(counts)
        })
    }

    fn count_lists<T: std::hash::Hash + Eq>(
        &self,
        index: usize,
        attribute: Attribute,
        id_of: impl Fn(&[u8]) -> Option<T>,
        counts: &mut HashMap<T, u64>,
    ) -> Result<()> {
        let state = &self.state;
        let Some(table) = self.postings(index)? else { return Ok(()) };
        let (first, behind) = PostingKey::range_of(attribute);
        for row in table.range::<&[u8]>(first.as_slice()..behind.as_slice()).storage()? {
            let (key, list) = row.storage()?;
            let parts = PostingKey::parse(key.value());
            let (id, chunk) =
                parts.and_then(|(_, value, chunk)| Some((id_of(value)?, chunk))).ok_or_else(|| {
                    Error::corrupt(format!("pool {}: a posting list's key is damaged", state.id))
                })?;
            let mut slots = postings::decode(list.value(), state.geometry.chunk_slots)?;
            state.keep_live(index, chunk, state.folded_to, &mut slots);
            *counts.entry(id).or_default() += slots.len();
        }
        Ok(())
    }
}

impl PoolState {
    /// Removes the positions of a chunk whose records are dead or not below `end`.
    fn keep_live(&self, index: usize, chunk: u32, end: RecordNumber, positions: &mut roaring::RoaringBitmap) {
        let Some(segment) = self.segments.get(index) else { return };
        let base = u64::from(chunk) * u64::from(self.geometry.chunk_slots);
        let position = |id: RecordNumber| {
            u32::try_from(id.saturating_sub(segment.first_id).saturating_sub(base)).unwrap_or(u32::MAX)
        };
        positions.remove_range(..position(self.watermark));
        positions.remove_range(position(end)..);
        if let Some(deleted) = segment.deleted.chunk(chunk) {
            *positions -= deleted;
        }
    }
}
