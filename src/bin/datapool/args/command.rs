//! The commands, with the arguments of the small ones.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use clap_complete::Shell;
use datapool_store::Error;

use super::dedupe::Dedupe;
use super::pool::PoolCommand;
use super::records::{Delete, Records, Selection};
use super::texts;
use super::transfer::{Copy, Export, Import};
use crate::claims::Claims;
use crate::consent::Consent;
use crate::rehearsal;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, list, show, change and delete data pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Add the rows of a CSV file, all or none, each as a new record
    #[command(after_help = texts::IMPORT)]
    Import(Import),
    /// Write a pool's records, or those that a filter selects, as CSV, oldest first
    #[command(after_help = texts::EXPORT)]
    Export(Export),
    /// List a page of a pool's records
    #[command(after_help = texts::RECORDS)]
    Records(Records),
    /// Check which values of standard input the pool has, and track none
    #[command(after_help = texts::CONTAINS)]
    Contains {
        /// The pool's id or name
        pool: String,
        /// The entity type of the values
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        entity_type: u32,
    },
    /// List the claims of a pool, or release them
    #[command(after_help = texts::CLAIMS)]
    Claims(Claims),
    /// Print the new values of standard input, and track them
    #[command(after_help = texts::DEDUPE)]
    Dedupe(Dedupe),
    /// Delete records by id, value or any filter; their values are new again
    #[command(after_help = texts::DELETE)]
    Delete(Delete),
    /// Delete all records of a pool
    #[command(after_help = texts::CLEAR)]
    Clear {
        /// The pool's id or name
        pool: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Show statistics of the store and its pools: sizes, records per day, shares, segments
    #[command(after_help = texts::STATS)]
    Stats {
        /// Only this pool: its id or name
        pool: Option<String>,
    },
    /// Free the space of deleted and expired records, and remove old claims
    #[command(after_help = texts::PRUNE)]
    Prune {
        /// Only this pool: its id or name
        pool: Option<String>,
    },
    /// Verify the file's checksums, and every index against the records
    #[command(after_help = texts::VERIFY)]
    Verify,
    /// Rebuild every index from the records, after `verify` found a wrong one
    #[command(after_help = texts::REBUILD_INDEXES)]
    RebuildIndexes,
    /// Shrink the file as much as possible
    #[command(after_help = texts::COMPACT)]
    Compact,
    /// Erase deleted, expired and released data: rewrite the file with live data only
    #[command(after_help = texts::VACUUM)]
    Vacuum,
    /// Copy all pools of a store to another store; each is a file or on a server
    #[command(after_help = texts::COPY)]
    Copy(Copy),
    /// Write a copy of the store to a new file, without free space and dead records
    #[command(after_help = texts::BACKUP)]
    Backup {
        /// The new file
        #[arg(value_name = "DEST", value_hint = ValueHint::FilePath)]
        destination: PathBuf,
    },
    /// Print the script with which a shell completes commands and options
    #[command(after_help = texts::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = texts::MAN)]
    Man,
}

impl Command {
    /// Returns true if the command is about the store that FILE names.
    pub(super) fn has_store(&self) -> bool {
        !matches!(self, Self::Copy(_) | Self::Completions { .. } | Self::Man)
    }

    /// Checks the arguments that clap cannot check.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        match self {
            Self::Delete(delete) if !delete.names_records() => Err(Wrong::Missing(
                "no records are named: by ID..., by a filter (--value, --run and so on), or by --where QUERY",
            )),
            Self::Delete(delete) => match delete.selection() {
                Selection::Ids(_) => Ok(()),
                Selection::Filter(filter) => Ok(rehearsal::filter(&filter)?),
            },
            Self::Records(records) => Ok(rehearsal::filter(&records.query().into_filter())?),
            Self::Export(export) => Ok(rehearsal::filter(&export.filter.filter())?),
            Self::Import(import) => Ok(rehearsal::import(&import.options())?),
            _ => Ok(()),
        }
    }
}

/// The reason why arguments are wrong.
#[derive(Debug)]
pub(super) enum Wrong {
    /// An argument is missing. The text says which.
    Missing(&'static str),
    /// No store would accept the value.
    Value(Error),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Value(error)
    }
}
