//! Tests the point of the example: an old file that arrives late changes products by content, but none by
//! ordinal.

#![allow(clippy::unwrap_used, reason = "a test that fails may stop where it stands")]

const EXPECTED: &str = "\
by content
  night 1: 30000 new, 0 changed
  night 2: 0 new, 300 changed
  night 3 (the file of night 1): 0 new, 300 changed
  the shop has 30000 products, 300 of them out of date
  the pool has 30000 records, and 600 that were replaced
by ordinal
  night 1: 30000 new, 0 changed
  night 2: 0 new, 300 changed
  night 3 (the file of night 1): 0 new, 0 changed
  the shop has 30000 products, 0 of them out of date
  the pool has 30000 records, and 300 that were replaced
";

#[test]
fn three_nights_by_content_and_by_ordinal() {
    let directory = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    product_sync::run(&directory.path().join("pools.redb"), 30_000, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), EXPECTED);
}
