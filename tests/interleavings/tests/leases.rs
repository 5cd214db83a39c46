//! The thread that keeps leases alive.

use std::time::Duration;

use datapool_store::{Claim, DataPoolStore, Origin, Pool};
use datapool_store_interleavings::{explore, key, store};
use shuttle::thread;

const LEASE: Duration = Duration::from_secs(60);

fn claim(pool: &Pool, value: u64) -> Claim {
    pool.claim(&[value], |value| key(*value), &Origin::none(), LEASE).unwrap()
}

#[test]
fn a_lease_is_kept_alive_while_its_guard_lives_and_no_longer() {
    explore("leases: with the guard", || {
        let (_store, pool, clock) = store();
        let mut other = claim(&pool, 0);
        other.keep_alive().unwrap();
        let confirming = thread::spawn(move || other.confirm().unwrap().confirmed_count());
        for value in 1..4 {
            let mut kept = claim(&pool, value);
            kept.keep_alive().unwrap();
            let before = kept.until();
            clock.advance(LEASE / 2);
            // Until the thread has renewed it.
            while kept.until() <= before {
                thread::yield_now();
            }
            // A renewal that is under way must not come after this.
            let token = kept.into_token().unwrap();
            clock.advance(LEASE);
            let mut taken = claim(&pool, value);
            assert_eq!(taken.held_count(), 1, "{token:?} is still renewed: {:?}", pool.claims());
            assert_eq!(taken.confirm().unwrap().confirmed_count(), 1);
        }
        assert_eq!(confirming.join().unwrap(), 1);
    });
}

/// Does something to a store with kept leases. The test is that it ends.
fn end(name: &str, end: impl Fn(DataPoolStore, Pool, Vec<Claim>) + Send + Sync + 'static) {
    explore(name, move || {
        let (store, pool, _) = store();
        let mut claims: Vec<Claim> = (0..2).map(|value| claim(&pool, value)).collect();
        for claim in &mut claims {
            claim.keep_alive().unwrap();
        }
        end(store, pool, claims);
    });
}

#[test]
fn a_store_with_kept_leases_closes_and_opens() {
    end("leases: closing", |store, pool, mut claims| {
        let closing = {
            let store = store.clone();
            thread::spawn(move || store.close().unwrap())
        };
        let second = claims.pop().unwrap();
        let dropping = thread::spawn(move || drop(second));
        closing.join().unwrap();
        dropping.join().unwrap();
        store.reopen().unwrap();
        assert_eq!(claims[0].confirm().unwrap().confirmed_count(), 1);
        drop((store, pool));
    });
}

#[test]
fn dropping_the_last_handle_ends_the_thread() {
    end("leases: last handle", |store, pool, claims| {
        let threads: Vec<_> = claims.into_iter().map(|claim| thread::spawn(move || drop(claim))).collect();
        drop((store, pool));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
