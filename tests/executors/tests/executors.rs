//! Proves that the store's futures return the right answers, and that no thread that polls or drops one waits
//! for the disk.

#![allow(missing_docs, reason = "tests are named as sentences")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails so")]

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use datapool_executors::{Executor, WatchedDisk, as_executor, poll_once, watched};
use datapool_store::{
    AsyncClaim, AsyncPool, AsyncStore, ClaimFilter, ClaimOptions, ClaimOutcome, ClaimVerdict, DataPoolStore,
    ErrorKind, ExportOptions, ImportOptions, Key, ManualClock, Mode, NewPool, Origin, PoolQuery, PoolUpdate,
    RecordFilter, RecordQuery, StoreFuture, StoreOptions, Verdict, WaitOutcome, limits,
};

const HOUR: Duration = Duration::from_hours(1);

/// The longest time that a test may take.
const PATIENCE: Duration = Duration::from_mins(1);

fn key(value: &str) -> Key<'_> {
    Key::new(37, value)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "it is called with references to items")]
fn by_number(number: &usize) -> Key<'static> {
    Key::new(37, format!("value {number}"))
}

fn open(disk: &WatchedDisk) -> (DataPoolStore, AsyncPool) {
    let store = disk.open(&StoreOptions::new()).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap().to_async();
    (store, pool)
}

/// The executors in which everything must work.
#[derive(Debug, Clone, Copy)]
enum Under {
    TokioOneThread,
    TokioManyThreads,
    Smol,
    ByHand,
}

impl Under {
    const ALL: [Self; 4] = [Self::TokioOneThread, Self::TokioManyThreads, Self::Smol, Self::ByHand];

    /// Runs tasks concurrently. Returns their outputs in order.
    fn run<T: Send + 'static>(self, tasks: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
        let tasks = tasks.into_iter().map(watched);
        match self {
            Self::TokioOneThread => on_tokio(tokio::runtime::Builder::new_current_thread(), tasks),
            Self::TokioManyThreads => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                builder.worker_threads(4);
                on_tokio(builder, tasks)
            }
            Self::Smol => {
                let executor = smol::Executor::new();
                let tasks: Vec<_> = tasks.map(|task| executor.spawn(task)).collect();
                smol::block_on(executor.run(async move {
                    let mut outputs = Vec::new();
                    for task in tasks {
                        outputs.push(task.await);
                    }
                    outputs
                }))
            }
            Self::ByHand => Executor::default().run(tasks.collect()),
        }
    }
}

fn on_tokio<T: Send + 'static>(
    mut builder: tokio::runtime::Builder,
    tasks: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let runtime = builder.build().unwrap();
    let tasks: Vec<_> = tasks.map(|task| runtime.spawn(task)).collect();
    runtime.block_on(async move {
        let mut outputs = Vec::new();
        for task in tasks {
            outputs.push(task.await.unwrap());
        }
        outputs
    })
}

/// Runs one future until it is ready.
fn block_on<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    Under::ByHand.run(vec![future]).pop().unwrap()
}

/// Like [`block_on`], for a future that borrows.
fn block_on_local<T>(future: impl Future<Output = T>) -> T {
    Executor::default().run(vec![future]).pop().unwrap()
}

/// Runs a test on a thread, so that a hang makes it fail.
fn within_patience(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(PATIENCE) {
        panic!("the test did not finish in time");
    }
    thread.join().unwrap();
}

#[test]
fn of_all_tasks_that_bring_a_value_one_gets_it_under_any_executor() {
    for under in Under::ALL {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        let task = |number: usize| {
            let pool = pool.clone();
            async move {
                let values = [number / 4, 1_000 + number % 7];
                let verdicts =
                    pool.dedupe(Mode::FilterAndTrack, &values, by_number, &Origin::none()).await.unwrap();
                let is_new =
                    |(value, verdict): (&usize, &Verdict)| (*verdict == Verdict::New).then_some(*value);
                values.iter().zip(verdicts.as_slice()).filter_map(is_new).collect::<Vec<usize>>()
            }
        };
        let mut got: Vec<usize> = under.run((0..400).map(task).collect()).concat();
        got.sort_unstable();
        let expected: Vec<usize> = (0..100).chain(1_000..1_007).collect();
        assert_eq!(got, expected, "{under:?}");
        assert_eq!(store.pool_named("orders").unwrap().count(&RecordFilter::all()).unwrap(), 107);
        assert!(store.verify().unwrap().ok);
        assert!(!disk.was_touched(), "{under:?}");
    }
}

