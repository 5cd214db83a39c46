//! Waiting on the caller's thread, at most until a deadline.
//!
//! Always holds: the caller's thread parks. It may be any thread, also one of an async runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::waiting::Unpark;

/// Waits for a future on this thread.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = wait_for(future.as_mut(), Duration::MAX) {
            return output;
        }
    }
}

/// Waits for a future on this thread. Returns `None` if it is not ready in time.
pub(super) fn wait_for<F: Future>(future: F, time: Duration) -> Option<F::Output> {
    let waker: Waker = Arc::new(Unpark(thread::current())).into();
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
    let began = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match time.saturating_sub(began.elapsed()) {
            Duration::ZERO => return None,
            left => thread::park_timeout(left),
        }
    }
}

/// Returns the time that is left.
pub(super) fn left(until: Option<Instant>) -> Duration {
    until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
}
