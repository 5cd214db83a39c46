//! What memory knows of a fingerprint, before a segment's table is read.
//!
//! Owns: the order in which a segment's membership filter and its hot index are asked, and their filling by those who ask.
//! Always holds: memory says "absent" only of fingerprints that the segment's table does not have.

use redb::ReadableTableMetadata;

use super::failure::StorageResult;
use super::hot::{InMemory, Size};
use super::membership::Filter;
use super::schema::{self, Fingerprint, HAS_REPEATS};
use super::state::SegmentState;
use super::view::View;
use crate::error::Result;

impl View {
    /// Whether a segment may hold a fingerprint; if not, nothing needs to be read.
    pub(super) fn may_contain(&self, index: usize, fingerprint: Fingerprint) -> Result<bool> {
        Ok(!matches!(self.ask_memory(index, fingerprint)?, InMemory::Absent))
    }

    /// What memory knows of a fingerprint in a segment: by its membership filter, or its hot index.
    pub(super) fn ask_memory(&self, index: usize, fingerprint: Fingerprint) -> Result<InMemory> {
        let Some(segment) = self.state.segments.get(index) else { return Ok(InMemory::Absent) };
        if segment.filter.is_stored() && segment.filter.is_worth_loading() {
            let filter = segment.filter.get_or_load(|| self.load_filter(index, segment))?;
            if filter.is_some_and(|filter| !filter.may_contain(fingerprint)) {
                return Ok(InMemory::Absent);
            }
        }
        let answer = segment.hot.ask(fingerprint);
        if matches!(answer, InMemory::Unknown) {
            self.grow_hot_index(index, segment)?;
        }
        Ok(answer)
    }

    /// Copies a slice of a segment's table into its hot index, if it was asked often enough and it is this view's turn.
    fn grow_hot_index(&self, index: usize, segment: &SegmentState) -> Result<()> {
        let Some(table) = self.fingerprints(index)? else { return Ok(()) };
        let size = || Ok(Size { rows: table.len().storage()?, is_sealed: segment.sealed_len > 0 });
        let read = |start, wanted| {
            let rows = table.range::<Fingerprint>(start..).storage()?.take(wanted);
            let row = |row: redb::Result<_>| {
                let (fingerprint, entry): (redb::AccessGuard<'_, u128>, redb::AccessGuard<'_, u32>) =
                    row.storage()?;
                Ok((fingerprint.value(), entry.value() & !HAS_REPEATS))
            };
            rows.map(row).collect()
        };
        segment.hot.grow(&self.state.hot_budget, self.state.geometry, segment.folds, size, read)
    }

    fn load_filter(&self, index: usize, segment: &SegmentState) -> Result<Option<Filter>> {
        let Some(table) = self.snapshot.table(schema::MEMBERSHIP)? else { return Ok(None) };
        let mut blocks = Vec::new();
        let key = |block| (self.state.id, segment.number, block);
        for row in table.range(key(0)..=key(u32::MAX)).storage()? {
            blocks.push(row.storage()?.1.value().to_vec());
        }
        let Some(filter) = Filter::from_blocks(&blocks) else { return Ok(None) };
        let Some(fingerprints) = self.fingerprints(index)? else { return Ok(None) };
        let mut sample = Vec::new();
        for row in fingerprints.range::<u128>(..).storage()?.take(16) {
            sample.push(row.storage()?.0.value());
        }
        Ok(filter.knows_all(&sample).then_some(filter))
    }
}
