//! The state that all handles of an open file share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "async")]
use crate::asynchronous::threads::Threads;
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
    #[cfg(feature = "async")]
    pub(crate) threads: Threads,
}

impl Shared {
    pub(crate) fn new(engine: Arc<Engine>, path: Option<PathBuf>, flusher: Option<Flusher>) -> Self {
        Self {
            engine,
            path,
            flusher,
            keep_alive: KeepAlive::default(),
            #[cfg(feature = "async")]
            threads: Threads::default(),
        }
    }

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
        let (flusher, keep_alive) = (self.flusher.take(), std::mem::take(&mut self.keep_alive));
        #[cfg(feature = "async")]
        if self.threads.is_used() {
            let engine = Arc::clone(&self.engine);
            self.threads.close_later(&self.engine, move || {
                drop((flusher, keep_alive));
                // A failure cannot be reported here; `flush` and `close` report it.
                let _ = engine.close();
            });
            return;
        }
        drop((flusher, keep_alive));
        // A failure cannot be reported here; `flush` reports it.
        let _ = self.engine.store_expiry();
        let _ = self.engine.flush();
    }
}
