//! The file as of one commit. While a snapshot exists, no page that its commit uses can be reused, so hold it
//! briefly.

use std::sync::OnceLock;

use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTableMetadata, TableDefinition, TableError, TableHandle,
    Value,
};

use crate::engine::format::schema;
use crate::engine::format::tables::{AnyTable, TableVisitor};
use crate::engine::storage::failure::StorageResult;
use crate::engine::storage::session::{LiveSnapshot, Session};
use crate::error::Result;
use crate::ids::PoolId;

/// The file as of one commit.
#[derive(Debug)]
pub(crate) struct Snapshot {
    txn: ReadTransaction,
    /// The tables that checks of all pools read, each opened on first use.
    fingerprints: OnceLock<Option<FingerprintRows>>,
    filters: OnceLock<Option<FilterRows>>,
    /// Declared after the transaction, so that it is dropped later.
    living: LiveSnapshot,
}

type FingerprintRows = ReadOnlyTable<(PoolId, u32, u32, u32), &'static [u8]>;
type FilterRows = ReadOnlyTable<(PoolId, u32, u32), &'static [u8]>;

impl Snapshot {
    pub(crate) fn open(session: &Session) -> Result<Self> {
        let txn = session.database.begin_read()?;
        let living = session.readers.snapshot_taken();
        Ok(Self { txn, fingerprints: OnceLock::new(), filters: OnceLock::new(), living })
    }

    /// Returns the rows of the fingerprint tables of all pools.
    pub(crate) fn fingerprints(&self) -> Result<Option<&FingerprintRows>> {
        opened(&self.fingerprints, || self.table(schema::FINGERPRINTS))
    }

    /// Returns the pieces of their filters, for all pools.
    pub(crate) fn filters(&self) -> Result<Option<&FilterRows>> {
        opened(&self.filters, || self.table(schema::FILTERS))
    }

    /// Returns true if the file was closed since the snapshot was taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.living.is_closed()
    }

    /// Returns the names of all tables, including unknown ones.
    pub(crate) fn table_names(&self) -> Result<Vec<String>> {
        Ok(self.txn.list_tables().storage()?.map(|table| table.name().to_owned()).collect())
    }

    /// Returns a table, if it exists.
    pub(crate) fn table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>> {
        match self.txn.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error).storage(),
        }
    }
}

/// Returns the total number of rows of some tables.
pub(crate) fn count_rows(snapshot: &Snapshot, tables: &[AnyTable]) -> Result<u64> {
    let mut count = CountRows { snapshot, rows: 0 };
    tables.iter().try_for_each(|table| table.visit(&mut count))?;
    Ok(count.rows)
}

struct CountRows<'a> {
    snapshot: &'a Snapshot,
    rows: u64,
}

impl TableVisitor for CountRows<'_> {
    fn visit<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<()> {
        if let Some(table) = self.snapshot.table(table)? {
            self.rows += table.len().storage()?;
        }
        Ok(())
    }
}

/// A table that is opened on first use.
pub(crate) type Lazy<K, V> = OnceLock<Option<ReadOnlyTable<K, V>>>;

/// Returns the table in the cell, and opens it on first use.
pub(crate) fn opened<K: Key + 'static, V: Value + 'static>(
    cell: &Lazy<K, V>,
    open: impl FnOnce() -> Result<Option<ReadOnlyTable<K, V>>>,
) -> Result<Option<&ReadOnlyTable<K, V>>> {
    if let Some(table) = cell.get() {
        return Ok(table.as_ref());
    }
    let table = open()?;
    Ok(cell.get_or_init(|| table).as_ref())
}
