//! The spool: storage for checked rows on their way from the caller's reader to the writer.
//!
//! Other writers never wait for a caller's reader. Rows are parsed into a buffer of bounded size, then into a
//! temporary file beside the store, and added from there. The layout of a row: line u64, entity type u32,
//! length u16, all little-endian, then the value. If the file has columns for the origin, then flow, run and
//! step follow, each as a length byte (0 if absent) and its text. If it has a column for the time, the time
//! follows as i64. If it has one for the version, a byte follows: 0 for none, 1 and the 16 bytes of a
//! content's digest, or 2 and an ordinal as i64.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::Path;

use super::options::ImportOptions;
use super::rows::{Origins, parts_of};
use crate::backend::import::{ImportRow, RowSource};
use crate::error::{Error, ErrorKind, Result};
use crate::files::is_want_of_room;
use crate::ids::EntityTypeId;
use crate::model::Version;
use crate::time::Timestamp;

/// The number of bytes of rows that are kept in memory.
const MEMORY_BYTES: usize = 16 << 20;
const HEAD_BYTES: usize = 14;
const NO_VERSION: u8 = 0;
const CONTENT: u8 = 1;
const ORDINAL: u8 = 2;

enum Store {
    Memory(Vec<u8>),
    File(BufWriter<File>),
}

/// The rows being written.
pub(super) struct Spool<'a> {
    store: Store,
    /// The directory of the temporary file: the store's directory, or the system's temporary directory if the
    /// store is in memory.
    directory: Option<&'a Path>,
    options: &'a ImportOptions,
    rows: u64,
}

impl<'a> Spool<'a> {
    pub(super) fn new(directory: Option<&'a Path>, options: &'a ImportOptions) -> Self {
        Self { store: Store::Memory(Vec::new()), directory, options, rows: 0 }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn push(&mut self, row: &ImportRow<'_>) -> Result<()> {
        self.rows += 1;
        if let Store::Memory(bytes) = &self.store
            && bytes.len() >= MEMORY_BYTES
        {
            self.spill()?;
        }
        match &mut self.store {
            Store::Memory(bytes) => write_row(bytes, row, self.options),
            Store::File(file) => write_row(file, row, self.options),
        }
        .map_err(|error| spool_error(self.directory, error))
    }

    fn spill(&mut self) -> Result<()> {
        let file = match self.directory {
            Some(directory) => tempfile::tempfile_in(directory),
            None => tempfile::tempfile(),
        };
        let failed = |error| spool_error(self.directory, error);
        let file = BufWriter::with_capacity(1 << 20, file.map_err(failed)?);
        if let Store::Memory(bytes) = std::mem::replace(&mut self.store, Store::File(file))
            && let Store::File(file) = &mut self.store
        {
            file.write_all(&bytes).map_err(failed)?;
        }
        Ok(())
    }

    /// Ends writing, and returns a reader that starts at the first row.
    pub(super) fn into_rows(self) -> Result<SpoolRows<'a>> {
        let failed = |error| spool_error(self.directory, error);
        let source: Box<dyn Read + Send> = match self.store {
            Store::Memory(bytes) => Box::new(Cursor::new(bytes)),
            Store::File(file) => {
                let mut file = file.into_inner().map_err(|error| failed(error.into_error()))?;
                file.rewind().map_err(failed)?;
                Box::new(BufReader::with_capacity(1 << 20, file))
            }
        };
        let Self { directory, options, rows: left, .. } = self;
        Ok(SpoolRows { source, directory, left, options, origins: Origins::default(), text: Vec::new() })
    }
}

