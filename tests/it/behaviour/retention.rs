//! Proves that pools keep exactly what their retention and capacity allow, at once and for good, and reclaim
//! the space of the rest.

use std::time::Duration;

use datapool_store::testing::Sizes;
use datapool_store::{
    DataPool, DataPoolStore, ErrorKind, ExportOptions, ImportOptions, Key, ManualClock, Mode, NewPool,
    OnDuplicate, Origin, Pool, PoolUpdate, PruneReport, RecordFilter, RecordQuery, RecordSort, StoreOptions,
    Verdict, limits,
};

use crate::support::{self, Need, ORDERS, StoreFile, has, track, values};

const DAY: Duration = Duration::from_hours(24);

/// Creates a store with small sizes, its clock, and a pool with a retention of one day.
fn day_pool() -> (DataPoolStore, ManualClock, Pool) {
    let clock = support::clock();
    let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
    let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
    (store, clock, pool)
}

fn capacity_pool(capacity: u64) -> Pool {
    support::store_for(Need::Any).create_pool(NewPool::new("orders").capacity(capacity)).unwrap()
}

fn numbered(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!("v{number}")).collect()
}

fn count(pool: &Pool) -> u64 {
    pool.count(&RecordFilter::new()).unwrap()
}

/// Checks that every way to read returns exactly these values.
fn everyone_sees(pool: &Pool, expected: &[&str]) {
    assert_eq!(values(pool), expected);
    let backwards: Vec<String> =
        pool.scan(&RecordFilter::new()).unwrap().rev().map(|record| record.unwrap().value).collect();
    assert!(backwards.iter().rev().eq(expected));
    assert_eq!(count(pool), expected.len() as u64);
    assert_eq!(pool.count(&RecordFilter::new().flow_id("shop")).unwrap(), expected.len() as u64);
    assert_eq!(pool.count(&RecordFilter::new().entity_type_id(ORDERS)).unwrap(), expected.len() as u64);
    let page = pool.records(&RecordQuery::new().sort(RecordSort::Descending).per_page(100)).unwrap();
    assert_eq!(page.meta.total, expected.len() as u64);
    assert!(page.data.iter().rev().map(|record| &record.value).eq(expected));
    let mut file = Vec::new();
    let exported = pool.export_csv(&mut file, &ExportOptions::new()).unwrap();
    assert_eq!(exported.rows, expected.len() as u64);
    for number in 0..200 {
        let value = format!("v{number}");
        let is_there = expected.contains(&value.as_str());
        assert_eq!(has(pool, &value), is_there, "{value}");
        let found = pool.lookup(&[Key::new(ORDERS, value.as_str())]).unwrap();
        assert_eq!(found[0].is_some(), is_there, "{value}");
        assert_eq!(pool.count(&RecordFilter::new().value(value.as_str())).unwrap(), u64::from(is_there));
    }
}

#[test]
fn an_expired_record_is_absent_from_every_read_at_once() {
    let (_store, clock, pool) = day_pool();
    track(&pool, &["v0", "v1"]);
    clock.advance(DAY / 2);
    track(&pool, &["v2"]);
    everyone_sees(&pool, &["v0", "v1", "v2"]);
    clock.advance((DAY / 2).saturating_sub(Duration::from_micros(1)));
    everyone_sees(&pool, &["v0", "v1", "v2"]);
    clock.advance(Duration::from_micros(1));
    everyone_sees(&pool, &["v2"]);
    clock.advance(DAY / 2);
    everyone_sees(&pool, &[]);
}

#[test]
fn an_expired_value_is_new_again_wherever_its_record_lies() {
    // Records in the tail, in the folded part of the open segment, and in sealed segments.
    for records in [5, 40, 64, 200] {
        let (_store, clock, pool) = day_pool();
        let all = numbered(0..records);
        for value in &all {
            assert_eq!(track(&pool, &[value]), 1);
        }
        clock.advance(DAY.saturating_sub(Duration::from_secs(1)));
        assert_eq!(track(&pool, &all), 0, "a repeated sighting tracks nothing");
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            track(&pool, &all),
            all.len(),
            "the duplicates did not renew the records: {records} records"
        );
        assert_eq!(values(&pool), all);
        assert_eq!(track(&pool, &all), 0);
        let first = pool.lookup(&[Key::new(ORDERS, "v0")]).unwrap().remove(0).unwrap();
        assert_eq!(first.id.get(), u64::from(records) + 1, "ids are never given again");
    }
}

