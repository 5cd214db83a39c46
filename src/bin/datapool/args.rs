//! The arguments, and the help that clap makes of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use datapool_store::{
    JsonItems, Mode, OnBadRow, OnDuplicate, OnMissingKey, Origin, PoolQuery, RecordFilter, RecordId,
    RecordQuery, RecordSort,
};

use crate::claims::Claims;
use crate::consent::Consent;
use crate::failure;
use crate::filter::{self, FilterArguments};
use crate::format::Format;
use crate::open::StoreFile;
use crate::settings::{Setting, capacity_or_none, duration, duration_or_none};
use crate::url;

/// The environment variable that names the store if no argument does.
const FILE_VARIABLE: &str = "DATAPOOL_FILE";

const EXAMPLES: &str = "\
Examples:
  datapool pools.redb pool create orders --retention 90d
  datapool pools.redb import orders seen.csv --on-duplicate skip
  datapool pools.redb dedupe orders --entity-type 37 < new.txt
  datapool pools.redb records orders 'filter[entity_type_id]=37&sort=-created_at'
  datapool pools.redb stats orders
  datapool --store postgresql://ann@db.example.org/flows pool list
  datapool copy pools.redb postgresql://ann@db.example.org/flows

FILE may also be the URL of a PostgreSQL server. Commands about the file itself (compact, vacuum, rebuild-indexes, backup) fail
there. Without FILE it is the one that the environment variable DATAPOOL_FILE names.
POOL is a pool's id or name: digits are an id if there is a pool of that id, and a name otherwise.
Commands that only read may run beside each other, but not while another program has the store open for writing.

Exit code: 0, or 1 with the error on standard error; 2 for wrong usage, 75 if another program has the store open.";

