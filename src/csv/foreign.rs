//! Recognizes files that are not CSV, or that do not match the options, and names the remedy.
//!
//! Owns: the rules that recognize such files. Each function returns the reason for an error.

use std::fmt::Write;

/// The first bytes of files that are not text in UTF-8.
const SIGNATURES: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "the file is compressed with gzip; decompress it first (gunzip)"),
    (
        b"PK\x03\x04",
        "the file is a zip archive, as Excel workbooks (.xlsx) are; save the sheet as \"CSV UTF-8\", or unpack the archive",
    ),
    (b"\xd0\xcf\x11\xe0", "the file is an old Excel workbook (.xls); save the sheet as \"CSV UTF-8\""),
    (b"\xff\xfe\0\0", "the file is in UTF-32; convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)"),
    (b"\0\0\xfe\xff", "the file is in UTF-32; convert it to UTF-8 (iconv -f UTF-32 -t UTF-8)"),
    (b"\xff\xfe", UTF_16),
    (b"\xfe\xff", UTF_16),
];

const UTF_16: &str =
    "the file is in UTF-16; save it as \"CSV UTF-8\", or convert it (iconv -f UTF-16 -t UTF-8)";

/// Returns the kind of file that begins with these four bytes, or `None` if it may be UTF-8 text.
pub(super) fn of_signature(bytes: &[u8]) -> Option<&'static str> {
    let known = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature));
    match (known, bytes) {
        (Some((_, reason)), _) => Some(reason),
        (None, [a, 0, b, 0]) if *a > 0 && *b > 0 => {
            Some("the file is in UTF-16, little-endian; convert it to UTF-8 (iconv -f UTF-16LE -t UTF-8)")
        }
        (None, [0, a, 0, b]) if *a > 0 && *b > 0 => {
            Some("the file is in UTF-16, big-endian; convert it to UTF-8 (iconv -f UTF-16BE -t UTF-8)")
        }
        _ => None,
    }
}

/// The error for a header with a CR that is not part of a CRLF.
pub(super) const CR_LINE_ENDS: &str = "the name of a column has a CR in it: lines end with LF or CRLF, not with CR alone; convert the file (tr '\\r' '\\n')";

/// The delimiters that are recognized, with their names.
const DELIMITERS: [(u8, &str); 4] = [(b',', "\",\""), (b';', "\";\""), (b'\t', "a tab"), (b'|', "\"|\"")];

/// Returns a delimiter in words.
fn name_of(delimiter: u8) -> String {
    let known = DELIMITERS.iter().find(|(known, _)| *known == delimiter);
    known.map_or_else(|| format!("{:?}", char::from(delimiter)), |(_, name)| (*name).to_owned())
}

/// Returns the reason why a header lacks a column: its first line is meant only for Excel, or its fields have
/// another delimiter.
pub(super) fn of_header(header: &[u8], delimiter: u8, column: &str) -> Option<String> {
    let text = header.strip_prefix(b"\"").unwrap_or(header);
    if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"sep=")) {
        let mut reason = "the first line is a \"sep=\" line, which only Excel reads; remove it".to_owned();
        if let Some(other) = text.get(4).filter(|other| **other != delimiter && **other != b'"') {
            let _ = write!(reason, ", and set the delimiter to {}", name_of(*other));
        }
        return Some(reason);
    }
    let cells = |other: u8| header.split(move |byte| *byte == other);
    let has_column = |other: u8| {
        let bare = |cell: &[u8]| {
            cell.strip_prefix(b"\"").and_then(|cell| cell.strip_suffix(b"\"")) == Some(column.as_bytes())
        };
        cells(other).any(|cell| cell == column.as_bytes() || bare(cell))
    };
    let others = || DELIMITERS.iter().filter(|(other, _)| *other != delimiter && cells(*other).count() > 1);
    // Prefer a delimiter that makes the column appear. Otherwise, if the header is a single field, prefer the
    // most frequent delimiter.
    let made = others().find(|(other, _)| has_column(*other));
    let likely =
        || others().filter(|_| cells(delimiter).count() == 1).max_by_key(|(other, _)| cells(*other).count());
    let (_, name) = made.or_else(likely)?;
    let expected = name_of(delimiter);
    Some(format!("the fields are delimited by {name}, not by {expected}; set the delimiter to {name}"))
}

