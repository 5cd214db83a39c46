//! Any bytes as a CSV file: an import ends with a report or an error, never with a panic. It adds, refuses
//! and skips the same rows as a simple model. A failed import leaves the pool empty. Imported rows can be
//! exported and imported back unchanged.

use datapool_store::{
    DataPoolStore, ErrorKind, ExportColumns, ExportOptions, ImportOptions, ImportReport, OnBadRow, Pool,
    Record, RecordFilter, Result,
};

use super::csv_model::{self, Broken, Row};

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

pub(super) fn run(bytes: &[u8]) {
    let store = DataPoolStore::in_memory().unwrap();
    for delimiter in DELIMITERS {
        for policy in [OnBadRow::Fail, OnBadRow::Skip] {
            let pool = store.get_or_create_pool("any rows").unwrap();
            pool.clear().unwrap();
            let options = ImportOptions::new().on_bad_row(policy).delimiter(delimiter);
            let result = pool.import_csv(bytes, &options);
            agree(bytes, delimiter, policy, &pool, &result);
            if result.is_ok() {
                comes_back(&store, &pool);
            }
        }
    }
}

/// Compares an import of a file with the model.
pub(crate) fn agree(
    file: &[u8],
    delimiter: u8,
    policy: OnBadRow,
    pool: &Pool,
    result: &Result<ImportReport>,
) {
    let expected = csv_model::rows(file, delimiter);
    let first_bad = expected.iter().flatten().find_map(|row| match row {
        Row::Bad { line } => Some(*line),
        _ => None,
    });
    let first_bad = first_bad.filter(|_| policy == OnBadRow::Fail);
    let stored: Vec<(u32, String)> = pool
        .scan(&RecordFilter::new())
        .unwrap()
        .map(|record| record.map(|record| (record.entity_type_id.get(), record.value)).unwrap())
        .collect();
    match (result, expected) {
        (Ok(report), Ok(rows)) if first_bad.is_none() => {
            let good: Vec<(u32, String)> = rows.iter().filter_map(good).collect();
            let bad_lines: Vec<u64> = rows.iter().filter_map(bad_line).collect();
            assert_eq!(stored, good);
            assert_eq!((report.added, report.bad_rows), (good.len() as u64, bad_lines.len() as u64));
            assert_eq!(report.blank_rows, rows.len() as u64 - report.added - report.bad_rows);
            assert_eq!(report.rows, report.added + report.bad_rows);
            assert!(report.errors.iter().map(|bad| bad.line).eq(bad_lines.into_iter().take(100)));
            for (_, value) in &stored {
                let doubled = value.replace('"', "\"\"");
                let stands = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
                assert!(stands(value) || stands(&doubled), "{value:?} is not in the file");
            }
        }
        (Err(error), expected) => {
            assert_eq!(stored, []);
            let ErrorKind::Csv { line, .. } = error.kind() else { panic!("{:?}: {error}", error.kind()) };
            match (expected, first_bad) {
                (Ok(_), Some(bad)) => assert_eq!(line, bad, "{error}"),
                (Err(Broken::OpenQuote { line: open }), _) => {
                    assert!(line == open || (policy == OnBadRow::Fail && line < open), "{error}");
                }
                (Err(Broken::Header), _) => {}
                (Ok(_), None) => panic!("refused without a reason: {error}"),
            }
        }
        (Ok(report), expected) => panic!("{report:?}, but expected was {expected:?}"),
    }
}

fn good(row: &Row) -> Option<(u32, String)> {
    match row {
        Row::Good { value, entity_type, .. } => Some((*entity_type, value.clone())),
        _ => None,
    }
}

fn bad_line(row: &Row) -> Option<u64> {
    match row {
        Row::Bad { line } => Some(*line),
        _ => None,
    }
}

/// Checks that both forms of an export import back to the same records, the full one with their times.
fn comes_back(store: &DataPoolStore, pool: &Pool) {
    let again = store.get_or_create_pool("again").unwrap();
    for (columns, options) in [
        (ExportColumns::Importable, ImportOptions::new()),
        (ExportColumns::Full, ImportOptions::full_export()),
    ] {
        again.clear().unwrap();
        let mut file = Vec::new();
        pool.export_csv(&mut file, &ExportOptions::new().columns(columns)).unwrap();
        again.import_csv(file.as_slice(), &options).unwrap();
        let rows = |pool: &Pool| {
            let record = |record: Result<Record>| {
                let record = record.unwrap();
                let time = (columns == ExportColumns::Full).then_some(record.created_at);
                (record.entity_type_id, record.value, time)
            };
            pool.scan(&RecordFilter::new()).unwrap().map(record).collect::<Vec<_>>()
        };
        assert_eq!(rows(&again), rows(pool));
    }
}