#[test]
fn a_runner_claims_works_and_confirms_under_any_executor() {
    for under in Under::ALL {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        let task = |number: usize| {
            let pool = pool.clone();
            async move {
                let values = [number, number + 1];
                let options = ClaimOptions::new().lease(HOUR).owner(format!("worker {number}"));
                let mut claim = pool.claim_with(&values, by_number, &Origin::none(), &options).await.unwrap();
                let mine = claim.partition(values).fresh;
                assert_eq!(claim.held_count(), mine.len());
                if !mine.is_empty() {
                    claim.extend(2 * HOUR).await.unwrap();
                }
                if number.is_multiple_of(3) {
                    // The guard is dropped, so a caller that waits for these values gets them.
                    return (claim.fencing_number(), Vec::new());
                }
                let confirmed = claim.confirm().await.unwrap();
                confirmed.all_confirmed().unwrap();
                (claim.fencing_number(), mine)
            }
        };
        let (fences, mut confirmed): (Vec<Option<u64>>, Vec<Vec<usize>>) =
            under.run((0..200).map(task).collect()).into_iter().unzip();
        let mut fences: Vec<u64> = fences.into_iter().flatten().collect();
        let grants = fences.len();
        fences.sort_unstable();
        fences.dedup();
        assert_eq!(fences.len(), grants, "a fencing number was given twice");
        let mut confirmed: Vec<usize> = confirmed.drain(..).flatten().collect();
        confirmed.sort_unstable();
        block_on(store.to_async().flush()).unwrap();
        let blocking = store.pool_named("orders").unwrap();
        let mut tracked: Vec<usize> = blocking
            .scan(&RecordFilter::all())
            .unwrap()
            .map(|record| record.unwrap().value["value ".len()..].parse().unwrap())
            .collect();
        tracked.sort_unstable();
        assert_eq!(tracked, confirmed, "{under:?}");
        assert_eq!(blocking.claims().unwrap(), [], "a dropped guard released nothing");
        assert!(!disk.was_touched(), "{under:?}");
    }
}