#[test]
fn what_expired_never_returns_whatever_happens_to_retention_and_clock() {
    let file = StoreFile::new();
    let (clock, open) = (&file.clock, || file.open());
    let store = open();
    let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
    track(&pool, &numbered(0..30));
    let start = clock.now();
    clock.advance(DAY / 2);
    track(&pool, &["v30"]);
    clock.advance(DAY / 2);
    // The retention is raised at the moment when the first records have expired, but before anyone has read
    // the pool.
    store.update_pool(pool.id(), PoolUpdate::new().retention(100 * DAY)).unwrap();
    everyone_sees(&pool, &["v30"]);
    store.update_pool(pool.id(), PoolUpdate::new().clear_retention()).unwrap();
    everyone_sees(&pool, &["v30"]);
    store.update_pool(pool.id(), PoolUpdate::new().retention(DAY)).unwrap();

    // The clock jumps back, in this process and before the next one.
    clock.advance(DAY / 2);
    everyone_sees(&pool, &[]);
    clock.set(start);
    everyone_sees(&pool, &[]);
    drop((store, pool));
    let store = open();
    let pool = store.pool_named("orders").unwrap();
    everyone_sees(&pool, &[]);
    store.update_pool(pool.id(), PoolUpdate::new().clear_retention()).unwrap();
    everyone_sees(&pool, &[]);
    assert_eq!(track(&pool, &["v30"]), 1);
}

/// A plain commit stores no watermark, so it must follow from the records.
#[test]
fn a_value_tracked_again_after_it_expired_is_there_once_after_a_loss_of_power_with_the_clock_set_back() {
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let (disk, store) = support::measured_store(&options);
    let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
    let start = clock.now();
    track(&pool, &numbered(0..50));
    clock.advance(DAY);
    assert_eq!(track(&pool, &["v7"]), 1);
    // Exactly what is on disk at this moment, without closing the store.
    let copy = disk.copy();
    clock.set(start);
    let store = support::embedded::on_disk(copy, &options, Sizes::SMALL).unwrap();
    let pool = store.pool_named("orders").unwrap();
    everyone_sees(&pool, &["v7"]);
}

/// A claim on an expired value adds no record from whose time the expiry could follow.
#[test]
fn a_value_claimed_again_after_it_expired_is_tracked_once_after_a_loss_of_power_with_the_clock_set_back() {
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let (disk, store) = support::measured_store(&options);
    let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
    let start = clock.now();
    track(&pool, &["v0"]);
    clock.advance(DAY / 2);
    track(&pool, &["v1"]);
    clock.advance(DAY / 2);
    let key = |value: &&'static str| Key::new(ORDERS, *value);
    let claim = pool.claim(&["v0"], key, &Origin::none(), DAY).unwrap();
    let token = claim.into_token().unwrap();
    let copy = disk.copy();
    clock.set(start.saturating_add(DAY / 2));
    let store = support::embedded::on_disk(copy, &options, Sizes::SMALL).unwrap();
    let pool = store.pool_named("orders").unwrap();
    everyone_sees(&pool, &["v1"]);
    store.resume_claim(&token).unwrap().confirm().unwrap().all_confirmed().unwrap();
    assert_eq!(values(&pool), ["v1", "v0"]);
}

#[test]
fn lowering_the_retention_ends_records_in_the_same_commit() {
    let (store, clock, pool) = day_pool();
    track(&pool, &["v0"]);
    clock.advance(Duration::from_hours(2));
    track(&pool, &["v1"]);
    store.update_pool(pool.id(), PoolUpdate::new().retention(Duration::from_hours(1))).unwrap();
    everyone_sees(&pool, &["v1"]);
    store.update_pool(pool.id(), PoolUpdate::new().retention(DAY)).unwrap();
    everyone_sees(&pool, &["v1"]);
    let pool = store.create_pool(NewPool::new("no retention")).unwrap();
    track(&pool, &["v0"]);
    clock.advance(DAY);
    store.update_pool(pool.id(), PoolUpdate::new().retention(DAY)).unwrap();
    everyone_sees(&pool, &[]);
}

#[test]
fn a_clock_that_jumps_ahead_ages_records_by_the_jump_and_loses_none_without_retention() {
    let (store, clock, pool) = day_pool();
    let kept = store.create_pool(NewPool::new("kept")).unwrap();
    for pool in [&pool, &kept] {
        track(pool, &["v0"]);
    }
    let start = clock.now();
    clock.set(start.saturating_add(10 * DAY));
    everyone_sees(&pool, &[]);
    everyone_sees(&kept, &["v0"]);
    track(&pool, &["v1"]);
    // The clock is set back. Later records get the time that the pool used, as long as a record of that time
    // lives.
    clock.set(start);
    track(&pool, &["v2"]);
    let first = pool.lookup(&[Key::new(ORDERS, "v2")]).unwrap().remove(0).unwrap();
    assert_eq!(first.created_at, start.saturating_add(10 * DAY));
    everyone_sees(&pool, &["v1", "v2"]);
}

