//! The commands, with the arguments of the small ones.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

use super::dedupe::Dedupe;
use super::pool::PoolCommand;
use super::records::{Delete, Records};
use super::texts;
use super::transfer::{Copy, Export, Import};
use crate::claims::Claims;
use crate::consent::Consent;

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
    /// Print for each value of standard input if the pool has it; track none
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
    /// Print the values of standard input that are new, and track them
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
    /// Show statistics of the store and its pools: sizes, records a day, shares, segments
    #[command(after_help = texts::STATS)]
    Stats {
        /// Only this pool: its id or name
        pool: Option<String>,
    },
    /// Give back the space of deleted and expired records, and sweep old claims
    #[command(after_help = texts::PRUNE)]
    Prune {
        /// Only this pool: its id or name
        pool: Option<String>,
    },
    /// Verify the file's checksums, and every index against the records
    #[command(after_help = texts::VERIFY)]
    Verify,
    /// Rebuild every index from the records, if `verify` has found that one is wrong
    #[command(after_help = texts::REBUILD_INDEXES)]
    RebuildIndexes,
    /// Shrink the file as much as possible
    #[command(after_help = texts::COMPACT)]
    Compact,
    /// Erase what is deleted, expired or released: rewrite the file with what is live
    #[command(after_help = texts::VACUUM)]
    Vacuum,
    /// Copy all pools of a store to another one: from a file to a server, back, or between two of a kind
    #[command(after_help = texts::COPY)]
    Copy(Copy),
    /// Write a copy of the store, without free space and dead records, to a new file
    #[command(after_help = texts::BACKUP)]
    Backup {
        /// The new file
        #[arg(value_name = "DEST")]
        destination: PathBuf,
    },
    /// Print what a shell needs to complete commands and options
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
}
