//! redb's handle: the bytes, the room for them, the open database, and the meaning of redb's errors.

pub(crate) mod backend;
pub(crate) mod database;
pub(crate) mod failure;
pub(crate) mod holder;
pub(crate) mod poison;
pub(crate) mod session;
pub(crate) mod space;