#[test]
fn a_snapshot_keeps_what_expires_and_a_scan_does_not() {
    let (_store, clock, pool) = day_pool();
    track(&pool, &numbered(0..100));
    clock.advance(DAY / 2);
    track(&pool, &numbered(100..110));
    let snapshot = pool.snapshot().unwrap();
    let mut scan = pool.scan(&RecordFilter::new()).unwrap();
    let taken: Vec<_> = scan.by_ref().take(10).map(|record| record.unwrap().value).collect();
    assert_eq!(taken, numbered(0..10));
    clock.advance(DAY / 2);
    let rest: Vec<String> = scan.map(|record| record.unwrap().value).collect();
    // Records that the scan has read ahead are from their own moment. After that, it returns nothing that has expired.
    assert!(rest.ends_with(&numbered(100..110)), "{rest:?}");
    assert!(rest.len() < 100, "{} records of a slice", rest.len());
    // This holds even when the space of expired records is reclaimed.
    assert!(pool.prune().unwrap().segments >= 1);
    assert_eq!(snapshot.count(&RecordFilter::new()).unwrap(), 110);
    assert!(snapshot.contains(Key::new(ORDERS, "v3")).unwrap() && !has(&pool, "v3"));
    assert_eq!(snapshot.scan(&RecordFilter::new()).unwrap().count(), 110);
    assert_eq!(count(&pool), 10);
}

#[test]
fn deletions_count_no_expired_record() {
    let (_store, clock, pool) = day_pool();
    track(&pool, &["v0", "v1"]);
    clock.advance(DAY);
    track(&pool, &["v2"]);
    assert_eq!(pool.delete_records([1, 2, 3]).unwrap(), 1);
    track(&pool, &["v3"]);
    assert_eq!(pool.delete_keys(&[Key::new(ORDERS, "v0"), Key::new(ORDERS, "v3")]).unwrap(), 1);
    track(&pool, &["v4"]);
    assert_eq!(pool.delete_where(&RecordFilter::all()).unwrap(), 1);
    track(&pool, &["v5"]);
    clock.advance(DAY);
    assert_eq!(pool.clear().unwrap(), 0);
}

#[test]
fn an_import_sees_no_expired_record() {
    let (_store, clock, pool) = day_pool();
    track(&pool, &numbered(0..70));
    clock.advance(DAY);
    let file = "value,entity_type_id\nv3,37\nv3,37\nv80,37\n";
    let skip = ImportOptions::new().on_duplicate(OnDuplicate::Skip);
    let report = pool.import_csv(file.as_bytes(), &skip).unwrap();
    assert_eq!((report.added, report.skipped), (2, 1));
    assert_eq!(values(&pool), ["v3", "v80"]);
}

/// All old segments are dropped when the import begins, so it looks up only those that it fills itself.
#[test]
fn an_import_into_a_wholly_expired_pool_sees_its_own_rows_across_segments() {
    let sizes = Sizes {
        segment_slots: 1 << 14,
        chunk_slots: 1 << 12,
        fold_entries: 4_096,
        fold_slices: 4,
        tails_max_entries: 20_000,
        early_seal_slots: 4_096,
    };
    let clock = support::clock();
    for policy in [OnDuplicate::Skip, OnDuplicate::Fail] {
        let store = support::embedded::in_memory(&support::options().clock(clock.clone()), sizes).unwrap();
        let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
        let import = |numbers: &mut dyn Iterator<Item = u32>, policy| {
            let rows: String = numbers.map(|number| format!("v{number},37\n")).collect();
            let file = format!("value,entity_type_id\n{rows}");
            pool.import_csv(file.as_bytes(), &ImportOptions::new().on_duplicate(policy))
        };
        import(&mut (0..100_000), OnDuplicate::Add).unwrap();
        clock.advance(DAY);
        let twice = import(&mut (0..70_000).chain(0..70_000), policy);
        match policy {
            OnDuplicate::Skip => assert_eq!(twice.unwrap().added, 70_000),
            _ => assert_eq!(twice.unwrap_err().kind(), ErrorKind::AlreadyExists),
        }
    }
}

// ---- Capacity -------------------------------------------------------------------------------------------------

