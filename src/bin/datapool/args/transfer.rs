//! The arguments of the commands that move records: from CSV, to CSV, and to another store.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use datapool_store::{ImportOptions, OnBadRow, OnDuplicate};

use super::origin::OriginArguments;
use super::values::{delimiter, one_of};
use crate::filter::FilterArguments;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The CSV file; - is standard input, which is read completely before the store is opened
    #[arg(value_name = "IN.csv", value_hint = ValueHint::FilePath)]
    pub(crate) input: PathBuf,
    /// For a value that is in the pool, or occurs earlier in the file: add it as one more record; skip and count it; or fail
    /// and add nothing at all
    #[arg(long, value_name = "POLICY", value_parser = one_of(OnDuplicate::ALL, OnDuplicate::as_str), default_value_t)]
    on_duplicate: OnDuplicate,
    /// For a bad row: fail and add nothing at all, or skip and report it
    #[arg(long, value_name = "POLICY", value_parser = one_of(OnBadRow::ALL, OnBadRow::as_str), default_value_t)]
    on_bad_row: OnBadRow,
    /// The character between fields, or tab
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter, default_value = ",")]
    delimiter: char,
    /// The column with the values
    #[arg(long, value_name = "NAME", default_value = "value")]
    value_column: String,
    /// The column with the entity types
    #[arg(long, value_name = "NAME", default_value = "entity_type_id")]
    entity_type_column: String,
    /// The entity type of all rows, for a file without a column for it
    #[arg(long, value_name = "N", allow_hyphen_values = true, conflicts_with = "entity_type_column")]
    entity_type: Option<u32>,
    /// The file is a full export: also take the origin, time and version of each record from it
    #[arg(long, conflicts_with_all = ["flow", "run", "step"])]
    full: bool,
    #[command(flatten)]
    origin: OriginArguments,
}

impl Import {
    pub(crate) fn options(&self) -> ImportOptions {
        let of_form = if self.full { ImportOptions::full_export() } else { ImportOptions::new() };
        let options = of_form
            .on_duplicate(self.on_duplicate)
            .on_bad_row(self.on_bad_row)
            .delimiter(self.delimiter)
            .value_column(&self.value_column)
            .entity_type_column(&self.entity_type_column)
            .origin(&self.origin.origin());
        match self.entity_type {
            Some(entity_type) => options.entity_type(entity_type),
            None => options,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The CSV file; - or no file is standard output
    #[arg(value_name = "OUT.csv", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Also write the id, origin, version and time of each record
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The store to copy: a file, or the URL of a server
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) from: PathBuf,
    /// The store to copy to: a file, or the URL of a server; it is created if it does not exist
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) to: PathBuf,
    /// The schema of TO, if it differs from --schema
    #[arg(long, value_name = "NAME")]
    pub(super) to_schema: Option<String>,
}
