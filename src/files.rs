//! Files beside the store. They are created with the usual permissions of a new file and renamed durably.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// Returns the directory of a path's file.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The largest number of links to follow in a row. Linux has the same limit.
const LINKS_MAX: usize = 40;

/// Follows a path's links. Returns the target, which need not exist, or the path itself if it is not a link.
pub(crate) fn follow_links(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&target) else { break };
        target = directory_of(&target).join(next);
    }
    target
}

/// The users that may read a temporary file while it is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadableBy {
    /// Those who may read any new file of this process.
    Usual,
    /// Its owner only, until it gets other permissions.
    Owner,
}

/// Creates a temporary file in a directory, locked while it is open. Removes the unlocked files of the same
/// prefix, because their writers were killed.
pub(crate) fn new_file_in(
    directory: &Path,
    prefix: &str,
    readable: ReadableBy,
) -> io::Result<tempfile::NamedTempFile> {
    remove_left_over(directory, prefix);
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(match readable {
        ReadableBy::Usual => 0o666,
        ReadableBy::Owner => 0o600,
    }));
    builder.prefix(prefix);
    loop {
        let file = builder.tempfile_in(directory).map_err(|error| reason_of(&error, directory))?;
        // On a system that cannot lock files, none is removed either.
        let is_taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
        // Before this file was locked, another process may have removed it as a left-over.
        if !is_taken && file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes the temporary files of a prefix whose writers were killed. A file that cannot be removed stays.
pub(crate) fn remove_left_over(directory: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let has_prefix = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if has_prefix
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Ok(file) = File::options().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the system's own reason why a temporary file could not be created. Names the directory if that is
/// the cause, because the temporary name would mean nothing to the caller.
fn reason_of(error: &io::Error, directory: &Path) -> io::Error {
    let inner = error.get_ref().and_then(|wrapped| wrapped.source()?.downcast_ref::<io::Error>());
    let system = inner.unwrap_or(error);
    let code = system.raw_os_error();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
            let text = system.to_string();
            let reason = text.split(" (os error").next().unwrap_or(&text);
            io::Error::new(error.kind(), format!("{reason}: {}", directory.display()))
        }
        kind => code.map_or_else(|| kind.into(), io::Error::from_raw_os_error),
    }
}

/// The number of bytes that are synced at a time while a file is written.
const SYNC_AHEAD_BYTES: usize = 8 << 20;

/// Writes a file while another thread syncs it. At the end, little is left to sync.
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

    /// Waits for the other thread. The system reports a failed write-back once: here, or at the next sync of
    /// the file.
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
            // Without a thread, the file is synced at the end.
            self.syncing = thread::Builder::new().name("datapool-sync".to_owned()).spawn(sync).ok();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.join()
    }
}

/// The treatment of a file that already has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Replaced,
    Kept,
}

/// Gives a file its permissions and its final name. Both are on disk when this returns.
///
/// # Errors
///
/// The error of the system; `AlreadyExists` if the existing file is kept.
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

/// Syncs a directory so that new names in it are durable. Does nothing on a system that cannot sync
/// directories.
pub(crate) fn sync_directory(directory: &Path) {
    let _ = try_sync_directory(directory);
}

/// Like [`sync_directory`], but returns errors.
///
/// # Errors
///
/// The error of the system, unless it cannot sync directories at all.
pub(crate) fn try_sync_directory(directory: &Path) -> io::Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    match synced {
        Err(error)
            if cfg!(unix)
                && !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The identity of a file, independent of its names. `None` on a system that does not provide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(Option<(u64, u64)>);

impl FileId {
    /// Returns the identity of an open file.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|meta| Self::in_metadata(&meta))
    }

    /// Returns true if a path leads to this file.
    pub(crate) fn is_at(self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| self == Self::in_metadata(&meta))
    }

    #[cfg(unix)]
    fn in_metadata(meta: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(Some((meta.dev(), meta.ino())))
    }

    #[cfg(not(unix))]
    fn in_metadata(_meta: &fs::Metadata) -> Self {
        Self(None)
    }
}

/// Gives a new file the permissions and the owner of another.
///
/// # Errors
///
/// The error of the system, if this process may not give files to that owner.
pub(crate) fn make_alike(file: &File, other: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
            fchown(file, Some(other.uid()), Some(other.gid()))?;
        }
    }
    file.set_permissions(other.permissions())
}

/// Returns true if the system refused because there is no space left: on the disk, in a quota, or under a
/// limit on file sizes.
pub(crate) fn is_want_of_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
