//! Operating a store: statistics, verifying, rebuilding, backup, compacting, closing.
//!
//! Part of the public API: each method is a few lines over the backend.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::Result;
use crate::model::{
    BackupReport, CompactReport, PoolStats, Progress, RebuildReport, StoreStats, VacuumReport, VerifyReport,
};
use crate::pool::Pool;
use crate::store::DataPoolStore;

impl DataPoolStore {
    /// Returns statistics of the whole store: its size, its memory, its readers, and what it has done since
    /// it was opened. The call is cheap enough to make once a second. [`Pool::stats`] returns those of a
    /// pool.
    ///
    /// # Errors
    ///
    /// `Closed`; `Storage` if the file's length cannot be read.
    pub fn stats(&self) -> Result<StoreStats> {
        self.backend().stats()
    }

    /// Verifies the file: its checksums, and every index against the records.
    ///
    /// Verifying reads the whole file, which takes about a second for a million records. Checking the
    /// checksums needs exclusive access to the file, so other calls wait meanwhile. The indexes are checked
    /// as of one moment, while others read and write. If the file's own bookkeeping (which pages are free) is
    /// wrong, it is repaired and reported as a finding. [`rebuild_indexes`](Self::rebuild_indexes) repairs
    /// findings in indexes.
    ///
    /// Changes that leave the file a valid store are not detected, for example rows that were replaced by
    /// older versions.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open; `ReadOnly`; `OutcomeUnknown`; `Closed`; `Storage`.
    /// Damage is a finding, not an error.
    #[doc(alias("check", "integrity_check", "fsck"))]
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with_progress(|_| ControlFlow::Continue(()))
    }

    /// Like [`verify`](Self::verify), but calls `observer` from time to time with the number of records
    /// checked. `Break` stops it with `Cancelled`.
    ///
    /// # Errors
    ///
    /// The errors of [`verify`](Self::verify); `Cancelled`.
    pub fn verify_with_progress(
        &self,
        mut observer: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        self.backend().verify(&mut observer)
    }

    /// Rebuilds every index from the records.
    ///
    /// This repairs what [`verify`](Self::verify) finds in indexes: the tables of fingerprints, repeats,
    /// postings, times, membership filters and pool names; rows of segments and pools that do not exist; and
    /// owners of values that are tracked or belong to no claim. It cannot rebuild data that does not follow
    /// from the records: records, origins, deletions, pools, and a segment's first time. If such data cannot
    /// be read, the report names it, and its pool is left as it is. Data of this kind that is readable but
    /// wrong is found only by `verify`. So is damage to registered names and to the items of claims.
    ///
    /// Each pool is one commit, which takes about as long as importing its records. Others can write in
    /// between.
    ///
    /// # Errors
    ///
    /// `ReadOnly`; `StorageFull`, `OutcomeUnknown` or `Storage`: pools that were rebuilt before stay rebuilt.
    #[doc(alias("reindex", "repair"))]
    pub fn rebuild_indexes(&self) -> Result<RebuildReport> {
        self.backend().rebuild_indexes()
    }

    /// Writes a copy of the store, as of this moment, to a new file. To restore the copy, open it.
    ///
    /// The copy has no free space and only live data. It contains no byte of a value, origin or claimed item
    /// that was deleted, expired or settled. For a dead record between live ones, only its time is kept. A
    /// pool with dead records gets new indexes in the copy, which takes about twice as long as copying them.
    ///
    /// If the file may be damaged, [verify](Self::verify) first.
    ///
    /// Others can read and write meanwhile; what they write is not in the copy. Until the copy is done, the
    /// store's file cannot reuse the space of what changes. The copy is written beside `path` under another
    /// name (it begins with `.datapool-backup-`), synced and renamed, so there is never an incomplete file at
    /// `path`. The copy has the id of this store, so tokens of claims can be taken up in it: do not use both
    /// as one store.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is something at `path`; `Io` if it cannot be written; `Closed`; `Busy` during
    /// a [vacuum](Self::vacuum); `Corrupt` or `Storage` if the store cannot be read.
    #[doc(alias("dump", "copy", "export"))]
    pub fn backup_to(&self, path: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with_progress(path, |_| ControlFlow::Continue(()))
    }

    /// Like [`backup_to`](Self::backup_to), but calls `observer` from time to time with the number of rows
    /// copied. `Break` stops it with `Cancelled`, and leaves no file.
    ///
    /// # Errors
    ///
    /// The errors of [`backup_to`](Self::backup_to); `Cancelled`.
    pub fn backup_with_progress(
        &self,
        path: impl AsRef<Path>,
        mut observer: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.backend().backup(path.as_ref(), &mut observer)
    }

    /// Shrinks the file as much as possible. Removes free space: what [pruning](Self::prune) gave back, and
    /// what the file has allocated ahead.
    ///
    /// Compacting needs exclusive access to the file: other calls wait, for seconds if the file is large. If
    /// the file will grow again, there is no need to compact it, because free space is reused. All checksums
    /// are checked first, because pages that are moved get new ones, which would hide damage.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open; `ReadOnly`; `Corrupt` if the file is damaged: nothing
    /// is changed, and calls that write are refused until the store is [opened again](Self::reopen);
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails.
    #[doc(alias("shrink", "defragment"))]
    pub fn compact(&self) -> Result<CompactReport> {
        self.backend().compact()
    }

    /// Erases dead data: writes a copy of the live data and replaces the file with it. Afterwards the file
    /// contains no byte of a deleted or expired value, or of an origin or claimed item that no live data
    /// uses.
    ///
    /// Deleting alone does not remove the bytes from the file. To erase a value, [delete
    /// it](Self::delete_where), then vacuum. See [Erasing](crate::erasing).
    ///
    /// ```
    /// use datapool_store::{DataPoolStore, Key, Mode, Origin, RecordFilter};
    ///
    /// # fn main() -> datapool_store::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("pools.redb");
    /// let store = DataPoolStore::open(&path)?;
    /// let pool = store.get_or_create_pool("customers")?;
    /// let _ = pool.dedupe(Mode::Track, &["jo@example.org"], |c| Key::new(47, *c), &Origin::none())?;
    ///
    /// assert_eq!(store.delete_where(&RecordFilter::new().value("jo@example.org"))?, 1);
    /// store.vacuum()?;
    /// # let file = std::fs::read(path).unwrap();
    /// # assert!(!file.windows(14).any(|bytes| bytes == b"jo@example.org"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The copy is written beside the file under another name (it begins with `.datapool-vacuum-`), synced
    /// and renamed. If the process or the power fails, the file is either the old one or the new one, and
    /// both have all live data. The disk needs space for the copy. All handles continue with the new file.
    /// The file keeps its permissions and its owner. A symbolic link to it stays a link, but another hard
    /// link keeps the old contents. Leases of claims then run by the wall clock, as after
    /// [reopening](Self::reopen). A store in memory is copied in memory. Vacuuming needs write access to the
    /// directory, and the right to give the copy the same owner as the file. A small file that was compacted
    /// may grow.
    ///
    /// All checksums are checked first, which needs exclusive access to the file: the copy has new ones, which
    /// would hide damage. Then others can read, except for a moment at the end. Calls that write wait until it
    /// is done. It takes about twice as long as a [backup](Self::backup_to) of a pool without dead records. New scans,
    /// exports, snapshots, backups and verifications get `Busy`.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open, or if a read does not finish within two seconds;
    /// `ReadOnly`; `Closed`; `StorageFull`, `Io` or `Storage` if the copy cannot be written or cannot replace
    /// the file; `Corrupt` if the file is damaged, after which calls that write are refused until the store is
    /// [opened again](Self::reopen); `Storage` if it cannot be read. In all these cases the old file stays in
    /// use, and no copy is left. `OutcomeUnknown` if a loss of power may bring back the old file.
    #[doc(alias("erase", "forget", "gdpr"))]
    pub fn vacuum(&self) -> Result<VacuumReport> {
        self.vacuum_with_progress(|_| ControlFlow::Continue(()))
    }

    /// Like [`vacuum`](Self::vacuum), but calls `observer` from time to time with the number of rows copied.
    /// `Break` stops it with `Cancelled` and leaves the file unchanged. The observer may read the store;
    /// calls that write get `Busy`.
    ///
    /// # Errors
    ///
    /// The errors of [`vacuum`](Self::vacuum); `Cancelled`.
    pub fn vacuum_with_progress(
        &self,
        mut observer: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<VacuumReport> {
        self.backend().vacuum(&mut observer)
    }

    /// Writes everything to disk and closes the file, even if there are other handles. From then on, all
    /// handles, open scans and snapshots fail with `Closed`. An import or another call that writes is
    /// finished first. Closing again does nothing. A claim whose guard is dropped afterwards stays held until
    /// its lease ends.
    ///
    /// Dropping the last handle closes the file as well, but cannot report a failure. Opening is fastest if
    /// the file was closed.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if writing to the disk fails. The file is closed anyway,
    /// and recovered when it is opened again. A store that has told a caller of `OutcomeUnknown` is closed
    /// without a further error.
    pub fn close(&self) -> Result<()> {
        #[cfg(feature = "async")]
        self.shared().threads.finish_writes();
        self.backend().close()
    }

    /// Closes the file and opens it again with the same options. This is how a store continues after
    /// `OutcomeUnknown`, or after a `Storage` error that persists. All handles stay valid; open scans and
    /// snapshots end with `Closed`. A closed store is opened.
    ///
    /// After a failed commit, reopening shows if the commit is on disk: all of it or nothing. With
    /// [`Durability::Relaxed`](crate::Durability::Relaxed), calls that were not flushed before the failure
    /// may be lost. A store in memory keeps its data.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if flushing the changes of a
    /// [`Relaxed`](crate::Durability::Relaxed) store fails: the file stays open, and the next call continues
    /// without those changes. Also the errors of [`StoreOptions::open`](crate::StoreOptions::open), and
    /// `NotFound` if the file is gone or was replaced by another store. Then the store is closed, and
    /// `reopen` can be called again.
    pub fn reopen(&self) -> Result<()> {
        self.backend().reopen()
    }
}

impl Pool {
    /// Returns statistics of this pool, as of one moment. The call is cheap enough to make once a second.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Corrupt` or `Storage` if reading fails.
    pub fn stats(&self) -> Result<PoolStats> {
        self.backend().pool_stats(self.id())
    }
}
