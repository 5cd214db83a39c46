//! The state that all handles of an open file share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::write::flusher::Flusher;
use crate::engine::write::keep_alive::KeepAlive;
use crate::files::directory_of;

/// The state that all handles of an open file share. Dropping the last handle flushes and closes the file.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    /// The file's path; `None` in memory.
    pub(crate) path: Option<PathBuf>,
    pub(crate) flusher: Option<Flusher>,
    pub(crate) keep_alive: KeepAlive,
}

impl Shared {
    /// Returns the directory of the file.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.path.as_deref().map(directory_of)
    }

    /// Returns true if a path leads to the store's own file.
    pub(crate) fn is_own_file(&self, path: &Path) -> bool {
        let own = self.path.as_ref().and_then(|own| own.canonicalize().ok());
        own.is_some() && own == path.canonicalize().ok()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.flusher.take();
        drop(std::mem::take(&mut self.keep_alive));
        // A failure cannot be reported here; `flush` reports it.
        let _ = self.engine.store_expiry();
        let _ = self.engine.flush();
    }
}
