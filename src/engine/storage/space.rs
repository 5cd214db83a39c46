//! Disk space, which is allocated before it is needed, so that a full disk is detected while a transaction
//! can still be aborted.
//!
//! redb grows the file, writes to it when it commits, and accepts nothing more once a write has failed. So
//! the growth is allocated when redb asks for it. A failure to allocate is not reported to redb. Instead,
//! [`Space::check`] checks before each commit if the disk has space. If it does not, the transaction is
//! aborted, and redb truncates the file to its old length. A reserve is kept far beyond the file's end, and
//! is released for commits that delete.
//!
//! Always holds: while a page has no place on the disk, or the file is shorter than redb believes, no new
//! header is written to disk, so nothing is committed.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

use crate::files::is_want_of_room;
use crate::sync::unseen::Mutex;

/// The size of redb's pages. redb writes whole pages, except the header, which is shorter and is in the first
/// page.
const PAGE_BYTES: usize = 4_096;
/// The reserve is this fraction of the file's length (one part in this many), ...
const RESERVE_PART: u64 = 4;
/// ... but at least and at most this many bytes.
const RESERVE_BYTES: RangeInclusive<u64> = 256 << 10..=4 << 20;
/// The smallest part of the reserve that is requested at once.
const STEP_MIN_BYTES: u64 = 16 << 10;
/// A file that has grown without allocated space gets space for up to this many reserves at a time.
const FILL_RESERVES: u64 = 16;
/// The reserve begins at or above this offset, which no file reaches.
const RESERVE_AT: u64 = 1 << 40;

/// A source of disk space.
pub(crate) trait Allocate: Debug + Send + Sync {
    /// Allocates disk space for these bytes of the file, which may lie beyond its end. The space stays
    /// allocated until the bytes are written to or the length is set. The contents of the file do not change.
    ///
    /// # Errors
    ///
    /// The error of the system: `StorageFull` or `QuotaExceeded` if there is no space, `Unsupported` if the
    /// file system can only allocate by writing.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()>;
}

/// The purpose of a commit, which determines the space that it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The commit may add data, and must not use the reserve.
    Adding,
    /// The commit deletes, or writes acknowledged changes to disk, and may use the reserve.
    Reserve,
}

/// The disk space of the file.
#[derive(Debug)]
pub(crate) struct Space {
    room: Arc<dyn Allocate>,
    extent: Mutex<Option<Extent>>,
    /// Copies of the extent's flags, which can be read without its lock.
    is_tight: AtomicBool,
    is_full: AtomicBool,
    is_incomplete: AtomicBool,
    header: Mutex<Header>,
}

/// The file's header, which records what is committed.
#[derive(Debug, Default)]
struct Header {
    /// The header that was last synced; `None` if no header was written since the file was opened.
    synced: Option<Vec<u8>>,
    /// The header written since then.
    written: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Extent {
    /// The file's length as redb knows it.
    len: u64,
    /// The file's real length, which is shorter if the system refused to extend it.
    real_len: u64,
    /// From this offset on, disk space is allocated only by writing, because the disk could not allocate all
    /// of it.
    tight_from: Option<u64>,
    /// True if the disk was full when it was last asked.
    is_full: bool,
    /// The pages that the disk had no space for, by offset.
    homeless: BTreeMap<u64, Vec<u8>>,
    /// The number of bytes of the reserve that are allocated.
    kept: u64,
    /// True if the file system can allocate space before it is written to.
    is_supported: bool,
    refusal: Option<io::Error>,
}

impl Space {
    pub(crate) fn new(room: Arc<dyn Allocate>) -> Self {
        Self {
            room,
            extent: Mutex::default(),
            is_tight: AtomicBool::default(),
            is_full: AtomicBool::default(),
            is_incomplete: AtomicBool::default(),
            header: Mutex::default(),
        }
    }

    /// Returns true if part of the file has no allocated space, the reserve is incomplete, or the disk was full when it was
    /// last asked. Then each commit must check if there is enough space.
    pub(crate) fn is_tight(&self) -> bool {
        self.is_tight.load(Ordering::Acquire)
    }

