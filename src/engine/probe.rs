//! What memory knows about a fingerprint: tables of fingerprints, with their filters and the rows that were read.

pub(crate) mod budget;
pub(crate) mod filter;
pub(crate) mod table;
