//! Reading the values of arguments.

use std::path::Path;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, RangedI64ValueParser, RangedU64ValueParser, TypedValueParser};
use datapool_store::{JsonItems, OnMissingKey, RecordFilter, RecordQuery, RecordSort, limits};

use crate::url;

/// Reads a query string that consists of filters.
pub(super) fn filter_of_query(text: &str) -> Result<RecordFilter, String> {
    let query: RecordQuery = text.parse().map_err(|error: datapool_store::Error| error.to_string())?;
    let filter = query.clone().into_filter();
    if filter == RecordFilter::new() {
        return Err("it names no records; to delete all of them, use `clear`".to_owned());
    }
    if RecordQuery::new().filter(filter.clone()) != query {
        return Err("only filters are allowed: filter[flow_id], filter[value] and so on".to_owned());
    }
    Ok(filter)
}

pub(super) fn server_url(text: &str) -> Result<String, String> {
    match url::of_server(Path::new(text)) {
        Some(url) => Ok(url.to_owned()),
        None => Err("the URL of a server begins with postgresql:// or postgres://".to_owned()),
    }
}

/// Reads the number of a page.
pub(super) fn page() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..)
}

/// Reads the number of items on a page.
pub(super) fn per_page() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(1..=i64::from(limits::PER_PAGE_MAX))
}

/// Reads one character, or the name of one that is hard to type.
pub(super) fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(only), None) => Ok(only),
        _ => Err("allowed are a single character and the word tab".to_owned()),
    }
}

pub(super) fn json_pointer(text: &str) -> Result<String, datapool_store::Error> {
    // `key_of` checks the pointer before it reads the item.
    JsonItems::new(0, text).on_missing_key(OnMissingKey::Pass).key_of("null")?;
    Ok(text.to_owned())
}

/// Reads one of the library's choices, and lists them in the help.
pub(super) fn one_of<T, const N: usize>(
    choices: [T; N],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = datapool_store::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(choices.map(word)).try_map(|word| word.parse::<T>())
}

/// Reads an order of records, as the HTTP API writes it: `id` and `created_at` are the same order.
pub(super) fn record_sort() -> impl TypedValueParser<Value = RecordSort> {
    PossibleValuesParser::new(["created_at", "-created_at", "id", "-id"])
        .try_map(|word| word.replace("id", "created_at").parse::<RecordSort>())
}
