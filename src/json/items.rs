//! The places of a document's items, and the keys of items.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::document::{Document, Elements, check_pointer, text_of};
use super::number;
use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::limits;
use crate::model::{CompositeKey, Key, check_value};
use crate::words::words;

/// The treatment of items that have no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnMissingKey {
    /// Fails with [`Json`](crate::ErrorKind::Json), which has the position. The default.
    #[default]
    Fail,
    /// Passes the item on, in every mode.
    Pass,
    /// Leaves the item out, except in [`Mode::Track`](crate::Mode::Track), which passes everything on.
    Drop,
}

words!(OnMissingKey, "a policy for items without a key": Fail => "fail", Pass => "pass", Drop => "drop");

/// The items of a JSON document: where they are, and what identifies each. Needs the feature `json`.
///
/// Pointers are JSON pointers (RFC 6901): `/order/id` is the member `id` of the member `order`, `/lines/0`
/// the first item of an array, and the empty text the whole value. Within a name, `~` is written `~0` and `/`
/// is written `~1`. Names are compared after their escapes (`\u0041`) are resolved.
///
/// # Keys
///
/// With one pointer, an item's value is the text of what the pointer leads to:
///
/// | JSON | value |
/// | --- | --- |
/// | a string | its text, escapes resolved; never trimmed or folded |
/// | a number | its exact decimal digits, without exponent and redundant zeros: `17`, `17.0` and `1.7e1` are all `17` |
/// | `true`, `false` | `true`, `false` |
/// | `null`, an empty string, or absent | the item has no key: see [`OnMissingKey`] |
/// | an array, an object | an error |
///
/// So the number 17 and the string `"17"` are the same value.
///
/// With several pointers, the value is a [`CompositeKey`], which keeps types: `["A",17]` and `["A","17"]`
/// differ. An item has no key if one of its fields is missing or `null`; an empty string is a field like any
/// other.
///
/// These rules are frozen, because values are stored.
///
/// ```
/// use datapool_store::{JsonItems, Key};
///
/// # fn main() -> datapool_store::Result<()> {
/// let items = JsonItems::new(37, "/number");
/// let order = r#"{"number": 17.0, "shop": "north"}"#;
/// assert_eq!(items.key_of(order)?, Some(Key::new(37, "17")));
/// assert_eq!(items.and_key("/shop").key_of(order)?, Some(Key::new(37, r#"[17,"north"]"#)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use]
pub struct JsonItems {
    entity_type: EntityTypeId,
    array: String,
    key: String,
    further_keys: Vec<String>,
    on_missing_key: OnMissingKey,
}

impl JsonItems {
    /// Describes items of an entity type. The JSON pointer `key` leads from an item to the value that
    /// identifies it. The document itself is the array of items, unless [`at`](Self::at) sets another one.
    pub fn new(entity_type: impl Into<EntityTypeId>, key: impl Into<String>) -> Self {
        Self {
            entity_type: entity_type.into(),
            array: String::new(),
            key: key.into(),
            further_keys: Vec::new(),
            on_missing_key: OnMissingKey::default(),
        }
    }

    /// Sets the JSON pointer from the document's root to the array of items.
    pub fn at(mut self, array: impl Into<String>) -> Self {
        self.array = array.into();
        self
    }

    /// Adds a JSON pointer. The key is then a [`CompositeKey`] of all fields, in the order in which they were
    /// added.
    pub fn and_key(mut self, key: impl Into<String>) -> Self {
        self.further_keys.push(key.into());
        self
    }

    /// Sets what happens to items without a key. Default: [`OnMissingKey::Fail`].
    pub fn on_missing_key(mut self, treatment: OnMissingKey) -> Self {
        self.on_missing_key = treatment;
        self
    }

