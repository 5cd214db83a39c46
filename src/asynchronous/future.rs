//! The future that a call returns to async code.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Result;

/// The future of a call. It does nothing until it is polled, and works in any async runtime.
///
/// The arguments are checked and copied when the future is made, so the future borrows nothing and can be
/// spawned as a task. If it is dropped before it is ready, the call happens completely or not at all, and
/// values that it claimed are released.
///
/// If code that the call was given panics (a closure, a reader, a writer), the task that awaits it panics,
/// too.
///
/// Besides its own errors, a call fails with `Closed` once the store [is being
/// closed](crate::AsyncStore::close), and with `Storage` if the system cannot start a thread.
#[must_use = "a future does nothing until it is awaited"]
pub struct StoreFuture<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

impl<T> StoreFuture<T> {
    pub(super) fn new(call: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(Box::pin(call))
    }
}

impl<T> Future for StoreFuture<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFuture").finish_non_exhaustive()
    }
}
