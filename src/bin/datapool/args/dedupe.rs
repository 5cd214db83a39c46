//! The arguments of `dedupe`.

use clap::Args;
use datapool_store::{JsonItems, Mode, OnMissingKey};

use super::origin::OriginArguments;
use super::values::{json_pointer, one_of};

#[derive(Debug, Args)]
pub(crate) struct Dedupe {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The entity type of the values; a value is a duplicate only within its entity type
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) entity_type: u32,
    /// filter: print new values, track none; track: print every value, track the new ones; filter-and-track: print new
    /// values and track them
    #[arg(long, value_name = "MODE", value_parser = one_of(Mode::ALL, Mode::as_str), default_value_t = Mode::FilterAndTrack)]
    pub(crate) mode: Mode,
    /// Read each line as JSON, and take the value that this JSON pointer leads to; repeat it for a composite key
    #[arg(long, value_name = "POINTER", value_parser = json_pointer)]
    json_lines: Vec<String>,
    /// For a line of JSON without a key: fail and track nothing at all; pass it on; or drop it, except in the mode track
    #[arg(long, value_name = "POLICY", value_parser = one_of(OnMissingKey::ALL, OnMissingKey::as_str), default_value_t, requires = "json_lines")]
    on_missing_key: OnMissingKey,
    #[command(flatten)]
    pub(crate) origin: OriginArguments,
}

impl Dedupe {
    /// Returns where lines of JSON have their keys, or `None` if lines are values.
    pub(crate) fn json_items(&self) -> Option<JsonItems> {
        let (first, others) = self.json_lines.split_first()?;
        let items = others.iter().fold(JsonItems::new(self.entity_type, first), JsonItems::and_key);
        Some(items.on_missing_key(self.on_missing_key))
    }

    /// Returns true if lines without a key are passed on.
    pub(crate) fn passes_without_key(&self) -> bool {
        self.mode == Mode::Track || self.on_missing_key == OnMissingKey::Pass
    }
}
