//! Writing: who is next, what changes, how it gets on disk, and what is done behind it.

pub(crate) mod append;
pub(crate) mod apply;
pub(crate) mod catalog;
pub(crate) mod claims;
pub(crate) mod commit;
pub(crate) mod counters;
pub(crate) mod draft;
pub(crate) mod flush_signal;
pub(crate) mod flusher;
pub(crate) mod fold;
pub(crate) mod group;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod queue;
pub(crate) mod reclaim;
pub(crate) mod registry;
pub(crate) mod upkeep;
pub(crate) mod writer;
