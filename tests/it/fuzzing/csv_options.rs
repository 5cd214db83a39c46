//! Any bytes as the options of an import, and as the cells of its file: a simple model says which rows become
//! records, with which origin, time and version, and which rows are bad.

use datapool_store::{
    ErrorKind, ImportOptions, OnBadRow, OnDuplicate, Origin, Pool, RecordFilter, Timestamp, Version,
};

use super::Input;
use crate::support;

/// The meanings of columns, and the names that the file gives them.
const NAMES: [&str; 8] = ["sku", "kind", "flow", "run", "step", "at", "version", "note"];
const VALUE: usize = 0;
const KIND: usize = 1;
const FLOW: usize = 2;
const RUN: usize = 3;
const STEP: usize = 4;
const AT: usize = 5;
const VERSION: usize = 6;
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];
const TIMES: [&str; 4] =
    ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000001Z", "2020-06-01 12:00", "2021-01-01"];

/// What an input asks for.
struct Case {
    duplicates: OnDuplicate,
    bad: OnBadRow,
    delimiter: char,
    /// The meanings of the file's columns, in order.
    columns: Vec<usize>,
    /// True for each meaning whose column the options name.
    named: [bool; 8],
    commit_every: Option<u64>,
    rows: Vec<Vec<String>>,
}

/// A row as the pool must have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    value: String,
    kind: u32,
    origin: [Option<String>; 3],
    at: Option<Timestamp>,
    version: Option<Version>,
}

fn cell(input: &mut Input<'_>, meaning: usize) -> String {
    let long = "x".repeat(65);
    let texts: [&str; 6] = match meaning {
        VALUE => ["A-1", "A-2", "a \"b\", c;d", "é", "", " "],
        KIND => ["37", "47", "0037", "4294967295", "4294967296", "-1"],
        FLOW | RUN | STEP => ["", "shop", "1545", "two words", &long, "\u{7f}"],
        AT => [TIMES[0], TIMES[1], TIMES[2], TIMES[3], "2999-01-01T00:00:00Z", "soon"],
        VERSION => ["", "o:7", "o:-9223372036854775808", "c:000102030405060708090a0b0c0d0e0f", "o:", "c:0"],
        _ => ["", "any", "\"", "two\nlines", "37", "o:7"],
    };
    texts[usize::from(input.below(6))].to_owned()
}

impl Case {
    fn of(input: &mut Input<'_>) -> Self {
        let duplicates =
            [OnDuplicate::Add, OnDuplicate::Skip, OnDuplicate::Fail][usize::from(input.below(3))];
        let bad = [OnBadRow::Fail, OnBadRow::Skip][usize::from(input.below(2))];
        let delimiter = DELIMITERS[usize::from(input.below(4))];
        let commit_every = [None, Some(1), Some(2), Some(100)][usize::from(input.below(4))];
        let mut columns = vec![VALUE];
        for meaning in 1..NAMES.len() {
            if input.below(4) > 0 {
                let place = usize::from(input.byte()) % (columns.len() + 1);
                columns.insert(place, meaning);
            }
        }
        let mut named = [false; 8];
        for (meaning, named) in named.iter_mut().enumerate().take(VERSION + 1).skip(KIND) {
            // One time in eight it is a column that the file does not have.
            *named = input.below(2) == 0 && (columns.contains(&meaning) || input.below(4) == 0);
        }
        let mut rows = Vec::new();
        while !input.is_empty() && rows.len() < 40 {
            rows.push(columns.iter().map(|meaning| cell(input, *meaning)).collect());
        }
        Self { duplicates, bad, delimiter, columns, named, commit_every, rows }
    }

    fn options(&self) -> ImportOptions {
        let name = |meaning: usize| self.named[meaning].then_some(NAMES[meaning]);
        let mut options = ImportOptions::new()
            .on_duplicate(self.duplicates)
            .on_bad_row(self.bad)
            .delimiter(self.delimiter)
            .value_column(NAMES[VALUE])
            .origin(&Origin::new("given", "given run", "given step"))
            .origin_columns(name(FLOW), name(RUN), name(STEP));
        options = match name(KIND) {
            Some(name) => options.entity_type_column(name),
            None => options.entity_type(5),
        };
        options = match name(AT) {
            Some(name) => options.created_at_column(name),
            None => options,
        };
        options = match name(VERSION) {
            Some(name) => options.version_column(name),
            None => options,
        };
        self.commit_every.map_or(options.clone(), |rows| options.commit_every(rows))
    }

