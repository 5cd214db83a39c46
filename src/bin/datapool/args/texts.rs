//! The long texts of the help: what a command does in detail, and examples.
//!
//! Always holds: lines have at most 80 columns where an example allows it, because clap prints them as they are. Examples are the
//! last paragraph, or the first one of the tool's own text; the manual finds them by their heading.

/// The end of the help of the tool itself.
pub(super) const TOOL: &str = "\
Examples:
  datapool pools.redb pool create orders --retention 90d
  datapool pools.redb import orders seen.csv --on-duplicate skip
  datapool pools.redb dedupe orders --entity-type 37 < new.txt
  datapool pools.redb records orders 'filter[entity_type_id]=37&sort=-created_at'
  datapool pools.redb stats orders
  datapool --store postgresql://ann@db.example.org/flows pool list
  datapool copy pools.redb postgresql://ann@db.example.org/flows

FILE may also be the URL of a PostgreSQL server. compact, vacuum,
rebuild-indexes and backup work on files only. Without FILE, the environment
variable DATAPOOL_FILE names the store.

POOL is a pool's id or name. Digits are an id if a pool has that id, and a name
otherwise.

Commands that only read can run at the same time. They cannot run while another
program has the file open for writing.

Tables escape control characters in values. `dedupe`, `contains` and `export` do
so on a terminal only; elsewhere they print values byte for byte. On a terminal,
tables are as wide as it is; if it has no width, as COLUMNS, else 80.

Exit code: 0, or 1 with the error on standard error; 2 for wrong usage, 75 if
another program has the store open.";

pub(super) const IMPORT: &str = "\
The file has a header with `value` and `entity_type_id`, in any order. Other
columns are ignored. A row is bad if its value is empty, too long or not UTF-8,
or if it has a stray quote. Blank rows are skipped. Importing a file twice
doubles its records, unless duplicates are skipped.

Examples:
  datapool pools.redb import orders seen.csv --on-duplicate skip
  zcat seen.csv.gz | datapool pools.redb import orders - --on-bad-row skip --json
  datapool pools.redb import orders sheet.csv --delimiter ';' --value-column Order --entity-type 37
  datapool pools.redb import copy full.csv --full";

pub(super) const EXPORT: &str = "\
Without --full, the file has the columns `value,entity_type_id` and imports back
to the same set. An existing file is replaced once the new one is complete.

Examples:
  datapool pools.redb export orders orders.csv
  datapool pools.redb export orders --flow shop --after 2026-01-01 january.csv
  datapool pools.redb export orders --full | head";

pub(super) const RECORDS: &str = "\
QUERY is the HTTP API's query string: filter[flow_id], filter[flow_run_id],
filter[step_id], filter[entity_type_id], filter[value], filter[created_after],
filter[created_before], include, sort, page, per_page (up to 100) and cursor.
Options can take its place. Different filters must all match.

Examples:
  datapool pools.redb records orders
  datapool pools.redb records orders --entity-type 37 --entity-type 47 --sort=-created_at --per-page 50
  datapool pools.redb records orders 'filter[entity_type_id]=37,47&sort=-created_at&per_page=50'
  datapool pools.redb records orders --value A-1 --json";

