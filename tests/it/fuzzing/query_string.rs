//! Any text as a query string: it is a query or an `InvalidQuery`, never a panic. A query prints to a text
//! that parses to the same query, in every spelling.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use datapool_store::{Error, ErrorKind, PoolQuery, RecordQuery};

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check::<RecordQuery>(text);
    check::<PoolQuery>(text);
}

fn check<Query: FromStr<Err = Error> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<Query>() {
        Ok(query) => {
            let printed = query.to_string();
            assert_eq!(printed.parse::<Query>().unwrap(), query);
            for text in spellings(&printed) {
                assert_eq!(text.parse::<Query>().unwrap(), query, "{text}");
            }
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidQuery, "{error}"),
    }
}

/// The printed names of the parameters whose commas separate terms.
const LISTS: [&str; 7] = [
    "filter%5Bflow_id%5D",
    "filter%5Bflow_run_id%5D",
    "filter%5Bstep_id%5D",
    "filter%5Bentity_type_id%5D",
    "filter%5Bid%5D",
    "filter%5B,%5D",
    "include",
];

/// The parameters that may also be arrays and whose values are never split.
const TEXTS: [&str; 2] = ["filter%5Bvalue%5D", "filter%5Bname%5D"];

/// Returns other spellings of a printed query: with arrays in each form, and with blanks around terms.
pub(crate) fn spellings(printed: &str) -> Vec<String> {
    let respelled = |respell: fn(&str, &str) -> Vec<String>| {
        let pairs = printed.split('&').filter(|pair| !pair.is_empty()).flat_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            respell(name, value)
        });
        pairs.collect::<Vec<String>>().join("&")
    };
    vec![respelled(unnumbered), respelled(numbered), respelled(blank), respelled(plain)]
}

/// Writes `name=a,b` as `name[]=a&name[]=b`.
fn unnumbered(name: &str, value: &str) -> Vec<String> {
    array(name, value, |_| "[]".to_owned())
}

/// Writes `name=a,b` as `name[1]=b&name[0]=a`.
fn numbered(name: &str, value: &str) -> Vec<String> {
    let mut pairs = array(name, value, |index| format!("%5B{index}%5D"));
    pairs.reverse();
    pairs
}

/// Writes a parameter as an array, if that is allowed.
fn array(name: &str, value: &str, place: impl Fn(usize) -> String) -> Vec<String> {
    let elements: Vec<&str> = if LISTS.contains(&name) {
        value.split(',').collect()
    } else if TEXTS.contains(&name) {
        vec![value]
    } else {
        return vec![format!("{name}={value}")];
    };
    elements.iter().enumerate().map(|(index, value)| format!("{name}{}={value}", place(index))).collect()
}

/// Writes `name=a,b` as `name= a , b `.
fn blank(name: &str, value: &str) -> Vec<String> {
    let is_list = LISTS.contains(&name);
    let value = if is_list { format!("+{}%09", value.replace(',', "+,%20")) } else { value.to_owned() };
    vec![format!("{name}={value}")]
}

/// Writes the name without percent-encoding.
fn plain(name: &str, value: &str) -> Vec<String> {
    vec![format!("{}={value}", name.replace("%5B", "[").replace("%5D", "]"))]
}
