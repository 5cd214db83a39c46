//! Proves that an import reads a file exactly as written, without losing a byte of it, in the formats of
//! other programs, and that it names the problem if it cannot read something.

use std::fs;

use datapool_store::{ErrorKind, ImportOptions, ImportReport, OnBadRow, Origin, Pool, Result};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::fuzzing::import_csv::agree;
use crate::support::{self, Need, ORDERS};

/// The ways in which a file reaches the store.
#[derive(Debug, Clone, Copy)]
enum Way {
    Reader,
    Path,
    /// A reader that returns one byte at a time.
    Bytes,
}

const WAYS: [Way; 3] = [Way::Reader, Way::Path, Way::Bytes];

struct ByteByByte<'a>(&'a [u8]);

impl std::io::Read for ByteByByte<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

fn import(pool: &Pool, file: &[u8], options: &ImportOptions, way: Way) -> Result<ImportReport> {
    match way {
        Way::Reader => pool.import_csv(file, options),
        Way::Bytes => pool.import_csv(ByteByByte(file), options),
        Way::Path => {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("in.csv");
            fs::write(&path, file).unwrap();
            pool.import_csv_path(path, options)
        }
    }
}

/// The line, the column and the reason of a bad row.
type Bad = (u64, Option<u64>, String);

/// Imports the file in every way, skipping bad rows. Returns the values, the bad rows and the number of blank
/// rows.
fn skipping(file: &[u8], options: ImportOptions) -> (Vec<String>, Vec<Bad>, u64) {
    let options = options.on_bad_row(OnBadRow::Skip);
    let mut results = WAYS.map(|way| {
        let pool = support::pool_for(Need::Any);
        let report = import(&pool, file, &options, way).unwrap();
        assert_eq!(report.added + report.bad_rows, report.rows);
        let errors: Vec<_> =
            report.errors.into_iter().map(|bad| (bad.line, bad.column, bad.reason)).collect();
        (support::values(&pool), errors, report.blank_rows)
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    std::mem::take(&mut results[0])
}

/// Imports the file in every way. Each import must fail on this line, for a reason with these words.
fn refused(file: &[u8], options: &ImportOptions, line: u64, words: &[&str]) {
    for policy in [OnBadRow::Fail, OnBadRow::Skip] {
        for way in WAYS {
            let pool = support::pool_for(Need::Any);
            let error = import(&pool, file, &options.clone().on_bad_row(policy), way).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Csv { line: at, .. } if at == line), "{error}");
            for word in words {
                assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
            }
            assert_eq!(support::values(&pool), [""; 0]);
        }
    }
}

/// Generates pieces of a file, with `,` as the delimiter.
fn any_file() -> impl Strategy<Value = (Vec<u8>, u8)> {
    let good = vec![
        "A-1,37\n",
        "A-2,37\r\n",
        "\"A,3\",47\n",
        "\"a \"\"4\"\"\",0\r\n",
        "\"5\n6\",37\n",
        "\"\r\n7\r\n\",37\n",
        "8\",37\n",
        "a\"b\"c,37\n",
        "\"9\",\"37\"\n",
    ];
    let blank = vec!["\n", "\r\n", ",\n", " \t,\n", ",,,\n", "\r"];
    let bad = vec![
        "\"19\" rack\",54\n",
        "\"abc\"def,37\n",
        "\"abc\" ,37\n",
        "\"a\\\"b\",37\n",
        "\"a\nb\"c\nd,37\n",
        "A-1\n",
        "A-1,37,\n",
        ",37\n",
        "\"\",37\n",
        "A-1,x\n",
        "A-1, 37\n",
        "A-1,\"37\" \r\n",
        "A-1,\"3\n7\"\"\"\n",
        "\"\"\"\"\"x\n",
    ];
    let breaking = vec!["\"", "\"\"", "\n\"", ",\"", "\u{feff}", "\r", "ü", "\0"];
    let piece = prop_oneof![
        8 => prop::sample::select(good),
        3 => prop::sample::select(blank),
        4 => prop::sample::select(bad),
        1 => prop::sample::select(breaking),
    ]
    .prop_map(|piece| piece.as_bytes().to_vec());
    let piece = prop_oneof![30 => piece, 1 => vec(any::<u8>(), 1..4)];
    let head = prop::sample::select(vec![
        "value,entity_type_id\n",
        "\u{feff}value,entity_type_id\r\n",
        "\n ,\n\"value\",\"entity_type_id\"\r",
        "value;entity_type_id\n",
        "",
    ]);
    let head = prop_oneof![9 => Just("value,entity_type_id\n"), 2 => head];
    let delimiter = prop::sample::select(vec![b',', b';', b'\t', b'|', b' ', 1]);
    (head, vec(piece, 0..30), delimiter).prop_map(|(head, pieces, delimiter)| {
        let mut file = head.as_bytes().to_vec();
        file.extend(pieces.concat());
        (file.into_iter().map(|byte| if byte == b',' { delimiter } else { byte }).collect(), delimiter)
    })
}

