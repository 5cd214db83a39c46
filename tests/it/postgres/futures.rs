//! Futures over a server: those that wait for the same pool share transactions, and each gets its own answer.

use datapool_store::{AsyncClaim, Mode, Origin, Verdicts};
use futures_executor::block_on;
use futures_util::future::join_all;

use super::{LEASE, connect, key, new_schema};
use crate::support::numbered;

#[test]
#[ignore = "needs a server: .ci/postgres runs it"]
fn futures_that_share_transactions_get_the_verdicts_of_one_after_the_other() {
    const FUTURES: usize = 40;
    const TOGETHER: usize = 10;
    let store = connect(&new_schema()).to_async();
    let pools = block_on(join_all(["orders", "others"].map(|name| store.create_pool(name))));
    let pools: Vec<_> = pools.into_iter().map(Result::unwrap).collect();
    let values = numbered("A", FUTURES + TOGETHER);
    // Each brings one value that none before it has, and of both pools in turns.
    let calls = (0..2 * FUTURES).map(|number| {
        let batch = &values[number / 2..number / 2 + TOGETHER];
        pools[number % 2].dedupe(Mode::FilterAndTrack, batch, key, &Origin::none())
    });
    let verdicts: Vec<_> = block_on(join_all(calls)).into_iter().map(Result::unwrap).collect();
    for pool in 0..2 {
        let new: usize = verdicts.iter().skip(pool).step_by(2).map(Verdicts::new_count).sum();
        assert_eq!(new, FUTURES + TOGETHER - 1, "each value is new to one future");
    }

    let claims = (0..FUTURES).map(|number| {
        let value = [format!("C-{}", number % 4)];
        pools[0].claim(&value, key, &Origin::none(), LEASE)
    });
    let claims: Vec<_> = block_on(join_all(claims)).into_iter().map(Result::unwrap).collect();
    let mut fences: Vec<u64> = claims.iter().filter_map(AsyncClaim::fencing_number).collect();
    let in_order = fences.clone();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!((fences.len(), &fences), (4, &in_order), "each value has one holder, and numbers grow");
}
