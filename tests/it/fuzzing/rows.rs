//! Any bytes as rows: in a file with correct checksums, rows of records, origins, pools, heads, claims,
//! indexes and registered names have the contents of the input. Decoding any of them results in an answer or
//! an error. Indexes that were rebuilt are right, unless something was left that cannot be rebuilt.
//!
//! The file is the fixture: see [`crate::format`]. An input is a sequence of changes: the table, the row, and
//! the change.

use redb::{Key, TableDefinition, TableHandle, Value, WriteTransaction};

use super::damaged_file::{sound, use_it};
use super::{Input, is_of_a_kind_for_damage};
use crate::support::disk::TestDisk;
use crate::{format, support};

const CHANGES_MAX: usize = 8;
/// Longer rows are not generated, because nothing depends on them.
const ROW_MAX: usize = 255;

/// The prefixes of the names of index tables. The table of times is not among them, because it also has a
/// segment's first time, which is not an index entry.
const INDEXES: [&str; 5] = ["fingerprints", "postings/", "filters", "pool names", "claimed"];

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let disk = TestDisk::holding(sound().to_vec());
    change_rows(&disk, &mut input);
    let store = match disk.open(&format::options(&support::clock())) {
        Ok(store) => store,
        Err(error) => {
            assert!(is_of_a_kind_for_damage(&error), "{:?}: {error}", error.kind());
            return;
        }
    };
    let verified = store.verify();
    assert!(verified.as_ref().err().is_none_or(is_of_a_kind_for_damage), "{verified:?}");
    if input.byte().is_multiple_of(2) {
        match store.rebuild_indexes() {
            Ok(report) if report.left.is_empty() => {
                let mut found = store.verify().unwrap().findings;
                found.retain(|finding| INDEXES.iter().any(|index| finding.table.starts_with(index)));
                assert_eq!(found, [], "rebuilding reported nothing left, after {verified:?}");
            }
            Ok(_) => {}
            Err(error) => assert!(is_of_a_kind_for_damage(&error), "{:?}: {error}", error.kind()),
        }
    }
    use_it(&store);
}

/// Redb's backend for a disk.
#[derive(Debug)]
struct Backend(TestDisk);

impl redb::StorageBackend for Backend {
    fn len(&self) -> std::io::Result<u64> {
        datapool_store::testing::Disk::len(&self.0)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        datapool_store::testing::Disk::read(&self.0, offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        datapool_store::testing::Disk::set_len(&self.0, len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        datapool_store::testing::Disk::sync(&self.0)
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        datapool_store::testing::Disk::write(&self.0, offset, data)
    }
}

fn change_rows(disk: &TestDisk, input: &mut Input<'_>) {
    let database = redb::Builder::new().create_with_backend(Backend(disk.clone())).unwrap();
    let txn = database.begin_write().unwrap();
    let mut names: Vec<String> = txn.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    names.sort();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        let name = &names[usize::from(input.byte()) % names.len()];
        let change = Change::from(&mut *input);
        change_table(&txn, name, &change);
    }
    txn.commit().unwrap();
}

enum How {
    Replace,
    Flip,
    Cut,
    Append,
    Remove,
}

struct Change {
    row: u8,
    how: How,
    bytes: Vec<u8>,
}

impl From<&mut Input<'_>> for Change {
    fn from(input: &mut Input<'_>) -> Self {
        let row = input.byte();
        let how = match input.below(8) {
            0..=2 => How::Replace,
            3 | 4 => How::Flip,
            5 => How::Cut,
            6 => How::Append,
            _ => How::Remove,
        };
        let length = usize::from(input.byte()).min(ROW_MAX);
        Self { row, how, bytes: input.take(length).to_vec() }
    }
}

impl Change {
    /// Returns the changed row, or `None` if it is to be removed.
    fn apply(&self, mut row: Vec<u8>) -> Option<Vec<u8>> {
        match self.how {
            How::Replace => row.clone_from(&self.bytes),
            How::Flip => {
                for pair in self.bytes.chunks(2) {
                    let place = usize::from(pair[0]) % row.len().max(1);
                    row.get_mut(place).into_iter().for_each(|byte| *byte ^= pair.last().unwrap());
                }
            }
            How::Cut => row.truncate(row.len() * usize::from(*self.bytes.first().unwrap_or(&0)) / 256),
            How::Append => row.extend(&self.bytes),
            How::Remove => return None,
        }
        Some(row)
    }
}

type Bytes = &'static [u8];

fn change_table(txn: &WriteTransaction, name: &str, change: &Change) {
    match name.split('/').next().unwrap() {
        "pools" | "pool heads" => change_row::<u64, Bytes>(txn, name, change),
        "pool names" => change_row::<Bytes, u64>(txn, name, change),
        "fingerprints" => change_row::<(u64, u32, u32, u32), Bytes>(txn, name, change),
        "origins" | "deleted" | "filters" => change_row::<(u64, u32, u32), Bytes>(txn, name, change),
        "times" => change_row::<(u64, u32, u32), i64>(txn, name, change),
        "claims" => change_row::<(u64, u64), Bytes>(txn, name, change),
        "claim items" => change_row::<(u64, u64, u32), Bytes>(txn, name, change),
        "claimed" => change_row::<(u64, u128), u64>(txn, name, change),
        "records" | "results" => change_row::<u32, Bytes>(txn, name, change),
        _ => change_row::<Bytes, Bytes>(txn, name, change),
    }
}

fn change_row<K: Key + 'static, V: Value + 'static>(txn: &WriteTransaction, name: &str, change: &Change) {
    let mut table = txn.open_table(TableDefinition::<K, V>::new(name)).unwrap();
    let rows = redb::ReadableTableMetadata::len(&table).unwrap();
    let Some(place) = u64::from(change.row).checked_rem(rows) else { return };
    let (key, row) = {
        let mut rows = redb::ReadableTable::iter(&table).unwrap();
        let (key, row) = rows.nth(usize::try_from(place).unwrap()).unwrap().unwrap();
        (K::as_bytes(&key.value()).as_ref().to_vec(), V::as_bytes(&row.value()).as_ref().to_vec())
    };
    match change.apply(row) {
        None => drop(table.remove(K::from_bytes(&key)).unwrap()),
        Some(mut row) => {
            if let Some(width) = V::fixed_width() {
                row.resize(width, 0);
            }
            drop(table.insert(K::from_bytes(&key), V::from_bytes(&row)).unwrap());
        }
    }
}
