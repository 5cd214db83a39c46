//! Fingerprint lookups: the tables of fingerprints, with their filters and cached rows.

pub(crate) mod budget;
pub(crate) mod filter;
pub(crate) mod table;
