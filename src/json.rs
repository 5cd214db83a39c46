//! JSON documents: deduplicating the items of a document, and passing the document on.
//!
//! Owns: the choice of which parts of a document are passed on. Always holds: these parts are unchanged, byte
//! for byte. Must not know: how verdicts are found. That is the task of [`Pool::dedupe`].

mod document;
mod items;
mod number;

use std::borrow::Cow;

use crate::dedupe::{Mode, Verdict};
use crate::error::Result;
use crate::model::{Key, Origin};
use crate::pool::Pool;
use document::Document;

pub use items::{JsonItems, OnMissingKey};

/// A JSON document with only those of its items that a deduplication passes on. Needs the feature `json`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the payload has the items to pass on"]
#[non_exhaustive]
pub struct DedupedJson<'p> {
    /// The document: borrowed and unchanged if all items passed.
    pub payload: Cow<'p, str>,
    /// The number of items in the payload.
    pub passed: usize,
    /// The verdict on each item of the original document, in order: `None` if the item has no key.
    pub verdicts: Vec<Option<Verdict>>,
}

impl Pool {
    /// Finds out which items of a JSON document are new, and returns the document with only the items that
    /// the mode passes on. The new items are tracked unless the mode is [`Mode::Filter`]. Needs the feature
    /// `json`.
    ///
    /// This is one atomic step, as in [`dedupe`](Self::dedupe). `items` describes where the items are and
    /// what identifies each. In [`Mode::Track`], everything passes. In the other modes, new items pass; items
    /// that another runner has claimed do not. [`on_missing_key`](JsonItems::on_missing_key) decides about
    /// items without a key.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, EntityTypeId, JsonItems, Mode, Origin, Verdict};
    ///
    /// const ORDERS: EntityTypeId = EntityTypeId::new(37);
    /// # fn main() -> datapool_store::Result<()> {
    /// let pool = DataPoolStore::in_memory()?.get_or_create_pool("orders")?;
    /// let items = JsonItems::new(ORDERS, "/number").at("/orders");
    /// let origin = Origin::new("shop", "run 1", "read orders");
    ///
    /// let payload = r#"{"page": 1, "orders": [{"number": 17}, {"number": 18}, {"number": "17"}]}"#;
    /// let deduped = pool.dedupe_json(Mode::FilterAndTrack, payload, &items, &origin)?;
    /// assert_eq!(deduped.payload, r#"{"page": 1, "orders": [{"number": 17}, {"number": 18}]}"#);
    /// assert_eq!(deduped.verdicts, [Some(Verdict::New), Some(Verdict::New), Some(Verdict::Duplicate)]);
    ///
    /// let next = r#"{"page": 2, "orders": [ {"number": 18}, {"number": 19.50} ]}"#;
    /// let deduped = pool.dedupe_json(Mode::FilterAndTrack, next, &items, &origin)?;
    /// assert_eq!(deduped.payload, r#"{"page": 2, "orders": [ {"number": 19.50} ]}"#);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # The document
    ///
    /// `payload` is text or bytes: `&str`, `&String`, `&[u8]`, `&Vec<u8>`. It is one JSON value (RFC 8259) in
    /// UTF-8; a byte order mark at its start is skipped and kept. It may be as large and as deeply nested as
    /// memory allows. Besides the document, the call needs memory for a copy of it, and for each item about
    /// 100 bytes and the value.
    ///
    /// Items and everything outside of the array stay as they are, byte for byte: white space, the order of
    /// members, the spelling of numbers, and escapes. If all items pass, the document is returned unchanged.
    /// Otherwise an item is removed together with the comma and the white space between it and the previous
    /// item, so that an indented document stays indented. If the first items are removed, the first remaining
    /// item takes their place, after the white space that precedes the first item. If no item remains, the
    /// array becomes `[]`.
    ///
    /// Names that occur twice in one object are left as they are. It is an error if a pointer asks for such a
    /// name, because programs differ in which value they read.
    ///
    /// # Errors
    ///
    /// `Json`, with line and column, and with the [index](crate::Error::item) of the item where it is about
    /// one: the document is not JSON or not UTF-8; the pointer does not lead to an array; an item has no key,
    /// or an array or an object as its key; a name on the pointer's path occurs twice. `LimitExceeded` for
    /// more than 1,048,576 items (those without a key count, too), or a value of more than 4,096 bytes.
    /// `InvalidArgument` for a text that is not a JSON pointer. Otherwise the errors of
    /// [`dedupe`](Self::dedupe). In all cases but `OutcomeUnknown` nothing was tracked.
    pub fn dedupe_json<'p>(
        &self,
        mode: Mode,
        payload: &'p (impl AsRef<[u8]> + ?Sized),
        items: &JsonItems,
        origin: &Origin,
    ) -> Result<DedupedJson<'p>> {
        items.check()?;
        let document = Document::read(payload.as_ref())?;
        let (array, elements) = items.find_in(&document)?;
        let elements = elements.first;
        let mut values = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let value = items.value_of(&document, element).map_err(|error| error.with_item(index))?;
            values.push(value);
        }
        let keyed: Vec<&str> = values.iter().filter_map(Option::as_deref).collect();
        let entity_type = items.entity_type();
        let found = self.dedupe(mode, &keyed, |value| Key::new(entity_type, *value), origin)?;

        let passes_without_key = mode == Mode::Track || items.treatment_without_key() == OnMissingKey::Pass;
        let mut of_keys =
            found.as_slice().iter().zip(0..).map(|(verdict, index)| (*verdict, found.passes(index)));
        let mut passes = Vec::with_capacity(elements.len());
        let mut verdicts = Vec::with_capacity(elements.len());
        for value in &values {
            let of_key = value.as_ref().and_then(|_| of_keys.next());
            verdicts.push(of_key.map(|(verdict, _)| verdict));
            passes.push(of_key.map_or(passes_without_key, |(_, passes)| passes));
        }
        Ok(DedupedJson {
            payload: document.retain(array, &elements, &passes),
            passed: passes.iter().filter(|passes| **passes).count(),
            verdicts,
        })
    }
}
