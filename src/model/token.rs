//! Tokens: a claim as text, for another process or a restarted one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::PoolId;

/// The token of a claim, to be stored in a file, a message or a database. A process that has the token can
/// take up the claim with [`DataPoolStore::resume_claim`](crate::DataPoolStore::resume_claim).
///
/// Prints, parses and serializes as one line of ASCII text. It names the store, the pool and the claim, and
/// contains a secret random number. Treat it like a password for the claim's items.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimToken {
    pub(crate) store: u128,
    pub(crate) pool: PoolId,
    pub(crate) claim: u64,
    pub(crate) nonce: u128,
}

/// The beginning of every token's text.
const PREFIX: &str = "dpclaim1";

impl fmt::Display for ClaimToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, pool, claim, nonce } = self;
        write!(f, "{PREFIX}.{store:032x}.{pool}.{claim}.{nonce:032x}")
    }
}

impl fmt::Debug for ClaimToken {
    /// Prints the token without its secret number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimToken")
            .field("pool", &self.pool)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

impl FromStr for ClaimToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let token = parse(text).filter(|token| token.to_string() == text);
        token.ok_or_else(|| {
            Error::invalid_argument(format!(
                "a text of {} bytes is not a claim's token; allowed is what a token prints, {PREFIX}.<store>.<pool>.\
                 <claim>.<nonce>",
                text.len()
            ))
        })
    }
}

fn parse(text: &str) -> Option<ClaimToken> {
    let mut parts = text.split('.');
    let (prefix, store) = (parts.next()?, parts.next()?);
    let (pool, claim) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let nonce = u128::from_str_radix(parts.next()?, 16).ok()?;
    let store = u128::from_str_radix(store, 16).ok()?;
    (prefix == PREFIX && parts.next().is_none()).then_some(ClaimToken { store, pool, claim, nonce })
}

impl Serialize for ClaimToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClaimToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_reads_back_from_its_text(store: u128, pool: u64, claim: u64, nonce: u128) {
            let token = ClaimToken { store, pool: pool.into(), claim, nonce };
            let text = token.to_string();
            prop_assert_eq!(text.parse::<ClaimToken>().unwrap(), token);
            let json = serde_json::to_string(&token).unwrap();
            prop_assert_eq!(&json, &format!("\"{text}\""));
            prop_assert_eq!(serde_json::from_str::<ClaimToken>(&json).unwrap(), token);
            let (shown, secret) = (format!("{token:?}"), format!("{nonce:032x}"));
            prop_assert!(!shown.contains(&secret));
        }

        #[test]
        fn any_other_text_is_an_error(text in ".{0,120}") {
            prop_assert!(text.parse::<ClaimToken>().is_err());
        }
    }
}
