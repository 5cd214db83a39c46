//! Proves that `verify` finds any problem in an index, and that `rebuild_indexes` repairs it; that both leave
//! correct data alone; and that damage outside indexes is found and reported as not repairable.
//!
//! The damage is done with redb itself in a closed store, so the file's checksums are right, but the rows are
//! not.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use datapool_store::testing::Sizes;
use datapool_store::{
    Access, ErrorKind, Finding, Flow, ImportOptions, Key, Mode, NewPool, Origin, Pool, RecordFilter,
    RecordQuery, VerifyReport,
};
use redb::{ReadableTable, TableDefinition};

use crate::support::{self, CUSTOMERS, ORDERS, Place};

type Bytes = &'static [u8];
const NAMES: TableDefinition<'_, Bytes, u64> = TableDefinition::new("pool names");
const ORIGINS: TableDefinition<'_, (u64, u32, u32), Bytes> = TableDefinition::new("origins");
const TIMES: TableDefinition<'_, (u64, u32, u32), i64> = TableDefinition::new("times");
const DELETED: TableDefinition<'_, (u64, u32, u32), Bytes> = TableDefinition::new("deleted");
const FILTERS: TableDefinition<'_, (u64, u32, u32), Bytes> = TableDefinition::new("filters");
const CLAIM_ITEMS: TableDefinition<'_, (u64, u64, u32), Bytes> = TableDefinition::new("claim items");
const CLAIMED: TableDefinition<'_, (u64, u128), u64> = TableDefinition::new("claimed");
const FLOWS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("flows");
const RECORDS: TableDefinition<'_, u32, Bytes> = TableDefinition::new("records/1/0");
const FINGERPRINTS: TableDefinition<'_, (u64, u32, u32, u32), Bytes> = TableDefinition::new("fingerprints");
const POSTINGS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("postings/1/0");

/// Segments that are long enough for a second block of the time index.
const SIZES: Sizes = Sizes { segment_slots: 8_192, chunk_slots: 1_024, ..Sizes::SMALL };

struct Case {
    place: Place,
    sizes: Sizes,
}

impl Case {
    /// Creates a store with a pool of several segments, with repeats, deletions and a claim, and a second
    /// pool.
    fn new(sizes: Sizes) -> Self {
        let case = Self { place: Place::new(), sizes };
        let store = case.open();
        let pool = store.create_pool(NewPool::new("orders")).unwrap();
        let values: Vec<String> = (0..sizes.segment_slots / 2 + 300).map(|n| format!("A-{n}")).collect();
        for batch in values.chunks(500) {
            let origin = Origin::new("shop", format!("run {}", batch[0]).as_str(), "read");
            let _ = pool.dedupe(Mode::Track, batch, |v| Key::new(ORDERS, v), &origin).unwrap();
        }
        let rows: String =
            (0..sizes.segment_slots / 2 + 700).map(|n| format!("A-{n},37\nB-{n},47\n")).collect();
        let file = format!("value,entity_type_id\n{rows}");
        pool.import_csv(file.as_bytes(), &ImportOptions::new()).unwrap();
        pool.delete_keys(&[Key::new(ORDERS, "A-7"), Key::new(CUSTOMERS, "B-3")]).unwrap();
        pool.delete_records([12, 13, 14]).unwrap();
        support::track(&pool, &["Z-1", "Z-2"]);
        let claim = pool.claim(&["C-1", "C-2"], |v| Key::new(ORDERS, *v), &Origin::none(), LEASE).unwrap();
        assert!(claim.into_token().is_some());
        // Finish all pending folds and merges.
        pool.prune().unwrap();
        support::track(&pool, &["Z-3", "Z-4"]);
        store.get_or_create_pool("customers").unwrap();
        store.put_flow(Flow::new("shop", "The shop")).unwrap();
        case
    }

    fn open(&self) -> datapool_store::DataPoolStore {
        support::embedded::open(&self.place.path, &support::options(), self.sizes).unwrap()
    }

    fn verify(&self) -> VerifyReport {
        self.open().verify().unwrap()
    }
}

const LEASE: std::time::Duration = std::time::Duration::from_hours(1);