#[test]
fn beyond_the_capacity_the_oldest_leave() {
    let pool = capacity_pool(3);
    track(&pool, &["v0", "v1", "v2"]);
    everyone_sees(&pool, &["v0", "v1", "v2"]);
    track(&pool, &["v3"]);
    everyone_sees(&pool, &["v1", "v2", "v3"]);
    assert_eq!(track(&pool, &["v0"]), 1, "it is new again");
    everyone_sees(&pool, &["v2", "v3", "v0"]);
    assert_eq!(track(&pool, &["v2", "v3"]), 0);
    // A deleted record leaves room for one more.
    pool.delete_keys(&[Key::new(ORDERS, "v3")]).unwrap();
    track(&pool, &["v4"]);
    everyone_sees(&pool, &["v2", "v0", "v4"]);
}

#[test]
fn a_batch_larger_than_the_capacity_is_decided_before_its_own_evictions() {
    for batch in [20, 64, 150, 400] {
        let pool = capacity_pool(10);
        track(&pool, &["v0"]);
        let mut items = numbered(0..batch);
        items.push("v1".into());
        let verdicts = pool
            .dedupe_with_first(
                Mode::FilterAndTrack,
                &items,
                |v| Key::new(ORDERS, v.as_str()),
                &support::origin(),
            )
            .unwrap();
        assert_eq!(verdicts.new_count(), items.len() - 2);
        assert_eq!(verdicts.as_slice()[0], Verdict::Duplicate);
        assert_eq!(
            verdicts.first(0).unwrap().id.get(),
            1,
            "the first record is returned, although this batch evicted it"
        );
        assert_eq!(verdicts.first(items.len() - 1).unwrap().value, "v1");
        assert_eq!(values(&pool), numbered(batch - 10..batch));
    }
}

#[test]
fn an_import_larger_than_the_capacity_leaves_its_last_rows() {
    for rows in [5, 9, 100, 500] {
        let pool = capacity_pool(8);
        track(&pool, &["v0", "v1"]);
        let lines: String = numbered(2..rows + 2).iter().map(|value| format!("{value},37\n")).collect();
        let file = format!("value,entity_type_id\n{lines}");
        let report = pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
        assert_eq!(report.added, u64::from(rows));
        assert_eq!(values(&pool), numbered((rows + 2).saturating_sub(8)..rows + 2));
        assert_eq!(track(&pool, &[format!("v{}", rows + 1)]), 0);
    }
}

#[test]
fn lowering_the_capacity_evicts_in_the_same_commit_and_raising_it_brings_nothing_back() {
    let file = StoreFile::new();
    let open = || file.open();
    let store = open();
    let pool = store.get_or_create_pool("orders").unwrap();
    track(&pool, &numbered(0..150));
    store.update_pool(pool.id(), PoolUpdate::new().capacity(4)).unwrap();
    everyone_sees(&pool, &["v146", "v147", "v148", "v149"]);
    store.update_pool(pool.id(), PoolUpdate::new().capacity(100)).unwrap();
    everyone_sees(&pool, &["v146", "v147", "v148", "v149"]);
    store.update_pool(pool.id(), PoolUpdate::new().clear_capacity()).unwrap();
    drop((store, pool));
    everyone_sees(&open().pool_named("orders").unwrap(), &["v146", "v147", "v148", "v149"]);
}

/// Not every commit stores the watermark. Deletions do, because they change what follows from the records.
#[test]
fn what_was_evicted_stays_gone_over_a_loss_of_power_whatever_was_deleted_since() {
    let (disk, store) = support::measured_store(&support::options());
    let pool = store.create_pool(NewPool::new("orders").capacity(3)).unwrap();
    for value in numbered(0..40) {
        track(&pool, &[value]);
    }
    pool.delete_keys(&[Key::new(ORDERS, "v39"), Key::new(ORDERS, "v38")]).unwrap();
    track(&pool, &["v40"]);
    let copy = disk.copy();
    let store = support::embedded::on_disk(copy, &support::options(), Sizes::SMALL).unwrap();
    everyone_sees(&store.pool_named("orders").unwrap(), &["v37", "v40"]);
}

/// An import fills a segment. Then a larger capacity lets the segment grow, and every value must still be
/// found.
#[test]
fn nothing_is_forgotten_when_the_capacity_is_raised_after_an_import_that_filled_a_segment() {
    for clears in [false, true] {
        let store = support::store_for(Need::Any);
        let pool = store.create_pool(NewPool::new("orders").capacity(128)).unwrap();
        let rows: String = numbered(0..16).iter().map(|value| format!("{value},37\n")).collect();
        pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
        let update =
            if clears { PoolUpdate::new().clear_capacity() } else { PoolUpdate::new().capacity(10_000) };
        store.update_pool(pool.id(), update).unwrap();
        for value in numbered(16..200) {
            assert_eq!(track(&pool, &[value]), 1);
        }
        assert_eq!(track(&pool, &numbered(0..200)), 0);
    }
}

