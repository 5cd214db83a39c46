//! Maintaining a file: opening, closing, verifying, rebuilding, backup, vacuuming, compacting, statistics.

pub(crate) mod backup;
pub(crate) mod copy;
pub(crate) mod lifecycle;
pub(crate) mod observer;
pub(crate) mod open;
pub(crate) mod opener;
pub(crate) mod rebuild;
pub(crate) mod replacement;
pub(crate) mod stats;
pub(crate) mod vacuum;
pub(crate) mod verify;
