//! A JSON document: finding parts of it, and removing some of its items.
//!
//! Owns: the rules for JSON pointers (RFC 6901), and the positions in errors. Always holds: every part is a
//! slice of the document's text, and the whole document was checked before a part is returned. Nothing here
//! recurses, so nesting may be as deep as memory allows.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// A JSON document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    /// The original document.
    whole: &'a str,
    /// The document without a byte order mark.
    text: &'a str,
    pub(super) root: &'a RawValue,
}

/// A position in a text: line and column, each from 1. Columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: u64,
    column: u64,
}

/// The items of an array.
#[derive(Debug, Default)]
pub(super) struct Elements<'a> {
    /// The first items, in order, up to the requested number.
    pub(super) first: Vec<&'a RawValue>,
    /// The number of all items.
    pub(super) count: usize,
}

impl<'a> Document<'a> {
    /// Checks a document from its first byte to its last. A byte order mark at its start is skipped.
    ///
    /// # Errors
    ///
    /// `Json` if the bytes are not UTF-8, or the text is not one JSON value.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let whole = std::str::from_utf8(bytes).map_err(|error| {
            let place = Place::of(bytes, error.valid_up_to());
            place.error(format_args!("the document is not UTF-8: {error}"))
        })?;
        let text = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole);
        match serde_json::from_str(text) {
            Ok(root) => Ok(Self { whole, text, root }),
            Err(error) => Err(syntax_error(text, &error)),
        }
    }

    /// Returns the document with only the items of an array that pass. Each item is removed together with the
    /// text between it and the previous item. The first remaining item gets the text that precedes the first
    /// item.
    pub(super) fn retain(&self, array: &RawValue, items: &[&RawValue], passes: &[bool]) -> Cow<'a, str> {
        if passes.iter().all(|passes| *passes) {
            return Cow::Borrowed(self.whole);
        }
        let part = |range: Range<usize>| self.whole.get(range).unwrap_or_default();
        let array = range_in(self.whole, array);
        let mut end_of_previous = array.start + 1;
        let lead = items.first().map_or("", |first| part(end_of_previous..range_in(self.whole, first).start));
        let mut kept = vec![part(0..end_of_previous)];
        for (item, passes) in items.iter().zip(passes) {
            let item_range = range_in(self.whole, item);
            if *passes {
                let is_first = kept.len() == 1;
                kept.push(if is_first { lead } else { part(end_of_previous..item_range.start) });
                kept.push(item.get());
            }
            end_of_previous = item_range.end;
        }
        let is_empty = kept.len() == 1;
        let end = if is_empty { array.end.saturating_sub(1) } else { end_of_previous };
        kept.push(part(end..self.whole.len()));
        Cow::Owned(kept.concat())
    }

    /// Creates an error about a part of the document.
    pub(super) fn error(&self, part: &RawValue, reason: impl Display) -> Error {
        Place::of(self.text.as_bytes(), range_in(self.text, part).start).error(reason)
    }

    /// Resolves a pointer, starting at a part of the document. Returns `None` if it leads nowhere. The
    /// pointer must have been checked before.
    ///
    /// # Errors
    ///
    /// `Json` if an object on the path has the pointer's name twice.
    pub(super) fn find(&self, from: &'a RawValue, pointer: &str) -> Result<Option<&'a RawValue>> {
        let mut part = from;
        for token in tokens(pointer) {
            match self.step(part, &token)? {
                Some(next) => part = next,
                None => return Ok(None),
            }
        }
        Ok(Some(part))
    }

    fn step(&self, part: &'a RawValue, token: &str) -> Result<Option<&'a RawValue>> {
        let mut deserializer = serde_json::Deserializer::from_str(part.get());
        // The document is valid JSON, so only these visitors could fail, and they never do.
        let unexpected = |error: serde_json::Error| self.error(part, error);
        match part.get().as_bytes().first() {
            Some(b'{') => {
                let member = deserializer.deserialize_map(FindMember(token)).map_err(unexpected)?;
                match member.again {
                    Some(name) => Err(self.error(
                        name,
                        format_args!("the name {token:?} occurs twice in the same object; it is not clear which one counts"),
                    )),
                    None => Ok(member.value),
                }
            }
            Some(b'[') => match index_of(token) {
                Some(index) => deserializer.deserialize_seq(FindElement(index)).map_err(unexpected),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// Returns the items of an array: slices of the first `most` items, and the number of all items.
    ///
    /// # Errors
    ///
    /// `Json` if the part is not an array.
    pub(super) fn elements(&self, part: &'a RawValue, most: usize) -> Result<Elements<'a>> {
        serde_json::Deserializer::from_str(part.get())
            .deserialize_seq(Collect(most))
            .map_err(|error| self.error(part, error))
    }
}

impl Place {
    /// Returns the position of the byte at `at`.
    fn of(text: &[u8], at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let is_start_of_character = |byte: &&u8| (**byte & 0xc0) != 0x80;
        let columns = line.iter().filter(is_start_of_character).count();
        Self { line: lines as u64 + 1, column: columns as u64 + 1 }
    }

    fn error(self, reason: impl Display) -> Error {
        let Self { line, column } = self;
        Error::new(ErrorKind::Json { line, column }, format!("line {line}, column {column}: {reason}"))
    }
}

fn syntax_error(text: &str, error: &serde_json::Error) -> Error {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    // serde_json has already read the offending byte, and counts a line break as the start of the next line.
    let place = Place::of(text.as_bytes(), (before + error.column()).saturating_sub(1));
    let message = error.to_string();
    // serde_json counts columns in bytes.
    let its_place = format!(" at line {} column {}", error.line(), error.column());
    let reason = message.strip_suffix(&its_place).unwrap_or(&message);
    place.error(format_args!("the document is not JSON: {reason}"))
}

/// Returns the range of a part within the text that it is a slice of.
fn range_in(text: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start + part.get().len()
}

/// Returns the text of a JSON string. Returns `None` if the value is not a string, or has an escape for half
/// a character (a lone surrogate).
pub(super) fn text_of(string: &RawValue) -> Option<Cow<'_, str>> {
    let inner = string.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(string.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Checks that a text is a JSON pointer.
///
/// # Errors
///
/// `InvalidArgument` if it is not empty and does not begin with `/`, or has a `~` without 0 or 1 after it.
pub(super) fn check_pointer(pointer: &str) -> Result<()> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(Error::invalid_argument(format!(
            "the JSON pointer {pointer:?} does not begin with \"/\"; allowed are texts like \"/order/id\", and \"\" for the whole value"
        )));
    }
    if pointer.split('~').skip(1).any(|after| !after.starts_with(['0', '1'])) {
        return Err(Error::invalid_argument(format!(
            "the JSON pointer {pointer:?} has a \"~\" without 0 or 1 after it; write \"~0\" for \"~\", and \"~1\" for \"/\" within a name"
        )));
    }
    Ok(())
}

/// Returns the tokens of a pointer, unescaped: names and indexes.
fn tokens(pointer: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pointer.split('/').skip(1).map(|token| {
        if token.contains('~') {
            // The order matters: "~01" stands for "~1".
            return Cow::Owned(token.replace("~1", "/").replace("~0", "~"));
        }
        Cow::Borrowed(token)
    })
}

/// Returns the array index that a pointer's token denotes: digits without a leading zero.
fn index_of(token: &str) -> Option<usize> {
    let is_canonical = token == "0" || !token.starts_with(['0', '+']);
    is_canonical.then(|| token.parse().ok()).flatten()
}

/// Finds a member of an object by its name.
struct FindMember<'t>(&'t str);

#[derive(Default)]
struct Member<'a> {
    value: Option<&'a RawValue>,
    /// The second occurrence of the name, if there is one.
    again: Option<&'a RawValue>,
}

impl<'de> Visitor<'de> for FindMember<'_> {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Member<'de>, A::Error> {
        let mut found = Member::default();
        while let Some(name) = members.next_key::<&'de RawValue>()? {
            if text_of(name).is_none_or(|name| name != self.0) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            if found.value.is_some() {
                found.again.get_or_insert(name);
            }
            found.value = Some(members.next_value()?);
        }
        Ok(found)
    }
}

