//! Proves that the store, after any operations in any order, has the same answers as a list of records.
//!
//! Random operations of [`crate::workload`] run on a store with small sizes in a real file, and on the
//! workload's model: plain lists that are searched by loops. The operations include reopening with other work
//! sizes, letting time pass, and setting the clock, even backwards, so records expire and leases run out.
//! Snapshots and scans are held across later operations and must not change. Claims are held, too, and
//! survive reopening as tokens. Every answer is compared, and after each operation the complete contents of
//! the affected pool. In PostgreSQL the same operations run, except those on a file and on the clock.
//!
//! Each operation is generated from some bytes, so that a failing case shrinks to a few operations with few
//! bytes. `PROPTEST_CASES=10000` makes a long run.

pub(crate) mod planner;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::engine::Engine;
use crate::support::{self, Numbers};
use crate::workload::random::{Mix, SIZES};
use crate::workload::{Driver, Op};

/// Like [`support::runs`], for the cases of a property. `PROPTEST_CASES` also sets them.
pub(crate) fn cases(quick: u32, thorough: u32) -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    let cases = support::runs(quick.into(), thorough.into());
    ProptestConfig { cases: u32::try_from(cases).unwrap(), ..config }
}

/// Runs the operations, each generated from one sequence of bytes.
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

/// Generates the bytes of one operation. After their end, they read as zeros.
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
