//! Running a store: figures, checking, mending, copying, compacting, closing.
//!
//! The public face: each method is a few lines over the engine.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::Result;
use crate::model::{
    BackupReport, CompactReport, PoolStats, Progress, RebuildReport, StoreStats, VerifyReport,
};
use crate::pool::Pool;
use crate::store::DataPoolStore;

impl DataPoolStore {
    /// Figures of the whole store: its size, its memory, who reads it, what it did since it was opened. Cheap enough to be
    /// called every second. [`Pool::stats`] has those of a pool.
    ///
    /// # Errors
    ///
    /// `Closed`; `Storage` if the file's length cannot be read.
    pub fn stats(&self) -> Result<StoreStats> {
        self.shared().engine.stats()
    }

    /// Checks the file: its checksums, and every index against the records.
    ///
    /// Reads everything: about a second for a million records. Checking the checksums must be alone with the file, and
    /// other calls wait meanwhile; the indexes are checked as of one moment beside readers and writers. What storage of
    /// its own the file keeps (which pages are free) is put in order if it is not, and that is a finding.
    /// [`rebuild_indexes`](Self::rebuild_indexes) mends findings in indexes.
    ///
    /// Not detected is what leaves the file a valid store: that rows were put back as they were once.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open; `ReadOnly`; `OutcomeUnknown`; `Closed`; `Storage`. Damage is
    /// no error but a finding.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.verify_with_progress(|_| ControlFlow::Continue(()))
    }

    /// As [`verify`](Self::verify); tells `observer` how many of the records are checked, from time to time. `Break` stops
    /// with `Cancelled`.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify); `Cancelled`.
    pub fn verify_with_progress(
        &self,
        mut observer: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<VerifyReport> {
        self.shared().engine.verify(&mut observer)
    }

    /// Makes every index again, from the records.
    ///
    /// That mends what [`verify`](Self::verify) finds in indexes: the tables of fingerprints, repeats, postings, times,
    /// membership filters and pool names, rows of segments and pools that are not there, and owners of values that
    /// are tracked, or that no claim has. What is no index cannot be made again: records, origins, deletions, pools, and a segment's first
    /// time. What of these cannot be read is in the report, and their pool stays as it is. What can be read and is wrong,
    /// and damage to registered names and to the items of claims, only `verify` finds.
    ///
    /// One commit for each pool, which takes about as long as importing its records; others write in between.
    ///
    /// # Errors
    ///
    /// `ReadOnly`; `StorageFull`, `OutcomeUnknown` or `Storage`: the pools that were done before stay so.
    pub fn rebuild_indexes(&self) -> Result<RebuildReport> {
        self.shared().engine.rebuild_indexes()
    }

    /// Writes a copy of the store, as of this moment, to a new file. Restoring is opening it.
    ///
    /// The copy has no free space. Records that are dead, but whose space was not given back yet, are copied, too:
    /// [prune](Self::prune) before, to keep them out.
    ///
    /// It copies what it reads: [verify](Self::verify) first, if the file may be damaged.
    ///
    /// Others read and write meanwhile; none of what they write is in the copy. Until the copy is done, the store's file
    /// cannot reuse the space of what changes. The copy is written beside `path` under another name (it begins with
    /// `.datapool-backup-`), brought to disk and renamed: there is never half a file at `path`. It has the id of this
    /// store, so that tokens of claims can be taken up in it: do not use both as one.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is something at `path`; `Io` if it cannot be written; `Closed`; `Corrupt` or `Storage` if
    /// the store cannot be read.
    pub fn backup_to(&self, path: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with_progress(path, |_| ControlFlow::Continue(()))
    }

    /// As [`backup_to`](Self::backup_to); tells `observer` how many rows are copied, from time to time. `Break` stops with
    /// `Cancelled`, and nothing is left.
    ///
    /// # Errors
    ///
    /// As [`backup_to`](Self::backup_to); `Cancelled`.
    pub fn backup_with_progress(
        &self,
        path: impl AsRef<Path>,
        mut observer: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<BackupReport> {
        self.shared().engine.backup(path.as_ref(), &mut observer)
    }

    /// Makes the file as short as it can be: what was given back by [pruning](Self::prune) or grown ahead leaves it.
    ///
    /// It must be alone with the file: other calls wait, for seconds on a large file. A file that goes on growing is better
    /// left as it is: it uses the space again.
    ///
    /// # Errors
    ///
    /// `Busy` while a scan, snapshot or backup is open; `ReadOnly`; `StorageFull`, `OutcomeUnknown` or `Storage` if the disk refuses.
    pub fn compact(&self) -> Result<CompactReport> {
        self.shared().engine.compact()
    }

    /// Brings everything to disk and closes the file, whatever handles there are. They answer `Closed` from then on, open
    /// scans and snapshots too; an import or another call that writes is finished first. Closing again does nothing.
    ///
    /// Dropping the last handle closes the file as well, but cannot report a failure. Opening is fastest after closing.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if the disk refuses: the file is closed all the same, and recovered when it is opened
    /// again. A store that answered `OutcomeUnknown` before is closed without a further error.
    pub fn close(&self) -> Result<()> {
        self.shared().engine.close()
    }

    /// Closes the file and opens it again with the same options: that is how a store goes on after `OutcomeUnknown`,
    /// and after a `Storage` that keeps coming. All handles go on with it; open scans and snapshots end with `Closed`. A store that was closed is opened.
    ///
    /// After a failed commit this finds out whether it is on disk: all of it or nothing. With
    /// [`Durability::Relaxed`](crate::Durability::Relaxed) calls that were not flushed before the failure may be lost. A
    /// store in memory keeps what it has.
    ///
    /// # Errors
    ///
    /// `StorageFull`, `OutcomeUnknown` or `Storage` if the disk refuses what a [`Relaxed`](crate::Durability::Relaxed) store has not flushed:
    /// the file stays open then, and the next call goes on without it. As
    /// [`StoreOptions::open`](crate::StoreOptions::open), and `NotFound` if the file is gone or another store lies there; the
    /// store is closed then, and this can be called again.
    pub fn reopen(&self) -> Result<()> {
        self.shared().engine.reopen()
    }
}

impl Pool {
    /// Figures of this pool, as of one moment. Cheap enough to be called every second.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Corrupt` or `Storage` if reading fails.
    pub fn stats(&self) -> Result<PoolStats> {
        self.view()?.stats(self.shared().engine.clock().read())
    }
}
