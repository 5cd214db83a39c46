//! A store file with changed bytes: opening it, reading everything and writing to it result in right answers
//! or errors. If verifying finds nothing, the answers are those of the original file. If the header was
//! changed, they may be those of an earlier commit, because redb then treats the newest one as interrupted.
//!
//! The file is the fixture: see [`crate::format`]. An input is a sequence of changes to it.

use std::sync::OnceLock;

use datapool_store::{
    DataPoolStore, ErrorKind, ExportOptions, ImportOptions, Key, Mode, Pool, PoolQuery, RecordFilter,
    RecordInclude, RecordQuery, Result,
};

use super::{Input, is_of_a_kind_for_damage};
use crate::format;
use crate::support::disk::TestDisk;
use crate::support::{self, ORDERS};

/// Returns the bytes of an undamaged file with all kinds of contents.
pub(super) fn sound() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| std::fs::read(format::fixture()).unwrap())
}

fn expected() -> &'static [String] {
    static ANSWERS: OnceLock<Vec<String>> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        let disk = TestDisk::holding(sound().to_vec());
        format::answers(&disk.open(&format::options(&support::clock())).unwrap())
    })
}

const CHANGES_MAX: usize = 24;
/// Both headers of a redb file are in its first bytes.
const HEADER: usize = 320;
const SECTOR: usize = 512;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut file = sound().to_vec();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        damage(&mut file, &mut input);
    }
    let has_header = file.get(..HEADER) == sound().get(..HEADER);
    let disk = TestDisk::holding(file);
    let store = match disk.open(&format::options(&support::clock())) {
        Ok(store) => store,
        Err(error) => {
            assert!(is_of_a_kind_for_damage(&error), "{:?}: {error}", error.kind());
            return;
        }
    };
    match store.verify() {
        Ok(report) if report.findings.is_empty() && has_header => {
            assert_eq!(format::answers(&store), expected());
        }
        Ok(_) => {}
        Err(error) => assert!(is_of_a_kind_for_damage(&error), "{:?}: {error}", error.kind()),
    }
    use_it(&store);
}

/// Changes a file according to the input.
fn damage(file: &mut Vec<u8>, input: &mut Input<'_>) {
    let kind = input.below(6);
    let end = if kind == 0 { HEADER.min(file.len()) } else { file.len() };
    let (place, value) = (input.place(end), input.byte());
    let length = (1 + usize::from(value) * 16).min(file.len() - place.min(file.len()));
    match kind {
        0 | 1 => file.get_mut(place).into_iter().for_each(|byte| *byte ^= value),
        2 => file[place..place + length].fill(0),
        3 => file.truncate(place),
        // Copies part of the file to another place in it.
        4 => {
            let to = (input.place(file.len()) / SECTOR * SECTOR).min(file.len() - length);
            file.copy_within(place..place + length, to);
        }
        _ => {
            let written = input.take(8);
            file.iter_mut().skip(place).zip(written).for_each(|(byte, new)| *byte = *new);
        }
    }
}

/// Reads everything from a store and writes to it in every way. Any outcome is accepted.
pub(super) fn use_it(store: &DataPoolStore) {
    let fine = |outcome: Result<()>| {
        if let Err(error) = outcome {
            assert!(is_of_a_kind_for_damage(&error), "{:?}: {error}", error.kind());
        }
    };
    let token = std::fs::read_to_string(format::token_file()).unwrap();
    let token = serde_json::from_str(&token).unwrap();
    match store.resume_claim(&token) {
        // The id of the store is an ordinary row, and so is the claim, whose lease may have expired long ago.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::LeaseLost) => {}
        resumed => fine(resumed.map(|claim| assert!(claim.into_token().is_some()))),
    }
    fine(store.flow("flow 1").map(drop));
    fine(store.entity_type(ORDERS).map(drop));
    fine(store.stats().map(drop));
    let Ok(pools) = store.pools(&PoolQuery::new().per_page(100)) else { return };
    for row in pools.data {
        let Ok(pool) = store.pool(row.id) else { continue };
        ask(&pool).into_iter().for_each(fine);
        write(&pool).into_iter().for_each(fine);
        ask(&pool).into_iter().for_each(fine);
        fine(store.delete_pool(row.id));
    }
    fine(store.compact().map(drop));
    fine(store.close());
}

fn ask(pool: &Pool) -> Vec<Result<()>> {
    let all = RecordFilter::new();
    let orders = RecordFilter::new().entity_type_id(ORDERS);
    let keys: Vec<Key<'_>> = (0..60).map(|number| Key::new(ORDERS, format!("A-{}", number * 3))).collect();
    let query = RecordQuery::new().filter(orders.clone()).page(2);
    let query = query.include([RecordInclude::Flow, RecordInclude::EntityType, RecordInclude::DataPool]);
    vec![
        pool.scan(&all).and_then(Iterator::collect::<Result<Vec<_>>>).map(drop),
        pool.contains_many(&keys).map(drop),
        pool.lookup(&keys).map(drop),
        pool.count(&RecordFilter::new().flow_id("flow 1").value("A-60")).map(drop),
        pool.count(&RecordFilter::new().created_after(support::time("2013-01-01 06:30:00"))).map(drop),
        pool.records(&query).map(drop),
        pool.explain(&query).map(drop),
        pool.flow_counts().map(drop),
        pool.export_csv(std::io::sink(), &ExportOptions::new().filter(orders)).map(drop),
        pool.claims().map(drop),
        pool.stats().map(drop),
    ]
}

fn write(pool: &Pool) -> Vec<Result<()>> {
    let values = support::numbered("A", 60);
    let key = |value: &'_ String| Key::new(ORDERS, value.clone());
    let lease = std::time::Duration::from_mins(1);
    let claim = pool.claim(&["N-1", "O-1"], |v| Key::new(ORDERS, *v), &support::origin(), lease);
    vec![
        pool.dedupe_with_first(Mode::Track, &values, key, &support::origin()).map(drop),
        claim.and_then(|mut claim| claim.confirm().map(drop)),
        pool.delete_where(&RecordFilter::new().flow_id("flow 1")).map(drop),
        pool.import_csv(&b"value,entity_type_id\nB-1,37\nA-3,37\n"[..], &ImportOptions::new()).map(drop),
        pool.delete_keys(&[Key::new(ORDERS, "A-9")]).map(drop),
        pool.prune().map(drop),
        pool.clear().map(drop),
    ]
}