/// Returns the answers that a pool finds through its indexes.
fn answers(pool: &Pool) -> Vec<String> {
    let records = support::records(pool);
    let mut answers: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    let keys: Vec<Key<'_>> =
        records.iter().map(|record| Key::new(record.entity_type_id, record.value.clone())).collect();
    for keys in keys.chunks(1_000) {
        let firsts = pool.lookup(keys).unwrap();
        answers
            .extend(firsts.iter().map(|first| format!("{:?}", first.as_ref().map(|first| first.id.get()))));
    }
    for filter in [
        RecordFilter::new().entity_type_id(CUSTOMERS),
        RecordFilter::new().flow_id("shop"),
        RecordFilter::new().flow_run_id("run A-500"),
        RecordFilter::new().step_id("read").entity_type_id(ORDERS),
    ] {
        answers.push(format!("{:?}", pool.records(&RecordQuery::new().filter(filter).page(2)).unwrap()));
    }
    answers
}

/// Damages a store. Expects a finding in that table, and that rebuilding repairs it.
fn assert_found_and_mended(table: &str, change: impl FnOnce(&redb::WriteTransaction)) {
    assert_damage_of(&Case::new(SIZES), table, change);
}

fn assert_damage_of(case: &Case, table: &str, change: impl FnOnce(&redb::WriteTransaction)) {
    let expected = answers(&case.open().pool(1).unwrap());
    case.place.damage(change);
    let report = case.verify();
    assert!(!report.ok, "nothing was found");
    let found = |finding: &Finding| finding.table == table && !finding.reason.is_empty();
    assert!(report.findings.iter().any(found), "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.table == table), "{:#?}", report.findings);

    let store = case.open();
    let rebuilt = store.rebuild_indexes().unwrap();
    assert_eq!((rebuilt.left, rebuilt.pools), (vec![], 2));
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(answers(&store.pool(1).unwrap()), expected);
    drop(store);
    assert_eq!(case.verify().findings, [], "it is repaired on disk, too");
    assert_eq!(answers(&case.open().pool(1).unwrap()), expected);
}

/// The low bits of an entry: the record's id minus the table's first id, above the version flag.
const OFFSET: u128 = ((1 << 31) - 1) << 1;
const HAS_VERSION: u128 = 1;

/// Changes the entries of the fullest row of the first pool, nearly all of whose records are live.
fn change_row(txn: &redb::WriteTransaction, change: impl FnOnce(&mut Vec<u128>)) {
    let mut table = txn.open_table(FINGERPRINTS).unwrap();
    let rows = table.range((1, 0, 0, 0)..(2, 0, 0, 0)).unwrap().map(Result::unwrap);
    let (key, row) =
        rows.map(|(key, row)| (key.value(), row.value().to_vec())).max_by_key(|(_, row)| row.len()).unwrap();
    let mut entries: Vec<u128> =
        row.as_chunks::<16>().0.iter().map(|entry| u128::from_le_bytes(*entry)).collect();
    assert!(entries.len() >= 6, "{}", entries.len());
    change(&mut entries);
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    table.insert(key, bytes.as_slice()).unwrap();
}

fn a_posting(txn: &redb::WriteTransaction, attribute: u8) -> (Vec<u8>, Vec<u8>) {
    let table = txn.open_table(POSTINGS).unwrap();
    let mut rows = table.iter().unwrap().map(|row| row.unwrap());
    let (key, list) = rows.find(|(key, _)| key.value()[0] == attribute).unwrap();
    (key.value().to_vec(), list.value().to_vec())
}

#[test]
fn a_sound_store_has_no_findings_and_rebuilding_it_changes_no_answer() {
    for sizes in [SIZES, Sizes::SMALL] {
        let case = Case::new(sizes);
        let report = case.verify();
        assert_eq!((report.findings.as_slice(), report.ok, report.pools), (&[][..], true, 2));
        let fill = case.open().pool(1).unwrap().stats().unwrap().fill;
        assert_eq!(report.records, fill.iter().map(|segment| segment.records).sum::<u64>());
        let store = case.open();
        let expected = answers(&store.pool(1).unwrap());
        assert_eq!(store.rebuild_indexes().unwrap().left, []);
        assert_eq!(answers(&store.pool(1).unwrap()), expected);
        support::track(&store.pool(1).unwrap(), &["after"]);
        assert_eq!(store.verify().unwrap().findings, []);
    }
}

#[test]
fn removed_fingerprints_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| change_row(txn, |entries| drop(entries.drain(2..5))));
}

