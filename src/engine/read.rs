//! Reading: a pool as of one commit, and queries on it.

pub(crate) mod claims;
pub(crate) mod counts;
pub(crate) mod expiry;
pub(crate) mod load;
pub(crate) mod lookup;
pub(crate) mod plan;
pub(crate) mod published;
pub(crate) mod queries;
pub(crate) mod results;
pub(crate) mod snapshot;
pub(crate) mod standing;
pub(crate) mod view;
pub(crate) mod views;
