//! A pool's records in slices, each as CSV that is one import.

use datapool_store::{Error, PoolSnapshot, Record, RecordFilter, Timestamp};

use super::notes::Position;

/// The most records of a slice. A larger slice spreads the cost of its commit over more records.
const ROWS: u64 = 131_072;
/// The size in bytes at which a slice ends, so that its import stays in memory.
const BYTES: usize = 12 << 20;

pub(super) struct Slice {
    pub(super) csv: Vec<u8>,
    pub(super) rows: u64,
    pub(super) last_id: u64,
    /// In microseconds.
    pub(super) last_time: i64,
}

/// Returns the filter for records of this time and later ones.
pub(super) fn from_time(micros: i64) -> RecordFilter {
    RecordFilter::new().created_after(Timestamp::from_micros(micros.saturating_sub(1)))
}

/// Reads the records after a position, and passes them to `take` in slices until it returns false.
pub(super) fn read(
    snapshot: &PoolSnapshot,
    start: Option<Position>,
    mut take: impl FnMut(Result<Slice, Error>) -> bool,
) {
    let filter = start.map_or_else(RecordFilter::new, |at| from_time(at.time));
    let after = start.map_or(0, |at| at.id);
    let records = match snapshot.scan(&filter) {
        Ok(records) => records,
        Err(error) => {
            take(Err(error));
            return;
        }
    };
    let most = most_rows();
    let mut slice = Writer::default();
    for record in records {
        match record {
            Ok(record) if record.id.get() <= after => {}
            Ok(record) => slice.push(&record),
            Err(error) => {
                take(Err(error));
                return;
            }
        }
        if (slice.0.rows >= most || slice.0.csv.len() >= BYTES) && !take(Ok(std::mem::take(&mut slice).0)) {
            return;
        }
    }
    if slice.0.rows > 0 {
        take(Ok(slice.0));
    }
}

/// Returns the most rows of a slice. In debug builds, tests can set it.
fn most_rows() -> u64 {
    #[cfg(debug_assertions)]
    if let Some(rows) = std::env::var("DATAPOOL_COPY_SLICE").ok().and_then(|rows| rows.parse().ok()) {
        return rows;
    }
    ROWS
}

/// Writes records in the columns of a full export.
struct Writer(Slice);

impl Default for Writer {
    fn default() -> Self {
        let csv = b"value,entity_type_id,flow_id,flow_run_id,step_id,version,created_at\n".to_vec();
        Self(Slice { csv, rows: 0, last_id: 0, last_time: 0 })
    }
}

impl Writer {
    fn push(&mut self, record: &Record) {
        self.field(&record.value, b',');
        self.plain(&record.entity_type_id.to_string(), b',');
        self.field(record.flow_id.as_ref().map_or("", |id| id.as_str()), b',');
        self.field(record.flow_run_id.as_ref().map_or("", |id| id.as_str()), b',');
        self.field(record.step_id.as_ref().map_or("", |id| id.as_str()), b',');
        self.plain(&record.version.map(|version| version.to_string()).unwrap_or_default(), b',');
        self.plain(&record.created_at.to_string(), b'\n');
        self.0.rows += 1;
        self.0.last_id = record.id.get();
        self.0.last_time = record.created_at.as_micros();
    }

    /// Writes a field in quotes, which it may contain.
    fn field(&mut self, text: &str, end: u8) {
        if text.is_empty() {
            self.0.csv.push(end);
            return;
        }
        self.0.csv.push(b'"');
        for byte in text.bytes() {
            if byte == b'"' {
                self.0.csv.push(b'"');
            }
            self.0.csv.push(byte);
        }
        self.0.csv.extend([b'"', end]);
    }

    fn plain(&mut self, text: &str, end: u8) {
        self.0.csv.extend_from_slice(text.as_bytes());
        self.0.csv.push(end);
    }
}