/// Makes each call, by its name, and compares the result with that of the blocking call.
#[test]
fn every_call_answers_as_the_one_that_blocks() {
    let disk = WatchedDisk::default();
    let (blocking, pool) = open(&disk);
    let store = blocking.to_async();
    let directory = tempfile::tempdir().unwrap();
    let (exported, backup) = (directory.path().join("out.csv"), directory.path().join("backup.redb"));
    block_on(watched(async move {
        let origin = Origin::new("flow", "run", "step");
        let values = ["A", "B", "A"];
        let verdicts = pool.dedupe_with_first(Mode::Track, &values, |v| key(v), &origin).await.unwrap();
        assert_eq!((verdicts.new_count(), verdicts.first(2).unwrap().value.as_str()), (2, "A"));
        let filtered = pool.dedupe(Mode::Filter, &["B", "C"], |v| key(v), &origin).await.unwrap();
        assert_eq!(filtered.as_slice(), [Verdict::Duplicate, Verdict::New]);

        let sync = pool.to_blocking();
        let (query, all) = (RecordQuery::new().flow_id("flow"), RecordFilter::all());
        assert_eq!(pool.id(), sync.id());
        assert_eq!(pool.info().await.unwrap(), sync.info().unwrap());
        assert!(pool.contains(key("A")).await.unwrap() && !pool.contains(key("C")).await.unwrap());
        let keys = [key("C"), key("B")];
        assert_eq!(pool.contains_many(&keys).await.unwrap(), [false, true]);
        assert_eq!(pool.lookup(&keys).await.unwrap(), sync.lookup(&keys).unwrap());
        assert_eq!(pool.records(&query).await.unwrap(), sync.records(&query).unwrap());
        assert_eq!(pool.count(&all).await.unwrap(), 2);
        assert_eq!(pool.entity_type_counts().await.unwrap(), sync.entity_type_counts().unwrap());
        assert_eq!(pool.flow_counts().await.unwrap(), sync.flow_counts().unwrap());
        assert_eq!(pool.stats().await.unwrap().live, 2);
        let scanned: Vec<_> =
            pool.blocking(move |pool| pool.scan(&RecordFilter::all())?.collect()).await.unwrap();
        assert_eq!(scanned, sync.scan(&all).unwrap().map(Result::unwrap).collect::<Vec<_>>());

        let report = pool.import_csv("value,entity_type_id\nC,37\nD,37\n".as_bytes(), ImportOptions::new());
        assert_eq!(report.await.unwrap().added, 2);
        assert_eq!(pool.export_csv_path(&exported, ExportOptions::new()).await.unwrap().rows, 4);
        assert_eq!(pool.import_csv_path(exported, ImportOptions::new()).await.unwrap().added, 4);
        assert_eq!(pool.export_csv(Vec::new(), ExportOptions::new()).await.unwrap().rows, 8);

        let id = sync.lookup(&[key("A")]).unwrap()[0].as_ref().unwrap().id;
        assert_eq!(pool.delete_records([id]).await.unwrap(), 1);
        assert_eq!(pool.delete_keys(&[key("B")]).await.unwrap(), 2);
        assert_eq!(pool.delete_where(&RecordFilter::new()).await.unwrap(), 0);
        assert_eq!(pool.delete_where(&RecordFilter::new().value("C")).await.unwrap(), 2);
        assert_eq!(pool.clear().await.unwrap(), 3);
        pool.prune().await.unwrap();

        let options = ClaimOptions::new().lease(HOUR).owner("worker");
        let claim = pool.claim_with(&values, |v| key(v), &origin, &options).await.unwrap();
        assert_eq!(pool.claims().await.unwrap()[0].owner.as_deref(), Some("worker"));
        assert_eq!(claim.verdicts().len(), 3);
        assert_eq!(claim.verdict(2), Some(&ClaimVerdict::Duplicate(None)));
        assert_eq!(claim.keys().map(|(index, _)| index).collect::<Vec<_>>(), [0, 1]);
        let token = claim.token().unwrap();
        assert_eq!(claim.into_token(), Some(token));
        let mut claim = store.resume_claim(&token).await.unwrap();
        claim.keep_alive().await.unwrap();
        assert!(claim.until() > sync.info().unwrap().created_at);
        claim.confirm_items(&[1]).await.unwrap().all_confirmed().unwrap();
        assert_eq!(claim.release_keys(&[key("A")]).await.unwrap(), 1);
        assert_eq!(claim.extend(HOUR).await.unwrap_err().kind(), ErrorKind::LeaseLost);
        drop(claim);

        let claim = pool.claim_with(&["E", "F", "G"], |v| key(v), &origin, &options).await.unwrap();
        let _ = claim.into_token();
        let mut resumed = pool.resume_claims_of("worker").await.unwrap();
        assert_eq!(resumed.len(), 1);
        resumed[0].confirm_keys(&[key("F")]).await.unwrap().all_confirmed().unwrap();
        assert_eq!(resumed[0].release_items(&[0]).await.unwrap(), 1);
        assert_eq!(resumed[0].release().await.unwrap(), 1);
        let mut claim = pool.claim(&["K", "L"], |v| key(v), &origin, HOUR).await.unwrap();
        let confirmation = claim.confirm_with(|index| (index == 1).then_some("kept")).await.unwrap();
        let ClaimOutcome::Confirmed(id) = confirmation.outcomes()[1].1 else { panic!("{confirmation:?}") };
        assert_eq!(pool.result(id).await.unwrap().as_deref(), Some(b"kept".as_slice()));
        let keys = [key("L"), key("K"), key("C")];
        assert_eq!(pool.results(&keys).await.unwrap(), sync.results(&keys).unwrap());
        assert_eq!(pool.results(&keys).await.unwrap(), [Some(b"kept".to_vec()), None, None]);

        let claim = pool.claim(&["H"], |v| key(v), &origin, HOUR).await.unwrap();
        assert_eq!(pool.release_claims(&ClaimFilter::all()).await.unwrap(), 1);
        drop(claim);

        let other = store.create_pool(NewPool::new("others")).await.unwrap();
        assert_eq!(store.pool(other.id()).await.unwrap().id(), other.id());
        assert_eq!(store.pool_named("others").await.unwrap().id(), other.id());
        assert_eq!(store.get_or_create_pool("others").await.unwrap().id(), other.id());
        let renamed = store.update_pool(other.id(), PoolUpdate::new().name("renamed")).await.unwrap();
        assert_eq!(renamed.name, "renamed");
        assert_eq!(store.pools(&PoolQuery::new()).await.unwrap().data.len(), 2);
        store.delete_pool(other.id()).await.unwrap();
        assert_eq!(other.info().await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.stats().await.unwrap().pools, 1);
        store.prune().await.unwrap();
        store.flush().await.unwrap();
        assert!(store.verify().await.unwrap().ok);
        store.backup_to(backup).await.unwrap();
        store.compact().await.unwrap();
        assert_eq!(store.delete_where(&RecordFilter::new().value("nobody's")).await.unwrap(), 0);
        assert!(store.vacuum().await.unwrap().bytes_after > 0);
        assert_eq!(store.blocking(DataPoolStore::stats).await.unwrap().pools, 1);
        store.close().await.unwrap();
        assert_eq!(pool.contains(key("A")).await.unwrap_err().kind(), ErrorKind::Closed);
        store.reopen().await.unwrap();
        assert!(pool.contains(key("B")).await.unwrap());
    }));
}

/// The future of a call, without the type of its answer.
type AnyFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), ErrorKind>> + Send>>;

fn any<T: Send + 'static>(future: StoreFuture<T>) -> AnyFuture {
    Box::pin(async move { future.await.map(drop).map_err(|error| error.kind()) })
}

/// Returns futures of all kinds of calls. `number` makes their values distinct.
fn calls(pool: &AsyncPool, store: &AsyncStore, number: usize) -> Vec<AnyFuture> {
    let (values, origin) = ([number, number + 1], Origin::none());
    let csv = format!("value,entity_type_id\nvalue {},37\n", number + 2);
    vec![
        any(pool.dedupe(Mode::FilterAndTrack, &values, by_number, &origin)),
        any(pool.dedupe(Mode::Filter, &values, by_number, &origin)),
        any(pool.claim(&[number + 3], by_number, &origin, HOUR)),
        any(pool.contains(by_number(&number))),
        any(pool.results(&[by_number(&number)])),
        any(pool.result(1)),
        any(pool.records(&RecordQuery::new())),
        any(pool.wait_for(&[by_number(&number)], HOUR)),
        any(pool.delete_keys(&[by_number(&(number + 4))])),
        any(pool.import_csv(std::io::Cursor::new(csv), ImportOptions::new())),
        any(pool.resume_claims_of("nobody")),
        any(store.get_or_create_pool("orders")),
        any(store.stats()),
        any(store.flush()),
    ]
}