    /// Returns true if the disk was full when it was last asked.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    /// Returns true if some page has no place on the disk, or the file is shorter than redb believes. Then
    /// nothing that redb has written since the last sync is committed.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Ordering::Acquire)
    }

    /// Runs a closure on the extent, after reading the file's length if it is not known yet.
    fn with<T>(
        &self,
        file: &dyn StorageBackend,
        work: impl FnOnce(&mut Extent) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut guard = self.extent.lock();
        let extent = match &mut *guard {
            Some(extent) => extent,
            none => none.insert(Extent::new(file.len()?)),
        };
        let done = work(extent);
        self.is_incomplete.store(extent.is_incomplete(), Ordering::Release);
        self.is_tight.store(extent.is_tight(), Ordering::Release);
        self.is_full.store(extent.is_full, Ordering::Release);
        done
    }

    pub(crate) fn len(&self, file: &dyn StorageBackend) -> io::Result<u64> {
        self.with(file, |extent| Ok(extent.len))
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8], file: &dyn StorageBackend) -> io::Result<()> {
        if !self.is_incomplete() {
            return file.read(offset, out);
        }
        self.with(file, |extent| {
            for (at, part) in (offset..).step_by(PAGE_BYTES).zip(out.chunks_mut(PAGE_BYTES)) {
                match extent.homeless.get(&at).and_then(|page| page.get(..part.len())) {
                    Some(page) => part.copy_from_slice(page),
                    None => file.read(at, part)?,
                }
            }
            Ok(())
        })
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8], file: &dyn StorageBackend) -> io::Result<()> {
        if offset == 0 {
            self.remember_header(data, file);
        }
        let end = offset.saturating_add(data.len() as u64);
        let has_place = !self.is_incomplete() || self.with(file, |extent| Ok(end <= extent.real_len))?;
        let written =
            if has_place { file.write(offset, data) } else { Err(io::ErrorKind::StorageFull.into()) };
        match written {
            Err(error) if offset > 0 && is_want_of_room(&error) => self.with(file, |extent| {
                // A commit may also grow the file after the check has found space for it. The reserve covers
                // that.
                if extent.kept > 0 && extent.release(file).and_then(|()| file.write(offset, data)).is_ok() {
                    extent.forget_homeless(offset, data.len());
                    return Ok(());
                }
                let pages = (offset..).step_by(PAGE_BYTES).zip(data.chunks(PAGE_BYTES));
                extent.homeless.extend(pages.map(|(at, page)| (at, page.to_vec())));
                // If the file could not be extended, the reason is already recorded.
                if has_place {
                    extent.refusal = Some(error);
                }
                Ok(())
            }),
            Ok(()) if self.is_incomplete() => self.with(file, |extent| {
                extent.forget_homeless(offset, data.len());
                Ok(())
            }),
            done => done,
        }
    }

    fn remember_header(&self, data: &[u8], file: &dyn StorageBackend) {
        let mut header = self.header.lock();
        if header.synced.is_none() && header.written.is_none() {
            let mut before = vec![0; data.len()];
            // A new file has no header.
            header.synced = file.read(0, &mut before).is_ok().then_some(before);
        }
        header.written = Some(data.to_vec());
    }

    /// Syncs the file, unless that would write a header to disk whose pages are missing.
    pub(crate) fn sync(&self, file: &dyn StorageBackend) -> io::Result<()> {
        let mut header = self.header.lock();
        // NOTE: redb also syncs when it grows the file; that is not a commit.
        if self.is_incomplete() && header.written.is_some() {
            if let Some(synced) = &header.synced {
                file.write(0, synced)?;
            }
            // The file will be opened again, because it may have grown only for this commit.
            return self.with(file, |extent| Err(extent.refused()));
        }
        file.sync_data()?;
        if let Some(written) = header.written.take() {
            header.synced = Some(written);
        }
        Ok(())
    }

    pub(crate) fn set_len(&self, len: u64, file: &dyn StorageBackend) -> io::Result<()> {
        self.with(file, |extent| {
            if len < extent.len {
                extent.cut(len, file);
            } else {
                extent.grow(len, file, &*self.room);
            }
            extent.keep_reserve(&*self.room);
            Ok(())
        })
    }

    /// Allocates the reserve, if the disk can.
    pub(crate) fn keep_reserve(&self, file: &dyn StorageBackend) -> io::Result<()> {
        self.with(file, |extent| {
            extent.keep_reserve(&*self.room);
            Ok(())
        })
    }

    /// Allocates the reserve, and the disk space that a newly opened file may lack, if the disk can.
    pub(crate) fn keep_all(&self, file: &dyn StorageBackend) -> io::Result<()> {
        self.with(file, |extent| {
            if !extent.allocate(0, extent.len, &*self.room) {
                extent.tight_from = Some(0);
            }
            extent.keep_reserve(&*self.room);
            Ok(())
        })
    }

    /// Checks that the disk has space for a commit.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn check(&self, need: Need, file: &dyn StorageBackend) -> io::Result<()> {
        if !self.is_tight() {
            return Ok(());
        }
        self.with(file, |extent| extent.check(need, file, &*self.room))
    }

    /// Like [`check`](Self::check), but directly before the commit, which may then use the reserve. Call
    /// [`keep_reserve`](Self::keep_reserve) after the commit.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn make_room(&self, need: Need, file: &dyn StorageBackend) -> io::Result<()> {
        if !self.is_tight() {
            return Ok(());
        }
        self.with(file, |extent| {
            let room = extent
                .check(need, file, &*self.room)
                .and_then(|()| extent.release(file))
                .and_then(|()| extent.settle(file));
            if room.is_err() {
                extent.keep_reserve(&*self.room);
            }
            room
        })
    }
}

