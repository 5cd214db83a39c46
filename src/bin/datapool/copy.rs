//! Copying all pools of a store to another store. Each is a file or on a server.
//!
//! Always holds: before a slice of records is added, a [note](notes) in the destination holds the progress of the copy and
//! the size of the slice. After an interruption, the number of records tells if the slice was added, so no record is added
//! twice. A pool gets its retention and capacity after its records, because records
//! would expire under them while they are counted on. Until then its description says that its copy is not finished.

mod finished;
mod notes;
mod registered;
mod report;
mod side;
mod slices;

use datapool_store::{
    DataPool, ErrorKind, ImportOptions, NewPool, Pool, PoolSnapshot, PoolUpdate, RecordFilter, RecordId,
    Timestamp,
};

use self::notes::{Note, Pending, Position, State};
use self::registered::RegisteredReport;
use self::report::{PoolReport, Report};
use self::side::{Side, is_copy};
use self::slices::Slice;
use crate::bars::{Bar, Handle};
use crate::failure::Failure;
use crate::format::Format;
use crate::open::{self, StoreFile};
use crate::output;

/// The description of a pool until its copy is finished.
const UNFINISHED: &str = "(copy not finished: run `datapool copy` again)";

pub(crate) fn run(from: &StoreFile, to: &StoreFile, format: Format) -> Result<(), Failure> {
    let report = open::to_read(from, |source| {
        open::to_create(to, |target| {
            let bar = Bar::spinner("copying");
            let copy = Copy {
                from: Side { store: source, name: from.display() },
                to: Side { store: target, name: to.display() },
                bar: bar.handle(),
                done: 0,
                total: 0,
            };
            copy.run()
        })
    })?;
    match format {
        Format::Json => output::json(&report),
        Format::Human => report.print(),
    }
}

/// The progress of a copy when the command begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Pools are left to copy.
    Open,
    /// All pools are copied, and notes are left to remove.
    Complete,
    /// Everything was done by an earlier run.
    Finished,
}

/// A copy under way.
struct Copy<'a> {
    from: Side<'a>,
    to: Side<'a>,
    bar: Handle,
    /// Records copied, of all pools.
    done: u64,
    total: u64,
}

