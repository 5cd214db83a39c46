//! The SQL of a listing, and the ways to write it that an engineer would try.
//!
//! Owns: [`Way`]: how the matches are found, counted and paged. Always holds: every way gives the same
//! answer. The fastest one depends on the filter and on the data, so all of them are tried for each row.

use std::fmt;

use rusqlite::types::Value;

use crate::query::{Filter, Include, Listing};

/// The form of the conditions on times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// Comparisons of `created_at`.
    Compared,
    /// Bounds of the id, because ids are in time order and every index contains them.
    AsIds,
}

/// The path to the matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// The planner's choice, based on its statistics.
    Planned,
    /// The table itself in id order: nothing to sort, and the search ends after a page.
    TableOrder,
}

/// The access to the matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    times: Times,
    path: Path,
}

/// The reading of a page's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// Together with the search.
    Along,
    /// After the search. If an index covers the search, skipped rows are never read, and only ids are sorted.
    IdsFirst,
}

/// A way to answer a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Two statements.
    CountAndPage {
        /// The access for counting the total.
        count: Access,
        /// The access for finding the page.
        page: Access,
        /// The reading of its rows.
        fetch: Fetch,
    },
    /// One statement for the ids of all matches. The program counts them, selects those of the page, and
    /// reads its rows.
    Gather(Access),
}

/// SQL and its bound parameters.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(super) sql: String,
    pub(super) parameters: Vec<Value>,
}

/// A listing in the SQL of one way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) include: Include,
    pub(super) statements: Statements,
}

#[derive(Debug)]
pub(super) enum Statements {
    CountAndPage {
        count: Statement,
        page: Statement,
    },
    Gather {
        ids: Statement,
        /// A statement with as many parameters for ids as the page has.
        rows: String,
        skip: usize,
        per_page: usize,
    },
}

impl Access {
    /// Returns all accesses that differ for a filter.
    pub(super) fn all(filter: &Filter) -> Vec<Self> {
        let has_times = filter.after.is_some() || filter.before.is_some();
        let times: &[Times] = if has_times { &[Times::AsIds, Times::Compared] } else { &[Times::Compared] };
        let paths = [Path::Planned, Path::TableOrder];
        paths
            .into_iter()
            .flat_map(|path| times.iter().map(move |times| Self { times: *times, path }))
            .collect()
    }

    fn table(self) -> &'static str {
        match self.path {
            Path::Planned => "record",
            Path::TableOrder => "record NOT INDEXED",
        }
    }

    /// `SELECT <what> FROM record WHERE <filter>`.
    fn select(self, what: &str, joins: &str, filter: &Filter) -> Statement {
        let sql = format!("SELECT {what} FROM {}{joins} WHERE record.pool = 1", self.table());
        let mut statement = Statement { sql, parameters: Vec::new() };
        statement.any_of("record.entity_type", filter.entity_types.iter().copied());
        statement.any_of("record.flow", filter.flows.iter().cloned());
        statement.any_of("record.run", filter.runs.iter().cloned());
        statement.any_of("record.step", filter.steps.iter().cloned());
        statement.any_of("record.value", filter.values.iter().cloned());
        statement.times(filter, self.times);
        statement
    }

    pub(super) fn count(self, filter: &Filter) -> Statement {
        self.select("count(*)", "", filter)
    }

    pub(super) fn page(self, fetch: Fetch, listing: &Listing) -> Statement {
        let include = listing.include;
        let mut statement = match fetch {
            Fetch::Along => self.select(include.columns(), include.joins(), &listing.filter),
            Fetch::IdsFirst => self.select("record.id", "", &listing.filter),
        };
        statement.push(" ORDER BY record.id LIMIT ? OFFSET ?", listing.per_page);
        statement.push("", listing.skip().cast_signed());
        if fetch == Fetch::IdsFirst {
            statement.sql = include.by_ids(&statement.sql);
        }
        statement
    }

    pub(super) fn ids(self, filter: &Filter) -> Statement {
        self.select("record.id", "", filter)
    }
}

