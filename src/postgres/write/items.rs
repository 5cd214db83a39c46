//! The columns that records and claimed items have in common.

use crate::backend::batch::Batch;
use crate::postgres::values::{Bits, version_columns};

/// The columns of some items.
#[derive(Default)]
pub(super) struct ItemColumns {
    pub(super) fingerprints: Vec<Bits>,
    pub(super) entity_types: Vec<i64>,
    pub(super) values: Vec<Vec<u8>>,
    pub(super) contents: Vec<Option<Bits>>,
    pub(super) ordinals: Vec<Option<i64>>,
}

impl ItemColumns {
    pub(super) fn push(&mut self, batch: &Batch, index: usize) {
        let Some(item) = batch.items().get(index) else { return };
        let (content, ordinal) = version_columns(batch.version(index));
        self.fingerprints.push(Bits(item.fingerprint));
        self.entity_types.push(item.entity_type.get().into());
        self.values.push(batch.value(index).as_bytes().to_vec());
        self.contents.push(content);
        self.ordinals.push(ordinal);
    }
}
