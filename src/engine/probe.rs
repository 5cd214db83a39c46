//! What memory knows about a fingerprint, so that the disk need not be asked.

pub(crate) mod hot;
pub(crate) mod membership;