#[test]
fn added_fingerprints_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| {
        change_row(txn, |entries| {
            // Now other records have these fingerprints.
            let others: Vec<u128> = entries[3..].iter().map(|other| other & OFFSET).collect();
            let added: Vec<u128> =
                entries.iter().zip(others).map(|(entry, other)| entry & !OFFSET | other).collect();
            entries.extend(added);
            entries.sort_unstable();
        });
    });
}

#[test]
fn fingerprints_that_lead_to_other_records_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| {
        change_row(txn, |entries| {
            let offsets: Vec<u128> = entries.iter().rev().map(|entry| entry & OFFSET).collect();
            for (entry, offset) in entries.iter_mut().zip(offsets) {
                *entry = *entry & !OFFSET | offset;
            }
            entries.sort_unstable();
        });
    });
}

#[test]
fn fingerprints_that_lead_behind_the_table_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| {
        change_row(txn, |entries| entries.iter_mut().take(3).for_each(|entry| *entry |= OFFSET));
    });
}

#[test]
fn marks_of_versions_that_are_not_there_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| {
        change_row(txn, |entries| entries.iter_mut().take(3).for_each(|entry| *entry |= HAS_VERSION));
    });
}

#[test]
fn fingerprints_out_of_order_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| change_row(txn, |entries| entries.reverse()));
}

#[test]
fn rows_of_fingerprints_that_cannot_be_read_are_found_and_mended() {
    for bytes in [&[1, 2, 3][..], &[0; 17], &[0; 4_080]] {
        assert_found_and_mended("fingerprints", |txn| {
            let mut table = txn.open_table(FINGERPRINTS).unwrap();
            let key = table.first().unwrap().unwrap().0.value();
            table.insert(key, bytes).unwrap();
        });
    }
}

#[test]
fn rows_of_fingerprints_in_each_others_place_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| {
        let mut table = txn.open_table(FINGERPRINTS).unwrap();
        let rows = table.iter().unwrap().map(Result::unwrap);
        let mut rows: Vec<_> = rows.map(|(key, row)| (key.value(), row.value().to_vec())).collect();
        // Swaps two rows of one table.
        rows.retain(|(key, _)| key.1 == rows_of_most(&table));
        let ((first, first_row), (last, last_row)) = (rows.first().unwrap(), rows.last().unwrap());
        table.insert(first, last_row.as_slice()).unwrap();
        table.insert(last, first_row.as_slice()).unwrap();
    });
}

/// Returns the number of the table with the most rows.
fn rows_of_most(table: &impl ReadableTable<(u64, u32, u32, u32), Bytes>) -> u32 {
    let mut counts = std::collections::BTreeMap::<u32, u32>::new();
    for row in table.iter().unwrap() {
        *counts.entry(row.unwrap().0.value().1).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).unwrap().0
}

#[test]
fn tables_of_fingerprints_that_are_gone_are_found_and_mended() {
    let case = Case::new(SIZES);
    let expected = answers(&case.open().pool(1).unwrap());
    case.place.damage(|txn| {
        assert!(txn.delete_table(FINGERPRINTS).unwrap() && txn.delete_table(FILTERS).unwrap());
    });
    let report = case.verify();
    let findings = report.findings;
    assert!(findings.len() == 1_000 && report.findings_count > 1_000, "{}", report.findings_count);
    let tables: std::collections::BTreeSet<&str> =
        findings.iter().map(|finding| finding.table.as_str()).collect();
    assert!(tables.into_iter().eq(["filters", "fingerprints"]), "{findings:#?}");
    let store = case.open();
    assert_eq!(store.rebuild_indexes().unwrap().left, []);
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(answers(&store.pool(1).unwrap()), expected);
}

#[test]
fn fingerprints_of_no_table_are_found_and_mended() {
    assert_found_and_mended("fingerprints", |txn| {
        let mut table = txn.open_table(FINGERPRINTS).unwrap();
        table.insert((1, 900, 0, 0), [0; 16].as_slice()).unwrap();
        table.insert((8, 0, 0, 0), [0; 16].as_slice()).unwrap();
    });
    assert_found_and_mended("fingerprints", |txn| {
        let mut table = txn.open_table(FINGERPRINTS).unwrap();
        let number = table.first().unwrap().unwrap().0.value().1;
        table.insert((1, number, 1 << 20, 0), [0; 16].as_slice()).unwrap();
    });
}

#[test]
fn removed_posting_lists_of_each_kind_are_found_and_mended() {
    for attribute in 1..=4 {
        assert_found_and_mended("postings/1/0", |txn| {
            let (key, _) = a_posting(txn, attribute);
            txn.open_table(POSTINGS).unwrap().remove(key.as_slice()).unwrap();
        });
    }
}

