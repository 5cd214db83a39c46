//! Lazy iteration over a pool's records, in slices, from either end.

use std::collections::VecDeque;
use std::ops::Range;

use crate::backend::OpenReader;
use crate::error::Result;
use crate::ids::RecordNumber;
use crate::model::Record;
use crate::pool::Pool;
use crate::query::{RecordFilter, RecordSort};
use crate::snapshot::PoolSnapshot;

/// The number of records that a slice reads.
const SLICE_RECORDS: usize = 4_096;
/// The number of records that the first slice reads. It is small so that a caller that wants one record does
/// not pay for thousands.
const FIRST_SLICE_RECORDS: usize = 64;

#[derive(Debug)]
enum Source {
    /// Reads each slice from a fresh view.
    Pool(Pool, Box<dyn OpenReader>),
    /// Reads every slice from one view. The snapshot keeps the store open.
    Snapshot(PoolSnapshot),
    /// There is nothing left to read.
    Done,
}

/// Iterates over the records that match a filter, oldest first; newest first with [`rev`](Iterator::rev).
/// Returned by [`Pool::scan`] and [`PoolSnapshot::scan`](crate::PoolSnapshot::scan).
///
/// Each item is a result. After an error there are no more items. A scan is open until it has read its last
/// record or is dropped. While it is open, [`compact`](crate::DataPoolStore::compact) and
/// [`verify`](crate::DataPoolStore::verify) fail with `Busy`. If the store is closed, the scan ends with
/// `Closed`, even if the store is opened again.
#[derive(Debug)]
#[must_use = "a scan reads nothing until it is iterated"]
pub struct Scan {
    source: Source,
    filter: RecordFilter,
    /// The ids that are not read yet.
    ids: Range<RecordNumber>,
    front: VecDeque<Record>,
    back: VecDeque<Record>,
    slice: usize,
}

impl Pool {
    /// Returns every record that matches the filter, oldest first (or newest first with `rev()`). Records are
    /// read as they are needed.
    ///
    /// The scan reads in slices, each as of its own moment, up to the last id when it started. A record that
    /// is live throughout appears exactly once. Records that are added meanwhile do not appear. Records that
    /// are deleted meanwhile may be missing. To read everything as of one moment, use
    /// [`snapshot`](Self::snapshot).
    ///
    /// # Errors
    ///
    /// `InvalidQuery` for a filter's bad term; `NotFound`. Reading may fail later: each item is a result, and
    /// nothing follows an error.
    #[doc(alias("iter", "each", "stream"))]
    pub fn scan(&self, filter: &RecordFilter) -> Result<Scan> {
        Scan::over_pool(self.clone(), filter.clone())
    }
}

impl PoolSnapshot {
    /// Returns every record that matches the filter, oldest first (or newest first with `rev()`). Records are
    /// read as they are needed.
    ///
    /// # Errors
    ///
    /// The errors of [`Pool::scan`].
    #[doc(alias("iter", "each", "stream"))]
    pub fn scan(&self, filter: &RecordFilter) -> Result<Scan> {
        Scan::over_snapshot(self.clone(), filter.clone())
    }
}

impl Scan {
    pub(crate) fn over_pool(pool: Pool, filter: RecordFilter) -> Result<Self> {
        let reader = pool.backend().open_scan()?;
        let ids = pool.reading()?.ids()?;
        Self::new(Source::Pool(pool, reader), ids, filter)
    }

    pub(crate) fn over_snapshot(snapshot: PoolSnapshot, filter: RecordFilter) -> Result<Self> {
        let ids = snapshot.reading()?.ids()?;
        Self::new(Source::Snapshot(snapshot), ids, filter)
    }

    fn new(source: Source, ids: Range<RecordNumber>, filter: RecordFilter) -> Result<Self> {
        filter.check()?;
        let (front, back) = (VecDeque::new(), VecDeque::new());
        Ok(Self { source, filter, ids, front, back, slice: FIRST_SLICE_RECORDS })
    }

    /// Reads the next slice from one end of the remaining ids.
    fn read(&mut self, sort: RecordSort) -> Result<Vec<Record>> {
        let (limit, ids) = (self.slice, std::mem::take(&mut self.ids));
        self.slice = SLICE_RECORDS;
        // After an error, or after fewer records than the limit, nothing is left to read.
        let source = std::mem::replace(&mut self.source, Source::Done);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let records = match &source {
            Source::Pool(pool, reader) => {
                reader.check_open()?;
                pool.reading()?.slice(&self.filter, ids.clone(), sort, limit)?
            }
            Source::Snapshot(snapshot) => {
                snapshot.reading()?.slice(&self.filter, ids.clone(), sort, limit)?
            }
            Source::Done => return Ok(Vec::new()),
        };
        if let Some(last) = records.last().filter(|_| records.len() == limit) {
            self.ids = match sort {
                RecordSort::Ascending => last.id.get() + 1..ids.end,
                RecordSort::Descending => ids.start..last.id.get(),
            };
            self.source = source;
        }
        Ok(records)
    }

    fn next_from(&mut self, sort: RecordSort) -> Option<Result<Record>> {
        if let Some(record) = self.near(sort).pop_front() {
            return Some(Ok(record));
        }
        match self.read(sort) {
            Err(error) => {
                self.front.clear();
                self.back.clear();
                Some(Err(error))
            }
            Ok(records) => {
                *self.near(sort) = records.into();
                let near = self.near(sort).pop_front();
                // After this end's records come those that the other end has already read.
                near.or_else(|| self.far(sort).pop_back()).map(Ok)
            }
        }
    }

    fn near(&mut self, sort: RecordSort) -> &mut VecDeque<Record> {
        match sort {
            RecordSort::Ascending => &mut self.front,
            RecordSort::Descending => &mut self.back,
        }
    }

    fn far(&mut self, sort: RecordSort) -> &mut VecDeque<Record> {
        match sort {
            RecordSort::Ascending => &mut self.back,
            RecordSort::Descending => &mut self.front,
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_from(RecordSort::Ascending)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_from(RecordSort::Descending)
    }
}

impl std::iter::FusedIterator for Scan {}
