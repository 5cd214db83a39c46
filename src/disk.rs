//! The disk of a store that is not a file in the file system. Tests use it to make disks fail.

use std::fmt::Debug;
use std::io;

/// A disk: an array of bytes whose length can change. Not part of the stable API.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Returns the length in bytes.
    ///
    /// # Errors
    ///
    /// Any error of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Reads `out.len()` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Any error of the disk; also if the range ends after the disk's length.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Sets the length. Extends the disk with zeros, or truncates it.
    ///
    /// # Errors
    ///
    /// Any error of the disk.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns once everything written so far survives a loss of power.
    ///
    /// # Errors
    ///
    /// Any error of the disk.
    fn sync(&self) -> io::Result<()>;

    /// Writes bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Any error of the disk.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Reserves space for these bytes, which may be past the disk's end.
    ///
    /// # Errors
    ///
    /// Any error of the disk; `Unsupported` if it cannot reserve space before it is written to, which is the
    /// default.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Creates an empty disk for a copy that will replace this one.
    ///
    /// # Errors
    ///
    /// Any error of the disk; `Unsupported` if it cannot create another disk, which is the default.
    fn beside(&self) -> io::Result<Box<dyn Disk>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Replaces the contents with those of a disk that was made by [`beside`](Self::beside), atomically. On
    /// return, they survive a loss of power.
    ///
    /// # Errors
    ///
    /// Any error of the disk, whose contents are then unchanged; `Unsupported` by default.
    fn take_over(&self, copy: &dyn Disk) -> io::Result<()> {
        let _ = copy;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns true if the length is 0.
    ///
    /// # Errors
    ///
    /// Any error of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}