#[test]
fn retention_and_capacity_hold_together() {
    let (store, clock, pool) = day_pool();
    store.update_pool(pool.id(), PoolUpdate::new().capacity(3)).unwrap();
    track(&pool, &["v0", "v1"]);
    clock.advance(DAY / 2);
    track(&pool, &["v2", "v3"]);
    everyone_sees(&pool, &["v1", "v2", "v3"]);
    clock.advance(DAY / 2);
    everyone_sees(&pool, &["v2", "v3"]);
    // Expired records do not count towards the capacity.
    track(&pool, &["v4"]);
    everyone_sees(&pool, &["v2", "v3", "v4"]);
}

// ---- Space ----------------------------------------------------------------------------------------------------

#[test]
fn a_pool_of_small_capacity_stays_small_on_disk() {
    let (disk, store) = support::measured_store(&support::options());
    let pool = store.create_pool(NewPool::new("orders").capacity(20)).unwrap();
    let commit = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| assert_eq!(track(&pool, &[format!("v{number}")]), 1));
        disk.bytes()
    };
    let early = commit(0..1_000);
    let late = commit(1_000..10_000);
    assert!(late <= early + early / 4, "{early} bytes became {late}");
    let segments = pool.explain(&RecordQuery::new().value("v9999")).unwrap().segments.considered;
    assert!(segments <= 4, "{segments} segments for 20 records");
}

#[test]
fn a_pool_of_small_capacity_that_is_only_imported_into_stays_small() {
    let (disk, store) = support::measured_store(&support::options());
    let pool = store.create_pool(NewPool::new("orders").capacity(20)).unwrap();
    let import = |number: u32| {
        let rows: String =
            numbered(number * 500..(number + 1) * 500).iter().map(|v| format!("{v},37\n")).collect();
        pool.import_csv(format!("value,entity_type_id\n{rows}").as_bytes(), &ImportOptions::new()).unwrap();
        disk.bytes()
    };
    let early = (0..4).map(import).max().unwrap();
    let late = (4..40).map(import).max().unwrap();
    assert!(late <= early + early / 4, "{early} bytes became {late}");
    assert_eq!(values(&pool), numbered(19_980..20_000));
}

/// At the ends of the clock's range, nothing overflows and nothing expires because of it.
#[test]
fn a_clock_at_the_end_of_time_harms_nobody() {
    for start in [i64::MIN, i64::MAX] {
        let clock = ManualClock::starting_at(datapool_store::Timestamp::from_micros(start));
        let store = support::store_with(Need::Clock, &support::options().clock(clock.clone()));
        let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
        track(&pool, &numbered(0..40));
        let key = |value: &&'static str| Key::new(ORDERS, *value);
        let mut claim = pool.claim(&["c"], key, &Origin::none(), limits::LEASE_MAX).unwrap();
        clock.advance(Duration::MAX);
        clock.set(datapool_store::Timestamp::from_micros(start));
        let confirmed = claim.confirm().unwrap().confirmed_count() == 1;
        assert!(has(&pool, "v1") && has(&pool, "c") == confirmed);
    }
}

#[test]
fn a_pool_of_short_retention_stays_small_on_disk() {
    let clock = support::clock();
    let (disk, store) = support::measured_store(&support::options().clock(clock.clone()));
    let pool = store.create_pool(NewPool::new("orders").retention(Duration::from_mins(1))).unwrap();
    let commit = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            assert_eq!(track(&pool, &[format!("v{number}")]), 1);
            clock.advance(Duration::from_secs(1));
        }
        disk.bytes()
    };
    let early = commit(0..1_000);
    let late = commit(1_000..10_000);
    assert!(late <= early + early / 4, "{early} bytes became {late}");
    assert_eq!(count(&pool), 59);
    let segments = pool.explain(&RecordQuery::new().value("v9999")).unwrap().segments.considered;
    assert!(segments <= 8, "{segments} segments for 60 records");
}