#[test]
fn added_posting_lists_of_each_kind_are_found_and_mended() {
    for attribute in 1..=4 {
        assert_found_and_mended("postings/1/0", |txn| {
            // As if for a flow, run or step "zzzz", or an entity type with that number.
            let key = [&[attribute, 4], b"zzzz".as_slice(), &0_u32.to_be_bytes()].concat();
            txn.open_table(POSTINGS).unwrap().insert(key.as_slice(), [3, 0, 0, 0, 0].as_slice()).unwrap();
        });
    }
}

#[test]
fn altered_and_unreadable_posting_lists_are_found_and_mended() {
    for list in [&[1, 9, 0][..], &[9, 9, 9], &[], &[3, 0, 0, 255, 255]] {
        assert_found_and_mended("postings/1/0", |txn| {
            let (key, _) = a_posting(txn, 3);
            txn.open_table(POSTINGS).unwrap().insert(key.as_slice(), list).unwrap();
        });
    }
}

#[test]
fn an_unreadable_key_of_a_posting_list_is_found_and_mended() {
    assert_found_and_mended("postings/1/0", |txn| {
        txn.open_table(POSTINGS).unwrap().insert([1_u8, 9].as_slice(), [3, 0, 0, 0, 0].as_slice()).unwrap();
    });
}

#[test]
fn missing_altered_and_added_times_are_found_and_mended() {
    assert_found_and_mended("times", |txn| {
        assert!(txn.open_table(TIMES).unwrap().remove((1, 0, 1)).unwrap().is_some());
    });
    assert_found_and_mended("times", |txn| {
        txn.open_table(TIMES).unwrap().insert((1, 0, 1), 17).unwrap();
    });
    assert_found_and_mended("times", |txn| {
        txn.open_table(TIMES).unwrap().insert((1, 0, 2), 17).unwrap();
        txn.open_table(TIMES).unwrap().insert((1, 7, 0), 17).unwrap();
    });
}

#[test]
fn damaged_membership_filters_are_found_and_mended() {
    let first = |table: &redb::Table<'_, (u64, u32, u32), Bytes>| {
        let (key, piece) = table.first().unwrap().unwrap();
        (key.value(), piece.value().to_vec())
    };
    assert_found_and_mended("filters", |txn| {
        let mut table = txn.open_table(FILTERS).unwrap();
        let (key, _) = first(&table);
        table.remove(key).unwrap();
    });
    assert_found_and_mended("filters", |txn| {
        let mut table = txn.open_table(FILTERS).unwrap();
        let (key, piece) = first(&table);
        table.insert(key, vec![0; piece.len()].as_slice()).unwrap();
    });
    assert_found_and_mended("filters", |txn| {
        let mut table = txn.open_table(FILTERS).unwrap();
        let (key, piece) = first(&table);
        table.insert(key, &piece[1..]).unwrap();
    });
    assert_found_and_mended("filters", |txn| {
        let mut table = txn.open_table(FILTERS).unwrap();
        let ((pool, number, _), piece) = first(&table);
        table.insert((pool, number, 1 << 20), piece.as_slice()).unwrap();
        table.insert((1, 900, 0), piece.as_slice()).unwrap();
    });
}

/// This is not an index but data about records, so there is nothing from which it could be rebuilt.
#[test]
fn deletions_of_records_that_there_are_not_are_found() {
    let case = Case::new(SIZES);
    case.place.damage(|txn| {
        // A list with one slot.
        txn.open_table(DELETED).unwrap().insert((1, 0, 99), [1, 0, 0].as_slice()).unwrap();
    });
    let report = case.verify();
    let tables: Vec<&str> = report.findings.iter().map(|finding| finding.table.as_str()).collect();
    assert_eq!(tables, ["deleted"]);
}

#[test]
fn pool_names_that_lead_astray_are_found_and_mended() {
    assert_found_and_mended("pool names", |txn| {
        txn.open_table(NAMES).unwrap().remove(b"orders".as_slice()).unwrap();
    });
    assert_found_and_mended("pool names", |txn| {
        txn.open_table(NAMES).unwrap().insert(b"orders".as_slice(), 2).unwrap();
    });
    assert_found_and_mended("pool names", |txn| {
        txn.open_table(NAMES).unwrap().insert(b"nobody".as_slice(), 1).unwrap();
    });
}

