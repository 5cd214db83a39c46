//! Identifiers.
//!
//! Owns: ids of pools, records, entity types, flows, flow runs and flow steps. Always holds: text ids are
//! checked by the calls that write them or filter by them, not when they are created. So ids in files of
//! earlier versions stay readable.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, shown};
use crate::limits;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($number:ident), $noun:literal) => {
        $(#[$doc])*
        ///
        /// Prints, parses and serializes as the number.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($number);

        impl $name {
            /// Creates the id of this number.
            pub const fn new(id: $number) -> Self {
                Self(id)
            }

            /// Returns the number.
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl From<$number> for $name {
            fn from(id: $number) -> Self {
                Self(id)
            }
        }

        impl From<&Self> for $name {
            fn from(id: &Self) -> Self {
                *id
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Reads a number in decimal digits, without a sign or leading zeros. So each id has exactly one
            /// text.
            fn from_str(text: &str) -> Result<Self> {
                let id: Option<$number> = text.parse().ok();
                id.filter(|id| id.to_string() == text).map(Self).ok_or_else(|| {
                    Error::invalid_argument(format!(
                        "{} is not {}; allowed are whole numbers up to {} in digits, without leading zeros",
                        shown(text),
                        $noun,
                        $number::MAX
                    ))
                })
            }
        }
    };
}

number_id! {
    /// The id of a pool: from 1, unique in its store, never reused.
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, PoolId};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// let store = DataPoolStore::in_memory()?;
    /// let id = store.get_or_create_pool("orders")?.id();
    /// assert_eq!(id, PoolId::new(1));
    /// assert_eq!("1".parse::<PoolId>()?, id);
    /// assert_eq!(store.pool(1)?.id(), id);
    /// # Ok(())
    /// # }
    /// ```
    PoolId(u64), "a pool id"
}

number_id! {
    /// The id of a record: from 1, unique in its pool, never reused, growing with time.
    RecordId(u64), "a record id"
}

number_id! {
    /// The kind of thing that a value identifies, for example 37 for orders and 47 for customers. A value is
    /// a duplicate only within its entity type.
    EntityTypeId(u32), "an entity type"
}

/// The number in a record's id. The engine computes with it: ranges of ids, and offsets from the first id of
/// a segment.
pub(crate) type RecordNumber = u64;

macro_rules! text_id {
    ($name:ident: $($number:ident),*) => {
        $(impl From<$number> for $name {
            /// Uses the number's decimal text.
            fn from(id: $number) -> Self {
                Self(itoa::Buffer::new().format(id).into())
            }
        })*
    };
    ($name:ident, $noun:literal) => {
        #[doc = concat!("The id of a ", $noun, ": short opaque text of 1 to 64 bytes.")]
        ///
        /// Numbers (any integer type converts to an id), UUIDs and ULIDs all fit. An id contains no commas,
        /// and does not begin or end with whitespace, because query strings list ids separated by commas and
        /// blanks. The call that stores the id or filters by it checks this.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(crate) fn check(&self) -> Result<()> {
                check_text_id($noun, &self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.into())
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id.into())
            }
        }

        impl From<&String> for $name {
            fn from(id: &String) -> Self {
                Self(id.as_str().into())
            }
        }

        impl From<&Self> for $name {
            fn from(id: &Self) -> Self {
                id.clone()
            }
        }

        text_id!($name: i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

text_id!(FlowId, "flow");
text_id!(FlowRunId, "flow run");
text_id!(FlowStepId, "flow step");

fn check_text_id(noun: &str, text: &str) -> Result<()> {
    match text.len() {
        0 => Err(Error::invalid_argument(format!(
            "a {noun} id is empty; it has 1 to {} bytes",
            limits::ID_MAX_BYTES
        ))),
        length if length > limits::ID_MAX_BYTES => Err(Error::limit_exceeded(format!(
            "a {noun} id has {length} bytes; the limit is {} (ID_MAX_BYTES)",
            limits::ID_MAX_BYTES
        ))),
        _ if text.contains(',') => Err(bad_text_id(noun, text, "has a comma")),
        _ if text.trim() != text => Err(bad_text_id(noun, text, "begins or ends with a blank")),
        _ => Ok(()),
    }
}

fn bad_text_id(noun: &str, text: &str, what: &str) -> Error {
    Error::invalid_argument(format!(
        "the {noun} id {text:?} {what}; allowed is text of 1 to {} bytes without commas, and without blanks at its ends",
        limits::ID_MAX_BYTES
    ))
}
