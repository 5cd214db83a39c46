//! A pool in memory: its state, the liveness of its records, and its tail, which is the records that no index has yet.

pub(crate) mod claims;
pub(crate) mod expiry;
pub(crate) mod folding;
pub(crate) mod interner;
pub(crate) mod levels;
pub(crate) mod liveness;
pub(crate) mod segment;
pub(crate) mod segments;
pub(crate) mod state;
pub(crate) mod tail;
pub(crate) mod unfolded;