proptest! {
    #![proptest_config(crate::model::cases(96, 384))]

    /// Added, bad and blank rows make up the whole file, and every stored value occurs in it.
    #[test]
    fn of_any_bytes_an_import_makes_the_rows_that_a_plain_model_makes((file, delimiter) in any_file()) {
        for policy in [OnBadRow::Fail, OnBadRow::Skip] {
            for way in WAYS {
                let pool = support::pool_for(Need::Any);
                let options = ImportOptions::new().on_bad_row(policy).delimiter(delimiter);
                let result = import(&pool, &file, &options, way);
                agree(&file, delimiter, policy, &pool, &result);
            }
        }
    }
}

#[test]
fn after_a_closing_quote_only_a_delimiter_or_a_line_end_may_come() {
    let head = "value,entity_type_id\n";
    for (rows, column) in [
        ("\"19\" rack\",54", 1),
        ("\"abc\"def,37", 1),
        ("\"abc\" ,37", 1),
        ("\"a\\\"b\",37", 1),
        ("\"a\";37", 1),
        ("\"a\"\u{a0},37", 1),
        ("A,\"37\"x", 2),
        ("A,\"37\" ", 2),
        ("A,\"\"37", 2),
    ] {
        for end in ["\n", "\r\n", ""] {
            let after = if end.is_empty() { "" } else { "B,37" };
            let (values, bad, _) =
                skipping(format!("{head}A-0,37\n{rows}{end}{after}").as_bytes(), ImportOptions::new());
            let expected: &[&str] = if end.is_empty() { &["A-0"] } else { &["A-0", "B"] };
            assert_eq!(values, expected, "{rows:?}");
            assert_eq!((bad.len(), bad[0].0, bad[0].1), (1, 3, Some(column)), "{bad:?}");
            assert!(bad[0].2.contains("line 3") && bad[0].2.contains("closing quote"), "{bad:?}");
        }
    }
}

#[test]
fn a_row_with_a_bad_quote_reaches_to_the_end_of_the_line_with_the_offending_byte() {
    let file = "value,entity_type_id\n\"19\" rack\",54\n\"B-1,37\nB-2,37\n\"B-3\",37\nC-1,37\n";
    let (values, bad, _) = skipping(file.as_bytes(), ImportOptions::new());
    assert_eq!(values, ["C-1"]);
    assert_eq!(bad.iter().map(|bad| (bad.0, bad.1)).collect::<Vec<_>>(), [(2, Some(1)), (3, Some(1))]);
    assert!(bad[0].2.contains("line 2") && bad[0].2.contains("' '"), "{bad:?}");
    assert!(bad[1].2.contains("from line 3 to line 5") && bad[1].2.contains("'B'"), "{bad:?}");
    refused_at_first(file, 2);
    // CRLF, a quote in another column, and a quote at the end of the file.
    let file = "value,note,entity_type_id\r\nA,\"x\r\ny\"z\r\nB,,37\r\n\"C\n\n\"D";
    let (values, bad, _) = skipping(file.as_bytes(), ImportOptions::new());
    assert_eq!(values, ["B"]);
    assert_eq!(bad.iter().map(|bad| (bad.0, bad.1)).collect::<Vec<_>>(), [(2, Some(2)), (5, Some(1))]);
    assert!(bad[0].2.contains("to line 3") && bad[1].2.contains("to line 7"), "{bad:?}");
}

