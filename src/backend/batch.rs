//! The items of a call: keys or rows, validated and hashed on the caller's own thread.
//!
//! Owns: the texts and the fingerprints of a call's items, each in one buffer. Always holds: every item has
//! passed the checks of its fields.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::fingerprint::{BuildFingerprintHasher, Fingerprint, HashKey};
use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::limits;
use crate::model::{Key, Origin, Version};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) entity_type: EntityTypeId,
    end: usize,
}

/// The position of each value in a batch.
pub(crate) type Positions = HashMap<Fingerprint, usize, BuildFingerprintHasher>;

/// The items of a call.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    text: String,
    items: Vec<Item>,
    /// The version of each item, up to the last item that has one.
    versions: Vec<Option<Version>>,
    origin: Option<Arc<Origin>>,
}

impl Batch {
    /// Checks and hashes the keys of a call.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` or `LimitExceeded` with the index of the first bad key; `LimitExceeded` for too
    /// many.
    pub(crate) fn from_keys<'k>(
        hash_key: &HashKey,
        keys: impl ExactSizeIterator<Item = Key<'k>>,
    ) -> Result<Self> {
        check_batch_len(keys.len())?;
        let mut batch = Self { items: Vec::with_capacity(keys.len()), ..Self::default() };
        for (index, key) in keys.enumerate() {
            key.check().map_err(|error| error.with_item(index))?;
            batch.push(hash_key, key.entity_type(), key.value(), key.version());
        }
        Ok(batch)
    }

    /// Returns the same items with the given origin.
    pub(crate) fn with_origin(mut self, origin: &Origin) -> Self {
        self.origin = (!origin.is_none()).then(|| Arc::new(origin.clone()));
        self
    }

    pub(crate) fn push(
        &mut self,
        hash_key: &HashKey,
        entity_type: EntityTypeId,
        value: &str,
        version: Option<Version>,
    ) {
        if version.is_some() {
            self.versions.resize(self.items.len(), None);
            self.versions.push(version);
        }
        self.text.push_str(value);
        let fingerprint = hash_key.fingerprint(entity_type, value);
        self.items.push(Item { fingerprint, entity_type, end: self.text.len() });
    }

    /// Removes all items but keeps the allocated memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.items.clear();
        self.versions.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns the total number of bytes of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Returns true if an item has a version.
    pub(crate) fn has_versions(&self) -> bool {
        !self.versions.is_empty()
    }

    pub(crate) fn version(&self, index: usize) -> Option<Version> {
        self.versions.get(index).copied().flatten()
    }

    pub(crate) fn origin(&self) -> Option<&Arc<Origin>> {
        self.origin.as_ref()
    }

    pub(crate) fn value(&self, index: usize) -> &str {
        let start = index.checked_sub(1).and_then(|before| self.items.get(before)).map_or(0, |item| item.end);
        let end = self.items.get(index).map_or(start, |item| item.end);
        self.text.get(start..end).unwrap_or_default()
    }

    /// Calls `ask` once for each distinct fingerprint, in ascending order, because lookups in that order
    /// touch neighbouring pages. Returns the answers in the order of the items.
    pub(crate) fn ask_each<T: Clone + Default>(
        &self,
        ask: impl FnMut(Fingerprint) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.ask_together(|fingerprints| fingerprints.iter().copied().map(ask).collect())
    }

    /// Like [`ask_each`](Self::ask_each), for some of the items.
    pub(crate) fn ask_some<T: Clone + Default>(
        &self,
        indexes: &[usize],
        ask: impl FnMut(Fingerprint) -> Result<T>,
    ) -> Result<Vec<T>> {
        let fingerprint = |index: &usize| self.items.get(*index).map_or(0, |item| item.fingerprint);
        let order = indexes.iter().map(fingerprint).zip(0..).collect();
        Self::ask_in_order(order, |fingerprints| fingerprints.iter().copied().map(ask).collect())
    }

    /// Like [`ask_each`](Self::ask_each), but calls `ask` once with all distinct fingerprints. It returns the
    /// answers in the same order.
    pub(crate) fn ask_together<T: Clone + Default>(
        &self,
        ask: impl FnOnce(&[Fingerprint]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let order = self.items.iter().map(|item| item.fingerprint).zip(0..).collect();
        Self::ask_in_order(order, ask)
    }

    fn ask_in_order<T: Clone + Default>(
        mut order: Vec<(Fingerprint, usize)>,
        ask: impl FnOnce(&[Fingerprint]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        order.sort_unstable();
        let mut distinct: Vec<_> = order.iter().map(|(fingerprint, _)| *fingerprint).collect();
        distinct.dedup();
        let mut answers = vec![T::default(); order.len()];
        for (items, answer) in order.chunk_by(|a, b| a.0 == b.0).zip(ask(&distinct)?) {
            for (_, index) in items {
                if let Some(slot) = answers.get_mut(*index) {
                    slot.clone_from(&answer);
                }
            }
        }
        Ok(answers)
    }
}

pub(crate) fn check_batch_len(len: usize) -> Result<()> {
    if len <= limits::BATCH_MAX_ITEMS {
        return Ok(());
    }
    Err(Error::limit_exceeded(format!(
        "the call has {len} items; the limit is {} (BATCH_MAX_ITEMS)",
        limits::BATCH_MAX_ITEMS
    )))
}
