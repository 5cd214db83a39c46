//! Proves that a malformed URL of a server is refused as such, without asking any server.

use datapool_store::{DataPoolStore, ErrorKind};

#[test]
fn a_malformed_url_is_refused_with_what_is_allowed_and_without_its_password() {
    for (url, part) in [
        ("", "names no host"),
        ("postgresql://user:secret@/base", "names no host"),
        ("mysql://user:secret@127.0.0.1/base", "allowed is postgresql"),
        ("postgresql://user:secret@127.0.0.1:0/base", "1 to 65535"),
        (
            "postgresql://user:secret@127.0.0.1/base?connect_timeout=abc",
            "connect_timeout; allowed: a whole number",
        ),
        (
            "postgresql://user:secret@127.0.0.1/base?sslmode=maybe",
            "sslmode; allowed: disable, prefer or require",
        ),
        (
            "postgresql://user:secret@127.0.0.1/base?ssl=on",
            "unknown parameter ssl; allowed are application_name",
        ),
    ] {
        let error = DataPoolStore::connect(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error}");
        assert_eq!(error.parameter(), Some("url"));
        assert!(error.to_string().contains(part), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
