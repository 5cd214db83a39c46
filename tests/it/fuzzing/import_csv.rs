//! Any bytes as a CSV file: an import ends with a report or an error, never with a panic; a failed one leaves the
//! pool empty, and what was imported exports and imports back to the same.

use datapool_store::{DataPoolStore, ExportOptions, ImportOptions, OnBadRow, RecordFilter};

pub(super) fn run(bytes: &[u8]) {
    let store = DataPoolStore::in_memory().unwrap();
    let strict = store.get_or_create_pool("strict").unwrap();
    match strict.import_csv(bytes, &ImportOptions::new()) {
        Ok(report) => assert_eq!(strict.count(&RecordFilter::new()).unwrap(), report.added),
        Err(_) => assert_eq!(strict.count(&RecordFilter::new()).unwrap(), 0),
    }
    let lenient = store.get_or_create_pool("lenient").unwrap();
    if lenient.import_csv(bytes, &ImportOptions::new().on_bad_row(OnBadRow::Skip)).is_err() {
        return;
    }
    let mut exported = Vec::new();
    lenient.export_csv(&mut exported, &ExportOptions::new()).unwrap();
    let again = store.get_or_create_pool("again").unwrap();
    again.import_csv(exported.as_slice(), &ImportOptions::new()).unwrap();
    let mut twice = Vec::new();
    again.export_csv(&mut twice, &ExportOptions::new()).unwrap();
    assert_eq!(exported, twice);
}