impl Statement {
    fn push(&mut self, sql: &str, parameter: impl Into<Value>) {
        self.sql.push_str(sql);
        self.parameters.push(parameter.into());
    }

    fn any_of(&mut self, column: &str, terms: impl ExactSizeIterator<Item = impl Into<Value>>) {
        let condition = match terms.len() {
            0 => return,
            1 => format!(" AND {column} = ?"),
            count => format!(" AND {column} IN ({})", placeholders(count)),
        };
        self.sql.push_str(&condition);
        self.parameters.extend(terms.map(Into::into));
    }

    fn times(&mut self, filter: &Filter, times: Times) {
        let (after, before) = match times {
            Times::Compared => (" AND record.created_at > ?", " AND record.created_at < ?"),
            // Each is one search in the index on times. If there is no such record, the bound includes all
            // ids.
            Times::AsIds => (
                " AND record.id > coalesce((SELECT id FROM record WHERE pool = 1 AND created_at <= ? \
                 ORDER BY created_at DESC, id DESC LIMIT 1), 0)",
                " AND record.id < coalesce((SELECT id FROM record WHERE pool = 1 AND created_at >= ? \
                 ORDER BY created_at, id LIMIT 1), 9223372036854775807)",
            ),
        };
        filter.after.iter().for_each(|time| self.push(after, time.as_micros()));
        filter.before.iter().for_each(|time| self.push(before, time.as_micros()));
    }
}

/// The columns that are read for each record of a page.
impl Include {
    fn columns(self) -> &'static str {
        match self {
            Self::Nothing => {
                "record.id, record.pool, record.entity_type, record.value, record.flow, record.run, record.step, \
                 record.created_at"
            }
            Self::All => {
                "record.id, record.pool, record.entity_type, record.value, record.flow, record.run, record.step, \
                 record.created_at, pool.id, pool.name, pool.description, pool.created_at, pool.updated_at, \
                 entity_type.id, entity_type.name, entity_type.attributes, flow.id, flow.name, flow.attributes, \
                 flow_run.id, flow_run.name, flow_run.attributes, flow_step.id, flow_step.name, \
                 flow_step.attributes"
            }
        }
    }

    fn joins(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::All => {
                " LEFT JOIN pool ON pool.id = record.pool \
                 LEFT JOIN entity_type ON entity_type.id = record.entity_type \
                 LEFT JOIN flow ON flow.id = record.flow \
                 LEFT JOIN flow_run ON flow_run.id = record.run \
                 LEFT JOIN flow_step ON flow_step.id = record.step"
            }
        }
    }

    /// Returns a query for the rows with some ids, given as a list or a subquery.
    fn by_ids(self, ids: &str) -> String {
        let (columns, joins) = (self.columns(), self.joins());
        format!("SELECT {columns} FROM record{joins} WHERE record.id IN ({ids}) ORDER BY record.id")
    }
}

impl Way {
    /// Returns the listing in the SQL of this way.
    pub(crate) fn ask(self, listing: &Listing) -> Asked {
        let statements = match self {
            Self::CountAndPage { count, page, fetch } => Statements::CountAndPage {
                count: count.count(&listing.filter),
                page: page.page(fetch, listing),
            },
            Self::Gather(access) => {
                let per_page = listing.per_page as usize;
                Statements::Gather {
                    ids: access.ids(&listing.filter),
                    rows: listing.include.by_ids(&placeholders(per_page)),
                    skip: usize::try_from(listing.skip()).unwrap_or(usize::MAX),
                    per_page,
                }
            }
        };
        Asked { include: listing.include, statements }
    }
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.path {
            Path::Planned => "as planned",
            Path::TableOrder => "over the table",
        })?;
        match self.times {
            Times::Compared => Ok(()),
            Times::AsIds => f.write_str(", times as ids"),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CountAndPage { count, page, fetch } => {
                let fetch = match fetch {
                    Fetch::Along => "",
                    Fetch::IdsFirst => ", ids first",
                };
                write!(f, "count {count}; page {page}{fetch}")
            }
            Self::Gather(access) => write!(f, "the program gathers all ids {access}"),
        }
    }
}
