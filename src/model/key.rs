//! Keys, and values that consist of several fields.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::version::Version;

use crate::error::{Error, Result};
use crate::ids::EntityTypeId;
use crate::limits;

/// The key that deduplication compares: a value and its entity type.
///
/// The value is compared exactly: it is never trimmed, folded or normalised. It has 1 to 4,096 bytes, which
/// the call that takes the key checks.
///
/// A key may have a version: [`content`](Self::content) or [`ordinal`](Self::ordinal). Then an item that has
/// changed since its key was tracked passes again.
///
/// ```
/// # use datapool_store::{DataPoolStore, Key, Mode, Origin, Verdict};
/// # fn main() -> datapool_store::Result<()> {
/// # let pool = DataPoolStore::in_memory()?.get_or_create_pool("products")?;
/// let key = |product: &(&'static str, &str)| Key::new(54, product.0).content(product.1);
/// let _ = pool.dedupe(Mode::FilterAndTrack, &[("SKU-1", "10 EUR")], key, &Origin::none())?;
/// let verdicts = pool.dedupe(Mode::FilterAndTrack, &[("SKU-1", "12 EUR")], key, &Origin::none())?;
/// assert!(matches!(verdicts[0], Verdict::Changed { .. }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a> {
    pub(crate) entity_type: EntityTypeId,
    pub(crate) value: Cow<'a, str>,
    pub(crate) version: Option<Version>,
}

impl<'a> Key<'a> {
    /// Creates the key of a value within an entity type. The value is borrowed from a `&str` or a `&String`,
    /// or owned by the key if it is a `String`. The value of an integer is its decimal text.
    ///
    /// ```
    /// use datapool_store::Key;
    ///
    /// let number = String::from("1545");
    /// assert_eq!(Key::new(37, &number), Key::new(37, 1545_u64));
    /// assert_eq!(Key::new(37, -7).value(), "-7");
    /// ```
    pub fn new(entity_type: impl Into<EntityTypeId>, value: impl Into<KeyText<'a>>) -> Self {
        Self { entity_type: entity_type.into(), value: value.into().0, version: None }
    }

    /// Sets the version to a digest of the item's content, and replaces any earlier version. An item passes
    /// again when its content differs from that of the newest record of its key. For example, content A, then
    /// B, then A again counts as changed each time.
    ///
    /// The digest is computed here, and the content is not kept. Pass the fields that matter, in a fixed
    /// form.
    #[must_use]
    pub fn content(mut self, content: impl AsRef<[u8]>) -> Self {
        self.version = Some(Version::of_content(content));
        self
    }

    /// Sets the version to a number that orders the versions of the item, such as an updated-at time or a
    /// sequence number. Replaces any earlier version. An item passes again when its number is higher than
    /// that of the newest record of its key.
    #[must_use]
    pub fn ordinal(mut self, number: i64) -> Self {
        self.version = Some(Version::Ordinal(number));
        self
    }

    /// Returns the entity type, the kind of thing that the value identifies.
    pub fn entity_type(&self) -> EntityTypeId {
        self.entity_type
    }

    /// Returns the value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns the version, if the key has one.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Returns the same key with an owned value.
    pub fn into_owned(self) -> Key<'static> {
        let Self { entity_type, value, version } = self;
        Key { entity_type, value: Cow::Owned(value.into_owned()), version }
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

/// Several typed fields that are joined into one value. The text is unambiguous and readable.
///
/// The text is a JSON array without white space (`["a",1,true]`), with `serde_json`'s string escapes. This
/// form never changes, because it is stored and compared. A plain value with the same text is the same value.
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
#[doc(alias("compound key", "tuple"))]
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

    /// Adds a number of any size as its canonical text. An integer gets the same text as from
    /// [`integer`](Self::integer).
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

/// The text of a value, as taken by [`Key::new`] and by filters. It is made from text, a [`CompositeKey`], or
/// the decimal text of an integer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyText<'a>(pub(crate) Cow<'a, str>);

macro_rules! from_text {
    ($($text:ty),*) => {
        $(impl<'a> From<$text> for KeyText<'a> {
            fn from(text: $text) -> Self {
                Self(text.into())
            }
        })*
    };
}

from_text!(&'a str, &'a String, String, Cow<'a, str>, CompositeKey, &'a CompositeKey);

impl<'a> From<&&'a str> for KeyText<'a> {
    fn from(text: &&'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

macro_rules! from_integers {
    ($($number:ident),*) => {
        $(impl From<$number> for KeyText<'_> {
            fn from(number: $number) -> Self {
                Self(Cow::Owned(itoa::Buffer::new().format(number).to_owned()))
            }
        }

        impl From<&$number> for KeyText<'_> {
            fn from(number: &$number) -> Self {
                (*number).into()
            }
        })*
    };
}

from_integers!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

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
