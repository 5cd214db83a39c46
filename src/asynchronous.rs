//! The store for async code: the same calls, but they return futures.
//!
//! Part of the public API, with the feature `async`. Always holds: no call blocks the thread that polls it
//! or drops it. Must not know: any async runtime.

mod claim;
mod future;
mod pool;
mod store;
pub(crate) mod threads;

pub use self::claim::AsyncClaim;
pub use self::future::StoreFuture;
pub use self::pool::AsyncPool;
pub use self::store::AsyncStore;
