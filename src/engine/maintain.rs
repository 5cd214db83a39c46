//! Maintaining a file: opening, closing, verifying, rebuilding, backup, compacting, statistics.

pub(crate) mod backup;
pub(crate) mod lifecycle;
pub(crate) mod observer;
pub(crate) mod open;
pub(crate) mod opener;
pub(crate) mod rebuild;
pub(crate) mod stats;
pub(crate) mod verify;
