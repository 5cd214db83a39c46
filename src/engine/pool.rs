//! A pool in memory: its state, the liveness of its records, and its tail of records that are in no index
//! yet.

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