#[test]
fn owners_of_values_that_no_claim_has_are_found_and_mended() {
    assert_found_and_mended("claimed", |txn| {
        txn.open_table(CLAIMED).unwrap().insert((1, 5), 1).unwrap();
    });
    assert_found_and_mended("claimed", |txn| {
        txn.open_table(CLAIMED).unwrap().insert((1, 5), 99).unwrap();
    });
    assert_found_and_mended("claimed", |txn| {
        txn.open_table(CLAIMED).unwrap().insert((9, 5), 1).unwrap();
    });
}

/// The claim has the item. The record is in the tail, or in the indexes.
#[test]
fn an_owner_of_a_value_that_is_tracked_is_found_and_mended() {
    for is_folded in [false, true] {
        let case = Case::new(SIZES);
        let mut owner = None;
        case.place.damage(|txn| {
            let claimed = txn.open_table(CLAIMED).unwrap();
            let (key, claim) = claimed.iter().unwrap().next().unwrap().unwrap();
            owner = Some((key.value(), claim.value()));
        });
        let store = case.open();
        let pool = store.pool(1).unwrap();
        assert_eq!(support::track(&pool, &["C-1", "C-2"]), 2);
        if is_folded {
            pool.import_csv("value,entity_type_id\nimported,37\n".as_bytes(), &ImportOptions::new()).unwrap();
        }
        drop((pool, store));
        assert_eq!(case.verify().findings, []);
        assert_damage_of(&case, "claimed", |txn| {
            let mut claimed = txn.open_table(CLAIMED).unwrap();
            assert_eq!(claimed.iter().unwrap().count(), 0);
            let (key, claim) = owner.unwrap();
            claimed.insert(key, claim).unwrap();
        });
    }
}

#[test]
fn an_owner_of_a_deleted_value_that_is_tracked_again_is_found_and_mended() {
    let case = Case::new(SIZES);
    let owned = || {
        let mut owned = std::collections::BTreeSet::new();
        case.place.damage(|txn| {
            let table = txn.open_table(CLAIMED).unwrap();
            owned = table.iter().unwrap().map(|row| row.unwrap().0.value().1).collect();
        });
        owned
    };
    let before = owned();
    {
        let pool = case.open().pool(1).unwrap();
        pool.delete_keys(&[Key::new(ORDERS, "A-0")]).unwrap();
        let claim = pool.claim(&["A-0"], |v| Key::new(ORDERS, *v), &Origin::none(), LEASE).unwrap();
        assert!(claim.into_token().is_some());
    }
    let fingerprint = *owned().difference(&before).next().unwrap();
    {
        let pool = case.open().pool(1).unwrap();
        let _ = pool.dedupe(Mode::Track, &["A-0"], |v| Key::new(ORDERS, *v), &Origin::none()).unwrap();
    }
    assert_eq!(owned(), before);
    assert_damage_of(&case, "claimed", |txn| {
        txn.open_table(CLAIMED).unwrap().insert((1, fingerprint), 1).unwrap();
    });
}

/// In a pool without claims, no owners are looked up. The row would take effect for a later claim with that
/// number.
#[test]
fn an_owner_in_a_pool_without_claims_is_found_and_mended() {
    assert_found_and_mended("claimed", |txn| {
        txn.open_table(CLAIMED).unwrap().insert((2, 5), 1).unwrap();
    });
}

#[test]
fn tables_and_rows_of_pools_that_are_not_there_are_found_and_removed() {
    assert_found_and_mended("records/9/0", |txn| {
        let lost: TableDefinition<'_, u32, Bytes> = TableDefinition::new("records/9/0");
        txn.open_table(lost).unwrap().insert(0, b"lost".as_slice()).unwrap();
    });
    for lost in ["results/9/0", "results/1/99"] {
        assert_found_and_mended(lost, |txn| {
            let table: TableDefinition<'_, u32, Bytes> = TableDefinition::new(lost);
            txn.open_table(table).unwrap().insert(0, b"lost".as_slice()).unwrap();
        });
    }
    assert_found_and_mended("origins", |txn| {
        txn.open_table(ORIGINS).unwrap().insert((9, 0, 0), b"lost".as_slice()).unwrap();
    });
    assert_found_and_mended("deleted", |txn| {
        txn.open_table(DELETED).unwrap().insert((1, 9, 0), b"lost".as_slice()).unwrap();
    });
}

