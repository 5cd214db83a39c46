//! The state that all handles of an open store share.

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "async")]
use crate::asynchronous::threads::Threads;
use crate::backend::Backend;
use crate::backend::keep_alive::KeepAlive;
use crate::files::directory_of;

/// The state that all handles of an open store share. Dropping the last handle flushes and closes the store.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keep_alive: KeepAlive,
    #[cfg(feature = "async")]
    pub(crate) threads: Threads,
    pub(crate) backend: Arc<dyn Backend>,
}

impl Shared {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            keep_alive: KeepAlive::default(),
            #[cfg(feature = "async")]
            threads: Threads::default(),
            backend,
        }
    }

    /// Returns the directory of the store's file.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.backend.path().map(directory_of)
    }

    /// Returns true if a path leads to the store's own file.
    pub(crate) fn is_own_file(&self, path: &Path) -> bool {
        let own = self.backend.path().and_then(|own| own.canonicalize().ok());
        own.is_some() && own == path.canonicalize().ok()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let keep_alive = std::mem::take(&mut self.keep_alive);
        #[cfg(feature = "async")]
        if self.threads.is_used() {
            let backend = Arc::clone(&self.backend);
            self.threads.close_later(&self.backend, move || {
                drop(keep_alive);
                // A failure cannot be reported here; `flush` and `close` report it.
                let _ = backend.close();
            });
            return;
        }
        drop(keep_alive);
        self.backend.finish();
    }
}