/// With default sizes, a segment is sealed at 4,096 records at the earliest. The dead records at its head are
/// removed earlier.
#[test]
fn the_dead_head_of_a_segment_is_cut_off_and_nobody_misses_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let clock = support::clock();
    let options = support::options().clock(clock.clone());
    let store = options.open(&path).unwrap();
    let pool = store.create_pool(NewPool::new("orders").capacity(10)).unwrap();
    let other = store.get_or_create_pool("other").unwrap();
    track(&pool, &numbered(0..2_000));
    clock.advance(DAY);
    track(&other, &["a commit"]);
    let early = clock.now();
    track(&pool, &["w0", "w1"]);
    assert_eq!(pool.prune().unwrap().records, 0, "earlier writes have pruned the pool already");
    assert_eq!(count(&pool), 10);
    let is_as_it_should_be = |pool: &Pool| {
        let mut left = numbered(1_992..2_000);
        left.extend(["w0".to_owned(), "w1".to_owned()]);
        assert_eq!(values(pool), left);
        for value in numbered(0..2_000) {
            assert_eq!(has(pool, &value), left.contains(&value));
        }
        // Neither dead values nor times before all records lead to removed records.
        assert_eq!(pool.count(&RecordFilter::new().value("v5")).unwrap(), 0);
        assert_eq!(pool.count(&RecordFilter::new().value("v5").entity_type_id(ORDERS)).unwrap(), 0);
        assert_eq!(pool.count(&RecordFilter::new().created_before(early)).unwrap(), 8);
        assert_eq!(pool.count(&RecordFilter::new().created_after(support::time("2012-01-01"))).unwrap(), 10);
        assert_eq!(pool.count(&RecordFilter::new().created_before(support::time("2012-01-01"))).unwrap(), 0);
        assert_eq!(pool.delete_records([1, 2, 3]).unwrap(), 0);
    };
    is_as_it_should_be(&pool);
    drop((store, pool, other));
    let store = options.open(&path).unwrap();
    let pool = store.pool_named("orders").unwrap();
    is_as_it_should_be(&pool);
    // The values of removed records are new, also for the index.
    assert_eq!(track(&pool, &numbered(0..1_000)), 1_000);
    assert_eq!(values(&pool), numbered(990..1_000));
}

#[test]
fn prune_gives_back_what_expired_and_says_how_much() {
    let (store, clock, pool) = day_pool();
    track(&pool, &numbered(0..200));
    assert_eq!(pool.prune().unwrap().records, 0);
    clock.advance(DAY / 2);
    track(&pool, &numbered(200..210));
    clock.advance(DAY / 2);
    let report = store.prune().unwrap();
    // Three full segments. The fourth has live records.
    assert_eq!((report.segments, report.records, report.claims), (3, 192, 0));
    assert!(report.bytes > 192 * 4, "{report:?}");
    assert_eq!(store.prune().unwrap(), PruneReport::default());
    assert_eq!(values(&pool), numbered(200..210));
    clock.advance(DAY);
    let report = pool.prune().unwrap();
    // The fourth segment was sealed early, at 16 records, because it covered an eighth of the retention.
    assert_eq!((report.segments, report.records), (2, 18));
    assert_eq!(count(&pool), 0);
    assert_eq!(track(&pool, &numbered(0..3)), 3);
    assert_eq!(pool.lookup(&[Key::new(ORDERS, "v0")]).unwrap()[0].as_ref().unwrap().id.get(), 211);
}

#[test]
fn prune_gives_back_deleted_records_that_nothing_live_comes_before() {
    // The open segment, in the middle of a fold.
    let pool = support::pool_for(Need::Any);
    track(&pool, &numbered(0..80));
    assert_eq!(pool.delete_records(1..=64).unwrap(), 64);
    assert_eq!(values(&pool), numbered(64..80));
    let segments = |pool: &Pool| pool.explain(&RecordQuery::new().value("v70")).unwrap().segments.considered;
    assert_eq!((pool.prune().unwrap().records, segments(&pool)), (0, 1), "the deletion did it");
    assert_eq!(pool.delete_where(&RecordFilter::all()).unwrap(), 16);
    assert_eq!(pool.prune().unwrap().records, 0, "the deletion did it");
    assert_eq!(segments(&pool), 1);
    assert_eq!(track(&pool, &numbered(0..80)), 80);

    // Half of a segment is below the watermark, and the other half is deleted.
    let store = support::store_for(Need::Any);
    let pool = store.create_pool(NewPool::new("orders").capacity(1_000)).unwrap();
    track(&pool, &numbered(0..300));
    assert_eq!(pool.delete_records(33..=64).unwrap(), 32);
    store.update_pool(pool.id(), PoolUpdate::new().capacity(236)).unwrap();
    assert_eq!(count(&pool), 236);
    let report = pool.prune().unwrap();
    assert!(report.segments >= 1 && report.records >= 64, "{report:?}");
}

