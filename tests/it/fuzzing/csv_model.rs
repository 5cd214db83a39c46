//! A simple model of a CSV import: the rows of a file, found by loops over its bytes.

/// The kind of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    Good { line: u64, value: String, entity_type: u32 },
    Bad { line: u64 },
    Blank,
}

/// The reason why no row can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The header, or the whole file.
    Header,
    /// A quote is still open at the end, in the record that begins on this line.
    OpenQuote { line: u64 },
}

struct Record {
    line: u64,
    /// `None` after a bad quote.
    fields: Option<Vec<Vec<u8>>>,
    raw: Vec<u8>,
}

/// Splits a file into lines, and joins those that a quote joins.
fn records(file: &[u8], delimiter: u8) -> Result<Vec<Record>, Broken> {
    let (mut records, mut at, mut line) = (Vec::new(), 0, 1);
    while at < file.len() {
        let start = at;
        let mut fields = Some(Vec::new());
        loop {
            let mut field = Vec::new();
            let is_end = |at: usize| at >= file.len() || file[at] == b'\n' || file[at..].starts_with(b"\r\n");
            if file.get(at) == Some(&b'"') {
                at += 1;
                loop {
                    match (file.get(at), file.get(at + 1)) {
                        (None, _) => return Err(Broken::OpenQuote { line }),
                        (Some(b'"'), Some(b'"')) => {
                            field.push(b'"');
                            at += 2;
                        }
                        (Some(b'"'), _) => break,
                        (Some(byte), _) => {
                            field.push(*byte);
                            at += 1;
                        }
                    }
                }
                at += 1;
                if !is_end(at) && file[at] != delimiter {
                    while !is_end(at) {
                        at += 1;
                    }
                    fields = None;
                }
            } else {
                while !is_end(at) && file[at] != delimiter {
                    field.push(file[at]);
                    at += 1;
                }
            }
            if let Some(fields) = &mut fields {
                fields.push(field.clone());
            }
            if is_end(at) {
                break;
            }
            at += 1;
        }
        let raw = file[start..at].to_vec();
        at += if file[at..].starts_with(b"\r\n") { 2 } else { 1 };
        let lines = raw.iter().filter(|byte| **byte == b'\n').count();
        records.push(Record { line, fields, raw });
        line += lines as u64 + 1;
    }
    Ok(records)
}

fn row(record: &Record, columns: (usize, usize, usize)) -> Row {
    let (count, value, entity_type) = columns;
    let bad = Row::Bad { line: record.line };
    let Some(fields) = record.fields.as_ref().filter(|fields| fields.len() == count) else { return bad };
    let Ok(value) = String::from_utf8(fields[value].clone()) else { return bad };
    let digits = &fields[entity_type];
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let entity_type = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    match entity_type.filter(|_| is_number && (1..=4_096).contains(&value.len())) {
        Some(entity_type) => Row::Good { line: record.line, value, entity_type },
        None => bad,
    }
}

/// Returns every row of a file with the columns `value` and `entity_type_id`. The file must be smaller than
/// the largest record.
pub(crate) fn rows(file: &[u8], delimiter: u8) -> Result<Vec<Row>, Broken> {
    let is_zip_or_the_like = file.starts_with(b"\x1f\x8b")
        || file.starts_with(b"PK\x03\x04")
        || file.starts_with(b"\xd0\xcf\x11\xe0")
        || file.starts_with(b"\xff\xfe")
        || file.starts_with(b"\xfe\xff")
        || matches!(file, [a, 0, b, 0, ..] | [0, a, 0, b, ..] if *a > 0 && *b > 0);
    if is_zip_or_the_like {
        return Err(Broken::Header);
    }
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let is_blank = |record: &Record| record.raw.iter().all(|byte| [delimiter, b' ', b'\t'].contains(byte));
    // If the header is broken, later errors do not matter.
    let (found, broken) = match records(file, delimiter) {
        Ok(found) => (found, None),
        Err(broken) => (complete_records(file, delimiter), Some(broken)),
    };
    let mut found = found.iter();
    let mut rows = Vec::new();
    let header = loop {
        match found.next() {
            None => return Err(Broken::Header),
            Some(record) if is_blank(record) => rows.push(Row::Blank),
            Some(record) => break record.fields.as_ref().ok_or(Broken::Header)?,
        }
    };
    let place = |name: &str| {
        let mut places = (0..header.len()).filter(|place| header[*place] == name.as_bytes());
        places.next().filter(|_| places.next().is_none()).ok_or(Broken::Header)
    };
    let columns = (header.len(), place("value")?, place("entity_type_id")?);
    if header.iter().any(|name| std::str::from_utf8(name).is_err() || name.contains(&b'\r')) {
        return Err(Broken::Header);
    }
    if let Some(broken) = broken {
        return Err(broken);
    }
    rows.extend(found.map(|record| if is_blank(record) { Row::Blank } else { row(record, columns) }));
    Ok(rows)
}

/// Returns the fields of every record of a file with commas, including the header.
pub(crate) fn fields(file: &[u8]) -> Vec<Vec<String>> {
    let text = |field: Vec<u8>| String::from_utf8(field).unwrap();
    let fields = |record: Record| record.fields.unwrap().into_iter().map(text).collect();
    records(file, b',').unwrap().into_iter().map(fields).collect()
}

/// Returns the records before the one whose quote is open at the end.
fn complete_records(file: &[u8], delimiter: u8) -> Vec<Record> {
    let is_line_end = |at: &usize| *at == 0 || file[at - 1] == b'\n';
    let mut ends = (0..file.len()).rev().filter(is_line_end);
    ends.find_map(|end| records(&file[..end], delimiter).ok()).unwrap_or_default()
}
