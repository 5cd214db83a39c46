//! The arguments of the commands that move records: from CSV, to CSV, and to another store.

use std::path::PathBuf;

use clap::Args;
use datapool_store::{OnBadRow, OnDuplicate};

use super::origin::OriginArguments;
use super::values::{delimiter, one_of};
use crate::filter::FilterArguments;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The CSV file; - is standard input, which is read to its end before the store is opened
    #[arg(value_name = "IN.csv")]
    pub(crate) input: PathBuf,
    /// The treatment of a value that is in the pool, or occurred earlier in the file: add it as a record of its own, skip
    /// and count it, or fail and add nothing at all
    #[arg(long, value_name = "POLICY", value_parser = one_of(OnDuplicate::ALL, OnDuplicate::as_str), default_value_t)]
    pub(crate) on_duplicate: OnDuplicate,
    /// The treatment of a bad row: fail and add nothing at all, or skip and report it
    #[arg(long, value_name = "POLICY", value_parser = one_of(OnBadRow::ALL, OnBadRow::as_str), default_value_t)]
    pub(crate) on_bad_row: OnBadRow,
    /// The character between fields, or tab
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter, default_value = ",")]
    pub(crate) delimiter: char,
    /// The column with the values
    #[arg(long, value_name = "NAME", default_value = "value")]
    pub(crate) value_column: String,
    /// The column with the entity types
    #[arg(long, value_name = "NAME", default_value = "entity_type_id")]
    pub(crate) entity_type_column: String,
    /// The entity type of all rows, for a file without a column for it
    #[arg(long, value_name = "N", allow_hyphen_values = true, conflicts_with = "entity_type_column")]
    pub(crate) entity_type: Option<u32>,
    /// The file is a full export: also take the origin, time and version of each record from it
    #[arg(long, conflicts_with_all = ["flow", "run", "step"])]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) origin: OriginArguments,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The CSV file; - or nothing is standard output
    #[arg(value_name = "OUT.csv")]
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
    pub(crate) from: PathBuf,
    /// The store to copy to: a file, or the URL of a server; it is made if there is none
    pub(crate) to: PathBuf,
    /// The schema of TO, if it is another one than --schema
    #[arg(long, value_name = "NAME")]
    pub(super) to_schema: Option<String>,
}
