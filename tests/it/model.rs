//! Proves that the store, whatever is done to it in whatever order, answers as a list of records would.
//!
//! Random operations of [`crate::workload`] run on a store of small sizes in a real file, and on the workload's model: plain
//! lists, searched by loops. Reopening, with other sizes for its work, is one of the operations; so are letting time pass and
//! setting the clock, back as well; records expire and leases run out by it. Snapshots and scans are held across later operations
//! and must keep to what they saw; claims are held too, and handed over the reopening by tokens. Every answer is compared, and
//! after each operation everything the touched pool holds. Over PostgreSQL the same operations run, except those on a file and on
//! the clock.
//!
//! Each operation is made from some bytes, so that a failing case shrinks to few operations of few bytes.
//! `PROPTEST_CASES=10000` makes a long run.

pub(crate) mod planner;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::engine::Engine;
use crate::support::{self, Numbers};
use crate::workload::random::{Mix, SIZES};
use crate::workload::{Driver, Op};

/// As [`support::runs`], for the cases of a property; `PROPTEST_CASES` sets them, too.
pub(crate) fn cases(quick: u32, thorough: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    let cases = support::runs(quick.into(), thorough.into());
    ProptestConfig { cases: u32::try_from(cases).unwrap(), ..config }
}

/// Does what these bytes say, an operation for each row of them.
fn run(mut driver: Driver, choices: &[Vec<u8>]) {
    for name in ["pool 0", "pool 1"] {
        driver.run_and_look(&Op::Create { name: name.into(), retention: None, capacity: None });
    }
    for bytes in choices {
        let op = driver.any_op(&mut Numbers::given(bytes));
        driver.run_and_look(&op);
    }
    driver.finish();
}

/// The bytes of one operation. Behind their end there are zeros.
fn any_choice(at_most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..at_most)
}

proptest! {
    #![proptest_config(cases(24, 96))]

    #[test]
    fn the_store_answers_as_a_list_of_records_would(
        sizes in select(SIZES.to_vec()),
        cache_size in select(support::CACHE_SIZES.to_vec()),
        choices in vec(any_choice(240), 1..80),
    ) {
        let options = support::options().cache_size(cache_size);
        let driver = match Engine::of_this_run() {
            Engine::Embedded => Driver::in_file(options, sizes, Mix::Everything),
            Engine::Postgres => Driver::on_server(options),
        };
        run(driver, &choices);
    }

    #[test]
    fn claims_past_their_hour_take_no_value_back_when_the_clock_is_set_back(
        sizes in select(SIZES.to_vec()),
        choices in vec(any_choice(40), 1..60),
    ) {
        let options = support::options().cache_size(support::CACHE_SIZES[3]);
        run(Driver::in_file(options, sizes, Mix::Claims), &choices);
    }
}