#[test]
fn no_poll_and_no_drop_waits_for_a_disk_that_is_held_up() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        let store = store.to_async();
        let guards: Vec<AsyncClaim> = (0..3)
            .map(|n| block_on(pool.claim(&[900 + n], by_number, &Origin::none(), HOUR)).unwrap())
            .collect();
        let mut guards = guards.into_iter();
        disk.hold(true);
        let mut begun = calls(&pool, &store, 0);
        for future in &mut begun {
            let _ = poll_once(future.as_mut());
        }
        let (mut confirmed, mut extended) = (guards.next().unwrap(), guards.next().unwrap());
        let mut confirming = Box::pin(async move { confirmed.confirm().await.map(drop) });
        assert!(poll_once(confirming.as_mut()).is_pending());
        let mut extending = Box::pin(async move { extended.extend(HOUR).await.map(drop) });
        assert!(poll_once(extending.as_mut()).is_pending());
        // The second half of the futures is dropped, and so are a guard and all handles.
        let given_up = begun.split_off(begun.len() / 2);
        let closing = store.close();
        as_executor(|| drop((given_up, extending, guards, store, pool)));
        let mut closing = Box::pin(closing);
        assert!(poll_once(closing.as_mut()).is_pending());
        disk.hold(false);
        for outcome in Under::ByHand.run(begun) {
            outcome.unwrap();
        }
        block_on(confirming).unwrap();
        block_on(closing).unwrap();
        assert!(!disk.was_touched());
        let store = disk.open(&StoreOptions::new()).unwrap();
        let pool = store.pool_named("orders").unwrap();
        for number in [0, 1, 900] {
            assert!(pool.contains(by_number(&number)).unwrap(), "{number}");
        }
    });
}

#[test]
fn closing_finishes_what_was_submitted_and_refuses_what_comes_later() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        let (kept, store) = (store.clone(), store.to_async());
        disk.hold(true);
        let mut before: Vec<_> = (0..50)
            .map(|n| Box::pin(pool.dedupe(Mode::FilterAndTrack, &[n], by_number, &Origin::none())))
            .collect();
        let mut read = Box::pin(pool.contains(by_number(&7)));
        let csv = "value,entity_type_id\nimported,37\n".as_bytes();
        let mut import = Box::pin(pool.import_csv(csv, ImportOptions::new()));
        for future in &mut before {
            assert!(poll_once(future.as_mut()).is_pending());
        }
        assert!(poll_once(read.as_mut()).is_pending() && poll_once(import.as_mut()).is_pending());
        let mut closing = Box::pin(store.close());
        assert!(poll_once(closing.as_mut()).is_pending());
        for mut later in calls(&pool, &store, 100) {
            assert_eq!(poll_once(later.as_mut()), Poll::Ready(Err(ErrorKind::Closed)));
        }
        disk.hold(false);
        for verdicts in Under::ByHand.run(before) {
            assert_eq!(verdicts.unwrap().new_count(), 1);
        }
        block_on(read).unwrap();
        assert_eq!(block_on(import).unwrap().added, 1);
        block_on(closing).unwrap();
        assert_eq!(kept.stats().unwrap_err().kind(), ErrorKind::Closed);
        let store = disk.open(&StoreOptions::new()).unwrap();
        assert_eq!(store.pool_named("orders").unwrap().count(&RecordFilter::all()).unwrap(), 51);
        assert!(!disk.was_touched());
    });
}

