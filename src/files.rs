//! Files beside the store. They are created with the usual permissions of a new file and renamed durably.

use std::fs::{self, File, TryLockError};
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
    // The system's error is only in the text, as "No space left on device (os error 28) at path ...".
    let text = error.to_string();
    let Some((reason, rest)) = text.split_once(" (os error ") else {
        return io::Error::new(error.kind(), text);
    };
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
            io::Error::new(error.kind(), format!("{reason}: {}", directory.display()))
        }
        kind => match rest.split_once(')').and_then(|(code, _)| code.parse().ok()) {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(kind, text),
        },
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

/// Gives a file its final name, and the permissions of the file at `like`. Both are on disk when this returns.
///
/// # Errors
///
/// The error of the system; `AlreadyExists` if the existing file is kept.
pub(crate) fn publish(
    file: tempfile::NamedTempFile,
    target: &Path,
    like: Option<&Path>,
    existing: Existing,
) -> io::Result<()> {
    if let Some(like) = like {
        copy_permissions(file.as_file(), like, &fs::metadata(like)?)?;
    }
    file.as_file().sync_all()?;
    let named = match existing {
        Existing::Replaced => file.persist(target),
        Existing::Kept => file.persist_noclobber(target).or_else(|refused| match refused.error.kind() {
            // A file system without hard links, which cannot rename without replacing either.
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                if !target.exists() =>
            {
                refused.file.persist(target)
            }
            _ => Err(refused),
        }),
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

/// Gives a new file the permissions and the owner of the file at `other`.
///
/// # Errors
///
/// The error of the system, if this process may not give files to that owner.
pub(crate) fn make_alike(file: &File, other: &Path) -> io::Result<()> {
    let meta = fs::metadata(other)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            fchown(file, Some(meta.uid()), Some(meta.gid()))?;
        }
    }
    copy_permissions(file, other, &meta)
}

/// Gives a file the permissions of another, whose metadata were read.
fn copy_permissions(file: &File, other: &Path, meta: &fs::Metadata) -> io::Result<()> {
    file.set_permissions(meta.permissions())?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    copy_access_list(file, other)?;
    Ok(())
}

/// Copies the access control list of a file that has one. Linux keeps it in this attribute: see acl(5). The group's permissions of
/// such a file are the list's mask, so without the list they would give the group more.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn copy_access_list(file: &File, other: &Path) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fsetxattr, getxattr};
    use rustix::io::Errno;
    const LIST: &str = "system.posix_acl_access";
    // The most bytes that Linux allows.
    let mut list = vec![0; 1 << 16];
    match getxattr(other, LIST, list.as_mut_slice()) {
        Ok(length) => {
            list.truncate(length);
            Ok(fsetxattr(file, LIST, &list, XattrFlags::empty())?)
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns true if the system refused because there is no space left: on the disk, in a quota, or under a
/// limit on file sizes.
pub(crate) fn is_want_of_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    //! Proves who may use the files that are made beside the store, and why one cannot be made.

    use super::*;

    /// The user 3000 may read and write, the group nothing: version 2, then tag, permissions and id of each entry.
    #[cfg(target_os = "linux")]
    fn access_list() -> Vec<u8> {
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 6, 3_000), (4, 0, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_new_file_gets_the_access_list_of_the_one_that_it_replaces() {
        use rustix::fs::{XattrFlags, getxattr, setxattr};
        const LIST: &str = "system.posix_acl_access";
        let directory = tempfile::tempdir().unwrap();
        let old = directory.path().join("old");
        fs::write(&old, "").unwrap();
        if setxattr(&old, LIST, &access_list(), XattrFlags::empty()).is_err() {
            // The file system has no such lists.
            return;
        }
        let list_of = |path: &Path| {
            let mut list = vec![0; 1_000];
            let length = getxattr(path, LIST, list.as_mut_slice()).unwrap();
            list.truncate(length);
            list
        };
        let new_file = || new_file_in(directory.path(), ".new-", ReadableBy::Usual).unwrap();
        let alike = new_file();
        make_alike(alike.as_file(), &old).unwrap();
        assert_eq!(list_of(alike.path()), access_list());
        let copy = directory.path().join("copy");
        publish(new_file(), &copy, Some(&old), Existing::Kept).unwrap();
        assert_eq!(list_of(&copy), access_list());
        publish(new_file(), &old, Some(&old), Existing::Replaced).unwrap();
        assert_eq!(list_of(&old), access_list());
    }

    #[test]
    fn the_reason_for_a_missing_temporary_file_is_the_systems() {
        let directory = Path::new("/data");
        for (code, text) in [
            (24, "Too many open files (os error 24)"),
            (28, "No space left on device (os error 28)"),
            (5, "Input/output error (os error 5)"),
            (2, "No such file or directory: /data"),
            (13, "Permission denied: /data"),
        ] {
            let system = io::Error::from_raw_os_error(code);
            let wrapped = io::Error::new(system.kind(), format!("{system} at path \"/data/.x-Ab12\""));
            assert_eq!(reason_of(&wrapped, directory).to_string(), text);
        }
        let missing = directory.join("no such directory");
        let error = new_file_in(&missing, ".x-", ReadableBy::Usual).unwrap_err();
        assert_eq!(error.to_string(), format!("No such file or directory: {}", missing.display()));
    }
}
