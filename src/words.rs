//! Enums as words: how policies, modes and orders print, parse and serialize.
//!
//! Always holds: each variant has exactly one word and parses from it.

/// Gives a fieldless enum its words: `as_str`, `ALL`, `Display`, `FromStr` and serde.
macro_rules! words {
    ($type:ident, $noun:literal: $($choice:ident => $word:literal),+ $(,)?) => {
        impl $type {
            /// Every variant.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$choice),+];

            /// Returns the word of this variant, as it prints, parses and serializes.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$choice => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::Error;

            fn from_str(text: &str) -> $crate::error::Result<Self> {
                Self::ALL.into_iter().find(|choice| choice.as_str() == text).ok_or_else(|| {
                    $crate::error::Error::invalid_argument(format!(
                        "{} is not {}; allowed are {}",
                        $crate::error::shown(text),
                        $noun,
                        [$($word),+].join(", ")
                    ))
                })
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = <String as serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use words;
