//! The connection that listens for notifications, while somebody waits.

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
    /// Keeps the connection.
    pub(super) connection: Connection,
    /// False once the connection is lost.
    pub(super) is_alive: Arc<AtomicBool>,
    pub(super) registered: Instant,
}
