//! Versions: the content of an item, or a number that orders its versions.
//!
//! Owns: [`Version`], its text, and the rule that decides if one version follows another. Must not know:
//! where versions are stored.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, shown};

/// The version of an item: a digest of its content, or a number that is higher for newer versions.
///
/// Prints, parses and serializes as `c:` and the digest in 32 hexadecimal digits, or as `o:` and the number
/// in decimal.
///
/// ```
/// use datapool_store::{Key, Version};
///
/// assert_eq!(Key::new(54, "SKU-1").ordinal(7).version(), Some(Version::Ordinal(7)));
/// let version = Version::of_content(b"red, 10 EUR");
/// assert_eq!(version.to_string().parse::<Version>()?, version);
/// # Ok::<(), datapool_store::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// The first 128 bits of the content's BLAKE3 digest.
    Content([u8; 16]),
    /// A number that is higher for newer versions, such as an updated-at time or a sequence number.
    Ordinal(i64),
}

impl Version {
    /// Returns the version of an item with this content. The digest has no key, so every store computes the
    /// same one.
    pub fn of_content(content: impl AsRef<[u8]>) -> Self {
        let mut digest = [0; 16];
        blake3::Hasher::new().update(content.as_ref()).finalize_xof().fill(&mut digest);
        Self::Content(digest)
    }

    /// Returns true if an item with the version `asked` changes a key whose version is `stored`. **This is
    /// the only place of that rule.**
    ///
    /// A different content is a change. So is an ordinal that is higher, or that follows no ordinal. An item
    /// without a version changes nothing.
    pub(crate) fn changes(asked: Option<Self>, stored: Option<Self>) -> bool {
        match (asked, stored) {
            (None, _) => false,
            (Some(Self::Ordinal(asked)), Some(Self::Ordinal(stored))) => asked > stored,
            (Some(asked), stored) => stored != Some(asked),
        }
    }
}

impl Version {
    /// Returns true if the version is a content digest.
    pub(crate) fn is_content(version: Option<Self>) -> bool {
        matches!(version, Some(Self::Content(_)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(digest) => {
                let mut text = String::with_capacity(2 + 2 * digest.len());
                text.push_str("c:");
                digest.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
                f.pad(&text)
            }
            Self::Ordinal(number) => f.pad(&format!("o:{number}")),
        }
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Parses the text that a version prints.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for any other text.
    fn from_str(text: &str) -> Result<Self> {
        let version = parse(text).filter(|version| version.to_string() == text);
        version.ok_or_else(|| {
            Error::invalid_argument(format!(
                "{} is not a version; allowed are c: and 32 digits from 0123456789abcdef, and o: and a number from {} to {}",
                shown(text),
                i64::MIN,
                i64::MAX
            ))
        })
    }
}

fn parse(text: &str) -> Option<Version> {
    match text.split_at_checked(2)? {
        ("c:", digits) => Some(Version::Content(u128::from_str_radix(digits, 16).ok()?.to_be_bytes())),
        ("o:", digits) => Some(Version::Ordinal(digits.parse().ok()?)),
        _ => None,
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_version() -> impl Strategy<Value = Version> {
        prop_oneof![any::<[u8; 16]>().prop_map(Version::Content), any::<i64>().prop_map(Version::Ordinal)]
    }

    /// Digests are stored, and compared with those of other stores. This is a test vector of BLAKE3 itself.
    #[test]
    fn the_digest_is_frozen() {
        assert_eq!(Version::of_content(b"").to_string(), "c:af1349b9f5f9a1a6a0404dea36dcc949");
        assert_eq!(Version::of_content("IETF").to_string(), "c:83a2de1ee6f4e6ab686889248f4ec0cf");
    }

    proptest! {
        #[test]
        fn a_version_reads_back_from_its_text(version in any_version()) {
            let text = version.to_string();
            prop_assert_eq!(text.parse::<Version>().unwrap(), version);
            let json = serde_json::to_string(&version).unwrap();
            prop_assert_eq!(&json, &format!("\"{text}\""));
            prop_assert_eq!(serde_json::from_str::<Version>(&json).unwrap(), version);
        }

        #[test]
        fn any_other_text_is_an_error(text in "[co]?:?[-+0-9a-fA-F]{0,40}|.{0,40}") {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }

    #[test]
    fn what_is_nearly_a_version_is_refused() {
        for text in
            ["", "c:", "o:", "o:+1", "o:01", "o:-0", "o:9223372036854775808", "c:00", "7", "x:7", "ö:7"]
        {
            let error = text.parse::<Version>().unwrap_err();
            assert!(error.to_string().contains("is not a version; allowed are c: and 32 digits"), "{error}");
        }
    }
}
