//! Writing: who is next, what changes, how it gets on disk, and what is done behind it.

pub(crate) mod aging;
pub(crate) mod append;
pub(crate) mod apply;
pub(crate) mod catalog;
pub(crate) mod commit;
pub(crate) mod counters;
pub(crate) mod draft;
pub(crate) mod flusher;
pub(crate) mod fold;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod queue;
pub(crate) mod reclaim;
pub(crate) mod registry;