/// Drops each future after some number of polls, sometimes at once and sometimes later. Its call must have
/// happened completely or not at all.
#[test]
fn a_future_that_is_dropped_at_any_await_point_has_done_all_or_nothing() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        let (blocking, store) = (store.pool_named("orders").unwrap(), store.to_async());
        let held =
            |number: &usize| blocking.wait_for(&[by_number(number)], Duration::ZERO).unwrap().remove(0);
        let mut seen = BTreeMap::new();
        for round in 0..400 {
            let number = round * 10;
            // Another runner's call goes first. It is being written while our future is dropped.
            let mut other = pin!(pool.dedupe(Mode::Track, &[number + 9], by_number, &Origin::none()));
            if round.is_multiple_of(3) {
                let _ = poll_once(other.as_mut());
            }
            let polls = round % 4;
            let pause = Duration::from_micros([0, 0, 10, 50, 200, 1_000][round % 6]);
            let polled = |future: &mut std::pin::Pin<&mut (dyn Future<Output = ()> + Send)>| {
                for _ in 0..polls {
                    if poll_once(future.as_mut()).is_ready() {
                        return;
                    }
                    thread::sleep(pause);
                }
            };
            let batch = [number, number + 1, number + 2];
            let track = pool.dedupe(Mode::FilterAndTrack, &batch, by_number, &Origin::none());
            let mut tracking = Box::pin(async move { drop(track.await) });
            polled(&mut (tracking.as_mut() as std::pin::Pin<&mut (dyn Future<Output = ()> + Send)>));
            as_executor(|| drop(tracking));

            let batch = [number + 3, number + 4];
            let claim = pool.claim(&batch, by_number, &Origin::none(), HOUR);
            let mut claiming = Box::pin(async move {
                let mut claim = claim.await.unwrap();
                claim.extend(HOUR).await.unwrap();
                claim.confirm_items(&[1]).await.unwrap().all_confirmed().unwrap();
                // A guard whose future was dropped can still be used.
                claim.confirm().await.unwrap().all_confirmed().unwrap();
            });
            polled(&mut (claiming.as_mut() as std::pin::Pin<&mut (dyn Future<Output = ()> + Send)>));
            as_executor(|| drop(claiming));
            block_on(store.flush()).unwrap();
            // The release by a dropped guard comes after a call that is being written.
            block_on(store.flush()).unwrap();

            let tracked: Vec<bool> =
                (0..5).map(|n| blocking.contains(by_number(&(number + n))).unwrap()).collect();
            assert!(tracked[0] == tracked[1] && tracked[1] == tracked[2], "{tracked:?}");
            assert!(!tracked[3] || tracked[4], "{tracked:?}");
            for (n, tracked) in [(3, tracked[3]), (4, tracked[4])] {
                match held(&(number + n)) {
                    WaitOutcome::Tracked(_) => assert!(tracked),
                    WaitOutcome::Free => assert!(!tracked),
                    other => panic!("round {round}: the claim was not released: {other:?}"),
                }
            }
            *seen.entry((polls, tracked[0], tracked[4])).or_insert(0) += 1;
        }
        assert!(blocking.claims().unwrap().is_empty());
        assert!(seen.keys().any(|(polls, tracked, _)| *polls > 0 && *tracked), "{seen:?}");
        assert!(
            seen.keys().all(|(polls, tracked, confirmed)| *polls > 0 || !tracked && !confirmed),
            "{seen:?}"
        );
        assert!(!disk.was_touched());
    });
}

#[test]
fn a_guard_knows_what_became_of_a_call_that_was_given_up() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (_store, pool) = open(&disk);
        for round in 0..200_usize {
            let batch = [round * 10, round * 10 + 1];
            let mut claim = block_on(pool.claim(&batch, by_number, &Origin::none(), HOUR)).unwrap();
            {
                let mut confirming = pin!(claim.confirm_items(&[0]));
                let _ = poll_once(confirming.as_mut());
                if round.is_multiple_of(2) {
                    thread::sleep(Duration::from_micros(round as u64));
                }
            }
            let rest = block_on(async move {
                let rest = claim.confirm().await.unwrap();
                assert_eq!(claim.held_count(), 0);
                rest
            });
            // Item 0 was confirmed either by the first call or by this one: exactly once.
            rest.all_confirmed().unwrap();
            assert!(matches!(rest.confirmed_count(), 1 | 2));
            let tracked = pool.to_blocking().contains_many(&batch.map(|number| by_number(&number))).unwrap();
            assert_eq!(tracked, [true, true]);
        }
    });
}

/// Even if a call's future was dropped at any moment, each item has the result of the call that confirmed
/// it.
#[test]
fn results_are_asked_for_at_once_and_kept_by_the_call_that_confirms() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (_store, pool) = open(&disk);
        let (blocking, mut first, mut second) = (pool.to_blocking(), 0, 0);
        for round in 0..200_usize {
            let mut claim = block_on(pool.claim(&[round], by_number, &Origin::none(), HOUR)).unwrap();
            let mut asked = 0;
            {
                let confirming = claim.confirm_with(|_| {
                    asked += 1;
                    Some("first")
                });
                let mut confirming = pin!(confirming);
                if !round.is_multiple_of(4) {
                    let _ = poll_once(confirming.as_mut());
                }
                // The future is dropped before the call is submitted, after it is on disk, or at any moment
                // in between.
                while round % 4 == 2 && !blocking.contains(by_number(&round)).unwrap() {
                    thread::yield_now();
                }
            }
            assert_eq!(asked, 1, "before the future is polled");
            // If the first poll already returned the answer, nothing is left to confirm.
            let confirmation = block_on(async move { claim.confirm_with(|_| Some("second")).await.unwrap() });
            confirmation.all_confirmed().unwrap();
            match blocking.results(&[by_number(&round)]).unwrap().remove(0).unwrap().as_slice() {
                b"first" => first += 1,
                b"second" => second += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(first >= 50 && second >= 50, "{first} and {second}");
        let mut claim = block_on(pool.claim(&[1_000], by_number, &Origin::none(), HOUR)).unwrap();
        let refused = block_on_local(async {
            claim.confirm_with(|_| Some(vec![0; limits::RESULT_MAX_BYTES + 1])).await.unwrap_err().kind()
        });
        assert_eq!((refused, claim.held_count()), (ErrorKind::LimitExceeded, 1));
        as_executor(|| drop(claim));
        assert!(!disk.was_touched());
    });
}

/// The number of threads that the store has started in this process.
#[cfg(target_os = "linux")]
fn store_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("datapool")).count()
}

