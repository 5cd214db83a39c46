//! The connection that listens for notifications while a caller waits.
//!
//! Must not know: when it is made. [`listen`](super::listen) decides that.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::Mutex;

use super::connection::Connection;

/// The connection that listens.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) state: Mutex<Option<Listening>>,
}

pub(super) struct Listening {
    /// Kept open, because notifications arrive on it.
    pub(super) connection: Connection,
    /// False once the connection is lost.
    pub(super) is_alive: Arc<AtomicBool>,
    pub(super) registered: Instant,
}
