//! Proves that timestamps convert to the same points in jiff.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, reason = "a test fails so")]

use datapool_store::{ErrorKind, Timestamp};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_timestamp_is_the_same_point_in_jiff(micros: i64, seconds in -1_000_000_000_i64..4_000_000_000, nanos in 0..1_000_000_000_i32) {
        let time = Timestamp::from_micros(micros);
        match jiff::Timestamp::try_from(time) {
            Ok(there) => prop_assert_eq!(Timestamp::from(there), time),
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                prop_assert!(jiff::Timestamp::from_microsecond(micros).is_err());
            }
        }
        let there = jiff::Timestamp::new(seconds, nanos).unwrap();
        let here = Timestamp::from(there);
        prop_assert_eq!(here, there.to_string().parse::<Timestamp>().unwrap());
    }
}
