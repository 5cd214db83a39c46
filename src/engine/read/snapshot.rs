//! The file as of one commit. A snapshot keeps every page that its commit could see from being reused: hold it briefly.

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
    /// The tables that checks of all pools read, each opened when first needed.
    fingerprints: OnceLock<Option<FingerprintRows>>,
    filters: OnceLock<Option<FilterRows>>,
    /// After the transaction, so that it ends later.
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

    /// The rows of the tables of fingerprints, of all pools.
    pub(crate) fn fingerprints(&self) -> Result<Option<&FingerprintRows>> {
        opened(&self.fingerprints, || self.table(schema::FINGERPRINTS))
    }

    /// The pieces of their filters, of all pools.
    pub(crate) fn filters(&self) -> Result<Option<&FilterRows>> {
        opened(&self.filters, || self.table(schema::FILTERS))
    }

    /// Returns true if the file was closed since.
    pub(crate) fn is_closed(&self) -> bool {
        self.living.is_closed()
    }

    /// Returns the names of all tables, known ones or not.
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

/// Returns the number of rows that some tables have together.
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

/// A table that is opened when it is first needed.
pub(crate) type Lazy<K, V> = OnceLock<Option<ReadOnlyTable<K, V>>>;

/// The table in the cell, opened now if it was not yet.
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