/// Damages data that is not an index. It must be found, the rest of the store must still be checked, and
/// rebuilding must report what it left.
fn assert_found_and_left(table: &str, change: impl FnOnce(&redb::WriteTransaction)) {
    let case = Case::new(SIZES);
    case.place.damage(change);
    let report = case.verify();
    assert!(report.findings.iter().any(|finding| finding.table == table), "{:#?}", report.findings);
    assert_eq!(report.pools, 2, "the other pools are still checked");
    let store = case.open();
    let left = store.rebuild_indexes().unwrap().left;
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0].data_pool_id, Some(datapool_store::PoolId::new(1)));
    assert!(!store.verify().unwrap().ok);
    assert_eq!(store.rebuild_indexes().unwrap().left.len(), 1, "none of its rows was removed as a stray");
}

#[test]
fn a_missing_or_unreadable_record_is_found_and_not_made_up() {
    assert_found_and_left("records/1/0", |txn| {
        txn.open_table(RECORDS).unwrap().remove(40).unwrap();
    });
    // The second row has an origin that extends past its end, and the third has an unreadable origin.
    for row in [&[0, 0][..], &[6, 9, 1, 0, 0, 0, 37, 0, b'x'], &[6, 4, 9, 0, 0, 0, 37, 0, b'x']] {
        assert_found_and_left("records/1/0", |txn| {
            txn.open_table(RECORDS).unwrap().insert(40, row).unwrap();
        });
    }
}

#[test]
fn a_missing_origin_is_found_and_not_made_up() {
    assert_found_and_left("origins", |txn| {
        assert!(txn.open_table(ORIGINS).unwrap().remove((1, 0, 0)).unwrap().is_some());
    });
}

#[test]
fn a_pools_unreadable_row_is_found_and_its_records_are_left_alone() {
    assert_found_and_left("pools", |txn| {
        let pools: TableDefinition<'_, u64, Bytes> = TableDefinition::new("pools");
        txn.open_table(pools).unwrap().insert(1, [9, 9].as_slice()).unwrap();
    });
    let heads: TableDefinition<'_, u64, Bytes> = TableDefinition::new("pool heads");
    assert_found_and_left("pool heads", |txn| {
        txn.open_table(heads).unwrap().insert(1, [9, 9].as_slice()).unwrap();
    });
}

#[test]
fn a_segments_missing_first_time_is_found_and_not_made_up() {
    assert_found_and_left("pool heads", |txn| {
        txn.open_table(TIMES).unwrap().remove((1, 0, 0)).unwrap();
    });
}

#[test]
fn a_record_whose_value_changed_is_found_by_the_indexes() {
    let case = Case::new(SIZES);
    case.place.damage(|txn| {
        let mut table = txn.open_table(RECORDS).unwrap();
        let mut row = table.get(40).unwrap().unwrap().value().to_vec();
        *row.last_mut().unwrap() ^= 1;
        table.insert(40, row.as_slice()).unwrap();
    });
    let report = case.verify();
    // The index leads to it with a fingerprint that does not match its value.
    assert_eq!(report.findings_count, 1, "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.table == "fingerprints"));
}

#[test]
fn items_of_claims_and_registered_rows_that_cannot_be_read_are_found() {
    for (table, change) in [
        (
            "claim items",
            (|txn| drop(txn.open_table(CLAIM_ITEMS).unwrap().insert((1, 1, 0), [1, 200].as_slice()).unwrap()))
                as fn(&redb::WriteTransaction),
        ),
        ("claim items", |txn| {
            drop(txn.open_table(CLAIM_ITEMS).unwrap().insert((1, 8, 0), [1].as_slice()).unwrap());
        }),
        ("flows", |txn| {
            drop(txn.open_table(FLOWS).unwrap().insert(b"shop".as_slice(), [9].as_slice()).unwrap());
        }),
    ] {
        let case = Case::new(Sizes::SMALL);
        case.place.damage(change);
        let report = case.verify();
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        assert_eq!(report.findings[0].table, table);
        assert!(report.findings[0].to_string().starts_with(table));
    }
}

#[test]
fn damage_of_the_file_itself_is_a_finding() {
    let case = Case::new(SIZES);
    let store = case.open();
    let pool = store.pool(1).unwrap();
    // Pages of the records that nobody has read yet.
    case.place.flip_last(b"A-2222");
    let report = store.verify().unwrap();
    assert!(!report.ok);
    assert_eq!(report.findings[0].table, "file", "{:#?}", report.findings);
    drop((pool, store));
}

#[test]
fn compacting_and_vacuuming_refuse_a_damaged_file_and_do_not_hide_the_damage() {
    let case = Case::new(SIZES);
    drop(case.open());
    // The value stays readable: no decoder notices it, only the page's checksum.
    case.place.overwrite_last(b"A-2222", b"A-9999");
    let store = case.open();
    for rewritten in [store.compact().map(drop), store.vacuum().map(drop)] {
        let error = rewritten.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("restore a backup"), "{error}");
        store.reopen().unwrap();
    }
    let report = store.verify().unwrap();
    assert_eq!(report.findings[0].table, "file", "{:#?}", report.findings);
}

