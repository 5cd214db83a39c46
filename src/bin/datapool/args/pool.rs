//! The arguments of the commands about pools.

use std::time::Duration;

use clap::Subcommand;
use datapool_store::PoolQuery;

use super::texts;
use crate::consent::Consent;
use crate::settings::{Setting, capacity_or_none, duration, duration_or_none};

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a pool, and the store's file if there is none
    #[command(after_help = texts::POOL_CREATE)]
    Create {
        /// Its name: 3 to 100 characters, unique in the store
        name: String,
        /// The description: up to 255 characters
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The time for which a record is kept: 90d, 12h, 30m, 45s or 500ms
        #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
        retention: Option<Duration>,
        /// The most records that the pool keeps; if there are more, the oldest expire
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        capacity: Option<u64>,
    },
    /// List a page of the pools
    #[command(after_help = texts::POOL_LIST)]
    List {
        /// The HTTP API's query string
        query: Option<PoolQuery>,
    },
    /// Show a pool
    #[command(after_help = texts::POOL_SHOW)]
    Show {
        /// The pool's id or name
        pool: String,
    },
    /// Change a pool; fields that are not named stay as they are
    #[command(after_help = texts::POOL_UPDATE)]
    Update {
        /// The pool's id or name
        pool: String,
        /// Its new name
        #[arg(long)]
        name: Option<String>,
        /// The description; an empty text removes it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The time for which a record is kept: 90d, 12h, 30m, 45s or 500ms; or none: until it is deleted
        #[arg(long, value_name = "DURATION", value_parser = duration_or_none, allow_hyphen_values = true)]
        retention: Option<Setting<Duration>>,
        /// The most records it keeps; or none: any number
        #[arg(long, value_name = "N", value_parser = capacity_or_none, allow_hyphen_values = true)]
        capacity: Option<Setting<u64>>,
    },
    /// Delete a pool with all its records and claims
    #[command(after_help = texts::POOL_DELETE)]
    Delete {
        /// The pool's id or name
        pool: String,
        #[command(flatten)]
        consent: Consent,
    },
}