fn refused_at_first(file: &str, line: u64) {
    for way in WAYS {
        let pool = support::pool_for(Need::Any);
        let error = import(&pool, file.as_bytes(), &ImportOptions::new(), way).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Csv { line, column: Some(1) }, "{error}");
        assert_eq!(support::values(&pool), [""; 0]);
    }
}

#[test]
fn a_quote_inside_an_unquoted_field_stands_for_itself() {
    let file = "value,entity_type_id\n19\" rack,54\na\"\"b,54\nc\",54\n\"d\"\"\",54\n";
    let (values, bad, _) = skipping(file.as_bytes(), ImportOptions::new());
    assert_eq!((values, bad), (["19\" rack", "a\"\"b", "c\"", "d\""].map(str::to_owned).into(), vec![]));
}

#[test]
fn a_cr_ends_a_line_only_before_an_lf() {
    let head = "value,entity_type_id,note\n";
    // In an unquoted field, in a quoted one, at the end of a field, and before a CRLF.
    let rows = "A\rB,37,x\r\n\"C\rD\",37,\"y\r\"\r\nE,37,z\r\r\nF,37,\r\n";
    let (values, bad, _) = skipping(format!("{head}{rows}").as_bytes(), ImportOptions::new());
    assert_eq!((values, bad), (["A\rB", "C\rD", "E", "F"].map(str::to_owned).into(), vec![]));
    // One row of five fields, a closing quote followed by a CR, and one at the end of the file. Lines are
    // counted by LF.
    let rows = "A,37,x\ry,37,z\n\"B\"\rC,37,z\n\"D\r\nE\"\r,37,x\nF,37,x\n\"G\"\r";
    let (values, bad, blank) = skipping(format!("{head}{rows}").as_bytes(), ImportOptions::new());
    assert_eq!(values, ["F"]);
    let places: Vec<_> = bad.iter().map(|bad| (bad.0, bad.1)).collect();
    assert_eq!((places, blank), (vec![(2, None), (3, Some(1)), (4, Some(1)), (7, Some(1))], 0));
    // A file from an old Mac is a single line.
    for file in ["value,entity_type_id\rA,37\r", "value\rA\r"] {
        for way in WAYS {
            let pool = support::pool_for(Need::Any);
            let error = import(&pool, file.as_bytes(), &ImportOptions::new(), way).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Csv { line: 1, .. }), "{error}");
            assert!(error.to_string().contains("CR alone"), "{error}");
        }
    }
}

#[test]
fn rows_without_content_are_skipped_and_counted() {
    let file = "\n \nvalue,entity_type_id\nA-1,37\n\n,\n \t , \r\n\r\n,,,,\n\"\",\nA-2,37\n\n";
    let (values, bad, blank) = skipping(file.as_bytes(), ImportOptions::new());
    assert_eq!((values, blank), (["A-1", "A-2"].map(str::to_owned).into(), 8));
    // A pair of quotes is a value, which is empty.
    assert_eq!(bad.iter().map(|bad| (bad.0, bad.1)).collect::<Vec<_>>(), [(10, Some(1))]);
    // The end of the last line does not begin another row. A last line without a line end is a row.
    for (end, blank) in [("", 0), ("\n", 0), ("\n\n", 1), ("\n ", 1), ("\n,", 1)] {
        assert_eq!(
            skipping(format!("value,entity_type_id\nA,37{end}").as_bytes(), ImportOptions::new()).2,
            blank
        );
    }
}

#[test]
fn a_file_that_is_no_csv_is_refused_by_name() {
    let utf16 =
        |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let text = "value,entity_type_id\nA-1,37\n";
    let options = ImportOptions::new();
    refused(&utf16(&format!("\u{feff}{text}"), u16::to_le_bytes), &options, 1, &["UTF-16", "UTF-8"]);
    refused(&utf16(&format!("\u{feff}{text}"), u16::to_be_bytes), &options, 1, &["UTF-16", "UTF-8"]);
    refused(&utf16(text, u16::to_le_bytes), &options, 1, &["UTF-16", "little-endian", "UTF-8"]);
    refused(&utf16(text, u16::to_be_bytes), &options, 1, &["UTF-16", "big-endian", "UTF-8"]);
    refused(b"\x1f\x8b\x08\0\0\0\0\0\0\x03K.", &options, 1, &["gzip", "gunzip"]);
    refused(b"PK\x03\x04\x14\0\x06\0\"\n\"x", &options, 1, &["zip", ".xlsx", "CSV"]);
    refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", &options, 1, &["Excel", "CSV"]);
}

