//! The long texts of the help: what a command does in detail, and examples.

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

FILE may also be the URL of a PostgreSQL server. Commands about the file itself (compact, vacuum, rebuild-indexes, backup) fail
there. Without FILE it is the one that the environment variable DATAPOOL_FILE names.
POOL is a pool's id or name: digits are an id if there is a pool of that id, and a name otherwise.
Commands that only read may run beside each other, but not while another program has the store open for writing.

Exit code: 0, or 1 with the error on standard error; 2 for wrong usage, 75 if another program has the store open.";

pub(super) const IMPORT: &str = "\
The file has a header with `value` and `entity_type_id`, in any order; other columns are ignored. What is
not UTF-8, empty or too long is a bad row, and so is one with a stray quote. Blank rows are skipped. Importing a
file twice doubles it, unless duplicates are skipped.

Examples:
  datapool pools.redb import orders seen.csv --on-duplicate skip
  zcat seen.csv.gz | datapool pools.redb import orders - --on-bad-row skip --json
  datapool pools.redb import orders sheet.csv --delimiter ';' --value-column Order --entity-type 37
  datapool pools.redb import copy full.csv --full";

pub(super) const EXPORT: &str = "\
Without --full the file has the columns `value,entity_type_id` and imports back to the same set. A file is
replaced when the new one is whole.

Examples:
  datapool pools.redb export orders orders.csv
  datapool pools.redb export orders --flow shop --after 2026-01-01 january.csv
  datapool pools.redb export orders --full | head";

pub(super) const RECORDS: &str = "\
QUERY is the HTTP API's query string: filter[flow_id], filter[flow_run_id], filter[step_id],
filter[entity_type_id], filter[value], filter[created_after], filter[created_before], include, sort, page,
per_page (up to 100) and cursor. Options say the same in its place; of several, all must hold.

Examples:
  datapool pools.redb records orders
  datapool pools.redb records orders --entity-type 37 --entity-type 47 --sort=-created_at --per-page 50
  datapool pools.redb records orders 'filter[entity_type_id]=37,47&sort=-created_at&per_page=50'
  datapool pools.redb records orders --value A-1 --json";

pub(super) const CONTAINS: &str = "\
Values come one a line, as for `dedupe`. Each line of the answer has `present` or `absent`, a tab, and the value;
with --json {\"value\", \"present\", \"first\": the record that was first, or null}. Values that are only claimed
are absent.

Example:
  datapool pools.redb contains orders --entity-type 37 < values.txt";

pub(super) const CLAIMS: &str = "\
A claim holds values for one runner until its work is confirmed. Release a claim if its runner is gone for good
and its lease is long: its values are new again, and the runner, should it go on, cannot confirm them any more.

Examples:
  datapool pools.redb claims orders
  datapool pools.redb claims orders --release 17
  datapool pools.redb claims orders --owner worker-7 --release-all";

pub(super) const DEDUPE: &str = "\
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
  datapool pools.redb dedupe orders --entity-type 37 --json-lines /order/id < new.jsonl > todo.jsonl";

pub(super) const DELETE: &str = "\
It does not ask. `records` with the same filter shows before what will go. Ids that are not there are no error and
do not count.

Examples:
  datapool pools.redb delete orders 17 18
  datapool pools.redb delete orders --value A-1 --entity-type 37
  datapool pools.redb delete orders --run 'run 1'
  datapool pools.redb delete orders --where 'filter[flow_id]=shop&filter[created_before]=2026-01-01'";

pub(super) const CLEAR: &str = "\
It asks first, unless --yes is given. Ids go on where they were, and the pool's time begins anew.

Example:
  datapool pools.redb clear orders";

pub(super) const STATS: &str = "\
Without POOL it shows the store and every pool, of more than 20 pools the ten largest. With --json it has every
pool and every figure, and of the days those that have records.

Examples:
  datapool pools.redb stats
  datapool pools.redb stats orders --json";

pub(super) const PRUNE: &str = "\
The store does so by itself while it is written to. This is for a pool that nobody writes to any more. The space
is free for new records then; `compact` makes the file smaller. Dead records among live ones stay, and so do a few;
`vacuum` removes them all.

Examples:
  datapool pools.redb prune
  datapool pools.redb prune orders";

pub(super) const VERIFY: &str = "\
Exit code 1 if something was found. No other program may have the store open, and the file must be writable:
which of its pages are free is put in order.

Example:
  datapool pools.redb verify";

pub(super) const REBUILD_INDEXES: &str = "\
No other program may have the store open. Exit code 1 if something is left that cannot be made from the records.
Records count as they read now: if `verify` has found one that is damaged, restore a backup.

Example:
  datapool pools.redb rebuild-indexes";

pub(super) const COMPACT: &str = "\
No other program may have the store open. A file that goes on growing is better left as it is.

Example:
  datapool pools.redb compact";

pub(super) const VACUUM: &str = "\
No other program may have the store open. The disk needs room for a second file meanwhile. If it is cut off, the
file is the old one, or the new one.

Example:
  datapool pools.redb vacuum";

pub(super) const COPY: &str = "\
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
  datapool copy postgresql://ann@db.example.org/flows pools.redb --schema shop --json";

pub(super) const BACKUP: &str = "\
Nothing at DEST is replaced. Restoring is using the copy. If the file may be damaged, verify first.

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
QUERY is the HTTP API's query string: filter[id], filter[name], filter[,], include, sort, page and per_page
(up to 100).

Examples:
  datapool pools.redb pool list
  datapool pools.redb pool list 'filter[name]=shop&sort=-created_at&per_page=50' --json";

pub(super) const POOL_SHOW: &str = "\
Example:
  datapool pools.redb pool show orders";

pub(super) const POOL_UPDATE: &str = "\
What a new retention or capacity ends is gone at once, and does not return with a longer or larger one.

Examples:
  datapool pools.redb pool update orders --name 'shop orders' --retention 30d
  datapool pools.redb pool update orders --description '' --capacity none";

pub(super) const POOL_DELETE: &str = "\
It asks first, unless --yes is given.

Example:
  datapool pools.redb pool delete orders";