impl Copy<'_> {
    fn run(mut self) -> Result<Report, Failure> {
        let rows: Vec<DataPool> =
            self.from.store.all_pools().map_err(|error| self.from.failed(error))?.collect();
        let mut open_claims = 0;
        for row in &rows {
            let stats = self.from.pool(row)?.stats().map_err(|error| self.from.failed(error))?;
            open_claims += stats.claims;
            self.total += stats.live;
        }
        let progress = self.progress(&rows)?;
        let registered = match progress {
            Progress::Complete => RegisteredReport::default(),
            Progress::Finished => registered::copy(&self.from, &self.to)?,
            Progress::Open => {
                self.check_names(&rows)?;
                registered::copy(&self.from, &self.to)?
            }
        };
        let mut pools = Vec::new();
        for row in &rows {
            pools.push(match progress {
                Progress::Open => self.copy_pool(row)?,
                Progress::Complete | Progress::Finished => self.copied_before(row)?,
            });
        }
        if progress == Progress::Open {
            notes::complete(&self.to, &rows)?;
        }
        if progress != Progress::Finished {
            notes::remove_all(&self.to, &rows)?;
        }
        let already_copied = progress == Progress::Finished;
        let records = pools.iter().map(|pool| pool.records).sum();
        let added = pools.iter().map(|pool| pool.added).sum();
        Ok(Report { already_copied, pools, records, added, registered, open_claims })
    }

    fn progress(&self, rows: &[DataPool]) -> Result<Progress, Failure> {
        let first = rows.first().map(|first| Note::read(&self.to, first)).transpose()?.flatten();
        Ok(match first {
            Some(note) if note.state == State::Complete => Progress::Complete,
            None if finished::is_finished(&self.from, &self.to, rows)? => Progress::Finished,
            _ => Progress::Open,
        })
    }

    /// Refuses pools of the destination that this copy did not begin. Nothing is written before.
    fn check_names(&self, rows: &[DataPool]) -> Result<(), Failure> {
        for row in rows {
            if self.begun(row)?.is_none()
                && let Some(found) = self.to.find(&row.name)?
            {
                let message = format!(
                    "{} has a data pool {:?} (id {}), which this copy did not begin, or which has changed since the copy was \
                     finished; to copy it, rename or delete one of the two first. Nothing was copied now",
                    self.to.name,
                    row.name,
                    found.id()
                );
                return Err(Failure::of(ErrorKind::AlreadyExists, message));
            }
        }
        Ok(())
    }

    /// Returns the note about a pool that this copy began, unless its copy was deleted since.
    fn begun(&self, row: &DataPool) -> Result<Option<Note>, Failure> {
        let Some(note) = Note::read(&self.to, row)? else { return Ok(None) };
        let Some(id) = note.pool else {
            // The copy was interrupted while it created the pool. An own pool is still empty.
            let found = self.to.find(&row.name)?;
            let is_empty = |pool: Pool| pool.count(&RecordFilter::new()).map(|records| records == 0);
            let is_own = found.map_or(Ok(true), is_empty).map_err(|error| self.to.failed(error))?;
            return Ok(is_own.then_some(note));
        };
        match self.to.store.pool(id) {
            Ok(_) => Ok(Some(note)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.to.failed(error)),
        }
    }

    /// Reports a pool that an earlier run copied.
    fn copied_before(&self, row: &DataPool) -> Result<PoolReport, Failure> {
        let failed = |error| self.to.failed(error);
        let pool = self.to.store.pool_named(&row.name).map_err(failed)?;
        let records = pool.count(&RecordFilter::new()).map_err(failed)?;
        Ok(PoolReport { name: row.name.clone(), from: row.id.get(), to: pool.id().get(), records, added: 0 })
    }

    fn copy_pool(&mut self, row: &DataPool) -> Result<PoolReport, Failure> {
        let (pool, mut note) = self.begin(row)?;
        if note.state == State::Copying {
            self.settle(row, &pool, &mut note)?;
        }
        let before = note.at.map_or(0, |at| at.records);
        self.done += before;
        if note.state == State::Copying {
            self.add_records(row, &pool, &mut note)?;
            self.check_count(row, &pool, &note)?;
            note.state = State::Finishing;
            note.write(&self.to, row)?;
        }
        if note.state == State::Finishing {
            self.set_fields(row, &pool)?;
            note.state = State::Done;
            note.write(&self.to, row)?;
        }
        let records = note.at.map_or(0, |at| at.records);
        let (from, to) = (row.id.get(), pool.id().get());
        Ok(PoolReport { name: row.name.clone(), from, to, records, added: records - before })
    }

    /// Returns the pool's copy and the note about it. Creates both if there are none.
    fn begin(&self, row: &DataPool) -> Result<(Pool, Note), Failure> {
        let failed = |error| self.to.failed(error);
        let mut note = if let Some(note) = self.begun(row)? {
            note
        } else {
            let note = Note::default();
            note.write(&self.to, row)?;
            note
        };
        if let Some(id) = note.pool {
            return Ok((self.to.store.pool(id).map_err(failed)?, note));
        }
        let pool = if let Some(pool) = self.to.find(&row.name)? {
            pool
        } else {
            let new = NewPool::new(&row.name).description(UNFINISHED);
            let pool = self.to.store.create_pool(new).map_err(failed)?;
            notes::committed();
            pool
        };
        note.pool = Some(pool.id().get());
        note.write(&self.to, row)?;
        Ok((pool, note))
    }

    /// Finds out if the last slice was added before the copy was interrupted.
    fn settle(&self, row: &DataPool, pool: &Pool, note: &mut Note) -> Result<(), Failure> {
        let failed = |error| self.to.failed(error);
        // A server may still be adding a slice for a process that is gone. Deleting waits for the pool's lock, and so for the
        // slice. No record has the id 0.
        pool.delete_records([RecordId::new(0)]).map_err(failed)?;
        let live = pool.count(&RecordFilter::new()).map_err(failed)?;
        let copied = note.at.map_or(0, |at| at.records);
        match note.pending {
            Some(Pending { end, .. }) if live == end.records && live > copied => note.at = Some(end),
            _ if live == copied => {}
            _ => return Err(self.changed(row, live, copied)),
        }
        note.pending = None;
        Ok(())
    }

    fn changed(&self, row: &DataPool, live: u64, copied: u64) -> Failure {
        Failure::new(format!(
            "data pool {:?} of {} has {}, but the copy added {copied}: somebody else changed it. Delete it there, and copy again",
            row.name,
            self.to.name,
            output::number_of(live, "record")
        ))
    }

    /// Adds the records that the copy does not have yet.
    fn add_records(&mut self, row: &DataPool, pool: &Pool, note: &mut Note) -> Result<(), Failure> {
        let snapshot = self.from.pool(row)?.snapshot().map_err(|error| self.from.failed(error))?;
        if let Some(at) = note.at {
            self.check_source(row, &snapshot, pool, at)?;
        }
        let start = note.at;
        std::thread::scope(|scope| {
            // The next slice is read while one is added.
            let (send, receive) = std::sync::mpsc::sync_channel(1);
            let read = move || slices::read(&snapshot, start, |slice| send.send(slice).is_ok());
            std::thread::Builder::new()
                .spawn_scoped(scope, read)
                .map_err(|error| Failure::of(ErrorKind::Io, format!("starting a thread: {error}")))?;
            for slice in receive {
                let slice = slice.map_err(|error| self.from.failed(error))?;
                self.add_slice(row, pool, note, &slice)?;
            }
            Ok(())
        })
    }

    fn add_slice(
        &mut self,
        row: &DataPool,
        pool: &Pool,
        note: &mut Note,
        slice: &Slice,
    ) -> Result<(), Failure> {
        self.bar.set_of(self.done, self.total.max(self.done));
        let end = Position {
            records: note.at.map_or(0, |at| at.records) + slice.rows,
            id: slice.last_id,
            time: slice.last_time,
        };
        note.pending = Some(Pending { end });
        note.write(&self.to, row)?;
        let about = format!("data pool {:?} of {}", row.name, self.to.name);
        pool.import_csv(slice.csv.as_slice(), &ImportOptions::full_export())
            .map_err(|error| Failure::about(about, error))?;
        notes::committed();
        note.at = Some(end);
        note.pending = None;
        self.done += slice.rows;
        self.bar.set_of(self.done, self.total.max(self.done));
        Ok(())
    }

    /// Checks that the records that the copy has are still those of the source.
    fn check_source(
        &self,
        row: &DataPool,
        snapshot: &PoolSnapshot,
        pool: &Pool,
        at: Position,
    ) -> Result<(), Failure> {
        let from = |error| self.from.failed(error);
        let time = Timestamp::from_micros(at.time);
        let mut still = snapshot.count(&RecordFilter::new().created_before(time)).map_err(from)?;
        let mut last = None;
        for record in snapshot.scan(&slices::from_time(at.time)).map_err(from)? {
            let record = record.map_err(from)?;
            if record.id.get() > at.id {
                break;
            }
            still += 1;
            last = (record.id.get() == at.id).then_some(record);
        }
        let newest = pool.scan(&RecordFilter::new()).map_err(|error| self.to.failed(error))?.next_back();
        let newest = newest.transpose().map_err(|error| self.to.failed(error))?;
        let ends_alike = last.is_none_or(|last| newest.is_some_and(|newest| is_copy(&newest, &last)));
        let gone = at.records.checked_sub(still);
        if ends_alike && (gone == Some(0) || self.has_only_expired(row, snapshot, pool, gone)?) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "data pool {:?} of {} has changed since the copy began: records that were copied have been deleted or replaced \
             there. Delete its copy in {}, and copy again",
            row.name, self.from.name, self.to.name
        )))
    }

    /// Returns true if the source lost only its oldest records, as retention and capacity do. They expire in the copy too, once
    /// it has both.
    fn has_only_expired(
        &self,
        row: &DataPool,
        snapshot: &PoolSnapshot,
        pool: &Pool,
        gone: Option<u64>,
    ) -> Result<bool, Failure> {
        let may_expire = row.retention.is_some() || row.capacity.is_some();
        let Some(gone) = gone.and_then(|gone| usize::try_from(gone).ok()).filter(|_| may_expire) else {
            return Ok(false);
        };
        let oldest = snapshot.scan(&RecordFilter::new()).map_err(|error| self.from.failed(error))?.next();
        let oldest = oldest.transpose().map_err(|error| self.from.failed(error))?;
        let same = pool.scan(&RecordFilter::new()).map_err(|error| self.to.failed(error))?.nth(gone);
        let same = same.transpose().map_err(|error| self.to.failed(error))?;
        Ok(oldest.zip(same).is_some_and(|(oldest, same)| is_copy(&same, &oldest)))
    }

    fn check_count(&self, row: &DataPool, pool: &Pool, note: &Note) -> Result<(), Failure> {
        let live = pool.count(&RecordFilter::new()).map_err(|error| self.to.failed(error))?;
        let copied = note.at.map_or(0, |at| at.records);
        if live == copied { Ok(()) } else { Err(self.changed(row, live, copied)) }
    }

    /// Gives the copy the description, the retention and the capacity of the pool.
    fn set_fields(&self, row: &DataPool, pool: &Pool) -> Result<(), Failure> {
        let mut update = PoolUpdate::new();
        update = match &row.description {
            Some(description) => update.description(description),
            None => update.clear_description(),
        };
        if let Some(retention) = row.retention {
            update = update.retention(retention);
        }
        if let Some(capacity) = row.capacity {
            update = update.capacity(capacity);
        }
        self.to.store.update_pool(pool.id(), update).map_err(|error| self.to.failed(error))?;
        notes::committed();
        Ok(())
    }
}
