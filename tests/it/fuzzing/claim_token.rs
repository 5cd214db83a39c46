//! Any text as a claim token: it is either a token that prints as the same text, or an error. Of all tokens,
//! a store accepts only the one that it gave.
//!
//! `#s` and `#n` in the input stand for the unpredictable parts of the only valid token.

use std::sync::OnceLock;
use std::time::Duration;

use datapool_store::{Claim, ClaimToken, ClaimVerdict, DataPoolStore, ErrorKind, Key, Origin};

use crate::support::{self, ORDERS};

/// A store with one claim, and its token.
struct Claimed {
    store: DataPoolStore,
    token: String,
}

fn claimed() -> &'static Claimed {
    static CLAIMED: OnceLock<Claimed> = OnceLock::new();
    CLAIMED.get_or_init(|| {
        let options = support::options().clock(support::clock());
        let store = options.open_in_memory().unwrap();
        let pool = store.get_or_create_pool("orders").unwrap();
        let lease = Duration::from_hours(1);
        support::track(&pool, &["tracked"]);
        let batch = ["tracked", "A-1"];
        let claim = pool.claim(&batch, |v| Key::new(ORDERS, *v), &Origin::none(), lease).unwrap();
        let token = claim.into_token().unwrap().to_string();
        Claimed { store, token }
    })
}

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Claimed { store, token: good } = claimed();
    let mut parts = good.split('.');
    let (id, nonce) = (parts.nth(1).unwrap(), parts.next_back().unwrap());
    let text = text.replace("#s", id).replace("#n", nonce);
    let quoted = serde_json::to_string(&text).unwrap();
    let token = match text.parse::<ClaimToken>() {
        Ok(token) => token,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(serde_json::from_str::<ClaimToken>(&quoted).is_err());
            return;
        }
    };
    assert_eq!(token.to_string(), text);
    assert_eq!(serde_json::from_str::<ClaimToken>(&quoted).unwrap(), token);
    match store.resume_claim(&token) {
        Ok(claim) => {
            assert_eq!(&text, good, "a claim was taken up by another token");
            assert_eq!(claim.verdicts(), [(1, ClaimVerdict::Claimed)]);
            // Dropping the guard would release its items, which the next input needs.
            assert_eq!(Claim::into_token(claim), Some(token));
        }
        Err(error) => {
            assert_ne!(&text, good, "{error}");
            let kinds = [ErrorKind::NotFound, ErrorKind::LeaseLost, ErrorKind::InvalidArgument];
            assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
        }
    }
}