pub(super) const CONTAINS: &str = "\
Standard input has one value per line, as for `dedupe`. Each line of the answer
has `present` or `absent`, a tab, and the value. With --json it is an object:
{\"value\", \"present\", \"first\": the record that was first, or null}. A value
that is only claimed is absent.

Example:
  datapool pools.redb contains orders --entity-type 37 < values.txt";

pub(super) const CLAIMS: &str = "\
A claim holds values for one runner until the runner confirms its work. Release
a claim if its runner is gone for good and its lease is long. Its values are new
again. If the runner does go on, it can no longer confirm them.

Examples:
  datapool pools.redb claims orders
  datapool pools.redb claims orders --release 17
  datapool pools.redb claims orders --owner worker-7 --release-all";

pub(super) const DEDUPE: &str = "\
Standard input has one value per line, up to 1,048,576 of them. They are one
batch, which is one atomic step. Lines end in LF or CRLF. A byte order mark at
the start and blank lines are skipped. All input is read before the store is
opened.

With --json, each value gets an object, in order: {\"value\", \"verdict\": \"new\" |
\"duplicate\" | \"in_flight\", \"first\": the record that was first, or null}. A
value in flight is claimed by another runner, and is not passed on.

With --json-lines, each line is a JSON value, which is passed on as it came. The
JSON pointer (/order/id) leads to its key: a string, a number or a boolean. The
number 17 and the string \"17\" are the same value. Repeat the option for a
composite key, such as [\"A\",17]. Objects of --json also have \"item\", the JSON
of the line. If the line has no key, \"value\" is null and \"verdict\" is
\"no_key\".

Examples:
  datapool pools.redb dedupe orders --entity-type 37 < new.txt
  datapool pools.redb dedupe orders --entity-type 37 --mode filter --json < new.txt
  datapool pools.redb dedupe orders --entity-type 37 --flow shop --run 'run 1' < new.txt > todo.txt
  datapool pools.redb dedupe orders --entity-type 37 --json-lines /order/id < new.jsonl > todo.jsonl
  datapool pools.redb dedupe orders --entity-type 37 --json-lines /shop --json-lines /id < new.jsonl";

pub(super) const DELETE: &str = "\
This command does not ask. To see what it would delete, run `records` with the
same filter first. Unknown ids are no error and do not count.

Examples:
  datapool pools.redb delete orders 17 18
  datapool pools.redb delete orders --value A-1 --entity-type 37
  datapool pools.redb delete orders --run 'run 1'
  datapool pools.redb delete orders --where 'filter[flow_id]=shop&filter[created_before]=2026-01-01'";

pub(super) const CLEAR: &str = "\
The command asks first, unless --yes is given. Later records get higher ids, and
the pool's time is set to the system's clock.

Example:
  datapool pools.redb clear orders";

pub(super) const STATS: &str = "\
Without POOL, the command shows the store and every pool, or the ten largest of
more than 20 pools. With --json, it prints every pool and every figure; days
without records are left out.

Examples:
  datapool pools.redb stats
  datapool pools.redb stats orders --json";

pub(super) const PRUNE: &str = "\
The store does this by itself while it is written to. Use the command for a pool
that is no longer written to. New records use the freed space; `compact` shrinks
the file. Deleted and expired records among live ones stay, and so do a few
others. `vacuum` removes them all.

Examples:
  datapool pools.redb prune
  datapool pools.redb prune orders";

pub(super) const VERIFY: &str = "\
The exit code is 1 if a problem was found. No other program may have the store
open. The file must be writable, because its list of free pages is updated.

Example:
  datapool pools.redb verify";

pub(super) const REBUILD_INDEXES: &str = "\
No other program may have the store open. Afterwards the store is verified. The
exit code is 1 if a problem is left that the records cannot repair, such as a
damaged record: then restore a backup.

Example:
  datapool pools.redb rebuild-indexes";

pub(super) const COMPACT: &str = "\
No other program may have the store open. Do not compact a file that will grow
again: it has to take the space back.

Example:
  datapool pools.redb compact";

pub(super) const VACUUM: &str = "\
No other program may have the store open. The disk needs room for a second file
meanwhile. If the command is interrupted, the file is either the old one or the
new one.

Example:
  datapool pools.redb vacuum";

pub(super) const COPY: &str = "\
The command copies pools with their name, description, retention and capacity;
their live records with entity type, value, origin, version and time, in order;
and registered entity types, flows, flow runs and flow steps. Entries that TO
already has stay as they are. Ids are new. Results and open claims are not
copied, so copy while no runner works.

If the copy is interrupted, repeat the command: it continues where it stopped,
and copies nothing twice. If the copy is finished, and both stores still have
the same pools and records, it says so and copies nothing.

A pool with records from the future, because the clock was once ahead, cannot be
copied before that time; `backup` can copy its whole store.

Until a pool is finished, its description in TO says so, and it has no retention
or capacity. Nobody else may write to it. Meanwhile TO keeps notes about the
copy: flow runs whose ids begin with `datapool copy`. A pool that TO already has
is refused, unless this copy began it.

Examples:
  datapool copy pools.redb postgresql://ann@db.example.org/flows
  datapool copy postgresql://ann@db.example.org/flows pools.redb --schema shop --json";

pub(super) const BACKUP: &str = "\
DEST must not exist. To restore, use the copy as the store. If the file may be
damaged, run `verify` first.

Example:
  datapool pools.redb backup pools-monday.redb";

pub(super) const COMPLETIONS: &str = "\
Example:
  datapool completions bash > ~/.local/share/bash-completion/completions/datapool";

pub(super) const MAN: &str = "\
Example:
  datapool man > ~/.local/share/man/man1/datapool.1";

pub(super) const POOL_CREATE: &str = "\
Example:
  datapool pools.redb pool create orders --description 'Orders of the shop' --retention 90d --capacity 1000000";

pub(super) const POOL_LIST: &str = "\
QUERY is the HTTP API's query string: filter[id], filter[name], filter[,],
include, sort, page and per_page (up to 100).

Examples:
  datapool pools.redb pool list
  datapool pools.redb pool list --page 2 --per-page 50
  datapool pools.redb pool list 'filter[name]=shop&sort=-created_at&per_page=50' --json";

pub(super) const POOL_SHOW: &str = "\
Example:
  datapool pools.redb pool show orders";

pub(super) const POOL_UPDATE: &str = "\
A shorter retention or a smaller capacity expires records at once. A longer or
larger one does not bring them back. The command asks before it expires records,
unless --yes is given.

Examples:
  datapool pools.redb pool update orders --name 'shop orders' --retention 30d
  datapool pools.redb pool update orders --description '' --capacity none";

pub(super) const POOL_DELETE: &str = "\
The command asks first, unless --yes is given.

Example:
  datapool pools.redb pool delete orders";