#[test]
fn a_thousand_tasks_wait_for_one_claim_and_one_for_a_thousand() {
    within_patience(|| {
        for under in Under::ALL {
            let disk = WatchedDisk::default();
            let (_store, pool) = open(&disk);
            let values: Vec<usize> = (0..1_000).collect();
            let mut claim = block_on(pool.claim(&values, by_number, &Origin::none(), HOUR)).unwrap();
            let (waiting, all_wait) = mpsc::channel::<()>();
            let task = |number: usize| {
                let (pool, waiting) = (pool.clone(), waiting.clone());
                async move {
                    let keys: Vec<Key<'_>> = match number {
                        0 => (0..1_000).map(|n| by_number(&n)).collect(),
                        _ => vec![by_number(&0)],
                    };
                    // The timeout is over, and the answer shows it.
                    let outcomes = pool.wait_for(&keys, Duration::from_millis(1)).await.unwrap();
                    assert!(outcomes.iter().all(|of| matches!(of, WaitOutcome::InFlight { .. })));
                    drop(waiting);
                    let outcomes = pool.wait_for(&keys, HOUR).await.unwrap();
                    assert_eq!(outcomes.len(), keys.len());
                    outcomes.iter().all(|outcome| matches!(outcome, WaitOutcome::Tracked(_)))
                }
            };
            let tasks: Vec<_> = (0..1_000).map(task).collect();
            drop(waiting);
            let runner = thread::spawn(move || under.run(tasks));
            assert!(all_wait.recv().is_err(), "the channel ends without a message");
            #[cfg(target_os = "linux")]
            assert!(store_threads() <= 6 * 8, "{} threads", store_threads());
            let confirmed = block_on(async move { claim.confirm().await.map(|of| of.confirmed_count()) });
            assert_eq!(confirmed.unwrap(), 1_000);
            assert!(runner.join().unwrap().into_iter().all(|tracked| tracked), "{under:?}");
            assert!(!disk.was_touched());
        }
    });
}

#[test]
fn who_waits_is_woken_by_the_end_of_a_lease_and_by_closing() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        let claim =
            block_on(pool.claim(&[1], by_number, &Origin::none(), Duration::from_millis(200))).unwrap();
        let _ = claim.into_token();
        let outcomes = block_on(pool.wait_for(&[by_number(&1)], HOUR)).unwrap();
        assert_eq!(outcomes, [WaitOutcome::Free]);

        let claim = block_on(pool.claim(&[2], by_number, &Origin::none(), HOUR)).unwrap();
        let _ = claim.into_token();
        let waiting = pool.wait_for(&[by_number(&2)], HOUR);
        let waiter = thread::spawn(move || block_on(waiting));
        thread::sleep(Duration::from_millis(20));
        block_on(store.to_async().close()).unwrap();
        assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn the_last_handle_leaves_closing_to_a_thread() {
    within_patience(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.redb");
        let options = StoreOptions::new().open_timeout(PATIENCE);
        for round in 0..20_usize {
            let store = block_on(options.open_async(&path)).unwrap();
            let pool = block_on(store.get_or_create_pool("orders")).unwrap();
            assert_eq!(pool.to_blocking().count(&RecordFilter::all()).unwrap(), round as u64);
            let tracked = pool.dedupe(Mode::Track, &[round], by_number, &Origin::none());
            drop((store, pool));
            // The future is the last handle now.
            if round.is_multiple_of(2) {
                assert_eq!(block_on(tracked).unwrap().new_count(), 1);
            } else {
                let mut tracked = Box::pin(tracked);
                assert!(poll_once(tracked.as_mut()).is_pending());
                // The future was dropped. Its call was submitted and may run, and then it runs completely.
                thread::sleep(Duration::from_millis(20));
                as_executor(|| drop(tracked));
            }
        }
    });
}

#[test]
fn errors_come_with_the_future_and_change_nothing() {
    let disk = WatchedDisk::default();
    let (_store, pool) = open(&disk);
    let kind_of = |future: AnyFuture| block_on(future).unwrap_err();
    let none = Origin::none();
    let empty = ["A", ""];
    assert_eq!(kind_of(any(pool.dedupe(Mode::Track, &empty, |v| key(v), &none))), ErrorKind::InvalidArgument);
    assert_eq!(block_on(pool.dedupe(Mode::Filter, &empty, |v| key(v), &none)).unwrap_err().item(), Some(1));
    assert_eq!(kind_of(any(pool.claim(&["A"], |v| key(v), &none, Duration::ZERO))), ErrorKind::LimitExceeded);
    assert_eq!(kind_of(any(pool.resume_claims_of(""))), ErrorKind::InvalidArgument);
    assert_eq!(kind_of(any(pool.records(&RecordQuery::new().page(0)))), ErrorKind::InvalidQuery);
    assert_eq!(kind_of(any(pool.wait_for(&[key("")], HOUR))), ErrorKind::InvalidArgument);
    let panics = pool.blocking(|_| -> datapool_store::Result<()> { panic!("on purpose") });
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| block_on(panics))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    assert_eq!(pool.to_blocking().count(&RecordFilter::all()).unwrap(), 0);
    assert!(pool.to_blocking().claims().unwrap().is_empty());
}

