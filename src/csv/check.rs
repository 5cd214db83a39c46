//! Checks a file's rows before the import takes its turn to write. Uses several threads if the file is large.
//!
//! Owns: the rule where a file is cut. Always holds: a part begins after a line break. The counts are valid
//! only if all parts have only good and blank rows and end outside quotes; then the rows of the parts are the
//! rows of the file. Otherwise one thread must read the file from the beginning, because only a sequential
//! read shows what is wrong and on which line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::bad_row::BadRow;
use super::options::ImportOptions;
use super::rows::RowReader;
use crate::error::{Error, Result};
use crate::time::Timestamp;
use crate::{limits, parallel};

/// The smallest part. A smaller one is not worth a thread.
const PART_MIN_BYTES: u64 = 1 << 20;

/// The numbers of good and of blank rows in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) good: u64,
    pub(super) blank: u64,
}

/// Counts the rows of a file. Returns `None` if the file cannot be cut, or has rows that are neither good nor
/// blank.
pub(super) fn count_good_rows(path: &Path, options: &ImportOptions) -> Option<Count> {
    // Times must ascend from row to row, and a part does not know the times of the previous part.
    let can_be_cut = options.created_at_column.is_none();
    can_be_cut.then(|| count_in_parts(path, options, (parallel::threads() as u64, PART_MIN_BYTES))).flatten()
}

fn count_in_parts(path: &Path, options: &ImportOptions, sizes: (u64, u64)) -> Option<Count> {
    let parts = cut(path, sizes).ok().flatten()?;
    let without_times = Timestamp::from_micros(0);
    let columns = RowReader::new(File::open(path).ok()?, options, without_times).ok()?.columns();
    let mut sum = Count::default();
    let count = |part: Range<u64>| {
        let mut file = File::open(path).map_err(reading)?;
        file.seek(SeekFrom::Start(part.start)).map_err(reading)?;
        let bytes = file.take(part.end - part.start);
        count_rows(if part.start == 0 {
            RowReader::new(bytes, options, without_times)?
        } else {
            RowReader::of_part(bytes, options, columns)?
        })
    };
    let add = |counted: Count| {
        sum.good += counted.good;
        sum.blank += counted.blank;
        Ok(())
    };
    parallel::in_order(parts.into_iter(), count, add).ok()?;
    Some(sum)
}

fn count_rows(mut rows: RowReader<impl Read>) -> Result<Count> {
    let mut good = 0;
    while let Some(row) = rows.next_row()? {
        row.map_err(BadRow::into_error)?;
        good += 1;
    }
    Ok(Count { good, blank: rows.blank_rows() })
}

/// Cuts the file into at most `parts_max` parts of about equal length, each of at least `part_min_bytes`.
/// Returns `None` if that makes one part, or if the file should not be cut.
fn cut(path: &Path, (parts_max, part_min_bytes): (u64, u64)) -> io::Result<Option<Vec<Range<u64>>>> {
    let metadata = fs::metadata(path)?;
    let parts = parts_max.min(metadata.len() / part_min_bytes);
    if !metadata.is_file() || parts < 2 {
        return Ok(None);
    }
    let mut file = BufReader::new(File::open(path)?);
    let mut cuts = vec![0];
    for part in 1..parts {
        let about = metadata.len() / parts * part;
        file.seek(SeekFrom::Start(about))?;
        let mut rest_of_line = file.by_ref().take(limits::CSV_RECORD_MAX_BYTES);
        let cut = about + rest_of_line.skip_until(b'\n')? as u64;
        let is_line = rest_of_line.limit() > 0 && cut < metadata.len() && cuts.last() < Some(&cut);
        if !is_line {
            return Ok(None);
        }
        cuts.push(cut);
    }
    cuts.push(metadata.len());
    Ok(Some(cuts.windows(2).filter_map(|cuts| Some(*cuts.first()?..*cuts.last()?)).collect()))
}

fn reading(error: io::Error) -> Error {
    Error::io("reading a part of the file", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tempfile::TempDir;

    /// Counts the rows of a file that one thread reads. Returns `None` if any row is bad.
    fn rows_of(path: &Path, options: &ImportOptions) -> Option<Count> {
        count_rows(RowReader::new(File::open(path).unwrap(), options, Timestamp::from_micros(0)).ok()?).ok()
    }

    fn file_of(content: &str) -> (TempDir, std::path::PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("in.csv");
        fs::write(&path, content).unwrap();
        (directory, path)
    }

    #[test]
    fn a_large_file_of_good_rows_is_counted_in_parts_and_no_other() {
        let options = ImportOptions::new();
        let good = format!("value,entity_type_id\r\n{}", "a,1\r\n\"b \"\"\",2\n , \n".repeat(1_000));
        let (_directory, path) = file_of(&good);
        assert_eq!(count_in_parts(&path, &options, (2, 100)), Some(Count { good: 2_000, blank: 1_000 }));
        assert_eq!(count_in_parts(&path, &options, (2, good.len() as u64)), None);
        for bad in ["b,x\n", ",1\n", "b\n", "\"b,1\n", "\"b\" ,1\n"] {
            let (_directory, path) = file_of(&format!("{good}{bad}"));
            assert_eq!(count_in_parts(&path, &options, (2, 100)), None, "{bad:?}");
        }
        // Wherever the second part begins, it is inside a quoted field.
        let (_directory, path) = file_of(&format!("value,entity_type_id\n\"{}\",1\n", "a,1\n".repeat(100)));
        let one = Count { good: 1, blank: 0 };
        assert_eq!((count_in_parts(&path, &options, (2, 100)), rows_of(&path, &options)), (None, Some(one)));
    }

    proptest! {
        #[test]
        fn what_is_counted_in_parts_is_what_one_thread_counts(
            pieces in proptest::collection::vec(
                prop_oneof![
                    20 => prop::sample::select(vec![
                        "a,1\n", "a,1\r\n", "\"a\n\",1\n", "\"a\r\n\"\"\n\",1\n", "\n", "\r", " ,\t\n", ",\r\n", "a\"\",1\n",
                    ]),
                    1 => prop::sample::select(vec![
                        "\"a,1\n", "a,x\n", "\u{feff}a,1\n", "\u{feff},1\n", "\"", "\"\"\n", ",1\n", "\"a\"x,1\n",
                    ]),
                ],
                0..40,
            ),
            typed_first: bool,
            delimiter in prop::sample::select(vec![',', ';', '\t', '|']),
            parts_max in 2_u64..6,
            part_min_bytes in 1_u64..40,
        ) {
            let header = if typed_first { "entity_type_id,value\n" } else { "value,entity_type_id\n" };
            let swapped = |piece: &&str| if typed_first { piece.replace("a,1", "1,a") } else { (*piece).to_owned() };
            let file = format!("{header}{}", pieces.iter().map(swapped).collect::<String>());
            let (_directory, path) = file_of(&file.replace(',', &delimiter.to_string()));
            let options = ImportOptions::new().delimiter(delimiter);
            if let Some(rows) = count_in_parts(&path, &options, (parts_max, part_min_bytes)) {
                prop_assert_eq!(Some(rows), rows_of(&path, &options));
            }
        }
    }
}