/// Returns what to add after "not UTF-8": a hint, if the bytes look like text in the legacy encoding of
/// western Windows.
pub(super) fn of_bytes(bytes: &[u8]) -> &'static str {
    if looks_like_windows_1252(bytes) {
        "; it looks like Windows-1252 or Latin-1: convert the file to UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
    } else {
        ""
    }
}

/// Returns true if the bytes look like words in Windows-1252: accented letters, one or two at a time, beside
/// plain ones.
fn looks_like_windows_1252(bytes: &[u8]) -> bool {
    let is_text = |byte: &u8| match byte {
        0..0x20 => matches!(byte, b'\t' | b'\n' | b'\r'),
        0x20..=0x7e
        | 0x80
        | 0x85
        | 0x8a
        | 0x8c
        | 0x8e
        | 0x91..=0x97
        | 0x9a
        | 0x9c
        | 0x9e..=0xa0
        | 0xa3
        | 0xa7
        | 0xab
        | 0xae
        | 0xb0
        | 0xb5
        | 0xbb
        | 0xbf..=0xff => true,
        _ => false,
    };
    // These are the first byte of a two-byte UTF-8 letter whose second byte was cut off.
    let is_cut_off = matches!(bytes.last(), Some(0xc2 | 0xc3));
    let is_short = |run: &[u8]| run.len() <= 2;
    let is_beside_letter = |pair: &[u8]| match pair {
        [a, b] => (a.is_ascii_alphabetic() && !b.is_ascii()) || (!a.is_ascii() && b.is_ascii_alphabetic()),
        _ => false,
    };
    let is_utf8 = |run: &[u8]| std::str::from_utf8(run).is_ok();
    let runs = || bytes.split(u8::is_ascii).filter(|run| !run.is_empty());
    bytes.iter().all(is_text)
        && !is_cut_off
        && runs().all(|run| is_short(run) && !is_utf8(run))
        && bytes.windows(2).any(is_beside_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_in_windows_1252_are_taken_for_them() {
        for text in [&b"Gr\xf6\xdfe"[..], b"Caf\xe9", b"\xc9t\xe9", b"price in \x80, caf\xe9", b"na\xefve"] {
            assert!(looks_like_windows_1252(text), "{}", text.escape_ascii());
        }
        let others = [
            &b"B-\xff2"[..],
            b"3\xc3",
            b"Z\xc3",
            b"\xed\xa0\x80",
            // Cyrillic text in Windows-1251, and Japanese text in Shift-JIS.
            b"\xcf\xf0\xe8\xe2\xe5\xf2",
            b"\x83e\x83X\x83g",
            // A UTF-8 letter next to an invalid byte.
            b"a\xc3\xbc \xff",
            b"caf\xe9\x00",
        ];
        for text in others {
            assert!(!looks_like_windows_1252(text), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_delimiter_that_makes_the_column_appear_is_named_before_the_most_frequent_one() {
        let reason = |header: &str, delimiter| of_header(header.as_bytes(), delimiter, "value").unwrap();
        assert!(reason("a|b|c;value", b',').contains("by \";\", not by \",\""));
        assert!(reason("a|b|c;d", b',').contains("by \"|\""));
        assert!(reason("\"value\"\t\"x\"", b',').contains("by a tab"));
        assert!(reason("value,x", b';').contains("by \",\", not by \";\""));
        assert_eq!(of_header(b"Value,entity_type_id", b',', "value"), None);
        assert_eq!(of_header(b"a;b,c", b',', "value"), None);
        assert!(reason("sep=;", b',').ends_with("remove it, and set the delimiter to \";\""));
        assert!(reason("SEP=,", b',').ends_with("remove it"));
        assert!(reason("\"sep=\t\"", b';').ends_with("set the delimiter to a tab"));
        assert!(reason("\"sep=\"", b';').ends_with("remove it"));
    }
}
