//! Deduplicating the lines of standard input, as one batch.

use std::io;

use datapool_store::{Key, Mode, Record, Verdict, Verdicts};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::Dedupe;
use crate::failure::{self, Failure};
use crate::format::Format;
use crate::lines::{self, Line};
use crate::open::{self, StoreFile};
use crate::output;

/// The answer about one line.
#[derive(Serialize)]
struct Answer<'a> {
    value: Option<&'a str>,
    verdict: &'static str,
    first: Option<&'a Record>,
    /// Only for lines of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a RawValue>,
}

pub(crate) fn run(file: &StoreFile, arguments: &Dedupe, format: Format) -> Result<(), Failure> {
    // Read before opening: others can use the store while this waits for input.
    let input = io::stdin().lock();
    let lines = match arguments.json_items() {
        Some(items) => lines::read_json(input, &items)?,
        None => lines::read_values(input)?,
    };
    let (mode, origin) = (arguments.mode, arguments.origin.origin());
    let values: Vec<&str> = lines.iter().filter_map(Line::value).collect();
    let entity_type = arguments.entity_type;
    let decide = |store: &_| {
        let pool = open::pool(store, file, &arguments.pool)?;
        Ok(match format {
            Format::Json => {
                pool.dedupe_with_first(mode, &values, |value| Key::new(entity_type, *value), &origin)?
            }
            Format::Human => pool.dedupe(mode, &values, |value| Key::new(entity_type, *value), &origin)?,
        })
    };
    let verdicts = match mode {
        Mode::Filter => open::to_read(file, decide)?,
        _ => open::to_write(file, decide)?,
    };
    let printed = match format {
        Format::Json => output::json_lines(answers(&lines, &verdicts, arguments)),
        Format::Human => {
            tell_in_flight(&verdicts, mode);
            let passes = |(index, _): &(Option<usize>, &Line)| match index {
                Some(index) => verdicts.passes(*index),
                None => arguments.passes_without_key(),
            };
            output::values(numbered(&lines).filter(passes).map(|(_, line)| line.text()))
        }
    };
    if printed.is_err() && mode != Mode::Filter {
        let text = output::number_of(verdicts.new_count() as u64, "new value");
        failure::note(&format!("{text} tracked, although the output could not be printed completely"));
    }
    printed
}

/// Returns each line with the index of its verdict, or `None` for a line without a key.
fn numbered(lines: &[Line]) -> impl Iterator<Item = (Option<usize>, &Line)> {
    let mut with_key = 0..;
    lines.iter().map(move |line| (line.value().and_then(|_| with_key.next()), line))
}

fn answers<'a>(
    lines: &'a [Line],
    verdicts: &'a Verdicts,
    arguments: &Dedupe,
) -> impl Iterator<Item = Answer<'a>> {
    let is_json = arguments.json_items().is_some();
    numbered(lines).map(move |(index, line)| Answer {
        value: line.value(),
        verdict: match index.map(|index| verdicts.as_slice().get(index)) {
            None => "no_key",
            Some(Some(Verdict::New)) => "new",
            Some(Some(Verdict::InFlight)) => "in_flight",
            Some(Some(Verdict::Changed { .. })) => "changed",
            Some(_) => "duplicate",
        },
        first: index.and_then(|index| verdicts.first(index)),
        item: is_json.then(|| line.json()).flatten(),
    })
}

/// Prints the number of values in flight. They may soon be new again, so the user must know that they are held back.
fn tell_in_flight(verdicts: &Verdicts, mode: Mode) {
    let in_flight = verdicts.as_slice().iter().filter(|verdict| **verdict == Verdict::InFlight).count();
    if in_flight > 0 && mode != Mode::Track {
        let text = output::number_of(in_flight as u64, "value");
        failure::note(&format!("{text} in flight: claimed by another runner, not passed on"));
    }
}
