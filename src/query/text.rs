//! Query strings as text: `name=value&name=value`, percent-encoded.
//!
//! Owns: splitting, decoding and printing them. The format is the URL standard's
//! `application/x-www-form-urlencoded` (a `+` is a space), with two things stricter: a `%` that is not followed by
//! two hexadecimal digits, and bytes that are not UTF-8, are errors. Must not know: which parameters there are.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// What is percent-encoded in names and values. The rest may stand in any query (RFC 3986, section 3.4).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b',')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// How much of an offending text a message repeats.
const SHOWN_CHARS: usize = 100;

/// A text as messages show it: quoted, and cut if it is long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The names and values of a query string, decoded, in order. A leading `?` is taken as the link's it came from.
///
/// A name that comes twice is an error, unless it ends in `[]`.
pub(super) fn parameters(text: &str) -> Result<Vec<(String, String)>> {
    let text = text.strip_prefix('?').unwrap_or(text);
    let mut seen = BTreeSet::new();
    let mut parameters = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name)?;
        let value = decoded(value).map_err(|error| error.with_parameter(name.clone()))?;
        if !name.ends_with("[]") && !seen.insert(name.clone()) {
            return Err(Error::invalid_query(format!(
                "{} is given twice, the second time as {}; each parameter is allowed once",
                shown(&name),
                shown(&value)
            ))
            .with_parameter(name));
        }
        parameters.push((name, value));
    }
    Ok(parameters)
}

fn decoded(text: &str) -> Result<String> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return Err(Error::invalid_query(format!(
            "{} has a % without two hexadecimal digits; write a percent sign as %25",
            shown(text)
        )));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|error| {
        Error::invalid_query(format!("{} does not decode to UTF-8", shown(text))).with_source(error)
    })?;
    Ok(decoded.into_owned())
}

/// A query string as it is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Printer(String);

impl Printer {
    pub(super) fn push(&mut self, name: &str, value: impl Display) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        let value = value.to_string();
        // Writing to a String cannot fail.
        let _ =
            write!(self.0, "{}={}", utf8_percent_encode(name, ENCODED), utf8_percent_encode(&value, ENCODED));
    }

    pub(super) fn push_some(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    /// A list, where there is one: `name=a,b`.
    pub(super) fn push_list<T: Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        if !items.is_empty() {
            self.push(name, items.join(","));
        }
    }

    /// Texts that may hold commas: `name=a` for one, `name[]=a&name[]=b` for several.
    pub(super) fn push_texts(&mut self, name: &str, texts: &[String]) {
        match texts {
            [] => {}
            [text] => self.push(name, text),
            texts => texts.iter().for_each(|text| self.push(&format!("{name}[]"), text)),
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A whole number, of digits alone.
pub(super) fn number<T: FromStr>(parameter: &'static str, text: &str, allowed: &str) -> Result<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Error::bad_parameter(parameter, format!("is {}; allowed are {allowed}", shown(text))))
}

/// An id: a whole number as it prints, without leading zeros, so that one id has one text.
pub(super) fn id<T: FromStr + Display>(parameter: &'static str, text: &str, allowed: &str) -> Result<T> {
    let allowed = format!("{allowed}; leading zeros are not");
    let id: T = number(parameter, text, &allowed)?;
    if id.to_string() == text {
        return Ok(id);
    }
    Err(Error::bad_parameter(parameter, format!("is {}; allowed are {allowed}", shown(text))))
}

/// The items of `a,b,c`. None of them may be empty.
pub(super) fn list<'a>(parameter: &'static str, text: &'a str) -> Result<impl Iterator<Item = &'a str>> {
    if text.split(',').any(str::is_empty) {
        return Err(Error::bad_parameter(
            parameter,
            format!("is {}; allowed is a term, or several with commas between them", shown(text)),
        ));
    }
    Ok(text.split(','))
}

/// The choices named by `a,b,c`, in any order. A name given twice is one.
pub(super) fn choices<T: Copy + Ord>(
    parameter: &'static str,
    text: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<BTreeSet<T>> {
    let one = |term: &str| {
        all.iter().copied().find(|choice| name(*choice) == term).ok_or_else(|| {
            let allowed: Vec<&str> = all.iter().map(|choice| name(*choice)).collect();
            Error::bad_parameter(
                parameter,
                format!("names {}; allowed are {}", shown(term), allowed.join(", ")),
            )
        })
    };
    text.split(',').map(one).collect()
}

/// No listing has this parameter, or this listing does not.
pub(super) fn unknown(name: &str, allowed: &[&str]) -> Error {
    let (shown, allowed) = (shown(name), allowed.join(", "));
    Error::invalid_query(format!("{shown} is no parameter of this listing; allowed are {allowed}"))
        .with_parameter(name.to_owned())
}
