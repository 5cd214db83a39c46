//! Reading with filters, in one call or during other operations: pages, scans, exports and snapshots.

use std::collections::{BTreeMap, VecDeque};

use datapool_store::{
    Cursor, ErrorKind, ExportColumns, ExportOptions, Page, Pool, PoolSnapshot, Record, RecordFilter,
    RecordQuery, RecordSort, Result, Scan,
};

use super::driver::Driver;
use super::filter::Filter;
use super::model::{PoolModel, firsts};
use super::random::all_items;
use super::{Answer, Op, Reading};
use crate::fuzzing::csv_model;
use crate::support::items::{Item, Row, rows};

/// An open scan.
pub(super) struct OpenScan {
    pool: u64,
    scan: Scan,
    sort: RecordSort,
    /// The matching records when it began.
    before: Vec<Row>,
    got: Vec<Row>,
}

/// A snapshot, and the contents that it must keep.
pub(super) struct HeldSnapshot {
    snapshot: PoolSnapshot,
    live: Vec<Row>,
    results: BTreeMap<u64, Vec<u8>>,
}

fn read(scan: impl Iterator<Item = Result<Record>>) -> Vec<Row> {
    scan.map(|record| Row::from(&record.unwrap())).collect()
}

impl OpenScan {
    fn take(&mut self, count: usize) {
        for _ in 0..count {
            let next = match self.sort {
                RecordSort::Ascending => self.scan.next(),
                RecordSort::Descending => self.scan.next_back(),
            };
            let Some(record) = next else { return };
            self.got.push(Row::from(&record.unwrap()));
        }
    }

    /// Reads the rest. `live` has the present records of the pool.
    fn end(mut self, live: &[Row]) {
        self.take(usize::MAX);
        if self.sort == RecordSort::Descending {
            self.got.reverse();
        }
        assert!(self.got.is_sorted_by(|a, b| a.id < b.id), "a scan repeats itself or is out of order");
        let was_there = |row: &Row| self.before.contains(row);
        assert!(self.got.iter().all(was_there), "a scan shows a record that did not exist at its start");
        let mut throughout = self.before.iter().filter(|row| live.contains(row));
        assert!(
            throughout.all(|row| self.got.contains(row)),
            "a scan misses a record that existed throughout"
        );
    }
}

impl HeldSnapshot {
    pub(super) fn check(&self) {
        let scanned = read(self.snapshot.scan(&RecordFilter::new()).unwrap());
        assert_eq!(scanned, self.live, "a held snapshot changed");
        // Especially values that were deleted since, because newer tables do not have them.
        let (items, firsts) = (all_items(), firsts(&self.live));
        let keys: Vec<_> = items.iter().map(Item::key).collect();
        let found = self.snapshot.lookup(&keys).unwrap();
        let are_there = self.snapshot.contains_many(&keys).unwrap();
        for ((item, record), is_there) in items.iter().zip(found).zip(are_there) {
            assert_eq!(record.as_ref().map(Row::from).as_ref(), firsts.get(item).copied(), "{item:?}");
            assert_eq!(is_there, record.is_some(), "{item:?}");
        }
        let kept = self.live.iter().map(|row| (row.id, self.snapshot.result(row.id).unwrap()));
        let kept: BTreeMap<_, _> = kept.filter_map(|(id, result)| Some((id, result?))).collect();
        assert_eq!(kept, self.results);
        let result = |item: &Item| self.results.get(&firsts.get(item)?.id).cloned();
        assert!(self.snapshot.results(&keys).unwrap().into_iter().eq(items.iter().map(result)));
    }

    /// Checks that the snapshot has ended because the store was closed and opened again.
    pub(super) fn check_ended(&self) {
        let ended = self.snapshot.count(&RecordFilter::new()).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Closed);
        assert_eq!(self.snapshot.scan(&RecordFilter::new()).unwrap_err().kind(), ErrorKind::Closed);
    }

    pub(super) fn check_thoroughly(&self, filter: &Filter) {
        self.check();
        let (selected, filter) = (filter.select(&self.live), filter.build());
        assert_eq!(self.snapshot.count(&filter).unwrap(), selected.len() as u64);
        let mut newest_first = read(self.snapshot.scan(&filter).unwrap().rev());
        newest_first.reverse();
        assert_eq!(newest_first, selected);
        let page = self.snapshot.records(&RecordQuery::new().filter(filter).per_page(100)).unwrap();
        assert_eq!(page.meta.total, selected.len() as u64);
        assert_eq!(rows(&page.data), selected[..selected.len().min(100)]);
    }
}

impl Driver {
    /// Runs operations that read during several calls.
    pub(super) fn read_on(&mut self, op: &Op) -> Result<Answer> {
        match op {
            Op::OpenScan { pool, filter, sort, taken } => {
                let scan = self.store().pool(*pool)?.scan(&filter.build())?;
                let before = filter.select(&self.model().pools[pool].live);
                let mut open = OpenScan { pool: *pool, scan, sort: *sort, before, got: vec![] };
                open.take(*taken);
                self.scans.push(open);
            }
            Op::EndScan { number } => {
                let scan = self.scans.remove(*number);
                let pool = scan.pool;
                scan.end(&self.model().pools[&pool].live);
            }
            Op::TakeSnapshot { pool } => {
                let snapshot = self.store().pool(*pool)?.snapshot()?;
                let model = &self.model().pools[pool];
                let (live, results) = (model.live.clone(), model.results.clone());
                self.snapshots.push(HeldSnapshot { snapshot, live, results });
            }
            Op::DropSnapshot { number, filter } => self.snapshots.remove(*number).check_thoroughly(filter),
            other => unreachable!("{other:?} does not read"),
        }
        Ok(Answer::Done)
    }