/// Finds an item of an array by its index.
struct FindElement(usize);

impl<'de> Visitor<'de> for FindElement {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        for index in 0.. {
            let Some(element) = elements.next_element()? else { break };
            if index == self.0 {
                found = Some(element);
            }
        }
        Ok(found)
    }
}

/// Collects the items of an array, up to this number.
struct Collect(usize);

impl<'de> Visitor<'de> for Collect {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = Elements::default();
        while let Some(element) = elements.next_element()? {
            if found.count < self.0 {
                found.first.push(element);
            }
            found.count += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    //! Tests how pointers are resolved, and the positions in errors.

    use super::*;

    fn at(text: &str, pointer: &str) -> Option<String> {
        check_pointer(pointer).unwrap();
        let document = Document::read(text.as_bytes()).unwrap();
        document.find(document.root, pointer).unwrap().map(|part| part.get().to_owned())
    }

    /// The examples of RFC 6901, section 5, and more.
    #[test]
    fn pointers_lead_where_the_standard_says() {
        let text = r#"{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6,
            " ": 7, "m~n": 8, "\u0061bc": {"~1": 9}, "\ud800": 10, "é": 11, "1": {"0": 12}}"#;
        assert_eq!(at(text, "").as_deref(), Some(text));
        let cases = [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/foo/1", r#""baz""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
            ("/abc/~01", "9"),
            ("/é", "11"),
            ("/1/0", "12"),
        ];
        for (pointer, expected) in cases {
            assert_eq!(at(text, pointer).as_deref(), Some(expected), "{pointer}");
        }
        let nowhere = [
            "/foo/2",
            "/foo/-",
            "/foo/01",
            "/foo/+1",
            "/foo/",
            "/foo/0/0",
            "/Foo",
            "//",
            "/\u{fffd}",
            "/foo/99999999999999999999",
        ];
        for pointer in nowhere {
            assert_eq!(at(text, pointer), None, "{pointer}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for (pointer, expected) in [
            ("foo", "does not begin with \"/\""),
            ("#/foo", "does not begin with \"/\""),
            ("$.foo", "does not begin with \"/\""),
            ("/a~", "has a \"~\" without 0 or 1"),
            ("/a~2", "has a \"~\" without 0 or 1"),
            ("/~~0", "has a \"~\" without 0 or 1"),
        ] {
            let error = check_pointer(pointer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn errors_name_line_and_column() {
        let cases: [(&[u8], u64, u64, &str); 12] = [
            (b"", 1, 1, "EOF while parsing a value"),
            (b"[1, 2", 1, 5, "EOF while parsing a list"),
            (b"{\n  \"a\": tru\n}", 2, 11, "expected ident"),
            ("[\"éé\", x]".as_bytes(), 1, 8, "expected value"),
            (b"[1] 2", 1, 5, "trailing characters"),
            (b"[1]\n\n]", 3, 1, "trailing characters"),
            (b"[1,]", 1, 4, "expected value"),
            (b"{a: 1}", 1, 2, "key must be a string"),
            (b"[01]", 1, 3, "invalid number"),
            (b"[\"\x01\"]", 1, 2, "control character"),
            (
                b"[\n\"\xff\"]",
                2,
                2,
                "the document is not UTF-8: invalid utf-8 sequence of 1 bytes from index 3",
            ),
            (b"\xff\xfe[\0]\0", 1, 1, "the document is not UTF-8"),
        ];
        for (text, line, column, expected) in cases {
            for text in [text.to_vec(), [b"\xef\xbb\xbf", text].concat()] {
                if text.starts_with(b"\xef\xbb\xbf") && expected.contains("UTF-8") {
                    continue;
                }
                let error = Document::read(&text).unwrap_err();
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(error.kind(), ErrorKind::Json { line, column }, "{error}");
            }
        }
    }

    #[test]
    fn a_name_that_is_asked_for_must_not_occur_twice() {
        let text = "{\"a\": [\n{\"b\": 1, \"\\u0062\": 2, \"c\": 3, \"c\": 3}], \"d\": 4}";
        let document = Document::read(text.as_bytes()).unwrap();
        let error = document.find(document.root, "/a/0/b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Json { line: 2, column: 10 }, "{error}");
        assert!(error.to_string().contains("the name \"b\" occurs twice"), "{error}");
        assert_eq!(at(text, "/d").as_deref(), Some("4"));
    }
}
