//! The layout of the file: tables, rows, records, posting lists, fingerprints.

pub(crate) mod chunk_set;
pub(crate) mod claim_items;
pub(crate) mod codec;
pub(crate) mod index_row;
pub(crate) mod postings;
pub(crate) mod record;
pub(crate) mod schema;
pub(crate) mod tables;
