//! Any text as a query string: it is a query or an `InvalidQuery`, never a panic, and what is a query prints to a text
//! that parses to the same query.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use datapool_store::{Error, ErrorKind, PoolQuery, RecordQuery};

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check::<RecordQuery>(text);
    check::<PoolQuery>(text);
}

fn check<Query: FromStr<Err = Error> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<Query>() {
        Ok(query) => assert_eq!(query.to_string().parse::<Query>().unwrap(), query),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidQuery, "{error}"),
    }
}
