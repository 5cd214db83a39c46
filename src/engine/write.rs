//! Writing: group commit, decisions, transactions, background work.

pub(crate) mod append;
pub(crate) mod apply;
pub(crate) mod catalog;
pub(crate) mod claim_rows;
pub(crate) mod commit;
pub(crate) mod draft;
pub(crate) mod flush_signal;
pub(crate) mod flusher;
pub(crate) mod fold;
pub(crate) mod group;
pub(crate) mod import;
pub(crate) mod log;
pub(crate) mod merge;
pub(crate) mod reclaim;
pub(crate) mod recovery;
pub(crate) mod registry;
pub(crate) mod results;
pub(crate) mod room;
pub(crate) mod submit;
pub(crate) mod sweep;
pub(crate) mod tables;
pub(crate) mod turns;
pub(crate) mod upkeep;
pub(crate) mod writer;