#[test]
fn a_file_with_another_delimiter_is_refused_with_the_remedy() {
    for (other, name) in [(";", "\";\""), ("\t", "a tab"), ("|", "\"|\"")] {
        let file = |text: &str| text.replace(',', other);
        let comma = ImportOptions::new();
        let words = [name, "delimiter"];
        refused(file("value,entity_type_id\nA-1,37\n").as_bytes(), &comma, 1, &words);
        refused(file("\"entity_type_id\",\"value\"\r\n37,\"A-1\"\r\n").as_bytes(), &comma, 1, &words);
        refused(file("\u{feff}Order,Customer,Date\nA-1,x,y\n").as_bytes(), &comma, 1, &words);
        let (values, bad, _) = skipping(
            file("value,entity_type_id\nA-1,37\n\"A,2\",37\n").as_bytes(),
            comma.delimiter(other.as_bytes()[0]),
        );
        assert_eq!((values, bad), (vec!["A-1".to_owned(), format!("A{other}2")], vec![]));
    }
    refused(
        b"value,entity_type_id\nA-1,37\n",
        &ImportOptions::new().delimiter(';'),
        1,
        &["\",\"", "delimiter"],
    );
    refused(b"sep=;\nvalue;entity_type_id\nA-1;37\n", &ImportOptions::new(), 1, &["sep=", "remove", "\";\""]);
    refused(
        b"\"sep=;\"\nvalue;entity_type_id\n",
        &ImportOptions::new().delimiter(';'),
        1,
        &["sep=", "remove"],
    );
    refused(b"SEP=,\r\nvalue,entity_type_id\r\n", &ImportOptions::new(), 1, &["sep=", "remove"]);
}

#[test]
fn a_legacy_encoding_is_named_only_where_it_is_one() {
    refused(
        b"value,entity_type_id,Gr\xf6\xdfe\nA-1,37,1\n",
        &ImportOptions::new(),
        1,
        &["column 3", "Windows-1252", "UTF-8"],
    );
    let file = b"value,entity_type_id\nCaf\xe9,37\nM\xfcller,37\nB-\xff2,37\n\xcf\xf0\xe8\xe2\xe5\xf2,37\nZ\xc3,37\n";
    let (values, bad, _) = skipping(file, ImportOptions::new());
    assert_eq!(values, [""; 0]);
    let named: Vec<bool> = bad.iter().map(|bad| bad.2.contains("Windows-1252")).collect();
    assert_eq!(named, [true, true, false, false, false], "{bad:?}");
    assert!(bad.iter().all(|bad| bad.2.contains("not UTF-8")));
}

#[test]
fn a_delimiter_that_could_not_be_told_from_the_rest_is_refused() {
    for delimiter in ['"', '\n', '\r', 'ü', '\u{80}', '→'] {
        let options = ImportOptions::new().delimiter(delimiter);
        for way in WAYS {
            let error = import(&support::pool_for(Need::Any), b"value", &options, way).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(&format!("{delimiter:?}")), "{error}");
        }
    }
}

#[test]
fn columns_have_the_names_that_the_options_say() {
    let file = b"Type,Order,entity_type_id\n37,A-1,x\n47,\"A,2\",\n";
    let (values, bad, _) =
        skipping(file, ImportOptions::new().value_column("Order").entity_type_column("Type"));
    assert_eq!((values, bad), (["A-1", "A,2"].map(str::to_owned).into(), vec![]));
    let options = ImportOptions::new().value_column("SKU").entity_type_column("Type");
    refused(file, &options, 1, &["\"SKU\"", "SKU and Type"]);
    refused(
        file,
        &options.value_column("Order").origin_columns(None, Some("Run"), None),
        1,
        &["\"Run\"", "Order, Type and Run"],
    );
    refused(
        b"Order,Order\n",
        &ImportOptions::new().value_column("Order").entity_type(1),
        1,
        &["twice", "column 2"],
    );
}