#[test]
fn verifying_answers_busy_while_a_scan_snapshot_or_backup_is_open_and_waits_for_calls() {
    let case = Case::new(Sizes::SMALL);
    let store = case.open();
    let pool = store.pool(1).unwrap();
    let mut scan = pool.scan(&RecordFilter::new()).unwrap();
    scan.next().unwrap().unwrap();
    let error = store.verify().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("a scan"), "{error}");
    // A scan that has read its last record is finished.
    scan.by_ref().for_each(|record| drop(record.unwrap()));
    assert!(store.verify().unwrap().ok);
    let snapshot = pool.snapshot().unwrap();
    assert_eq!(store.verify().unwrap_err().kind(), ErrorKind::Busy);
    drop(snapshot);
    let copy = case.place.path.with_extension("copy");
    let mut kinds = Vec::new();
    store
        .backup_with_progress(copy, |_| {
            kinds.push(store.verify().unwrap_err().kind());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == ErrorKind::Busy));
    // Others continue to read and write while the store is verified repeatedly.
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = pool.clone();
        let busy = scope.spawn(move || {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                assert!(support::has(&reader, "A-20"));
                support::track(&reader, &[format!("W-{number}")]);
                reader.records(&RecordQuery::new().filter(RecordFilter::new().flow_id("shop"))).unwrap();
            }
        });
        for _ in 0..20 {
            assert_eq!(store.verify().unwrap().findings, []);
        }
        done.store(true, Ordering::Relaxed);
        busy.join().unwrap();
    });
}

