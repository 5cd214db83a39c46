//! Query strings as text: `name=value&name=value`, percent-encoded.
//!
//! Owns: splitting, decoding and printing them. The format is the URL standard's
//! `application/x-www-form-urlencoded` (a `+` is a space), but stricter in two points: a `%` that is not
//! followed by two hexadecimal digits, and bytes that are not UTF-8, are errors. Arrays are written as PHP
//! reads them: `name[]=value` or `name[0]=value`, once for each element. Must not know: what a parameter
//! means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result, all, shown};
use crate::limits;

/// The characters that are percent-encoded in names and values. All others may appear in any query (RFC 3986,
/// section 3.4).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b',')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// A parameter of a query string, decoded.
#[derive(Debug)]
pub(super) struct Parameter {
    name: &'static str,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// `name=value`
    One(String),
    /// `name[]=value` or `name[0]=value`, by index.
    Array(BTreeMap<u64, String>),
}

/// The position of a value in its parameter.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The only value.
    Only,
    /// After the last element of the array.
    Next,
    /// At this index of the array.
    At(u64),
}

/// Splits a query string into its parameters. Returns those that are valid, and the errors of the others. A
/// leading `?` is ignored, because links begin with one.
///
/// # Errors
///
/// `InvalidQuery` for a parameter that is not in `allowed`, for a value or an index that is given twice, and
/// for a parameter that is given both as a value and as an array.
pub(super) fn parameters(text: &str, allowed: &[&'static str]) -> (Vec<Parameter>, Result<()>) {
    let text = text.strip_prefix('?').unwrap_or(text);
    let mut parameters: Vec<Parameter> = Vec::new();
    let take = |pair: &str| {
        let (written, value) = pair.split_once('=').unwrap_or((pair, ""));
        let written = decoded(written)?;
        let (name, place) = split_place(&written);
        let name = allowed.iter().find(|known| **known == name).ok_or_else(|| unknown(&written, allowed))?;
        let value = decoded(value).map_err(|error| error.with_parameter(*name))?;
        if let Some(parameter) = parameters.iter_mut().find(|parameter| parameter.name == *name) {
            return parameter.push(place, value);
        }
        parameters.push(Parameter::new(name, place, value));
        Ok(())
    };
    let taken = all(text.split('&').filter(|pair| !pair.is_empty()).map(take));
    (parameters, taken)
}

/// Splits a name as written into the parameter's name and the position of the value: `filter[id][0]` is index
/// 0 of `filter[id]`.
fn split_place(written: &str) -> (&str, Place) {
    let in_array = || {
        let (name, index) = written.strip_suffix(']')?.rsplit_once('[')?;
        if index.is_empty() {
            return Some((name, Place::Next));
        }
        let is_number = index.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| index.parse().ok()).flatten().map(|index| (name, Place::At(index)))
    };
    in_array().unwrap_or((written, Place::Only))
}

impl Parameter {
    fn new(name: &'static str, place: Place, value: String) -> Self {
        let values = match place {
            Place::Only => Values::One(value),
            Place::Next => Values::Array(BTreeMap::from([(0, value)])),
            Place::At(index) => Values::Array(BTreeMap::from([(index, value)])),
        };
        Self { name, values }
    }

