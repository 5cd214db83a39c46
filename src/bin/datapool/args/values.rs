//! Reading the values of arguments.

use std::path::Path;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use datapool_store::{JsonItems, OnMissingKey, RecordFilter, RecordQuery};

use crate::url;

/// Reads a query string that has filters and nothing else.
pub(super) fn filter_of_query(text: &str) -> Result<RecordFilter, String> {
    let query: RecordQuery = text.parse().map_err(|error: datapool_store::Error| error.to_string())?;
    let filter = query.clone().into_filter();
    if filter == RecordFilter::new() {
        return Err("it names no records; to delete all, use `clear`".to_owned());
    }
    if RecordQuery::new().filter(filter.clone()) != query {
        return Err("allowed are filters only: filter[flow_id], filter[value] and so on".to_owned());
    }
    Ok(filter)
}

pub(super) fn server_url(text: &str) -> Result<String, String> {
    match url::of_server(Path::new(text)) {
        Some(url) => Ok(url.to_owned()),
        None => Err("the URL of a server begins with postgresql:// or postgres://".to_owned()),
    }
}

/// Reads one character, or the name of one that is hard to type.
pub(super) fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(only), None) => Ok(only),
        _ => Err("allowed are one character, and tab".to_owned()),
    }
}

pub(super) fn json_pointer(text: &str) -> Result<String, datapool_store::Error> {
    // It checks the pointer first.
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