    /// Ends the open scans, because some operations are not possible while there are any.
    pub(super) fn end_scans(&mut self) {
        for scan in std::mem::take(&mut self.scans) {
            let pool = scan.pool;
            scan.end(&self.model().pools[&pool].live);
        }
    }

    /// Returns true if a call was refused because a snapshot is held: a server refuses none for that. No scan
    /// may be open.
    pub(super) fn is_busy<T>(&self, result: &Result<T>) -> bool {
        let is_busy = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy);
        assert_eq!(is_busy, !self.snapshots.is_empty() && self.schema.is_none());
        is_busy
    }
}

/// Checks what a filter returns from a pool.
pub(super) fn check(pool: &Pool, model: &PoolModel, filter: &Filter, reading: &Reading) -> Result<Answer> {
    let selected = filter.select(&model.live);
    let filter = filter.build();
    assert_eq!(pool.count(&filter)?, selected.len() as u64);
    match reading {
        Reading::Page { sort, page, per_page } => {
            let query = RecordQuery::new().filter(filter).sort(*sort).page(*page).per_page(*per_page);
            let skipped = usize::try_from(page - 1).unwrap().saturating_mul(*per_page as usize);
            let answer = pool.records(&query)?;
            assert_eq!(answer.meta.current_page, *page);
            page_is(&answer, &in_order(selected, *sort), skipped, *per_page);
        }
        Reading::Behind { sort, last, per_page } => {
            let cursor: Cursor = last.to_string().parse()?;
            let query = RecordQuery::new().filter(filter).sort(*sort).cursor(cursor).per_page(*per_page);
            let is_before = |row: &&Row| match sort {
                RecordSort::Ascending => row.id <= *last,
                RecordSort::Descending => row.id >= *last,
            };
            let skipped = selected.iter().filter(is_before).count();
            page_is(&pool.records(&query)?, &in_order(selected, *sort), skipped, *per_page);
        }
        Reading::Scan { ends } => {
            let (mut expected, mut scan) = (VecDeque::from(selected), pool.scan(&filter)?);
            for end in ends.iter().cycle() {
                let (got, wanted) = match end {
                    RecordSort::Ascending => (scan.next(), expected.pop_front()),
                    RecordSort::Descending => (scan.next_back(), expected.pop_back()),
                };
                assert_eq!(got.transpose()?.as_ref().map(Row::from), wanted);
                if wanted.is_none() {
                    break;
                }
            }
            assert!(scan.next().is_none() && scan.next_back().is_none());
        }
        Reading::Export(columns) => {
            let (mut file, options) = (vec![], ExportOptions::new().filter(filter).columns(*columns));
            let report = pool.export_csv(&mut file, &options)?;
            assert_eq!(report.rows, selected.len() as u64);
            let expected = selected.iter().map(|row| exported(row, *columns)).collect::<Vec<_>>();
            assert_eq!(csv_model::fields(&file)[1..], expected);
        }
    }
    Ok(Answer::Done)
}

fn in_order(mut rows: Vec<Row>, sort: RecordSort) -> Vec<Row> {
    if sort == RecordSort::Descending {
        rows.reverse();
    }
    rows
}

/// Checks that a page has the records after the first `skipped` ones of a listing.
fn page_is(page: &Page<Record>, listed: &[Row], skipped: usize, per_page: u32) {
    let start = skipped.min(listed.len());
    let end = start.saturating_add(per_page as usize).min(listed.len());
    let (meta, shown) = (&page.meta, start < end);
    assert_eq!(rows(&page.data), listed[start..end]);
    assert_eq!((meta.total, meta.per_page), (listed.len() as u64, per_page));
    assert_eq!(meta.last_page, (listed.len() as u64).div_ceil(u64::from(per_page)).max(1));
    assert_eq!(meta.from, shown.then_some(start as u64 + 1));
    assert_eq!(meta.to, shown.then_some(end as u64));
    let next = (shown && end < listed.len()).then(|| listed[end - 1].id.to_string());
    assert_eq!(page.next_cursor.map(|cursor| cursor.to_string()), next);
}

fn exported(row: &Row, columns: ExportColumns) -> Vec<String> {
    let mut fields = vec![row.item.value.clone(), row.item.entity_type.to_string()];
    if columns == ExportColumns::Full {
        let text = |id: Option<String>| id.unwrap_or_default();
        fields.push(row.id.to_string());
        fields.push(text(row.origin.flow().map(ToString::to_string)));
        fields.push(text(row.origin.run().map(ToString::to_string)));
        fields.push(text(row.origin.step().map(ToString::to_string)));
        fields.push(text(row.version.map(|version| version.to_string())));
        fields.push(row.created_at.to_string());
    }
    fields
}