    fn push(&mut self, place: Place, value: String) -> Result<()> {
        let name = self.name;
        let index = match (&self.values, place) {
            (Values::One(_), Place::Only) => {
                let twice = format!(
                    "is given twice, the second time as {}; each parameter is allowed once",
                    shown(&value)
                );
                return Err(Error::bad_parameter(name, twice));
            }
            (Values::One(_), _) | (_, Place::Only) => {
                let both = "is given as a value and as an array; each parameter is allowed in one form";
                return Err(Error::bad_parameter(name, both));
            }
            (Values::Array(_), Place::At(index)) => index,
            (Values::Array(values), Place::Next) => {
                values.last_key_value().map_or(0, |(last, _)| last.saturating_add(1))
            }
        };
        if let Values::Array(values) = &mut self.values
            && let Some(before) = values.insert(index, value)
        {
            let twice = format!(
                "has index {index} twice, the first time as {}; each index is allowed once",
                shown(&before)
            );
            return Err(Error::bad_parameter(name, twice));
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the only value of a parameter that takes one value.
    pub(super) fn one(&self) -> Result<&str> {
        let name = self.name;
        match &self.values {
            Values::One(value) => Ok(value),
            Values::Array(_) => Err(Error::bad_parameter(
                name,
                format!("is given as an array; allowed is one value, as {name}=..."),
            )),
        }
    }

    /// Returns every value, not split.
    pub(super) fn texts(&self) -> Vec<&str> {
        match &self.values {
            Values::One(value) => vec![value],
            Values::Array(values) => values.values().map(String::as_str).collect(),
        }
    }

    /// Returns the terms of all values. Each value is split at its commas, and the blanks around a term are
    /// dropped.
    pub(super) fn terms(&self) -> Result<Vec<&str>> {
        let mut all = Vec::new();
        for text in self.texts() {
            let before = all.len();
            all.extend(terms_of(text));
            if all.iter().skip(before).any(|term: &&str| term.is_empty()) {
                let allowed = "allowed is a term, or several with commas between them";
                return Err(Error::bad_parameter(self.name, format!("is {}; {allowed}", shown(text))));
            }
        }
        Ok(all)
    }

    /// Returns the terms of a value, or the elements of an array. Elements are not split, so a term can
    /// contain a comma.
    pub(super) fn terms_or_elements(&self) -> Result<Vec<&str>> {
        match &self.values {
            Values::One(_) => self.terms(),
            Values::Array(_) => Ok(self.texts()),
        }
    }

    /// Returns the choices that the terms name, in any order. Repeated names count once.
    pub(super) fn choices<T: Copy + Ord>(
        &self,
        all: &[T],
        name: impl Fn(T) -> &'static str,
    ) -> Result<BTreeSet<T>> {
        let one = |term: &str| {
            all.iter().copied().find(|choice| name(*choice) == term).ok_or_else(|| {
                let allowed: Vec<&str> = all.iter().map(|choice| name(*choice)).collect();
                let text = format!("names {}; allowed are {}", shown(term), allowed.join(", "));
                Error::bad_parameter(self.name, text)
            })
        };
        self.texts().into_iter().flat_map(terms_of).map(one).collect()
    }
}

/// Splits `a, b,c` into its terms. Any of them may be empty.
fn terms_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// Returns true if these terms can be written as a list from which [`Parameter::terms`] reads them back.
pub(super) fn are_list_terms(terms: &[String]) -> bool {
    terms.iter().all(|term| !term.contains(',') && term.trim() == term)
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

/// A query string being written.
#[derive(Debug, Default)]
pub(super) struct Printer(String);

impl Printer {
    pub(super) fn push(&mut self, name: &str, value: impl Display) {
        self.push_text(name, &value.to_string());
    }

    fn push_text(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(utf8_percent_encode(name, ENCODED));
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, ENCODED));
    }

    pub(super) fn push_some(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    /// Writes a list as `name=a,b`, unless it is empty.
    pub(super) fn push_list<T: Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
        if !items.is_empty() {
            self.push_text(name, &items.join(","));
        }
    }

    /// Writes texts that may contain commas: `name=a` for one, `name[]=a&name[]=b` for several.
    pub(super) fn push_texts(&mut self, name: &str, texts: &[String]) {
        match texts {
            [] => {}
            [text] => self.push_text(name, text),
            texts => {
                let name = format!("{name}[]");
                let encoded = texts.iter().map(|text| name.len() + 6 + text.len());
                self.0.reserve(encoded.sum());
                for text in texts {
                    self.push_text(&name, text);
                }
            }
        }
    }

    /// Returns a copy with capacity for a page's number and size.
    pub(super) fn copy(&self) -> Self {
        let mut copy = String::with_capacity(self.0.len() + 64);
        copy.push_str(&self.0);
        Self(copy)
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Parses a whole number that consists only of digits.
pub(super) fn number<T: FromStr>(parameter: &'static str, text: &str, allowed: &str) -> Result<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .ok_or_else(|| Error::bad_parameter(parameter, format!("is {}; allowed are {allowed}", shown(text))))
}

/// Parses an id: a whole number without leading zeros, so each id has exactly one text.
pub(super) fn id<T: FromStr + Display>(parameter: &'static str, text: &str, allowed: &str) -> Result<T> {
    let allowed = format!("{allowed}; leading zeros are not");
    let id: T = number(parameter, text, &allowed)?;
    if id.to_string() == text {
        return Ok(id);
    }
    Err(Error::bad_parameter(parameter, format!("is {}; allowed are {allowed}", shown(text))))
}

/// Creates the error for a parameter that this listing does not have.
pub(super) fn unknown(name: &str, allowed: &[&str]) -> Error {
    Error::invalid_query(format!("unknown parameter {}; allowed are {}", shown(name), allowed.join(", ")))
        .with_parameter(name.to_owned())
}

/// Checks that one filter's list of terms is within [`limits::FILTER_MAX_TERMS`].
pub(super) fn check_terms(parameter: &'static str, count: usize) -> Result<()> {
    if count <= limits::FILTER_MAX_TERMS {
        return Ok(());
    }
    let limit = limits::FILTER_MAX_TERMS;
    Err(Error::bad_parameter(
        parameter,
        format!("lists {count} terms; the limit is {limit} (FILTER_MAX_TERMS)"),
    ))
}
