//! Condition variables.
//!
//! Always holds: a waiter that has a limit of time may wait until it is notified, or may reach the limit at any moment. The
//! scheduler's random numbers decide, so that a schedule can be repeated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shuttle::thread::{self, Thread};

use crate::MutexGuard;
use crate::scheduled::{Instant, time_is_up};

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    // Not one of the scheduler's: it is read only by the thread itself, between two steps.
    is_notified: AtomicBool,
}

/// A condition variable.
#[derive(Debug, Default)]
pub struct Condvar {
    // Not one of the scheduler's locks: nothing is done while it is held.
    waiters: std::sync::Mutex<VecDeque<Arc<Waiter>>>,
}

/// Says why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub const fn new() -> Self {
        Self { waiters: std::sync::Mutex::new(VecDeque::new()) }
    }

    pub fn notify_one(&self) -> bool {
        thread::yield_now();
        let waiter = self.waiters.lock().unwrap().pop_front();
        let is_there = waiter.is_some();
        wake(waiter);
        is_there
    }

    pub fn notify_all(&self) -> usize {
        thread::yield_now();
        let waiters = std::mem::take(&mut *self.waiters.lock().unwrap());
        let count = waiters.len();
        wake(waiters);
        count
    }

    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_while_asleep(guard, None);
    }

    pub fn wait_while<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) -> WaitTimeoutResult {
        self.wait_until(guard, Instant::now() + time)
    }

    pub fn wait_until<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        WaitTimeoutResult(!self.wait_while_asleep(guard, Some(until)))
    }

    pub fn wait_while_for<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        time: Duration,
    ) -> WaitTimeoutResult {
        let until = Instant::now() + time;
        while condition(guard) {
            if self.wait_until(guard, until).timed_out() {
                return WaitTimeoutResult(condition(guard));
            }
        }
        WaitTimeoutResult(false)
    }

    /// Waits with the lock released. Returns false if the limit was reached.
    fn wait_while_asleep<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, until: Option<Instant>) -> bool {
        let waiter = Arc::new(Waiter { thread: thread::current(), is_notified: AtomicBool::new(false) });
        self.waiters.lock().unwrap().push_back(Arc::clone(&waiter));
        MutexGuard::unlocked(guard, || {
            while !waiter.is_notified.load(Ordering::SeqCst) {
                let Some(until) = until else {
                    thread::park();
                    continue;
                };
                if time_is_up(until) {
                    self.waiters.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &waiter));
                    return waiter.is_notified.load(Ordering::SeqCst);
                }
            }
            true
        })
    }
}

fn wake(waiters: impl IntoIterator<Item = Arc<Waiter>>) {
    for waiter in waiters {
        waiter.is_notified.store(true, Ordering::SeqCst);
        waiter.thread.unpark();
    }
}