#[test]
fn what_a_dropped_claim_had_claimed_is_released_before_the_store_closes() {
    within_patience(|| {
        for round in 0..40_u64 {
            let disk = WatchedDisk::default();
            let (store, pool) = open(&disk);
            let (kept, blocking) = (store.clone(), pool.to_blocking());
            let mut claiming = Box::pin(pool.claim(&[1, 2], by_number, &Origin::none(), HOUR));
            let _ = poll_once(claiming.as_mut());
            thread::sleep(Duration::from_micros(round * 5));
            as_executor(|| drop(claiming));
            // A guard used within a long call that closing waits for, and one that was dropped just before.
            let guard = block_on(pool.claim(&[3], by_number, &Origin::none(), HOUR)).unwrap();
            let (begun, has_begun) = mpsc::channel();
            let mut long = Box::pin(pool.blocking(move |_| {
                begun.send(()).unwrap();
                thread::sleep(Duration::from_millis(2));
                drop(guard);
                Ok(())
            }));
            // On a busy machine it may already be finished.
            let is_over = poll_once(long.as_mut()).is_ready();
            has_begun.recv().unwrap();
            as_executor(|| drop(block_on(pool.claim(&[4], by_number, &Origin::none(), HOUR)).unwrap()));
            if round % 2 == 0 {
                block_on(store.to_async().close()).unwrap();
            } else {
                if !is_over {
                    block_on(long).unwrap();
                }
                let mut last = Box::pin(pool.claim(&[5], by_number, &Origin::none(), HOUR));
                let _ = poll_once(last.as_mut());
                as_executor(|| drop(last));
                kept.close().unwrap();
            }
            kept.reopen().unwrap();
            assert_eq!(blocking.claims().unwrap(), [], "round {round}");
        }
    });
}

#[test]
fn closing_waits_for_long_calls_that_write_by_futures() {
    within_patience(|| {
        for round in 0..100_usize {
            let disk = WatchedDisk::default();
            let (store, pool) = open(&disk);
            let inner = pool.clone();
            let mut long = Box::pin(pool.blocking(move |_| {
                let mut tracked = 0;
                while let Ok(verdicts) =
                    block_on(inner.dedupe(Mode::Track, &[tracked], by_number, &Origin::none()))
                {
                    tracked += verdicts.new_count();
                }
                Ok(tracked)
            }));
            let _ = poll_once(long.as_mut());
            thread::sleep(Duration::from_micros(round as u64 * 10));
            block_on(store.to_async().close()).unwrap();
            let tracked = block_on(long).unwrap();
            store.reopen().unwrap();
            assert_eq!(pool.to_blocking().count(&RecordFilter::all()).unwrap(), tracked as u64);
        }
        let (store, _) = open(&WatchedDisk::default());
        let within = store.to_async();
        let closed = block_on(store.to_async().blocking(move |_| block_on(within.close())));
        assert_eq!(closed.unwrap_err().kind(), ErrorKind::Busy);
        block_on(store.to_async().close()).unwrap();
    });
}

#[test]
fn making_a_future_waits_for_nothing() {
    within_patience(|| {
        let disk = WatchedDisk::default();
        let (store, pool) = open(&disk);
        block_on(pool.dedupe(Mode::Track, &[1], by_number, &Origin::none())).unwrap().new_count();
        // Verifying has exclusive access to the file, and is blocked.
        disk.hold(true);
        let handle = store.to_async();
        let verifying = thread::spawn(move || store.verify());
        thread::sleep(Duration::from_millis(20));
        let mut made = calls(&pool, &handle, 50);
        for future in &mut made {
            let _ = poll_once(future.as_mut());
        }
        disk.hold(false);
        assert!(verifying.join().unwrap().unwrap().ok);
        for outcome in Under::ByHand.run(made) {
            outcome.unwrap();
        }
        assert!(!disk.was_touched());
    });
}

