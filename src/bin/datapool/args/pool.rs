//! The arguments of the commands about pools.

use std::time::Duration;

use clap::Subcommand;
use datapool_store::PoolQuery;

use super::texts;
use super::values::{page, per_page};
use crate::consent::Consent;
use crate::rehearsal;
use crate::settings::Setting;

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a pool, and the store's file if there is none
    #[command(after_help = texts::POOL_CREATE)]
    Create {
        /// The name: 3 to 100 characters, unique in the store
        #[arg(value_parser = rehearsal::pool_name)]
        name: String,
        /// The description: up to 255 characters
        #[arg(long, value_name = "TEXT", value_parser = rehearsal::description)]
        description: Option<String>,
        /// The time for which a record is kept: 90d, 12h, 30m, 45s or 500ms
        #[arg(long, value_name = "DURATION", value_parser = rehearsal::retention, allow_hyphen_values = true)]
        retention: Option<Duration>,
        /// The most records that the pool keeps; if there are more, the oldest expire
        #[arg(long, value_name = "N", value_parser = rehearsal::capacity, allow_hyphen_values = true)]
        capacity: Option<u64>,
    },
    /// List a page of the pools
    #[command(after_help = texts::POOL_LIST)]
    List {
        /// The HTTP API's query string
        #[arg(conflicts_with_all = ["page", "per_page"])]
        query: Option<PoolQuery>,
        /// The page, from 1
        #[arg(long, value_name = "N", value_parser = page())]
        page: Option<u64>,
        /// The number of pools on a page: 1 to 100
        #[arg(long, value_name = "N", value_parser = per_page())]
        per_page: Option<u32>,
    },
    /// Show a pool
    #[command(after_help = texts::POOL_SHOW)]
    Show {
        /// The pool's id or name
        pool: String,
    },
    /// Change a pool; fields without an option stay as they are
    #[command(after_help = texts::POOL_UPDATE)]
    Update {
        /// The pool's id or name
        pool: String,
        /// The new name
        #[arg(long, value_parser = rehearsal::pool_name)]
        name: Option<String>,
        /// The new description; an empty text removes it
        #[arg(long, value_name = "TEXT", value_parser = rehearsal::description)]
        description: Option<String>,
        /// The time for which a record is kept: 90d, 12h, 30m, 45s or 500ms; none keeps it until it is deleted
        #[arg(long, value_name = "DURATION", value_parser = rehearsal::retention_or_none, allow_hyphen_values = true)]
        retention: Option<Setting<Duration>>,
        /// The most records that the pool keeps; none sets no limit
        #[arg(long, value_name = "N", value_parser = rehearsal::capacity_or_none, allow_hyphen_values = true)]
        capacity: Option<Setting<u64>>,
        #[command(flatten)]
        consent: Consent,
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
