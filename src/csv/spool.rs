//! The spool: parsed rows on their way from the caller's reader to the writer.
//!
//! Other writers never wait for a caller's reader: rows are parsed into a buffer of bounded size, then into a
//! temporary file beside the store, and applied from there. Layout of a row: line u64, entity type u32, length
//! u16, all little-endian, then the value.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::Path;

use super::rows::Row;
use crate::engine::RowSource;
use crate::error::{Error, Result};
use crate::ids::EntityTypeId;

/// How many bytes of rows stay in memory.
const MEMORY_BYTES: usize = 16 << 20;
const HEAD_BYTES: usize = 14;

enum Store {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

/// Rows being written.
pub(super) struct Spool<'a> {
    store: Store,
    /// Where the temporary file goes: beside the store, or the system's place if it is in memory.
    directory: Option<&'a Path>,
    rows: u64,
}

impl<'a> Spool<'a> {
    pub(super) fn new(directory: Option<&'a Path>) -> Self {
        Self { store: Store::Memory(Vec::new()), directory, rows: 0 }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<()> {
        self.rows += 1;
        if let Store::Memory(bytes) = &self.store
            && bytes.len() >= MEMORY_BYTES
        {
            self.spill()?;
        }
        match &mut self.store {
            Store::Memory(bytes) => write_row(bytes, row),
            Store::File(file) => write_row(file, row),
        }
        .map_err(spool_error)
    }

    fn spill(&mut self) -> Result<()> {
        let file = match self.directory {
            Some(directory) => tempfile::tempfile_in(directory),
            None => tempfile::tempfile(),
        };
        let file = BufWriter::with_capacity(1 << 20, file.map_err(spool_error)?);
        if let Store::Memory(bytes) = std::mem::replace(&mut self.store, Store::File(file))
            && let Store::File(file) = &mut self.store
        {
            file.write_all(&bytes).map_err(spool_error)?;
        }
        Ok(())
    }

    /// The rows, from the first.
    pub(super) fn into_rows(self) -> Result<SpoolRows> {
        let source: Box<dyn Read + Send> = match self.store {
            Store::Memory(bytes) => Box::new(Cursor::new(bytes)),
            Store::File(file) => {
                let mut file = file.into_inner().map_err(|error| spool_error(error.into_error()))?;
                file.rewind().map_err(spool_error)?;
                Box::new(BufReader::with_capacity(1 << 20, file))
            }
        };
        Ok(SpoolRows { source, left: self.rows, value: Vec::new() })
    }
}

fn write_row(out: &mut impl Write, row: &Row<'_>) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    let length =
        u16::try_from(row.value.len()).map_err(|_| io::Error::other("the value was not validated"))?;
    let (line, rest) = head.split_at_mut(8);
    let (entity_type, size) = rest.split_at_mut(4);
    line.copy_from_slice(&row.line.to_le_bytes());
    entity_type.copy_from_slice(&row.entity_type.get().to_le_bytes());
    size.copy_from_slice(&length.to_le_bytes());
    out.write_all(&head)?;
    out.write_all(row.value.as_bytes())
}

fn spool_error(error: io::Error) -> Error {
    Error::io("spooling rows to a temporary file", error)
}

/// Rows being read back.
pub(super) struct SpoolRows {
    source: Box<dyn Read + Send>,
    left: u64,
    value: Vec<u8>,
}

impl RowSource for SpoolRows {
    fn next(&mut self, push: &mut dyn FnMut(EntityTypeId, &str)) -> Result<Option<u64>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut line = [0; 8];
        let mut entity_type = [0; 4];
        let mut length = [0; 2];
        for part in [line.as_mut_slice(), &mut entity_type, &mut length] {
            self.source.read_exact(part).map_err(spool_error)?;
        }
        self.value.resize(u16::from_le_bytes(length).into(), 0);
        self.source.read_exact(&mut self.value).map_err(spool_error)?;
        let value = std::str::from_utf8(&self.value).map_err(|error| spool_error(io::Error::other(error)))?;
        push(EntityTypeId::new(u32::from_le_bytes(entity_type)), value);
        Ok(Some(u64::from_le_bytes(line)))
    }
}