    /// Returns the key of one item, which is a JSON document of its own. Returns `None` if it has none,
    /// unless [`on_missing_key`](Self::on_missing_key) is to fail.
    ///
    /// Use it for items that do not come in an array: the lines of a file, the messages of a queue, or items
    /// to [claim](crate::Pool::claim).
    ///
    /// # Errors
    ///
    /// `Json` if the item is not JSON, has no key, has an array or an object as its key, or has a name on the
    /// path to it twice in one object; `LimitExceeded` for a value of more than 4,096 bytes;
    /// `InvalidArgument` for a text that is not a JSON pointer.
    pub fn key_of<'a>(&self, item: &'a (impl AsRef<[u8]> + ?Sized)) -> Result<Option<Key<'a>>> {
        self.check()?;
        let document = Document::read(item.as_ref())?;
        let value = self.value_of(&document, document.root)?;
        Ok(value.map(|value| Key::new(self.entity_type, value)))
    }

    pub(super) fn entity_type(&self) -> EntityTypeId {
        self.entity_type
    }

    pub(super) fn treatment_without_key(&self) -> OnMissingKey {
        self.on_missing_key
    }

    /// Checks the pointers.
    pub(super) fn check(&self) -> Result<()> {
        check_pointer(&self.array)?;
        self.keys().try_for_each(check_pointer)
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.key).chain(&self.further_keys).map(String::as_str)
    }

    /// Finds the array of items in a document.
    pub(super) fn find_in<'a>(&self, document: &Document<'a>) -> Result<(&'a RawValue, Elements<'a>)> {
        let pointer = &self.array;
        let Some(array) = document.find(document.root, pointer)? else {
            let reason = format!("nothing is at {pointer:?}, where the array of items should be");
            return Err(document.error(document.root, reason));
        };
        if !array.get().starts_with('[') {
            let kind = kind_of(array);
            let reason = format!("{kind} is at {pointer:?}, where the array of items should be");
            return Err(document.error(array, reason));
        }
        let elements = document.elements(array, limits::BATCH_MAX_ITEMS)?;
        if elements.count > limits::BATCH_MAX_ITEMS {
            return Err(Error::limit_exceeded(format!(
                "the array at {pointer:?} has {} items; the limit is {} (BATCH_MAX_ITEMS)",
                elements.count,
                limits::BATCH_MAX_ITEMS
            )));
        }
        Ok((array, elements))
    }

    /// Returns the value of an item. Returns `None` if the item has no key and that is not an error.
    pub(super) fn value_of<'a>(
        &self,
        document: &Document<'a>,
        item: &'a RawValue,
    ) -> Result<Option<Cow<'a, str>>> {
        let value = if self.further_keys.is_empty() {
            scalar_at(document, item, &self.key)?.map(Scalar::into_value).filter(|value| !value.is_empty())
        } else {
            self.composite_of(document, item)?
        };
        match &value {
            Some(value) => check_value(value)?,
            None if self.on_missing_key == OnMissingKey::Fail => {
                return Err(document.error(item, self.missing_in(document, item)));
            }
            None => {}
        }
        Ok(value)
    }

    fn composite_of<'a>(&self, document: &Document<'a>, item: &'a RawValue) -> Result<Option<Cow<'a, str>>> {
        let mut composite = CompositeKey::new();
        for pointer in self.keys() {
            let Some(field) = scalar_at(document, item, pointer)? else { return Ok(None) };
            composite = match field {
                Scalar::Text(text) => composite.text(&text),
                Scalar::Number(number) => composite.number(&number),
                Scalar::Boolean(boolean) => composite.boolean(boolean),
            };
        }
        Ok(Some(composite.into()))
    }

    /// Returns the reason why an item has no key.
    fn missing_in<'a>(&self, document: &Document<'a>, item: &'a RawValue) -> String {
        let is_missing = |pointer: &&str| !matches!(scalar_at(document, item, pointer), Ok(Some(_)));
        let pointer = self.keys().find(is_missing).unwrap_or(&self.key);
        let found = match document.find(item, pointer) {
            Ok(Some(found)) => kind_of(found),
            _ => "nothing",
        };
        format!("the item has no key: {found} is at {pointer:?}")
    }
}

/// A scalar as the value of a key.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Number(Cow<'a, str>),
    Boolean(bool),
}

impl<'a> Scalar<'a> {
    fn into_value(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Boolean(boolean) => Cow::Borrowed(if boolean { "true" } else { "false" }),
        }
    }
}

/// Returns the scalar that a pointer leads to. Returns `None` if it leads to null or nowhere.
fn scalar_at<'a>(document: &Document<'a>, item: &'a RawValue, pointer: &str) -> Result<Option<Scalar<'a>>> {
    let Some(found) = document.find(item, pointer)? else { return Ok(None) };
    let scalar = match found.get().as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b't' | b'f') => Scalar::Boolean(found.get() == "true"),
        Some(b'"') => Scalar::Text(text_of(found).ok_or_else(|| {
            let reason = "an escape of half a character (a lone surrogate); it has no text";
            document.error(found, format_args!("the string at {pointer:?} has {reason}"))
        })?),
        Some(b'[' | b'{') => {
            let kind = kind_of(found);
            let allowed = "a key is a string, a number or a boolean";
            return Err(document.error(found, format_args!("{kind} is at {pointer:?}; {allowed}")));
        }
        _ => Scalar::Number(number::canonical(found.get()).ok_or_else(|| {
            Error::limit_exceeded(format!(
                "the number at {pointer:?}, written out, has more than {} bytes (VALUE_MAX_BYTES)",
                limits::VALUE_MAX_BYTES
            ))
        })?),
    };
    Ok(Some(scalar))
}

/// Returns a name for the kind of a value, for messages.
fn kind_of(value: &RawValue) -> &'static str {
    match value.get() {
        "null" => "null",
        "\"\"" => "an empty string",
        text if text.starts_with('[') => "an array",
        text if text.starts_with('{') => "an object",
        text if text.starts_with('"') => "a string",
        text if text.starts_with(['t', 'f']) => "a boolean",
        _ => "a number",
    }
}
