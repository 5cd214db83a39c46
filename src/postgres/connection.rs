//! Connections to the server.
//!
//! - [`pool`]: the connections of a store; [`places`]: how many calls use one at a time.
//! - [`session`]: one connection; [`step`]: the statements that it sends together; [`failure`]: what may come of them; [`retry`]:
//!   trying again.
//! - [`server`]: making connections, and waiting for answers; [`reactor`]: the thread that moves their bytes; [`deadline`]:
//!   waiting on the caller's thread.
//!
//! One thread of the store moves the bytes of all connections. Callers park until their answer is there, so they may be on any
//! thread, also on one of an async runtime.

mod deadline;
mod failure;
mod places;
mod pool;
mod reactor;
mod retry;
mod server;
mod session;
mod step;

pub(super) use self::failure::Failure;
pub(super) use self::pool::Connections;
pub(super) use self::retry::Patience;
pub(super) use self::session::Connection;
pub(super) use self::step::{Params, Step};
