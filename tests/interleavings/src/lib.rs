//! What the tests share: the schedules, and a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datapool_store::testing::{self, Sizes};
use datapool_store::{DataPoolStore, Key, ManualClock, Mode, Origin, Pool, StoreOptions, Verdict};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

/// The depth of the mistakes that PCT looks for: how many changes from one thread to another they need.
const PCT_DEPTH: usize = 3;
/// A schedule with more steps has a thread that waits for ever, while another one looks at the time again and again.
const STEPS_MAX: usize = 100_000;
/// No schedule takes so long, unless a thread waits for a lock that the scheduler does not see.
const PATIENCE: Duration = Duration::from_secs(120);

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}

/// Runs a test with `DATAPOOL_SCHEDULES` schedules: half of them by chance, and half by PCT.
pub fn explore(name: &str, test: impl Fn() + Send + Sync + 'static) {
    let (schedules, seed) = (number("DATAPOOL_SCHEDULES", 1_000), number("DATAPOOL_SEED", 1) as u64);
    let test = Arc::new(test);
    let started = std::time::Instant::now();
    run(name, RandomScheduler::new_from_seed(seed, schedules.div_ceil(2)), &test);
    run(name, PctScheduler::new_from_seed(seed, PCT_DEPTH, schedules / 2), &test);
    println!("{name}: {schedules} schedules in {:.1} s", started.elapsed().as_secs_f64());
}

fn run(name: &str, scheduler: impl Scheduler + 'static, test: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    // redb needs more than shuttle's 60 KiB.
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    // The store's atomics are sequentially consistent here, as shuttle's documentation says of all atomics.
    config.silence_warnings = true;
    let begun = Arc::new(AtomicUsize::new(0));
    let watched = Watchdog::start(name, &begun);
    let test = Arc::clone(test);
    Runner::new(scheduler, config).run(move || {
        begun.fetch_add(1, Ordering::SeqCst);
        test();
    });
    drop(watched);
}

/// Ends the process if a schedule does not end.
struct Watchdog {
    /// Dropping it tells the thread to end.
    _running: std::sync::mpsc::Sender<()>,
}

impl Watchdog {
    fn start(name: &str, begun: &Arc<AtomicUsize>) -> Self {
        let (sender, stopped) = std::sync::mpsc::channel();
        let (name, begun) = (name.to_owned(), Arc::clone(begun));
        std::thread::spawn(move || {
            let mut last = 0;
            while stopped.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let now = begun.load(Ordering::SeqCst);
                if now == last {
                    eprintln!("{name}: schedule {now} hangs for {PATIENCE:?}");
                    std::process::exit(1);
                }
                last = now;
            }
        });
        Self { _running: sender }
    }
}

/// Options under which two runs of a schedule are the same.
pub fn options() -> (StoreOptions, ManualClock) {
    let clock = ManualClock::starting_at("2026-01-01".parse().unwrap());
    // Without redb's default cache, whose allocation takes longer than the whole test.
    let options = StoreOptions::new().clock(clock.clone()).hash_key([7; 16]).cache_size(1 << 20);
    (options, clock)
}

/// Creates a store in memory with one pool.
pub fn store() -> (DataPoolStore, Pool, ManualClock) {
    let (options, clock) = options();
    let store = testing::in_memory(&options, Sizes::SMALL).unwrap();
    let pool = store.get_or_create_pool("orders").unwrap();
    (store, pool, clock)
}

pub fn key(value: u64) -> Key<'static> {
    Key::new(37, format!("A-{value}"))
}

/// Tracks values in one call. Returns true for each that was new.
pub fn track(pool: &Pool, values: &[u64]) -> datapool_store::Result<Vec<bool>> {
    let verdicts = pool.dedupe(Mode::FilterAndTrack, values, |value| key(*value), &Origin::none())?;
    Ok(verdicts.iter().map(|verdict| *verdict == Verdict::New).collect())
}

/// Starts threads that share something, and waits for all. Returns their answers in order.
pub fn together<S: Send + Sync + 'static, T: Send + 'static>(
    count: u64,
    shared: &Arc<S>,
    run: impl Fn(u64, &S) -> T + Clone + Send + Sync + 'static,
) -> Vec<T> {
    let start = |number| {
        let (shared, run) = (Arc::clone(shared), run.clone());
        thread::spawn(move || run(number, &shared))
    };
    let threads: Vec<_> = (0..count).map(start).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

pub fn contains(pool: &Pool, values: &[u64]) -> datapool_store::Result<Vec<bool>> {
    pool.contains_many(&values.iter().map(|value| key(*value)).collect::<Vec<_>>())
}