impl Extent {
    fn new(len: u64) -> Self {
        Self {
            len,
            real_len: len,
            tight_from: None,
            is_full: false,
            homeless: BTreeMap::new(),
            kept: 0,
            is_supported: true,
            refusal: None,
        }
    }

    fn is_incomplete(&self) -> bool {
        !self.homeless.is_empty() || self.real_len < self.len
    }

    fn is_tight(&self) -> bool {
        self.tight_from.is_some()
            || self.is_incomplete()
            || self.is_full
            || (self.is_supported && self.kept < self.reserve())
    }

    /// Returns the reason why there is no space.
    fn refused(&self) -> io::Error {
        match &self.refusal {
            Some(error) => {
                error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
            }
            None => io::ErrorKind::StorageFull.into(),
        }
    }

    /// Allocates disk space. Returns false if that fails.
    fn allocate(&mut self, from: u64, to: u64, room: &dyn Allocate) -> bool {
        if !self.is_supported {
            return true;
        }
        match room.allocate(from, to) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.is_supported = false;
                true
            }
            Err(error) => {
                self.refusal = Some(error);
                false
            }
        }
    }

    fn reserve(&self) -> u64 {
        (self.len / RESERVE_PART).clamp(*RESERVE_BYTES.start(), *RESERVE_BYTES.end())
    }

    /// Returns the range of the reserve, or of `times` its size.
    fn reserve_range(&self, times: u64) -> (u64, u64) {
        let from = self.len.saturating_mul(4).max(RESERVE_AT);
        (from, from.saturating_add(self.reserve() * times))
    }

    /// Allocates the whole reserve, or as much of it as the disk can.
    fn keep_reserve(&mut self, room: &dyn Allocate) {
        let (from, to) = self.reserve_range(1);
        let mut step = (to - from).saturating_sub(self.kept);
        while self.kept < to - from && step >= STEP_MIN_BYTES.min(to - from - self.kept) {
            let wanted = (self.kept + step).min(to - from);
            if self.allocate(from, from + wanted, room) {
                self.kept = wanted;
            } else {
                step /= 2;
            }
        }
    }

    /// Releases the reserve: setting the length frees everything allocated beyond the end.
    fn release(&mut self, file: &dyn StorageBackend) -> io::Result<()> {
        if std::mem::take(&mut self.kept) > 0 && self.is_supported {
            file.set_len(self.real_len)?;
        }
        Ok(())
    }

    /// Truncates the file. If that fails, the file stays longer than redb believes, which is harmless.
    fn cut(&mut self, len: u64, file: &dyn StorageBackend) {
        if len < self.real_len && file.set_len(len).is_ok() {
            self.real_len = len;
            self.kept = 0;
        }
        self.len = len;
        self.tight_from = self.tight_from.filter(|from| *from < len);
        self.homeless.split_off(&len);
    }

    fn grow(&mut self, len: u64, file: &dyn StorageBackend, room: &dyn Allocate) {
        let before = std::mem::replace(&mut self.len, len);
        if self.tight_from.is_none() && !self.allocate(before, len, room) {
            // The disk may have allocated part of it.
            self.kept = self.kept.max(1);
            self.tight_from = Some(before);
            if let Err(error) = self.release(file) {
                self.refusal = Some(error);
            }
        }
        self.lengthen(before, file);
    }

    /// Extends the file to its length. Returns true if it has that length.
    fn lengthen(&mut self, tight_from: u64, file: &dyn StorageBackend) -> bool {
        if self.real_len < self.len {
            match file.set_len(self.len) {
                Ok(()) => {
                    self.real_len = self.len;
                    self.kept = 0;
                }
                Err(error) => {
                    self.refusal = Some(error);
                    self.tight_from.get_or_insert(tight_from);
                }
            }
        }
        self.real_len >= self.len
    }

    fn check(&mut self, need: Need, file: &dyn StorageBackend, room: &dyn Allocate) -> io::Result<()> {
        let tight_from = self.tight_from.unwrap_or(self.len);
        if !self.lengthen(tight_from, file) {
            return Err(self.refused());
        }
        if need == Need::Adding {
            self.fill(file, room)?;
            let (from, to) = self.reserve_range(2);
            self.is_full = !self.allocate(from, to, room);
            // The disk may have allocated part of it.
            self.kept = self.kept.max(1);
            if self.is_full {
                self.release(file)?;
                self.keep_reserve(room);
            }
        }
        // While the whole file has allocated space, the space of deleted data is enough.
        let needs_disk = self.tight_from.is_some() && self.is_full && need == Need::Adding;
        if needs_disk { Err(self.refused()) } else { Ok(()) }
    }

    /// Allocates some of the space of a file that has grown without it, once the disk has more.
    fn fill(&mut self, file: &dyn StorageBackend, room: &dyn Allocate) -> io::Result<()> {
        let Some(tight_from) = self.tight_from else { return Ok(()) };
        let end = self.len.min(tight_from + FILL_RESERVES * self.reserve());
        // NOTE: allocate beyond the end first, because that can be given back if the disk turns out to be
        // full.
        let (from, to) = self.reserve_range(2);
        let has_room = self.allocate(from, to + (end - tight_from), room);
        self.kept = self.kept.max(1);
        self.release(file)?;
        if has_room && self.allocate(tight_from, end, room) {
            self.tight_from = Some(end).filter(|end| *end < self.len);
        }
        Ok(())
    }

    /// Forgets older contents of pages that were written to the file. They would be read in place of the newer
    /// ones, and written over them.
    fn forget_homeless(&mut self, offset: u64, len: usize) {
        let end = offset.saturating_add(len as u64);
        for at in (offset..end).step_by(PAGE_BYTES) {
            self.homeless.remove(&at);
        }
    }

    /// Writes the pages that had no place.
    fn settle(&mut self, file: &dyn StorageBackend) -> io::Result<()> {
        while let Some(page) = self.homeless.first_entry() {
            file.write(*page.key(), page.get())?;
            page.remove();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