#[test]
fn an_observer_hears_how_far_verifying_is_and_can_stop_it() {
    let case = Case::new(SIZES);
    let store = case.open();
    let mut heard = Vec::new();
    let report = store
        .verify_with_progress(|progress| {
            heard.push(progress);
            // The observer runs while nothing is locked.
            support::track(&store.pool(2).unwrap(), &[heard.len().to_string()]);
            ControlFlow::Continue(())
        })
        .unwrap();
    let last = heard.last().unwrap();
    assert_eq!((last.done, last.total), (report.records, report.records));
    assert!(heard.is_sorted_by(|a, b| a.done <= b.done));
    let stopped = store.verify_with_progress(|_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
    assert!(store.verify().unwrap().ok);
}

#[test]
fn a_store_that_is_read_only_is_not_verified_and_says_so() {
    let case = Case::new(Sizes::SMALL);
    let store =
        support::embedded::open(&case.place.path, &support::options().access(Access::ReadOnly), case.sizes)
            .unwrap();
    assert_eq!(store.verify().unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(store.rebuild_indexes().unwrap_err().kind(), ErrorKind::ReadOnly);
}

/// Wherever a page of an open store's file is zeroed, verifying finds it, or the page was unused. No panic
/// reaches the caller.
#[test]
fn a_zeroed_page_anywhere_is_found_or_was_free() {
    let case = Case::new(Sizes::SMALL);
    let expected = answers(&case.open().pool(1).unwrap());
    let whole = std::fs::read(&case.place.path).unwrap();
    let (mut found, mut free) = (0, 0);
    // The first page has the locations of the others. Without it, nothing can be opened.
    for page in (1..whole.len() / 4_096).step_by(2) {
        std::fs::write(&case.place.path, &whole).unwrap();
        let store =
            support::embedded::open(&case.place.path, &support::options().cache_size(0), case.sizes).unwrap();
        let mut bytes = std::fs::read(&case.place.path).unwrap();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0);
        std::fs::write(&case.place.path, bytes).unwrap();
        let report = store.verify().unwrap();
        if report.ok {
            free += 1;
            assert_eq!(answers(&store.pool(1).unwrap()), expected, "page {page}");
        } else {
            found += 1;
            assert!(!report.findings.is_empty(), "page {page}");
        }
    }
    assert!(found > 20 && free > 0, "{found} found, {free} free");
}

/// Restores the file, damages it, and returns the pool, table, key and reason of each finding.
fn told(
    case: &Case,
    whole: &[u8],
    change: impl FnOnce(&redb::WriteTransaction),
) -> Vec<(Option<u64>, String, String, String)> {
    std::fs::write(&case.place.path, whole).unwrap();
    case.place.damage(change);
    let told = |finding: Finding| {
        (finding.data_pool_id.map(datapool_store::PoolId::get), finding.table, finding.key, finding.reason)
    };
    case.verify().findings.into_iter().map(told).collect()
}

#[test]
fn a_finding_names_the_pool_and_the_row_and_says_what_is_wrong() {
    let case = Case::new(SIZES);
    let whole = std::fs::read(&case.place.path).unwrap();
    // The altered time is still in order.
    let times = told(&case, &whole, |txn| {
        let mut times = txn.open_table(TIMES).unwrap();
        let time = times.get((1, 0, 1)).unwrap().unwrap().value();
        times.insert((1, 0, 1), time - 1).unwrap();
    });
    assert_eq!(times.len(), 1, "{times:#?}");
    let (pool, table, key, reason) = &times[0];
    assert_eq!((*pool, table.as_str(), key.as_str()), (Some(1), "times", "1, 0, 1"));
    assert!(reason.starts_with("it says ") && reason.contains("the block's first record is of"), "{reason}");

    for (name, pool, reason) in [
        ("records/9/0", Some(9), "no pool has such a segment"),
        ("of another program", None, "no store has such a table"),
    ] {
        let strays = told(&case, &whole, |txn| {
            let stray: TableDefinition<'_, u32, Bytes> = TableDefinition::new(name);
            txn.open_table(stray).unwrap().insert(0, b"lost".as_slice()).unwrap();
        });
        assert_eq!(strays, [(pool, name.to_owned(), String::new(), reason.to_owned())]);
        let left = case.open().rebuild_indexes().unwrap().left;
        assert_eq!(left.len(), usize::from(pool.is_none()), "{left:#?}");
    }

    let marks = told(&case, &whole, |txn| {
        change_row(txn, |entries| entries.iter_mut().take(3).for_each(|entry| *entry |= HAS_VERSION));
    });
    let astray = told(&case, &whole, |txn| {
        change_row(txn, |entries| {
            let offsets: Vec<u128> = entries.iter().rev().map(|entry| entry & OFFSET).collect();
            for (entry, offset) in entries.iter_mut().zip(offsets) {
                *entry = *entry & !OFFSET | offset;
            }
            entries.sort_unstable();
        });
    });
    for (findings, begins, ends) in [
        (marks, "it says that record ", " has a version"),
        (astray, "it leads to record ", ", which has another fingerprint"),
    ] {
        assert!(!findings.is_empty());
        for (pool, table, key, reason) in findings {
            assert_eq!((pool, table.as_str()), (Some(1), "fingerprints"));
            assert!(key.len() == 24 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
            assert!(reason.starts_with(begins) && reason.ends_with(ends), "{reason}");
        }
    }

    let records = told(&case, &whole, |txn| assert!(txn.delete_table(RECORDS).unwrap()));
    let gone = |(pool, table, key, reason): &(Option<u64>, String, String, String)| {
        *pool == Some(1)
            && table == "records/1/0"
            && key.is_empty()
            && reason == "the segment's records are missing"
    };
    assert!(records.iter().any(gone), "{records:#?}");

    // A piece with a byte too many, and one with twice as many lines.
    for twice in [false, true] {
        let filters = told(&case, &whole, |txn| {
            let mut table = txn.open_table(FILTERS).unwrap();
            let (key, mut piece) = {
                let (key, piece) = table.first().unwrap().unwrap();
                (key.value(), piece.value().to_vec())
            };
            if twice {
                piece.extend_from_within(..);
            } else {
                piece.push(0);
            }
            table.insert(key, piece.as_slice()).unwrap();
        });
        assert_eq!(filters.len(), 1, "{filters:#?}");
        assert_eq!(
            (filters[0].1.as_str(), filters[0].3.as_str()),
            ("filters", "the piece is missing or damaged")
        );
    }
}
