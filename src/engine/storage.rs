//! redb's handle: where the bytes lie, the room they take, the open database, and what its errors mean.

pub(crate) mod backend;
pub(crate) mod database;
pub(crate) mod failure;
pub(crate) mod holder;
pub(crate) mod poison;
pub(crate) mod session;
pub(crate) mod space;