/// Inspects and changes a store of data pools: lists records, finds what is new in a list, imports, exports, maintains.
#[derive(Debug, Parser)]
#[command(name = "datapool", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// The store's file, or the URL of its server (postgresql://...); default: what `DATAPOOL_FILE` names
    file: Option<PathBuf>,
    /// The URL of the store's server, in place of FILE
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "URL", value_parser = server_url)]
    store: Option<String>,
    /// The schema that the store has on a server: datapool, unless another one is named
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "NAME")]
    schema: Option<String>,
    /// The time to wait for a store that another program has open: 30s, 5m
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "DURATION", value_parser = duration, default_value = "0s", hide_default_value = true)]
    wait: Duration,
    /// Print JSON for programs instead of tables for people; errors, too
    #[arg(long, global = true, help_heading = "Options of all commands")]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the program's arguments. Ends it with a message if they make no sense.
    pub(crate) fn read() -> Self {
        let whole = Self::whole_command();
        let found = whole.clone().try_get_matches().unwrap_or_else(|error| end(&error));
        let command = found.subcommand_name().and_then(|name| whole.find_subcommand(name)).unwrap_or(&whole);
        let mut arguments = Self::from_arg_matches(&found).unwrap_or_else(|error| end(&error));
        if arguments.file.is_none() && arguments.store.is_none() && arguments.command.has_store() {
            arguments.file =
                std::env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        }
        match arguments.check() {
            Ok(()) => arguments,
            Err((kind, text)) => end(&command.clone().error(kind, text)),
        }
    }

    /// Returns the tool with all its commands, whose usage names FILE.
    pub(crate) fn whole_command() -> clap::Command {
        let mut whole = Self::command();
        whole.build();
        name_file(whole)
    }

    /// Checks what clap cannot: that exactly one store is named, or two by `copy`, and that a schema is of a server.
    fn check(&self) -> Result<(), (ErrorKind, String)> {
        match (&self.file, &self.store) {
            (None, None) if self.command.has_store() => {
                let text = format!(
                    "the following required arguments were not provided:\n  <FILE>, which {FILE_VARIABLE} can name, too"
                );
                return Err((ErrorKind::MissingRequiredArgument, text));
            }
            (Some(_), None) | (None, Some(_)) if matches!(self.command, Command::Copy(_)) => {
                let text = "`copy` names both of its stores itself: datapool copy FROM TO".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            (Some(_), None) | (None, Some(_)) if !self.command.has_store() => {
                let text = "this command is about no store: leave FILE and --store out".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            (Some(_), Some(_)) => {
                let text = "the store is named twice: by FILE and by --store".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            _ => {}
        }
        if let Command::Delete(delete) = &self.command
            && !delete.names_records()
        {
            let text =
                "no records are named: by ID..., by a filter (--value, --run and so on), or by --where QUERY";
            return Err((ErrorKind::MissingRequiredArgument, text.to_owned()));
        }
        let is_server = |place: &PathBuf| url::of_server(place).is_some();
        let places = match &self.command {
            Command::Copy(Copy { from, to, .. }) => vec![from, to],
            _ => self.file.iter().collect(),
        };
        if places.into_iter().any(|place| url::is_misspelled(place)) {
            let text = "the store is neither a file nor the URL of a server, which begins with postgresql:// or postgres://";
            return Err((ErrorKind::InvalidValue, text.to_owned()));
        }
        let (has_server, to_is_server) = if let Command::Copy(Copy { from, to, .. }) = &self.command {
            (is_server(from) || is_server(to), is_server(to))
        } else {
            (self.store.is_some() || self.file.as_ref().is_some_and(is_server), false)
        };
        let to_schema = matches!(&self.command, Command::Copy(Copy { to_schema: Some(_), .. }));
        if (self.schema.is_some() && !has_server) || (to_schema && !to_is_server) {
            let text = "a schema can be named only for a store on a server".to_owned();
            return Err((ErrorKind::ArgumentConflict, text));
        }
        Ok(())
    }

    /// Returns the store that the command is about. `copy` has two.
    pub(crate) fn store_file(&self) -> StoreFile {
        match (&self.store, &self.file) {
            (Some(url), _) => StoreFile::server(url, self.schema.as_deref()),
            (None, Some(file)) => self.place(file, None),
            // Commands without a store of their own: `copy` names its stores in messages itself.
            (None, None) => StoreFile::file(Path::new("datapool"), self.wait),
        }
    }

    /// Returns the stores from which and to which `copy` copies.
    pub(crate) fn stores_of(&self, copy: &Copy) -> (StoreFile, StoreFile) {
        (self.place(&copy.from, None), self.place(&copy.to, copy.to_schema.as_deref()))
    }

    fn place(&self, name: &Path, schema: Option<&str>) -> StoreFile {
        match url::of_server(name) {
            Some(url) => StoreFile::server(url, schema.or(self.schema.as_deref())),
            None => StoreFile::file(name, self.wait),
        }
    }

    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }
}

/// Ends the program with the message of wrong usage, or with the help that was asked for.
fn end(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let arguments = || std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let text = url::hide_in(error.render().to_string(), arguments());
    if arguments().any(|argument| argument == "--json") {
        failure::tell_json("Usage", text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    } else {
        // If standard error is closed, the message is lost.
        let _ = write!(io::stderr(), "{text}");
    }
    std::process::exit(error.exit_code())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, list, show, change and delete data pools
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Add the rows of a CSV file, all or none, each as a new record
    #[command(after_help = "\
The file has a header with `value` and `entity_type_id`, in any order; other columns are ignored. What is
not UTF-8, empty or too long is a bad row, and so is one with a stray quote. Blank rows are skipped. Importing a
file twice doubles it, unless duplicates are skipped.

Examples:
  datapool pools.redb import orders seen.csv --on-duplicate skip
  zcat seen.csv.gz | datapool pools.redb import orders - --on-bad-row skip --json
  datapool pools.redb import orders sheet.csv --delimiter ';' --value-column Order --entity-type 37
  datapool pools.redb import copy full.csv --full")]
    Import(Import),
    /// Write a pool's records, or those that a filter selects, as CSV, oldest first
    #[command(after_help = "\
Without --full the file has the columns `value,entity_type_id` and imports back to the same set. A file is
replaced when the new one is whole.

Examples:
  datapool pools.redb export orders orders.csv
  datapool pools.redb export orders --flow shop --after 2026-01-01 january.csv
  datapool pools.redb export orders --full | head")]
    Export(Export),
    /// List a page of a pool's records
    #[command(after_help = "\
QUERY is the HTTP API's query string: filter[flow_id], filter[flow_run_id], filter[step_id],
filter[entity_type_id], filter[value], filter[created_after], filter[created_before], include, sort, page,
per_page (up to 100) and cursor. Options say the same in its place; of several, all must hold.

Examples:
  datapool pools.redb records orders
  datapool pools.redb records orders --entity-type 37 --entity-type 47 --sort=-created_at --per-page 50
  datapool pools.redb records orders 'filter[entity_type_id]=37,47&sort=-created_at&per_page=50'
  datapool pools.redb records orders --value A-1 --json")]
    Records(Records),
    /// Print for each value of standard input if the pool has it; track none
    #[command(after_help = "\
Values come one a line, as for `dedupe`. Each line of the answer has `present` or `absent`, a tab, and the value;
with --json {\"value\", \"present\", \"first\": the record that was first, or null}. Values that are only claimed
are absent.

Example:
  datapool pools.redb contains orders --entity-type 37 < values.txt")]
    Contains {
        /// The pool's id or name
        pool: String,
        /// The entity type of the values
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        entity_type: u32,
    },
    /// List the claims of a pool, or release them
    #[command(after_help = "\
A claim holds values for one runner until its work is confirmed. Release a claim if its runner is gone for good
and its lease is long: its values are new again, and the runner, should it go on, cannot confirm them any more.

Examples:
  datapool pools.redb claims orders
  datapool pools.redb claims orders --release 17
  datapool pools.redb claims orders --owner worker-7 --release-all")]
    Claims(Claims),
    /// Print the values of standard input that are new, and track them
    #[command(after_help = "\
Values come one a line, which ends in LF or CRLF, up to 1,048,576 of them, and are one batch: one atomic
step. A byte order mark at the start and blank lines are skipped. All is read before the store is opened.
With --json there is an object for every value, in order: {\"value\", \"verdict\": \"new\" | \"duplicate\" |
\"in_flight\", \"first\": the record that was first, or null}. In flight is what another runner has claimed: it is
not passed on.

With --json-lines each line is a JSON value, which is passed on as it came. A JSON pointer (/order/id) leads to its
key: a string, a number or a boolean. The number 17 and the string \"17\" are the same value. Several pointers make
a composite key, [\"A\",17]. Objects of --json then have \"item\", the line's JSON, too; without a key, their value
is null and their verdict \"no_key\".

Examples:
  datapool pools.redb dedupe orders --entity-type 37 < new.txt
  datapool pools.redb dedupe orders --entity-type 37 --mode filter --json < new.txt
  datapool pools.redb dedupe orders --entity-type 37 --flow shop --run 'run 1' < new.txt > todo.txt
  datapool pools.redb dedupe orders --entity-type 37 --json-lines /order/id < new.jsonl > todo.jsonl")]
    Dedupe(Dedupe),
    /// Delete records by id, value or any filter; their values are new again
    #[command(after_help = "\
It does not ask. `records` with the same filter shows before what will go. Ids that are not there are no error and
do not count.

Examples:
  datapool pools.redb delete orders 17 18
  datapool pools.redb delete orders --value A-1 --entity-type 37
  datapool pools.redb delete orders --run 'run 1'
  datapool pools.redb delete orders --where 'filter[flow_id]=shop&filter[created_before]=2026-01-01'")]
    Delete(Delete),
    /// Delete all records of a pool
    #[command(after_help = "\
It asks first, unless --yes is given. Ids go on where they were, and the pool's time begins anew.

Example:
  datapool pools.redb clear orders")]
    Clear {
        /// The pool's id or name
        pool: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Show statistics of the store and its pools: sizes, records a day, shares, segments
    #[command(after_help = "\
Without POOL it shows the store and every pool, of more than 20 pools the ten largest. With --json it has every
pool and every figure, and of the days those that have records.

Examples:
  datapool pools.redb stats
  datapool pools.redb stats orders --json")]
    Stats {
        /// Only this pool: its id or name
        pool: Option<String>,
    },
    /// Give back the space of deleted and expired records, and sweep old claims
    #[command(after_help = "\
The store does so by itself while it is written to. This is for a pool that nobody writes to any more. The space
is free for new records then; `compact` makes the file smaller. Dead records among live ones stay, and so do a few;
`vacuum` removes them all.

Examples:
  datapool pools.redb prune
  datapool pools.redb prune orders")]
    Prune {
        /// Only this pool: its id or name
        pool: Option<String>,
    },
    /// Verify the file's checksums, and every index against the records
    #[command(after_help = "\
Exit code 1 if something was found. No other program may have the store open, and the file must be writable:
which of its pages are free is put in order.

Example:
  datapool pools.redb verify")]
    Verify,
    /// Rebuild every index from the records, if `verify` has found that one is wrong
    #[command(after_help = "\
No other program may have the store open. Exit code 1 if something is left that cannot be made from the records.
Records count as they read now: if `verify` has found one that is damaged, restore a backup.

Example:
  datapool pools.redb rebuild-indexes")]
    RebuildIndexes,
    /// Shrink the file as much as possible
    #[command(after_help = "\
No other program may have the store open. A file that goes on growing is better left as it is.

Example:
  datapool pools.redb compact")]
    Compact,
    /// Erase what is deleted, expired or released: rewrite the file with what is live
    #[command(after_help = "\
No other program may have the store open. The disk needs room for a second file meanwhile. If it is cut off, the
file is the old one, or the new one.

Example:
  datapool pools.redb vacuum")]
    Vacuum,
    /// Copy all pools of a store to another one: from a file to a server, back, or between two of a kind
    #[command(after_help = "\
Copied are pools with their name, description, retention and capacity; their live records with entity type,
value, origin, version and time, in order; and what is registered: entity types, flows, runs and steps. What TO
has registered already stays as it is. Ids are new. Results and open claims are not copied, so copy while no
runner works.

If it is interrupted, the same command goes on where it stopped, and copies nothing twice. Until it is done, TO
keeps notes of it: flow runs whose ids begin with `datapool copy`. Nobody else may write to the new pools
meanwhile, and they have no retention or capacity yet. A pool whose name TO has already is refused, unless this
copy began it.

Examples:
  datapool copy pools.redb postgresql://ann@db.example.org/flows
  datapool copy postgresql://ann@db.example.org/flows pools.redb --schema shop --json")]
    Copy(Copy),
    /// Write a copy of the store, without free space and dead records, to a new file
    #[command(after_help = "\
Nothing at DEST is replaced. Restoring is using the copy. If the file may be damaged, verify first.

Example:
  datapool pools.redb backup pools-monday.redb")]
    Backup {
        /// The new file
        #[arg(value_name = "DEST")]
        destination: PathBuf,
    },
    /// Print what a shell needs to complete commands and options
    #[command(after_help = "\
Example:
  datapool completions bash > ~/.local/share/bash-completion/completions/datapool")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(after_help = "\
Example:
  datapool man > ~/.local/share/man/man1/datapool.1")]
    Man,
}

impl Command {
    /// Returns true if the command is about the store that FILE names.
    fn has_store(&self) -> bool {
        !matches!(self, Self::Copy(_) | Self::Completions { .. } | Self::Man)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a pool, and the store's file if there is none
    #[command(after_help = "\
Example:
  datapool pools.redb pool create orders --description 'Orders of the shop' --retention 90d --capacity 1000000")]
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
    #[command(after_help = "\
QUERY is the HTTP API's query string: filter[id], filter[name], filter[,], include, sort, page and per_page
(up to 100).

Examples:
  datapool pools.redb pool list
  datapool pools.redb pool list 'filter[name]=shop&sort=-created_at&per_page=50' --json")]
    List {
        /// The HTTP API's query string
        query: Option<PoolQuery>,
    },
    /// Show a pool
    #[command(after_help = "\
Example:
  datapool pools.redb pool show orders")]
    Show {
        /// The pool's id or name
        pool: String,
    },
    /// Change a pool; fields that are not named stay as they are
    #[command(after_help = "\
What a new retention or capacity ends is gone at once, and does not return with a longer or larger one.

Examples:
  datapool pools.redb pool update orders --name 'shop orders' --retention 30d
  datapool pools.redb pool update orders --description '' --capacity none")]
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
    #[command(after_help = "\
It asks first, unless --yes is given.

Example:
  datapool pools.redb pool delete orders")]
    Delete {
        /// The pool's id or name
        pool: String,
        #[command(flatten)]
        consent: Consent,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The store to copy: a file, or the URL of a server
    pub(crate) from: PathBuf,
    /// The store to copy to: a file, or the URL of a server; it is made if there is none
    pub(crate) to: PathBuf,
    /// The schema of TO, if it is another one than --schema
    #[arg(long, value_name = "NAME")]
    to_schema: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Records {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The HTTP API's query string
    #[arg(conflicts_with_all = filter::OPTIONS, conflicts_with_all = ["sort", "page", "per_page"])]
    query: Option<RecordQuery>,
    /// The order
    #[arg(long, value_name = "ORDER", value_parser = one_of(RecordSort::ALL, RecordSort::as_str), allow_hyphen_values = true)]
    sort: Option<RecordSort>,
    /// The page, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    page: Option<u64>,
    /// The number of records on a page: 1 to 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    per_page: Option<u32>,
    #[command(flatten)]
    filter: FilterArguments,
}

impl Records {
    pub(crate) fn query(&self) -> RecordQuery {
        if let Some(query) = &self.query {
            return query.clone();
        }
        let mut query = RecordQuery::new().filter(self.filter.filter()).sort(self.sort.unwrap_or_default());
        if let Some(page) = self.page {
            query = query.page(page);
        }
        if let Some(per_page) = self.per_page {
            query = query.per_page(per_page);
        }
        query
    }
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The records' ids
    #[arg(value_name = "ID", conflicts_with = "where", conflicts_with_all = filter::OPTIONS)]
    ids: Vec<RecordId>,
    /// The filter as in the HTTP API's query string
    #[arg(id = "where", long, value_name = "QUERY", value_parser = filter_of_query, conflicts_with_all = filter::OPTIONS)]
    query: Option<RecordFilter>,
    #[command(flatten)]
    filter: FilterArguments,
}

/// The records to delete.
pub(crate) enum Selection<'a> {
    Ids(&'a [RecordId]),
    Filter(RecordFilter),
}

impl Delete {
    fn names_records(&self) -> bool {
        match self.selection() {
            Selection::Ids(ids) => !ids.is_empty(),
            Selection::Filter(filter) => filter != RecordFilter::new(),
        }
    }

    pub(crate) fn selection(&self) -> Selection<'_> {
        match &self.query {
            _ if !self.ids.is_empty() => Selection::Ids(&self.ids),
            Some(filter) => Selection::Filter(filter.clone()),
            None => Selection::Filter(self.filter.filter()),
        }
    }
}

/// Reads a query string that has filters and nothing else.
fn filter_of_query(text: &str) -> Result<RecordFilter, String> {
    let query: RecordQuery = text.parse().map_err(|error: datapool_store::Error| error.to_string())?;
    let filter = query.clone().into_filter();
    if filter == RecordFilter::new() {
        return Err("it names no records; to delete all, use `clear`".to_owned());
    }
    if RecordQuery::new().filter(filter.clone()) != query {
        return Err("allowed are filters only: filter[flow_id], filter[value] and so on".to_owned());
    }
    Ok(filter)
}

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

/// The origin of records.
#[derive(Debug, Args)]
pub(crate) struct OriginArguments {
    /// The flow of all records
    #[arg(long, value_name = "F")]
    flow: Option<String>,
    /// The flow run of all records
    #[arg(long, value_name = "R")]
    run: Option<String>,
    /// The flow step of all records
    #[arg(long, value_name = "S")]
    step: Option<String>,
}

impl OriginArguments {
    pub(crate) fn origin(&self) -> Origin {
        let mut origin = Origin::none();
        if let Some(flow) = &self.flow {
            origin = origin.with_flow(flow);
        }
        if let Some(run) = &self.run {
            origin = origin.with_run(run);
        }
        if let Some(step) = &self.step {
            origin = origin.with_step(step);
        }
        origin
    }
}

/// Puts FILE into the usage of the commands that have a store: to clap it is an argument of the tool alone.
fn name_file(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|mut command| {
        if ["copy", "completions", "man"].contains(&command.get_name()) {
            return command;
        }
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replacen("datapool ", "datapool [FILE] ", 1);
        name_file(command.override_usage(usage))
    })
}

fn server_url(text: &str) -> Result<String, String> {
    match url::of_server(Path::new(text)) {
        Some(url) => Ok(url.to_owned()),
        None => Err("the URL of a server begins with postgresql:// or postgres://".to_owned()),
    }
}

/// Reads one character, or the name of one that is hard to type.
fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(only), None) => Ok(only),
        _ => Err("allowed are one character, and tab".to_owned()),
    }
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
pub(crate) struct Dedupe {
    /// The pool's id or name
    pub(crate) pool: String,
    /// The entity type of the values; a value is a duplicate only within its entity type
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) entity_type: u32,
    /// The mode: pass on new values and track nothing, pass on every value and track the new ones, or pass on new values
    /// and track them
    #[arg(long, value_name = "MODE", value_parser = one_of(Mode::ALL, Mode::as_str), default_value_t = Mode::FilterAndTrack)]
    pub(crate) mode: Mode,
    /// Read each line as JSON, and take its value from where this JSON pointer leads; several make a composite key
    #[arg(long, value_name = "POINTER", num_args = 1.., value_parser = json_pointer)]
    json_lines: Vec<String>,
    /// The treatment of a line of JSON without a key: fail, and track nothing at all; pass it on; or drop it, except in the mode
    /// track
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

fn json_pointer(text: &str) -> Result<String, datapool_store::Error> {
    // It checks the pointer first.
    JsonItems::new(0, text).on_missing_key(OnMissingKey::Pass).key_of("null")?;
    Ok(text.to_owned())
}

/// Reads one of the library's choices, and lists them in the help.
fn one_of<T, const N: usize>(choices: [T; N], word: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = datapool_store::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(choices.map(word)).try_map(|word| word.parse::<T>())
}