#[test]
fn an_idle_pool_gives_its_expired_records_back_as_others_are_written() {
    let (store, clock, pool) = day_pool();
    track(&pool, &numbered(0..300));
    let busy = store.get_or_create_pool("busy").unwrap();
    clock.advance(DAY);
    for value in numbered(0..40) {
        track(&busy, &[value]);
    }
    // Nothing is left for pruning to reclaim.
    assert_eq!(pool.prune().unwrap().records, 0);
    assert_eq!(pool.explain(&RecordQuery::new().value("v1")).unwrap().segments.considered, 1);
}

// ---- Rows and limits ------------------------------------------------------------------------------------------

#[test]
fn retention_and_capacity_are_part_of_a_pools_row_and_of_the_apis_bodies() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pools.redb");
    let options: StoreOptions = support::options().clock(support::clock());
    let store = options.open(&path).unwrap();
    let new: NewPool =
        serde_json::from_str(r#"{"name": "orders", "retention": 7776000, "capacity": 100000}"#).unwrap();
    assert_eq!(new, NewPool::new("orders").retention(90 * DAY).capacity(100_000));
    let pool = store.create_pool(new).unwrap();
    drop((store, pool));
    let store = options.open(&path).unwrap();
    let pool = store.pool_named("orders").unwrap();
    let row: DataPool = pool.info().unwrap();
    assert_eq!((row.retention, row.capacity), (Some(90 * DAY), Some(100_000)));
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!((&json["retention"], &json["capacity"]), (&7_776_000.into(), &100_000.into()));

    let update: PoolUpdate = serde_json::from_str(r#"{"retention": 0.0015, "capacity": null}"#).unwrap();
    assert_eq!(update, PoolUpdate::new().retention(Duration::from_micros(1_500)).clear_capacity());
    let row = store.update_pool(pool.id(), update).unwrap();
    assert_eq!((row.retention, row.capacity), (Some(Duration::from_micros(1_500)), None));
    let json = serde_json::to_value(&row).unwrap();
    assert_eq!(json["retention"], serde_json::json!(0.0015));
    assert!(json.get("capacity").is_none());
    let row = store
        .update_pool(pool.id(), serde_json::from_str(r#"{"retention": null, "capacity": 7}"#).unwrap())
        .unwrap();
    assert_eq!((row.retention, row.capacity), (None, Some(7)));
    // An update does not change fields that it does not name.
    let row = store.update_pool(pool.id(), PoolUpdate::new().description("seen")).unwrap();
    assert_eq!((row.retention, row.capacity), (None, Some(7)));
    assert!(serde_json::from_str::<NewPool>(r#"{"name": "orders", "retention": -1}"#).is_err());
    assert!(serde_json::from_str::<NewPool>(r#"{"name": "orders", "retention": 1e300}"#).is_err());
}

#[test]
fn updating_a_pool_counts_records_that_had_expired_before_once() {
    let (store, clock, pool) = day_pool();
    for batch in ["A", "B", "C"] {
        track(&pool, &support::numbered(batch, 10));
        clock.advance(DAY * 3 / 8);
    }
    for update in [
        PoolUpdate::new(),
        PoolUpdate::new().description("seen"),
        PoolUpdate::new().capacity(15),
        PoolUpdate::new().retention(DAY / 2),
        PoolUpdate::new().retention(DAY / 24),
    ] {
        store.update_pool(pool.id(), update).unwrap();
        assert_eq!(store.verify().unwrap().findings, []);
    }
    track(&pool, &support::numbered("D", 20));
    assert_eq!(count(&pool), 15, "its capacity");
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_policy_out_of_range_is_refused_by_name_and_changes_nothing() {
    let store = support::store_for(Need::Any);
    let pool = store.create_pool(NewPool::new("orders").capacity(5)).unwrap();
    let too_long = Duration::from_hours(36_501 * 24);
    let bad = [
        (NewPool::new("bad one").retention(Duration::ZERO), "retention"),
        (NewPool::new("bad one").retention(too_long), "retention"),
        (NewPool::new("bad one").capacity(0), "capacity"),
    ];
    for (new, parameter) in bad {
        let error = store.create_pool(new).unwrap_err();
        assert_eq!((error.kind(), error.parameter()), (ErrorKind::LimitExceeded, Some(parameter)), "{error}");
    }
    let forever = NewPool::new("bad one").retention(Duration::MAX);
    let text = store.create_pool(forever).unwrap_err().to_string();
    assert!(text.contains(&format!("{:?}", Duration::MAX)) && text.contains("1 ms to 36500 days"), "{text}");
    for update in [PoolUpdate::new().retention(too_long), PoolUpdate::new().capacity(0)] {
        assert_eq!(store.update_pool(pool.id(), update).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
    assert_eq!(pool.info().unwrap().capacity, Some(5));
    assert_eq!(store.pools(&"".parse().unwrap()).unwrap().meta.total, 1);
    let key = |value: &&'static str| Key::new(ORDERS, *value);
    let _ = pool.dedupe(Mode::Track, &["a"], key, &Origin::none()).unwrap();
}

/// Each batch fills the whole capacity, so it seals many segments and expires as many.
#[test]
fn space_is_given_back_as_fast_as_large_batches_end_segments_and_tables() {
    const BATCH: u64 = 12_000;
    let sizes = Sizes { segment_slots: 4_096, chunk_slots: 256, early_seal_slots: 256, ..Sizes::SMALL };
    let place = support::Place::new();
    let store = support::embedded::open(&place.path, &support::options(), sizes).unwrap();
    let pool = store.create_pool(NewPool::new("orders").capacity(BATCH)).unwrap();
    for round in 0..8 {
        let values: Vec<String> = (0..BATCH).map(|number| format!("{round}-{number}")).collect();
        support::track(&pool, &values);
    }
    let segments = pool.prune().unwrap().segments;
    // Each batch seals eight segments.
    assert!(segments <= 12, "{segments} segments were left");
    for round in 8..12 {
        let values: Vec<String> = (0..BATCH).map(|number| format!("{round}-{number}")).collect();
        support::track(&pool, &values);
    }
    drop((pool, store));
    let mut rows = 0;
    place.damage(|txn| {
        let table = redb::TableDefinition::<(u64, u32, u32, u32), &[u8]>::new("fingerprints");
        rows = redb::ReadableTableMetadata::len(&txn.open_table(table).unwrap()).unwrap();
    });
    // Rows have four entries: those of live records, and of the records that the last batches expired.
    assert!(rows < 3 * BATCH / 4, "{rows} rows");
}

#[test]
fn what_has_expired_when_a_store_is_closed_or_dropped_stays_gone_with_the_clock_set_back() {
    for closes in [true, false] {
        let file = StoreFile::new();
        let store = file.open();
        let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
        let forever = store.create_pool("forever").unwrap();
        track(&forever, &["v0"]);
        track(&pool, &["v0"]);
        file.clock.advance(DAY / 2);
        track(&pool, &["v1"]);
        let before = file.clock.now();
        file.clock.advance(DAY / 2);
        assert_eq!(count(&pool), 1);
        if closes {
            store.close().unwrap();
        }
        drop((store, pool, forever));
        file.clock.set(before);
        let store = file.open();
        let pool = store.pool_named("orders").unwrap();
        everyone_sees(&pool, &["v1"]);
        everyone_sees(&store.pool_named("forever").unwrap(), &["v0"]);
        assert_eq!(track(&pool, &["v0"]), 1);
        assert!(store.verify().unwrap().ok);
    }
}

/// Deleting the records of a segment drops it. Lowering the capacity then moves the watermark to the end of the segment
/// before, where no record is.
#[test]
fn what_comes_after_a_dropped_segment_expires_when_the_capacity_took_everything_before_it() {
    let (store, clock, _) = day_pool();
    let pool = store.create_pool(NewPool::new("both").retention(DAY).capacity(1_000)).unwrap();
    track(&pool, &numbered(0..150));
    assert_eq!(pool.delete_records(65..=128).unwrap(), 64);
    store.update_pool(pool.id(), PoolUpdate::new().capacity(22)).unwrap();
    assert_eq!(values(&pool), numbered(128..150));
    clock.advance(DAY / 2);
    assert_eq!(count(&pool), 22);
    clock.advance(DAY / 2);
    everyone_sees(&pool, &[]);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn pruning_counts_the_records_that_it_cuts_off_a_segment() {
    let clock = support::clock();
    let store =
        support::embedded::in_memory(&support::options().clock(clock.clone()), support::FOUR_TIME_BLOCKS)
            .unwrap();
    let pool = store.create_pool(NewPool::new("orders").retention(DAY)).unwrap();
    track(&pool, &numbered(0..2_000));
    clock.advance(DAY / 2);
    track(&pool, &numbered(2_000..2_010));
    clock.advance(DAY / 2);
    let report = pool.prune().unwrap();
    assert_eq!((report.segments, report.records), (0, 2_000));
    assert!(report.bytes > 2_000 * 4, "{report:?}");
    assert_eq!(pool.prune().unwrap(), PruneReport::default());
    assert_eq!(values(&pool), numbered(2_000..2_010));
}
