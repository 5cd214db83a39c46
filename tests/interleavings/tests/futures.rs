//! The calls of async code, which threads of the store run.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use datapool_store::{AsyncPool, AsyncStore, ErrorKind, Mode, Origin, Pool, Result, WaitOutcome};
use datapool_store_interleavings::{contains, explore, key, store, together};
use shuttle::future::block_on;
use shuttle::thread;

const LEASE: Duration = Duration::from_secs(60);

async fn track(pool: &AsyncPool, value: u64) -> Result<bool> {
    let verdicts = pool.dedupe(Mode::FilterAndTrack, &[value], |value| key(*value), &Origin::none()).await?;
    Ok(verdicts.new_count() == 1)
}

/// Polls a future once, and drops it. Returns its answer if it had one.
fn poll_and_drop<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

fn async_store() -> (AsyncStore, AsyncPool) {
    let (store, pool, _) = store();
    (store.to_async(), pool.to_async())
}

#[test]
fn every_future_is_answered_once() {
    explore("futures: answers", || {
        let (_store, pool) = async_store();
        let new = together(3, &Arc::new(pool.clone()), |thread, pool: &AsyncPool| {
            block_on(async {
                let own = track(pool, thread).await.unwrap();
                assert!(own && pool.contains(key(thread)).await.unwrap());
                track(pool, 10).await.unwrap()
            })
        });
        assert_eq!(new.iter().filter(|new| **new).count(), 1);
        assert_eq!(contains(&pool.to_blocking(), &[0, 1, 2, 10]).unwrap(), [true; 4]);
    });
}

#[test]
fn what_a_dropped_future_claimed_is_released() {
    explore("futures: dropped claim", || {
        let (_store, pool) = async_store();
        let dropping = {
            let pool = pool.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    drop(poll_and_drop(pool.claim(&[1], |value| key(*value), &Origin::none(), LEASE)));
                }
            })
        };
        block_on(async {
            loop {
                let mut claim = pool.claim(&[1], |value| key(*value), &Origin::none(), LEASE).await.unwrap();
                if claim.held_count() == 1 {
                    break assert_eq!(claim.confirm().await.unwrap().confirmed_count(), 1);
                }
                let outcomes = pool.wait_for(&[key(1)], Duration::MAX).await.unwrap();
                assert!(matches!(outcomes[..], [WaitOutcome::Free]), "{outcomes:?}");
            }
        });
        dropping.join().unwrap();
        block_on(pool.blocking(|pool| pool.claims())).unwrap();
    });
}

#[test]
fn a_task_that_waits_is_woken_when_the_claim_ends() {
    explore("futures: waiting", || {
        let (_store, pool) = async_store();
        let claim = block_on(pool.claim(&[1, 2], |value| key(*value), &Origin::none(), LEASE)).unwrap();
        let waiting = pool.clone();
        let waiter = thread::spawn(move || {
            drop(poll_and_drop(waiting.wait_for(&[key(2)], Duration::MAX)));
            block_on(waiting.wait_for(&[key(1), key(2)], Duration::MAX)).unwrap()
        });
        let limited = pool.clone();
        let limited =
            thread::spawn(move || block_on(limited.wait_for(&[key(2)], Duration::from_secs(1))).unwrap());
        let mut claim = claim;
        assert_eq!(block_on(claim.confirm_items(&[0])).unwrap().confirmed_count(), 1);
        drop(claim);
        let outcomes = waiter.join().unwrap();
        assert!(matches!(outcomes[..], [WaitOutcome::Tracked(_), WaitOutcome::Free]), "{outcomes:?}");
        limited.join().unwrap();
    });
}

#[test]
fn a_task_that_waits_with_a_limit_is_told_when_it_is_over() {
    explore("futures: limit", || {
        let (_store, pool) = async_store();
        let claim = block_on(pool.claim(&[1], |value| key(*value), &Origin::none(), LEASE)).unwrap();
        let outcomes = together(2, &Arc::new(pool), |thread, pool: &AsyncPool| {
            block_on(pool.wait_for(&[key(1)], Duration::from_secs(1 + thread))).unwrap()
        });
        for outcomes in outcomes {
            assert!(matches!(outcomes[..], [WaitOutcome::InFlight { .. }]), "{outcomes:?}");
        }
        assert_eq!(claim.held_count(), 1);
    });
}

/// How far a long call is.
#[derive(Default)]
struct Progress {
    has_begun: AtomicBool,
    has_ended: AtomicBool,
}

#[test]
fn closing_answers_every_future_and_loses_nothing_that_was_answered() {
    explore("futures: closing", || {
        let (store, pool) = async_store();
        let progress = Arc::new(Progress::default());
        let closing = {
            let (store, progress) = (store.clone(), Arc::clone(&progress));
            thread::spawn(move || {
                let had_begun = progress.has_begun.load(Ordering::SeqCst);
                block_on(store.close()).unwrap();
                let has_ended = progress.has_ended.load(Ordering::SeqCst);
                assert!(has_ended || !had_begun, "it has not waited for the long call");
                had_begun
            })
        };
        let told = together(3, &Arc::new((pool.clone(), progress)), |thread, (pool, progress)| {
            let progress = Arc::clone(progress);
            let long = move |pool: &Pool| {
                progress.has_begun.store(true, Ordering::SeqCst);
                let tracked = datapool_store_interleavings::track(pool, &[1]);
                progress.has_ended.store(true, Ordering::SeqCst);
                Ok(tracked?[0])
            };
            let tracked = block_on(async {
                match thread {
                    0 => track(pool, 0).await,
                    1 => pool.blocking(long).await,
                    _ => {
                        assert!(!pool.contains(key(2)).await?);
                        poll_and_drop(track(pool, 20)).unwrap_or(Ok(false))
                    }
                }
            });
            match tracked {
                Ok(is_tracked) => is_tracked,
                Err(error) if error.kind() == ErrorKind::Closed => false,
                Err(error) => panic!("{error}"),
            }
        });
        let had_begun = closing.join().unwrap();
        assert!(told[1] || !had_begun, "a call that had begun was refused");
        block_on(store.reopen()).unwrap();
        let found = contains(&pool.to_blocking(), &[0, 1]).unwrap();
        assert_eq!(found, told[..2], "{told:?}");
    });
}

#[test]
fn a_task_that_waits_is_told_when_the_store_is_closed() {
    explore("futures: waiting and closing", || {
        let (store, pool) = async_store();
        let claim = block_on(pool.claim(&[1], |value| key(*value), &Origin::none(), LEASE)).unwrap();
        let waiter = thread::spawn(move || block_on(pool.wait_for(&[key(1)], Duration::MAX)));
        let dropping = thread::spawn(move || drop(claim));
        block_on(store.close()).unwrap();
        match waiter.join().unwrap() {
            Ok(outcomes) => assert!(matches!(outcomes[..], [WaitOutcome::Free]), "{outcomes:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
        }
        dropping.join().unwrap();
    });
}

#[test]
fn the_threads_end_after_the_last_handle_even_if_futures_are_left() {
    explore("futures: last handle", || {
        let (store, pool) = async_store();
        let left = pool.claim(&[1], |value| key(*value), &Origin::none(), LEASE);
        let dropping = {
            let pool = pool.clone();
            thread::spawn(move || drop((poll_and_drop(left), poll_and_drop(track(&pool, 2)))))
        };
        let awaiting = thread::spawn(move || block_on(track(&pool, 3)).unwrap());
        drop(store);
        dropping.join().unwrap();
        assert!(awaiting.join().unwrap());
    });
}
