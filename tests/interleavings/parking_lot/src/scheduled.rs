//! Threads, atomics, channels and time under the scheduler.

use std::cell::Cell;
use std::ops::Add;
use std::time::Duration;

pub use shuttle::sync::atomic;
pub use shuttle::thread_local;

/// Locks that the scheduler does not see: those that are taken while redb holds a lock of its own.
pub mod unseen {
    use std::sync::{MutexGuard, PoisonError};

    #[derive(Debug, Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

pub mod mpsc {
    use std::fmt::{Debug, Formatter, Result as Formatted};

    pub use shuttle::sync::mpsc::{Receiver, RecvError, SendError, TryRecvError};

    /// A sender. Shuttle's own can only be shown if the messages can.
    pub struct Sender<T>(shuttle::sync::mpsc::Sender<T>);

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = shuttle::sync::mpsc::channel();
        (Sender(sender), receiver)
    }

    impl<T> Sender<T> {
        pub fn send(&self, message: T) -> Result<(), SendError<T>> {
            self.0.send(message)
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> Debug for Sender<T> {
        fn fmt(&self, f: &mut Formatter<'_>) -> Formatted {
            f.write_str("Sender")
        }
    }
}

pub mod thread {
    use std::time::Duration;

    pub use shuttle::thread::{
        Builder, JoinHandle, Scope, ScopedJoinHandle, Thread, ThreadId, current, panicking, park, scope,
        spawn, yield_now,
    };

    use super::{Instant, time_is_up};

    /// Like `park`, or until the time is up.
    pub fn park_timeout(time: Duration) {
        let until = Instant::now() + time;
        // A token that comes meanwhile stays for the next call, which then returns at once.
        while !time_is_up(until) {}
    }

    pub fn sleep(time: Duration) {
        let until = Instant::now() + time;
        while !time_is_up(until) {}
    }
}

std::thread_local! {
    /// The time since the first schedule, which passes only when a thread has waited for it. All threads of a schedule run on
    /// one thread of the system.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// No moment is so late: 292 billion years, as in the standard library.
const FAR: Duration = Duration::from_secs(i64::MAX.unsigned_abs());

/// A moment of the scheduler's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        Self(NOW.get())
    }

    pub fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).filter(|at| *at < FAR).map(Self)
    }

    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

/// Lets other threads go on, or lets the time pass until a moment. Returns true once it has passed.
pub(crate) fn time_is_up(until: Instant) -> bool {
    use shuttle::rand::Rng;

    shuttle::thread::yield_now();
    if shuttle::rand::thread_rng().gen_bool(0.5) {
        NOW.set(NOW.get().max(until.0));
    }
    NOW.get() >= until.0
}
