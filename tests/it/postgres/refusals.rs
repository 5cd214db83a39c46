//! Errors of the server, by their code (SQLSTATE): what callers are told, and which calls are tried again.

use datapool_store::{ErrorKind, Mode, Origin};

use super::{ask, connect, key, new_schema};
use crate::support::numbered;

/// Tracks two values while the server refuses so many insertions of records with a code. Returns the number of those that are new, or the
/// error; and the number of attempts.
fn track_while_refused(code: &str, times: u32) -> (Result<usize, datapool_store::Error>, u32) {
    let schema = new_schema();
    let pool = connect(&schema).create_pool("orders").unwrap();
    // A sequence counts on when a transaction is rolled back.
    ask(&format!(
        "CREATE SEQUENCE {schema}.attempts; \
         CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
         IF nextval(''{schema}.attempts'') <= {times} THEN RAISE ''not today'' USING ERRCODE = ''{code}''; END IF; \
         RETURN NULL; END'; \
         CREATE TRIGGER refuse BEFORE INSERT ON {schema}.record EXECUTE FUNCTION {schema}.refuse()"
    ));
    let answer = pool.dedupe(Mode::Track, &numbered("A", 2), key, &Origin::none());
    let attempts = ask(&format!("SELECT last_value FROM {schema}.attempts")).parse().unwrap();
    ask(&format!("DROP FUNCTION {schema}.refuse() CASCADE"));
    let stored = ask(&format!("SELECT count(*) FROM {schema}.record"));
    assert_eq!(stored, if answer.is_ok() { "2" } else { "0" }, "{code}");
    (answer.map(|verdicts| verdicts.new_count()), attempts)
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn what_would_be_refused_again_is_tried_once_and_its_kind_says_why() {
    for (code, kind) in [
        ("53100", ErrorKind::StorageFull),
        ("53200", ErrorKind::Storage),
        ("25006", ErrorKind::ReadOnly),
        ("XX001", ErrorKind::Corrupt),
        ("42501", ErrorKind::Storage),
        ("57014", ErrorKind::Storage),
    ] {
        let (answer, attempts) = track_while_refused(code, 1);
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), attempts), (kind, 1), "{code}: {error}");
        assert!(error.to_string().contains(&format!("not today ({code})")), "{error}");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn conflicts_and_lost_connections_are_tried_again_until_they_pass() {
    // Serialization, deadlock, a name that is taken, statements that poolers lose, and the ends of connections.
    for code in ["40001", "40P01", "23505", "26000", "42P05", "08006", "57P01", "53300", "25P03"] {
        let (answer, attempts) = track_while_refused(code, 3);
        assert_eq!((answer.unwrap(), attempts), (2, 4), "{code}");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn a_conflict_that_stays_is_an_error_after_twenty_more_attempts() {
    let (answer, attempts) = track_while_refused("40001", 1_000);
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), attempts), (ErrorKind::Storage, 21), "{error}");
}
