//! Where a store's bytes lie, when it is not a file of the system: the seam for tests that make disks fail.

use std::fmt::Debug;
use std::io;

/// A disk. It has a length, and holds bytes below it. Not part of the stable API.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Returns the length in bytes.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers.
    fn len(&self) -> io::Result<u64>;

    /// Reads `out.len()` bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers; also when the range ends behind the disk's length.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Grows the disk by zeros, or cuts it.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when everything written so far would survive a loss of power.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers.
    fn sync(&self) -> io::Result<()>;

    /// Writes bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Keeps room for these bytes, which may lie beyond the disk's length.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers: `Unsupported` if room is had by writing only, as here by default.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns true if the length is 0.
    ///
    /// # Errors
    ///
    /// Whatever the disk answers.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}
