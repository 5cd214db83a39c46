//! Stands for `parking_lot` in the tests of interleavings: the same locks, under shuttle's scheduler.
//!
//! [`scheduled`] has what `src/sync.rs` of the store takes from the standard library otherwise.

mod condvar;
pub mod scheduled;

pub use condvar::{Condvar, WaitTimeoutResult};
pub use shuttle_parking_lot_impl::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