#[test]
fn a_file_without_entity_types_gets_one() {
    for way in WAYS {
        let pool = support::pool_for(Need::Any);
        let file = b"value\nA-1\n\n\"A 2\"\n \n";
        let report = import(&pool, file, &ImportOptions::new().entity_type(ORDERS), way).unwrap();
        assert_eq!((report.added, report.blank_rows), (2, 2));
        assert!(support::has(&pool, "A-1") && support::has(&pool, "A 2"));
    }
}

/// Returns the values with their flow, run and step.
fn origins(pool: &Pool) -> Vec<(String, [Option<String>; 3])> {
    let text = |id: Option<&dyn std::fmt::Display>| id.map(ToString::to_string);
    let of = |record: datapool_store::Record| {
        let (flow, run, step) = (&record.flow_id, &record.flow_run_id, &record.step_id);
        let parts = [
            text(flow.as_ref().map(|id| id as _)),
            text(run.as_ref().map(|id| id as _)),
            text(step.as_ref().map(|id| id as _)),
        ];
        (record.value, parts)
    };
    support::records(pool).into_iter().map(of).collect()
}

#[test]
fn an_origin_is_that_of_all_rows_where_no_column_says_otherwise() {
    let file = b"value,entity_type_id,run\nA-1,37,r 1\nA-2,37,r 1\nA-3,37,\nA-4,37,r 2\nA-5,37,r 1\n";
    let some = |text: &str| Some(text.to_owned());
    for way in WAYS {
        let pool = support::pool_for(Need::Any);
        let options = ImportOptions::new().origin(&Origin::new("shop", "default", "read"));
        import(&pool, file, &options, way).unwrap();
        assert!(
            origins(&pool).iter().all(|(_, parts)| *parts == [some("shop"), some("default"), some("read")])
        );
        pool.clear().unwrap();
        let options = ImportOptions::new().origin(&Origin::none().with_flow("shop"));
        import(&pool, file, &options.origin_columns(None, Some("run"), None), way).unwrap();
        let runs: Vec<_> = origins(&pool).into_iter().map(|(_, parts)| parts).collect();
        let of = |run: Option<&str>| [some("shop"), run.map(str::to_owned), None];
        assert_eq!(runs, [of(Some("r 1")), of(Some("r 1")), of(None), of(Some("r 2")), of(Some("r 1"))]);
        let by_run = |run: &str| pool.count(&datapool_store::RecordFilter::new().flow_run_id(run)).unwrap();
        assert_eq!((by_run("r 1"), by_run("r 2")), (3, 1));
    }
    let error = support::pool_for(Need::Any)
        .import_csv(file.as_slice(), &ImportOptions::new().origin(&Origin::none().with_flow("a,b")))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn an_id_that_cannot_be_stored_makes_its_row_bad() {
    let long = "x".repeat(65);
    let file = format!(
        "value,entity_type_id,flow,run,step\nA-1,37,f,r,s\nA-2,37,\"a,b\",r,s\nA-3,37,f,{long},s\nA-4,37,f,r,\"s,\"\nA-5,37,,,\n"
    );
    let options = ImportOptions::new().origin_columns(Some("flow"), Some("run"), Some("step"));
    let (values, bad, _) = skipping(file.as_bytes(), options);
    assert_eq!(values, ["A-1", "A-5"]);
    assert_eq!(
        bad.iter().map(|bad| (bad.0, bad.1)).collect::<Vec<_>>(),
        [(3, Some(3)), (4, Some(4)), (5, Some(5))]
    );
}

/// More rows than one buffer holds, and more origins than are cached.
#[test]
fn each_row_of_a_large_file_has_its_own_origin() {
    let rows: String = (0..70_000).map(|n| format!("v{n},37,run {}\n", n * 7 % 3_001)).collect();
    let file = format!("value,entity_type_id,run\n{rows}");
    let options = ImportOptions::new().origin_columns(None, Some("run"), None);
    for way in [Way::Reader, Way::Path] {
        let store = support::store_for(Need::Any);
        let pool = store.get_or_create_pool("orders").unwrap();
        import(&pool, file.as_bytes(), &options, way).unwrap();
        let as_written = |(n, record): (u64, datapool_store::Record)| {
            record.value == format!("v{n}")
                && record.flow_run_id.is_some_and(|run| run.as_str() == format!("run {}", n * 7 % 3_001))
        };
        assert!((0_u64..).zip(support::records(&pool)).all(as_written));
        assert_eq!(store.verify().unwrap().findings, []);
    }
}
