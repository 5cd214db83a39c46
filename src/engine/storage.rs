//! The storage under redb: the bytes, their disk space, the open database, and the mapping of redb's errors.

pub(crate) mod backend;
pub(crate) mod database;
pub(crate) mod failure;
pub(crate) mod holder;
pub(crate) mod poison;
pub(crate) mod session;
pub(crate) mod space;
