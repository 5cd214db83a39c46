//! The arguments, and the help that clap makes of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use datapool_store::{
    JsonItems, Mode, OnBadRow, OnDuplicate, OnMissingKey, Origin, PoolQuery, RecordId, RecordQuery,
};

use crate::consent::Consent;
use crate::open::StoreFile;
use crate::output::Format;
use crate::settings::{Setting, capacity_or_none, duration, duration_or_none};
use crate::url;

const EXAMPLES: &str = "\
Examples:
  datapool pools.redb pool create orders --retention 90d
  datapool pools.redb import orders seen.csv --on-duplicate skip
  datapool pools.redb dedupe orders --entity-type 37 < new.txt
  datapool pools.redb records orders 'filter[entity_type_id]=37&sort=-created_at'
  datapool pools.redb stats orders
  datapool --store postgresql://ann@db.example.org/flows pool list
  datapool copy pools.redb postgresql://ann@db.example.org/flows

FILE may also be the URL of a PostgreSQL server. Commands about the file itself (compact, vacuum, backup) fail there.
POOL is a pool's id or name: digits are an id if there is a pool of that id, and a name otherwise.
Commands that only read may run beside each other, but not while another program has the store open for writing.

Exit code: 0, or 1 with the error on standard error; 2 for wrong usage, 75 if another program has the store open.";

/// Inspects and changes a store of data pools: lists records, finds what is new in a list, imports, exports, maintains.
#[derive(Debug, Parser)]
#[command(name = "datapool", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// The store's file, or the URL of its server (postgresql://...); only `pool create` and `copy` make a new store
    file: Option<PathBuf>,
    /// The URL of the store's server, in place of FILE
    #[arg(long, global = true, value_name = "URL", value_parser = server_url)]
    store: Option<String>,
    /// The schema that the store has on a server: datapool, unless another one is named
    #[arg(long, global = true, value_name = "NAME")]
    schema: Option<String>,
    /// The time to wait for a store that another program has open: 30s, 5m
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "0s", hide_default_value = true)]
    wait: Duration,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the program's arguments. Ends it with a message if they make no sense.
    pub(crate) fn read() -> Self {
        let usage = |error: clap::Error| {
            if !error.use_stderr() {
                error.exit();
            }
            let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
            let text = url::hide_in(error.render().to_string(), arguments);
            // If standard error is closed, the message is lost.
            let _ = write!(io::stderr(), "{text}");
            std::process::exit(error.exit_code())
        };
        let arguments = Self::try_parse().unwrap_or_else(usage);
        match arguments.check() {
            Ok(()) => arguments,
            Err((kind, text)) => usage(Self::command().error(kind, text)),
        }
    }

    /// Checks what clap cannot: that exactly one store is named, or two by `copy`, and that a schema is of a server.
    fn check(&self) -> Result<(), (ErrorKind, String)> {
        let is_copy = matches!(self.command, Command::Copy(_));
        match (&self.file, &self.store) {
            (None, None) if !is_copy => {
                let text = "the following required arguments were not provided:\n  <FILE>".to_owned();
                return Err((ErrorKind::MissingRequiredArgument, text));
            }
            (Some(_), None) | (None, Some(_)) if is_copy => {
                let text = "`copy` names both of its stores itself: datapool copy FROM TO".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            (Some(_), Some(_)) => {
                let text = "the store is named twice: by FILE and by --store".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            _ => {}
        }
        let is_server = |place: &PathBuf| url::of_server(place).is_some();
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
            // Failures of `copy` name the store themselves.
            (None, None) => StoreFile::file(Path::new("copy"), self.wait),
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
    /// Write a pool's records as CSV, oldest first
    #[command(after_help = "\
Without --full the file has the columns `value,entity_type_id` and imports back to the same set. A file is
replaced when the new one is whole.

Examples:
  datapool pools.redb export orders orders.csv
  datapool pools.redb export orders --full | head")]
    Export(Export),
    /// List a page of a pool's records
    #[command(after_help = "\
QUERY is the HTTP API's query string: filter[flow_id], filter[flow_run_id], filter[step_id],
filter[entity_type_id], filter[value], filter[created_after], filter[created_before], include, sort, page,
per_page (up to 100) and cursor.

Examples:
  datapool pools.redb records orders
  datapool pools.redb records orders 'filter[entity_type_id]=37,47&sort=-created_at&per_page=50'
  datapool pools.redb records orders 'filter[value]=A-1' --json")]
    Records {
        /// The pool's id or name
        pool: String,
        /// The HTTP API's query string
        query: Option<RecordQuery>,
    },
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
    /// Delete records by id; their values are new again
    #[command(after_help = "\
Ids that are not there are no error and do not count.

Example:
  datapool pools.redb delete orders 17 18")]
    Delete {
        /// The pool's id or name
        pool: String,
        /// The records' ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<RecordId>,
    },
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
    /// Verify the file's checksums, and every index against the records
    #[command(after_help = "\
Exit code 1 if something was found. No other program may have the store open, and the file must be writable:
which of its pages are free is put in order.

Example:
  datapool pools.redb verify")]
    Verify,
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
    #[command(
        override_usage = "datapool copy [OPTIONS] <FROM> <TO>",
        after_help = "\
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
  datapool copy postgresql://ann@db.example.org/flows pools.redb --schema shop --json"
    )]
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
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Create a pool, and the store's file if there is none
    #[command(
        override_usage = "datapool <FILE> pool create [OPTIONS] <NAME>",
        after_help = "\
Example:
  datapool pools.redb pool create orders --description 'Orders of the shop' --retention 90d --capacity 1000000"
    )]
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
    #[command(
        override_usage = "datapool <FILE> pool list [OPTIONS] [QUERY]",
        after_help = "\
QUERY is the HTTP API's query string: filter[id], filter[name], filter[,], include, sort, page and per_page
(up to 100).

Examples:
  datapool pools.redb pool list
  datapool pools.redb pool list 'filter[name]=shop&sort=-created_at&per_page=50' --json"
    )]
    List {
        /// The HTTP API's query string
        query: Option<PoolQuery>,
    },
    /// Show a pool
    #[command(
        override_usage = "datapool <FILE> pool show [OPTIONS] <POOL>",
        after_help = "\
Example:
  datapool pools.redb pool show orders"
    )]
    Show {
        /// The pool's id or name
        pool: String,
    },
    /// Change a pool; fields that are not named stay as they are
    #[command(
        override_usage = "datapool <FILE> pool update [OPTIONS] <POOL>",
        after_help = "\
What a new retention or capacity ends is gone at once, and does not return with a longer or larger one.

Examples:
  datapool pools.redb pool update orders --name 'shop orders' --retention 30d
  datapool pools.redb pool update orders --description '' --capacity none"
    )]
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
    #[command(
        override_usage = "datapool <FILE> pool delete [OPTIONS] <POOL>",
        after_help = "\
It asks first, unless --yes is given.

Example:
  datapool pools.redb pool delete orders"
    )]
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
    /// Also write the id, origin and time of each record
    #[arg(long)]
    pub(crate) full: bool,
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