fn write_row(out: &mut impl Write, row: &ImportRow<'_>, options: &ImportOptions) -> io::Result<()> {
    let not_validated = |_| io::Error::other("the row was not validated");
    let mut head = [0; HEAD_BYTES];
    let length = u16::try_from(row.value.len()).map_err(not_validated)?;
    let (line, rest) = head.split_at_mut(8);
    let (entity_type, size) = rest.split_at_mut(4);
    line.copy_from_slice(&row.line.to_le_bytes());
    entity_type.copy_from_slice(&row.entity_type.get().to_le_bytes());
    size.copy_from_slice(&length.to_le_bytes());
    out.write_all(&head)?;
    out.write_all(row.value.as_bytes())?;
    if options.has_origin_columns() {
        for part in row.origin.map_or([None; 3], |origin| parts_of(origin)) {
            let id = part.unwrap_or_default();
            out.write_all(&[u8::try_from(id.len()).map_err(not_validated)?])?;
            out.write_all(id.as_bytes())?;
        }
    }
    if let Some(time) = row.created_at {
        out.write_all(&time.as_micros().to_le_bytes())?;
    }
    if options.version_column.is_none() {
        return Ok(());
    }
    match row.version {
        None => out.write_all(&[NO_VERSION]),
        Some(Version::Content(digest)) => {
            out.write_all(&[CONTENT])?;
            out.write_all(&digest)
        }
        Some(Version::Ordinal(number)) => {
            out.write_all(&[ORDINAL])?;
            out.write_all(&number.to_le_bytes())
        }
    }
}

fn spool_error(directory: Option<&Path>, error: io::Error) -> Error {
    let directory = directory.map_or_else(std::env::temp_dir, Path::to_path_buf);
    if is_want_of_room(&error) {
        let text = format!(
            "there is no room for the import's temporary file in {} ({error}); nothing was changed. Make room and import again",
            directory.display()
        );
        return Error::new(ErrorKind::StorageFull, text).with_source(error);
    }
    Error::io(format_args!("keeping rows in a temporary file in {}", directory.display()), error)
}

/// The rows being read back.
pub(super) struct SpoolRows<'a> {
    source: Box<dyn Read + Send>,
    directory: Option<&'a Path>,
    left: u64,
    options: &'a ImportOptions,
    origins: Origins,
    /// The value, followed by the ids of the origin.
    text: Vec<u8>,
}

impl SpoolRows<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(|error| spool_error(self.directory, error))?;
        Ok(bytes)
    }

    fn version(&mut self) -> Result<Option<Version>> {
        if self.options.version_column.is_none() {
            return Ok(None);
        }
        Ok(match self.bytes()? {
            [CONTENT] => Some(Version::Content(self.bytes()?)),
            [ORDINAL] => Some(Version::Ordinal(i64::from_le_bytes(self.bytes()?))),
            [_] => None,
        })
    }

    /// Reads this many bytes and appends them to the row's text.
    fn more_text(&mut self, length: usize) -> Result<()> {
        let start = self.text.len();
        self.text.resize(start + length, 0);
        let place = self.text.get_mut(start..).unwrap_or_default();
        self.source.read_exact(place).map_err(|error| spool_error(self.directory, error))
    }
}

impl RowSource for SpoolRows<'_> {
    fn next(&mut self, push: &mut dyn FnMut(ImportRow<'_>)) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let line = u64::from_le_bytes(self.bytes()?);
        let entity_type = EntityTypeId::new(u32::from_le_bytes(self.bytes()?));
        let length = usize::from(u16::from_le_bytes(self.bytes()?));
        self.text.clear();
        self.more_text(length)?;
        let mut ids = [0..0, 0..0, 0..0];
        if self.options.has_origin_columns() {
            for id in &mut ids {
                let [length] = self.bytes()?;
                let start = self.text.len();
                self.more_text(length.into())?;
                *id = start..self.text.len();
            }
        }
        let created_at = match self.options.created_at_column {
            Some(_) => Some(Timestamp::from_micros(i64::from_le_bytes(self.bytes()?))),
            None => None,
        };
        let version = self.version()?;
        let text = std::str::from_utf8(&self.text)
            .map_err(|error| spool_error(self.directory, io::Error::other(error)))?;
        let value = text.get(..length).unwrap_or_default();
        let parts = if self.options.has_origin_columns() {
            ids.map(|id| text.get(id).filter(|id| !id.is_empty()))
        } else {
            parts_of(&self.options.origin)
        };
        let origin = self.origins.get(parts).map_err(|bad| bad.error)?;
        push(ImportRow { line, entity_type, value, origin, created_at, version });
        Ok(true)
    }
}
