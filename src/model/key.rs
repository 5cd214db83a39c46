//! Keys, and values that are made of several fields.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::limits;

/// The key that deduplication compares: a value within an entity type.
///
/// The value is compared exactly: it is never trimmed, folded or normalised. It has 1 to 4,096 bytes; the call that
/// takes the key checks that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    pub(crate) entity_type: EntityTypeId,
    pub(crate) value: Cow<'a, str>,
}

impl<'a> Key<'a> {
    /// Creates the key of a value within an entity type. The value is borrowed from a `&str` or a `&String`, or owned
    /// by the key if it is a `String`.
    pub fn new(entity_type: impl Into<EntityTypeId>, value: impl Into<Cow<'a, str>>) -> Self {
        Self { entity_type: entity_type.into(), value: value.into() }
    }

    /// Returns the entity type: the kind of thing that the value identifies.
    pub fn entity_type(&self) -> EntityTypeId {
        self.entity_type
    }

    /// Returns the value.
    pub fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_value(&self.value)
    }
}

pub(crate) fn check_value(value: &str) -> Result<()> {
    match value.len() {
        0 => Err(Error::invalid_argument(format!(
            "a value is empty; it has 1 to {} bytes",
            limits::VALUE_MAX_BYTES
        ))),
        length if length > limits::VALUE_MAX_BYTES => Err(Error::limit_exceeded(format!(
            "a value has {length} bytes; the limit is {} (VALUE_MAX_BYTES)",
            limits::VALUE_MAX_BYTES
        ))),
        _ => Ok(()),
    }
}

/// Several typed fields joined into one value, unambiguously and readably.
///
/// The text is a JSON array without white space (`["a",1,true]`), with `serde_json`'s string escapes. This form is
/// frozen, because it is stored and compared. A plain value with the same text is the same value.
///
/// ```
/// use datapool_store::{CompositeKey, Key};
///
/// let key = CompositeKey::new().text("JFK").integer(1545).boolean(true);
/// assert_eq!(key.as_str(), r#"["JFK",1545,true]"#);
/// assert_ne!(CompositeKey::new().text("1"), CompositeKey::new().integer(1));
/// let key: Key<'_> = Key::new(37, &key);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CompositeKey(String);

impl CompositeKey {
    /// Creates a key without fields: `[]`.
    pub fn new() -> Self {
        Self("[]".to_owned())
    }

    /// Adds a text field.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.push(&serde_json::Value::from(field).to_string())
    }

    /// Adds an integer field.
    #[must_use]
    pub fn integer(self, field: impl Into<i128>) -> Self {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", field.into());
        self.push(&text)
    }

    /// Adds a number of any size, in its canonical text: an integer has the text that [`integer`](Self::integer)
    /// gives it.
    #[cfg(feature = "json")]
    pub(crate) fn number(self, canonical: &str) -> Self {
        self.push(canonical)
    }

    /// Adds a boolean field.
    #[must_use]
    pub fn boolean(self, field: bool) -> Self {
        self.push(if field { "true" } else { "false" })
    }

    /// Returns the value's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn push(mut self, field: &str) -> Self {
        self.0.pop();
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(field);
        self.0.push(']');
        self
    }
}

impl Default for CompositeKey {
    fn default() -> Self {
        Self::new()
    }
}

impl From<CompositeKey> for Cow<'_, str> {
    fn from(key: CompositeKey) -> Self {
        Cow::Owned(key.0)
    }
}

impl<'a> From<&'a CompositeKey> for Cow<'a, str> {
    fn from(key: &'a CompositeKey) -> Self {
        Cow::Borrowed(&key.0)
    }
}