    fn file(&self) -> String {
        let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(quoted).collect();
            cells.join(&self.delimiter.to_string()) + "\n"
        };
        let header: Vec<String> = self.columns.iter().map(|meaning| NAMES[*meaning].to_owned()).collect();
        line(&header) + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }

    /// Returns the row that these cells are, or `None` if they are a bad row.
    fn row(&self, cells: &[String], latest: Option<Timestamp>) -> Option<Row> {
        let cell = |meaning: usize| {
            let place = self.columns.iter().position(|column| *column == meaning)?;
            self.named[meaning].then(|| cells[place].as_str())
        };
        let value = cells[self.columns.iter().position(|column| *column == VALUE)?].clone();
        let kind = cell(KIND).map_or(Ok(5), str::parse).ok()?;
        let mut origin = ["given", "given run", "given step"].map(|id| Some(id.to_owned()));
        for (part, meaning) in origin.iter_mut().zip([FLOW, RUN, STEP]) {
            if let Some(text) = cell(meaning) {
                *part = (!text.is_empty()).then(|| text.to_owned());
            }
        }
        let at = cell(AT).map(str::parse::<Timestamp>).transpose().ok()?;
        let is_late = at.is_some_and(|at| at > Timestamp::now() || latest.is_some_and(|latest| at < latest));
        let version = cell(VERSION).filter(|text| !text.is_empty()).map(str::parse).transpose().ok()?;
        let is_bad = value.is_empty() || is_late || origin.iter().flatten().any(|id| id.len() > 64);
        (!is_bad).then_some(Row { value, kind, origin, at, version })
    }
}

/// The rows that become records, and how the import ends.
struct Expected {
    added: Vec<Row>,
    skipped: u64,
    bad: u64,
    /// True if a row must end the import.
    fails: bool,
}

fn expected(case: &Case) -> Expected {
    let mut expected = Expected { added: Vec::new(), skipped: 0, bad: 0, fails: false };
    let mut latest = None;
    for cells in &case.rows {
        // No row is blank, since every cell is quoted.
        let Some(row) = case.row(cells, latest) else {
            expected.bad += 1;
            expected.fails |= case.bad == OnBadRow::Fail;
            continue;
        };
        latest = row.at;
        let is_known =
            expected.added.iter().any(|known| (&known.value, known.kind) == (&row.value, row.kind));
        match case.duplicates {
            OnDuplicate::Skip if is_known => expected.skipped += 1,
            OnDuplicate::Fail if is_known => expected.fails = true,
            _ if expected.fails => {}
            _ => expected.added.push(row),
        }
    }
    expected
}

fn stored(case: &Case, pool: &Pool) -> Vec<Row> {
    pool.scan(&RecordFilter::new())
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            let origin = record.origin();
            let flow = origin.flow().map(ToString::to_string);
            let run = origin.run().map(ToString::to_string);
            let step = origin.step().map(ToString::to_string);
            Row {
                kind: record.entity_type_id.get(),
                origin: [flow, run, step],
                at: case.named[AT].then_some(record.created_at),
                version: record.version,
                value: record.value,
            }
        })
        .collect()
}

pub(super) fn run(bytes: &[u8]) {
    let case = Case::of(&mut Input::new(bytes));
    let store = support::options().open_in_memory().unwrap();
    let pool = store.get_or_create_pool("any rows").unwrap();
    let result = pool.import_csv(case.file().as_bytes(), &case.options());
    let stored = stored(&case, &pool);
    let is_missing = |meaning: &usize| case.named[*meaning] && !case.columns.contains(meaning);
    if case.named[AT] && case.commit_every.is_some() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(stored, []);
        return;
    }
    if let Some(missing) = (0..8).find(is_missing) {
        let error = result.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Csv { line: 1, .. }), "{error}");
        assert!(
            error.to_string().contains(NAMES[missing]) || (0..8).filter(is_missing).count() > 1,
            "{error}"
        );
        assert_eq!(stored, []);
        return;
    }
    let expected = expected(&case);
    match result {
        Ok(report) => {
            assert!(!expected.fails, "{report:?} of {:?}", case.file());
            assert_eq!(stored, expected.added);
            assert_eq!((report.skipped, report.bad_rows), (expected.skipped, expected.bad));
            assert_eq!(report.added, stored.len() as u64);
        }
        Err(error) => {
            assert!(expected.fails, "{error} of {:?}", case.file());
            assert!(matches!(error.kind(), ErrorKind::Csv { .. } | ErrorKind::AlreadyExists), "{error}");
            let rows = error.committed_rows().unwrap_or(0);
            assert!(rows == 0 || case.commit_every.is_some());
            assert_eq!(stored, expected.added[..stored.len()]);
            let says = |text: String| error.to_string().starts_with(&text);
            match stored.len() as u64 {
                added if added == rows => {
                    assert!(rows == 0 || says(format!("{rows} rows were added")), "{error}");
                }
                added => {
                    assert!(added < rows && says(format!("{added} of {rows} rows were added")), "{error}");
                }
            }
        }
    }
}
