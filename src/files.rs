//! Files beside the store: made with a new file's usual permissions, and named durably.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// The directory that a path's file lies in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The most links that are followed, one after another: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Where a path leads, if it is a link, also to a file that is not there yet.
pub(crate) fn follow_links(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&target) else { break };
        target = directory_of(&target).join(next);
    }
    target
}

/// A temporary file in a directory, with the permissions that a new file gets.
pub(crate) fn new_file_in(directory: &Path, prefix: &str) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // The system's reason is enough: nobody asked for a file of that name.
    builder.prefix(prefix).tempfile_in(directory).map_err(|error| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    })
}

/// So many bytes are brought to disk at a time while a file is written.
const SYNC_AHEAD_BYTES: usize = 8 << 20;

/// Writes a file that another thread brings to disk meanwhile, so that publishing it finds little left to sync.
#[derive(Debug)]
pub(crate) struct SyncingWriter<'f> {
    file: &'f File,
    unsynced: usize,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl<'f> SyncingWriter<'f> {
    pub(crate) fn new(file: &'f File) -> Self {
        Self { file, unsynced: 0, syncing: None }
    }

    /// Waits for the other thread. A failure to write back is told once: here or where the file is synced next.
    fn join(&mut self) -> io::Result<()> {
        let outcome = self.syncing.take().map(JoinHandle::join);
        outcome
            .map_or(Ok(()), |outcome| outcome.unwrap_or_else(|_| Err(io::Error::other("syncing panicked"))))
    }
}

impl Write for SyncingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_AHEAD_BYTES && self.syncing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.join()?;
            let file = self.file.try_clone()?;
            self.unsynced = 0;
            let sync = move || file.sync_data();
            // Without a thread it is synced at the end.
            self.syncing = thread::Builder::new().name("datapool-sync".to_owned()).spawn(sync).ok();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.join()
    }
}

/// What publishing does with a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Replaced,
    Kept,
}

/// Gives a file that was written beside its target its permissions and its name, both on disk when this returns.
///
/// # Errors
///
/// The system's; `AlreadyExists` if the existing file is kept.
pub(crate) fn publish(
    file: tempfile::NamedTempFile,
    target: &Path,
    permissions: Option<Permissions>,
    existing: Existing,
) -> io::Result<()> {
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    let named = match existing {
        Existing::Replaced => file.persist(target),
        Existing::Kept => file.persist_noclobber(target),
    };
    named.map_err(|error| error.error)?;
    sync_directory(directory_of(target));
    Ok(())
}

/// Makes new names in a directory durable, where the system lets directories be synced; elsewhere there is nothing
/// to do.
pub(crate) fn sync_directory(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
}
