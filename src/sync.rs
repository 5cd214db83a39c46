//! Threads, atomics, channels and time: those of the standard library.
//!
//! Must not have code of its own. The tests of interleavings (`tests/interleavings`) set `datapool_shuttle`, put a package of
//! their own in the place of `parking_lot`, and take from it what a scheduler decides about.

#[cfg(datapool_shuttle)]
pub(crate) use parking_lot::scheduled::{Instant, atomic, thread, unseen};
#[cfg(all(datapool_shuttle, feature = "async"))]
pub(crate) use parking_lot::scheduled::{mpsc, thread_local};
#[cfg(not(datapool_shuttle))]
pub(crate) use std::{sync::atomic, thread, time::Instant};
#[cfg(all(not(datapool_shuttle), feature = "async"))]
pub(crate) use std::{sync::mpsc, thread_local};

/// Locks that are taken while redb holds a lock of its own.
#[cfg(not(datapool_shuttle))]
pub(crate) use parking_lot as unseen;