#[test]
fn a_call_that_was_given_up_tells_the_next_one_what_became_of_the_items() {
    within_patience(|| {
        let clock = ManualClock::starting_at("2026-01-01".parse().unwrap());
        let disk = WatchedDisk::default();
        let store = disk.open(&StoreOptions::new().clock(clock.clone())).unwrap();
        let pool = store.get_or_create_pool("orders").unwrap().to_async();
        // Drops a call's future while it is being written. The call runs to its end, and nobody receives its
        // answer.
        macro_rules! give_up {
            ($call:expr) => {
                disk.hold(true);
                {
                    let mut call = pin!($call);
                    assert!(poll_once(call.as_mut()).is_pending());
                    disk.wait_until_wanted();
                }
                disk.hold(false);
                block_on(store.to_async().flush()).unwrap();
            };
        }
        let mut claim = block_on(pool.claim(&[0, 1, 2, 3, 4], by_number, &Origin::none(), HOUR)).unwrap();
        clock.advance(HOUR + HOUR / 2);
        let mut other = pool.to_blocking().claim(&[0], by_number, &Origin::none(), HOUR).unwrap();
        other.confirm().unwrap().all_confirmed().unwrap();

        give_up!(claim.confirm_items(&[0, 1]));
        give_up!(claim.release_items(&[2]));
        // The same call again. The work was already done, and this returns its outcome.
        let again = block_on_local(claim.confirm_items(&[0, 1])).unwrap();
        assert!(matches!(again.outcomes()[0], (0, ClaimOutcome::AlreadyTracked(_))));
        assert!(matches!(again.outcomes()[1], (1, ClaimOutcome::Confirmed(_))));
        assert_eq!(block_on_local(claim.release_items(&[2])).unwrap(), 1);
        // Once the answer was received, the items are settled as usual.
        let error = block_on_local(claim.confirm_items(&[1])).unwrap_err();
        assert_eq!((error.kind(), error.item()), (ErrorKind::InvalidArgument, Some(1)));

        give_up!(claim.release_items(&[3]));
        let rest = block_on_local(claim.confirm()).unwrap();
        assert!(matches!(rest.outcomes(), [(3, ClaimOutcome::LeaseLost), (4, ClaimOutcome::Confirmed(_))]));
        assert!(block_on_local(claim.confirm()).unwrap().outcomes().is_empty());
        assert_eq!(block_on_local(claim.release()).unwrap(), 0);
    });
}

/// A waker that misbehaves.
struct BadWaker {
    woken: AtomicUsize,
    does: Box<dyn Fn() + Send + Sync>,
}

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
        (self.does)();
    }
}

#[test]
fn a_waker_that_panics_or_reads_the_store_harms_nobody_else() {
    within_patience(|| {
        let (store, pool) = open(&WatchedDisk::default());
        let blocking = pool.to_blocking();
        let read = blocking.clone();
        let bad: [Box<dyn Fn() + Send + Sync>; 2] = [
            Box::new(|| panic!("a waker that panics")),
            Box::new(move || assert!(read.contains(by_number(&0)).is_ok())),
        ];
        for (number, does) in bad.into_iter().enumerate() {
            let waker = Arc::new(BadWaker { woken: AtomicUsize::new(0), does });
            let value = [number + 1];
            let mut claim = blocking.claim(&value, by_number, &Origin::none(), HOUR).unwrap();
            // These wait for a claim, for time to pass, and for a write.
            let mut futures: Vec<AnyFuture> = vec![any(pool.wait_for(&[by_number(&value[0])], HOUR))];
            for millis in 1..8 {
                futures.push(any(pool.wait_for(&[by_number(&value[0])], Duration::from_millis(millis))));
            }
            for other in 0..8 {
                let batch = [100 + other];
                futures.push(any(pool.dedupe(Mode::Track, &batch, by_number, &Origin::none())));
            }
            // With the first poll, a thread looks at the values. With the second, it finds that it must wait.
            for _ in 0..50 {
                for future in &mut futures {
                    let polled =
                        future.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker))));
                    if polled.is_ready() {
                        *future = Box::pin(std::future::pending());
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
            claim.confirm().unwrap().all_confirmed().unwrap();
            assert!(blocking.contains(by_number(&value[0])).unwrap());
            assert!(waker.woken.load(Ordering::SeqCst) > 0);
            // All reader threads have started.
            let reads: Vec<_> = (0..50).map(|_| pool.contains(by_number(&value[0]))).collect();
            assert!(Under::ByHand.run(reads).into_iter().all(Result::unwrap));
            assert_eq!(
                block_on(pool.dedupe(Mode::Track, &[200 + number], by_number, &Origin::none()))
                    .unwrap()
                    .new_count(),
                1
            );
        }
        assert!(store.verify().unwrap().ok);
    });
}

#[test]
fn a_wait_whose_time_is_over_goes_before_long_reads() {
    within_patience(|| {
        let (_store, pool) = open(&WatchedDisk::default());
        let claim = block_on(pool.claim(&[1], by_number, &Origin::none(), HOUR)).unwrap();
        let keys: Vec<Key<'_>> = (0..20_000).map(|number| by_number(&number)).collect();
        let done = Arc::new(AtomicUsize::new(0));
        let reads = (0..40).map(|_| {
            let (done, read) = (Arc::clone(&done), pool.contains_many(&keys));
            Box::pin(async move {
                read.await.unwrap();
                done.fetch_add(1, Ordering::SeqCst)
            }) as std::pin::Pin<Box<dyn Future<Output = usize> + Send>>
        });
        let (finished, wait) = (Arc::clone(&done), pool.wait_for(&[by_number(&1)], Duration::from_millis(1)));
        let waits = Box::pin(async move {
            assert!(matches!(wait.await.unwrap()[..], [WaitOutcome::InFlight { .. }]));
            finished.load(Ordering::SeqCst)
        }) as std::pin::Pin<Box<dyn Future<Output = usize> + Send>>;
        let finished_before = Under::ByHand.run(reads.chain([waits]).collect()).pop().unwrap();
        assert!(finished_before < 40, "the waiting call came after all reads");
        drop(claim);
    });
}
