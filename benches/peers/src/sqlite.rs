//! SQLite, used for listings as an experienced engineer would.
//!
//! Owns: the connection, and the reading of its answers. [`load`] creates the files, and [`ways`] has the
//! SQL. Always holds: durability and cache are the same as the store's (WAL, FULL, 256 MiB, no memory map).
//! Statements are prepared once and kept.

mod load;
mod ways;

use std::path::Path;

use datapool_store::StoreOptions;
use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use crate::Result;
use crate::answer::{Included, Page, PoolRow, Row};
use crate::data::{DataSet, Named};
use crate::measure::fastest;
use crate::query::{Filter, Include, Listing};

pub(crate) use ways::Asked;
use ways::{Access, Fetch, Statement, Statements, Way};

/// The number of prepared statements that are kept.
const STATEMENTS_KEPT: usize = 64;

/// One open database.
#[derive(Debug)]
pub(crate) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Opens the database of a data set, with an index for each column.
    pub(crate) fn open(directory: &Path, set: DataSet) -> Result<Self> {
        Self::open_file(&load::plain_file(directory, set)?)
    }

    /// Opens the same database with an additional index for the measured listings.
    pub(crate) fn open_with_listing_index(directory: &Path, set: DataSet) -> Result<Self> {
        Self::open_file(&load::indexed_file(directory, set)?)
    }

    fn open_file(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; \
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -{};",
            StoreOptions::DEFAULT_CACHE_SIZE / 1_024
        ))?;
        // Without this, SQLite plans a statement again when other terms are bound, in case they need another
        // plan, which takes 30 µs per call.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(Self { connection })
    }

    /// Returns the answer to a count.
    pub(crate) fn count(&self, statement: &Statement) -> Result<u64> {
        let mut prepared = self.connection.prepare_cached(&statement.sql)?;
        let count: i64 = prepared.query_row(params_from_iter(&statement.parameters), |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }

    /// Returns the answer to a listing.
    pub(crate) fn page(&self, asked: &Asked) -> Result<Page> {
        match &asked.statements {
            Statements::CountAndPage { count, page } => {
                let total = self.count(count)?;
                Ok(Page { rows: self.rows(&page.sql, &page.parameters, asked.include)?, total })
            }
            Statements::Gather { ids, rows, skip, per_page } => {
                let mut ids = self.ids(ids)?;
                let total = ids.len() as u64;
                let page = window(&mut ids, *skip, *per_page);
                let mut page: Vec<Option<i64>> = page.iter().copied().map(Some).collect();
                // A short page has fewer ids than the statement has parameters.
                page.resize(*per_page, None);
                Ok(Page { rows: self.rows(rows, &page, asked.include)?, total })
            }
        }
    }

    fn ids(&self, statement: &Statement) -> Result<Vec<i64>> {
        let mut prepared = self.connection.prepare_cached(&statement.sql)?;
        let ids = prepared.query_map(params_from_iter(&statement.parameters), |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }

    fn rows(&self, sql: &str, parameters: &[impl ToSql], include: Include) -> Result<Vec<Row>> {
        let mut prepared = self.connection.prepare_cached(sql)?;
        let rows = prepared.query_map(params_from_iter(parameters), |row| read_record(row, include))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Choosing a way by trying all of them.
impl Sqlite {
    /// Returns the fastest statement that counts the matches of a filter.
    pub(crate) fn fastest_count(&self, filter: &Filter) -> Result<Statement> {
        Ok(self.count_access(filter)?.count(filter))
    }

    fn count_access(&self, filter: &Filter) -> Result<Access> {
        let tried = Access::all(filter).into_iter().map(|access| (access, access.count(filter)));
        let (access, _) = fastest(tried, |(_, statement)| self.count(statement))?;
        Ok(access)
    }

    /// Returns the fastest way to answer a listing.
    pub(crate) fn fastest_way(&self, listing: &Listing) -> Result<Way> {
        let filter = &listing.filter;
        let count = self.count_access(filter)?;
        let each =
            Access::all(filter).into_iter().flat_map(|page| [(page, Fetch::IdsFirst), (page, Fetch::Along)]);
        let tried = each.map(|(page, fetch)| (page, fetch, page.page(fetch, listing)));
        let (page, fetch, _) =
            fastest(tried, |(_, _, page)| self.rows(&page.sql, &page.parameters, listing.include))?;
        // The best pair of statements is compared with each way to gather, as complete answers.
        let whole = Access::all(filter).into_iter().map(Way::Gather);
        let whole = whole.chain([Way::CountAndPage { count, page, fetch }]);
        let (way, _) = fastest(whole.map(|way| (way, way.ask(listing))), |(_, asked)| self.page(asked))?;
        Ok(way)
    }
}

/// Returns the ids at a page's positions in ascending order, without sorting the others.
fn window(ids: &mut [i64], skip: usize, per_page: usize) -> &[i64] {
    let (_, rest) = split(ids, skip);
    let (page, _) = split(rest, per_page);
    page.sort_unstable();
    page
}

/// Splits off the `lowest` lowest ids.
fn split(ids: &mut [i64], lowest: usize) -> (&mut [i64], &mut [i64]) {
    // Ids that are already in table order need not be selected.
    if lowest < ids.len() && !ids.is_sorted() {
        ids.select_nth_unstable(lowest);
    }
    ids.split_at_mut(lowest.min(ids.len()))
}

// ---- Reading --------------------------------------------------------------------------------------------------

fn read_record(row: &rusqlite::Row<'_>, include: Include) -> rusqlite::Result<Row> {
    let included = match include {
        Include::Nothing => None,
        Include::All => Some(Box::new(read_included(row)?)),
    };
    Ok(Row {
        id: row.get(0)?,
        pool: row.get(1)?,
        entity_type: row.get(2)?,
        value: row.get(3)?,
        flow: row.get(4)?,
        run: row.get(5)?,
        step: row.get(6)?,
        created_at: row.get(7)?,
        included,
    })
}

fn read_included(row: &rusqlite::Row<'_>) -> rusqlite::Result<Included> {
    Ok(Included {
        pool: read_pool(row, 8)?,
        entity_type: read_named(row, 13)?,
        flow: read_named(row, 16)?,
        run: read_named(row, 19)?,
        step: read_named(row, 22)?,
    })
}

/// Reads a pool from five columns; `None` if they are null.
fn read_pool(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<PoolRow>> {
    let Some(id) = row.get(first)? else { return Ok(None) };
    Ok(Some(PoolRow {
        id,
        name: row.get(first + 1)?,
        description: row.get(first + 2)?,
        created_at: row.get(first + 3)?,
        updated_at: row.get(first + 4)?,
    }))
}

/// Reads an entry from three columns; `None` if they are null. The attributes stay text, although the store
/// parses them, because a program that only passes them on would do the same.
fn read_named<Id: FromSql>(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Option<Named<Id>>> {
    let Some(id) = row.get(first)? else { return Ok(None) };
    Ok(Some(Named { id, name: row.get(first + 1)?, attributes: row.get(first + 2)? }))
}
