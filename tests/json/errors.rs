//! Proves which documents and pointers are refused, that the position of the error is right, and that a
//! refused call changes nothing.

use datapool_store::{ErrorKind, JsonItems, Mode, Origin};

use crate::{ORDERS, pool, values};

/// Returns the error for a document whose first item has the key 1.
fn error_of(payload: &[u8], items: &JsonItems) -> datapool_store::Error {
    let pool = pool();
    let errors = [Mode::Filter, Mode::FilterAndTrack, Mode::Track]
        .map(|mode| pool.dedupe_json(mode, payload, items, &Origin::none()).unwrap_err());
    assert!(values(&pool).is_empty());
    let [error, second, third] = errors;
    assert_eq!(error.to_string(), second.to_string());
    assert_eq!(error.to_string(), third.to_string());
    error
}

#[test]
fn what_is_not_json_is_refused_with_line_and_column() {
    let items = JsonItems::new(ORDERS, "/id");
    let cases: [(&[u8], u64, u64, &str); 13] = [
        (b"", 1, 1, "EOF while parsing a value"),
        (b"[{\"id\": 1}", 1, 10, "EOF while parsing a list"),
        (b"[{\"id\": 1}\n, {\"id\": 2]", 2, 11, "expected `,` or `}`"),
        (b"[{\"id\": 1}] x", 1, 13, "trailing characters"),
        (b"[{\"id\": 1}][]", 1, 12, "trailing characters"),
        (b"[{\"id\": 1},]", 1, 12, "expected value"),
        (b"[{\"id\": 1}, {\"id\": NaN}]", 1, 20, "expected value"),
        (b"[{\"id\": 1}, {\"id\": 1.}]", 1, 22, "invalid number"),
        (b"[{\"id\": 1}, {\"id\": \"\\x\"}]", 1, 22, "invalid escape"),
        (b"[{\"id\": 1}, {\"id\": \"a\nb\"}]", 1, 21, "control character"),
        (
            b"[{\"id\": 1},\n{\"id\": \"\xc3\"}]",
            2,
            9,
            "not UTF-8: invalid utf-8 sequence of 1 bytes from index 20",
        ),
        (b"\xef\xbb\xbf\xef\xbb\xbf[]", 1, 1, "expected value"),
        (b"\xff\xfe[\x00]\x00", 1, 1, "not UTF-8"),
    ];
    for (payload, line, column, expected) in cases {
        let error = error_of(payload, &items);
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!((error.kind(), error.item()), (ErrorKind::Json { line, column }, None), "{message}");
        assert!(message.starts_with(&format!("line {line}, column {column}: ")), "{message}");
    }
}

#[test]
fn an_item_whose_key_cannot_be_told_is_named() {
    let id = || JsonItems::new(ORDERS, "/id");
    let several = || id().and_key("/shop");
    let cases = [
        (id(), "{}", "the item has no key: nothing is at \"/id\"", 4),
        (id(), "{\"id\": null}", "the item has no key: null is at \"/id\"", 4),
        (id(), "{\"id\": \"\"}", "the item has no key: an empty string is at \"/id\"", 4),
        (id(), "7", "the item has no key: nothing is at \"/id\"", 4),
        (id(), "{\"id\": []}", "an array is at \"/id\"; a key is a string, a number or a boolean", 11),
        (id(), "{\"id\": {}}", "an object is at \"/id\"; a key is a string, a number or a boolean", 11),
        (id(), "{\"id\": 1, \"\\u0069d\": 1}", "the name \"id\" occurs twice in the same object", 14),
        (id(), "{\"id\": \"\\ud83d\"}", "half a character", 11),
        (several(), "{\"id\": 1}", "the item has no key: nothing is at \"/shop\"", 4),
        (several(), "{\"id\": 1, \"shop\": null}", "the item has no key: null is at \"/shop\"", 4),
    ];
    for (items, item, expected, column) in cases {
        let error = error_of(format!("[{{\"id\": 1, \"shop\": 2}},\n   {item}]").as_bytes(), &items);
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        let kind = ErrorKind::Json { line: 2, column };
        assert_eq!((error.kind(), error.item()), (kind, Some(1)), "{message}");
        assert!(message.starts_with(&format!("item 1: line 2, column {column}: ")), "{message}");
    }
}

#[test]
fn a_key_that_is_too_long_for_a_value_is_named() {
    let text = "x".repeat(4_096);
    for (item, expected) in [
        (format!("\"{text}x\""), "a value has 4097 bytes"),
        ("1e4096".to_owned(), "the number at \"\", written out, has more than 4096 bytes"),
        ("1e999999999999999999999".to_owned(), "more than 4096 bytes"),
    ] {
        let error = error_of(format!("[1, {item}]").as_bytes(), &JsonItems::new(ORDERS, ""));
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((error.kind(), error.item()), (ErrorKind::LimitExceeded, Some(1)));
    }
    let error = error_of(format!("[\"{text}\"]").as_bytes(), &JsonItems::new(ORDERS, "").and_key(""));
    assert_eq!((error.kind(), error.item()), (ErrorKind::LimitExceeded, Some(0)), "{error}");
}

#[test]
fn a_document_without_the_array_is_refused() {
    let cases = [
        ("{}", "/orders", 1, "nothing is at \"/orders\", where the array of items should be"),
        ("{\"orders\": [[1]]}", "/orders/1", 1, "nothing is at \"/orders/1\""),
        ("{\"orders\": null}", "/orders", 12, "null is at \"/orders\""),
        ("{\"orders\": {}}", "/orders", 12, "an object is at \"/orders\""),
        ("{\"orders\": [1]}", "", 1, "an object is at \"\""),
        ("17", "", 1, "a number is at \"\""),
        ("{\"a\": {\"b\": [], \"b\": []}}", "/a/b", 17, "the name \"b\" occurs twice"),
    ];
    for (payload, pointer, column, expected) in cases {
        let error = error_of(payload.as_bytes(), &JsonItems::new(ORDERS, "").at(pointer));
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((error.kind(), error.item()), (ErrorKind::Json { line: 1, column }, None), "{error}");
    }
}

#[test]
fn a_text_that_is_no_pointer_is_refused_before_the_document_is_read() {
    for items in [
        JsonItems::new(ORDERS, "id"),
        JsonItems::new(ORDERS, "/id").and_key("id"),
        JsonItems::new(ORDERS, "/id").at("id"),
        JsonItems::new(ORDERS, "/id").at("/~"),
    ] {
        assert_eq!(error_of(b"", &items).kind(), ErrorKind::InvalidArgument);
        assert_eq!(items.key_of("").unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn an_origin_that_cannot_be_is_refused() {
    let pool = pool();
    let origin = Origin::none().with_flow("a,b");
    let error = pool.dedupe_json(Mode::Track, "[1]", &JsonItems::new(ORDERS, ""), &origin).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(values(&pool).is_empty());
}
