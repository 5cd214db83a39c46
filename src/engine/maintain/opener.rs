//! Opens a file by its path, or returns the reason why it cannot be opened.
//!
//! Always holds: a file that is not a store of a known format is refused before a byte of it is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{Builder, DatabaseError, TableError, TableHandle};

use crate::disk::Disk;
use crate::engine::format::schema::{self, FORMAT_VERSION, Geometry};
use crate::engine::storage::backend::{Backend, Medium};
use crate::engine::storage::database::{Handle, OpenDatabase};
use crate::engine::storage::failure::{self, StorageResult, contained};
use crate::engine::storage::holder::holder_of;
use crate::engine::storage::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{FileId, directory_of, sync_directory};
use crate::options::{Access, IfMissing, Recovery, RepairObserver, StoreOptions};
use crate::random::random_bytes;

/// The place of a store.
pub(crate) enum Place<'a> {
    Path(&'a Path),
    Memory,
    /// A disk that a test provides.
    Disk(Box<dyn Disk>),
}

/// The first delay before a waiting caller tries to open the file again. The delay doubles each time, ...
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(1);
/// ... up to this one.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The first bytes of every redb file.
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// The first bytes of a redb file that is being created.
const UNFINISHED: [u8; REDB_MAGIC.len()] = [0; REDB_MAGIC.len()];

/// Everything needed to open the store again.
pub(crate) struct Opener {
    pub(super) location: Location,
    pub(super) options: StoreOptions,
    /// The geometry for a new store.
    geometry: Geometry,
}

pub(super) enum Location {
    Path(PathBuf),
    /// A medium that outlives each opening.
    Kept(Medium),
}

impl Opener {
    pub(crate) fn new(place: Place<'_>, options: &StoreOptions, geometry: Geometry) -> Self {
        let location = match place {
            Place::Path(path) => Location::Path(path.to_owned()),
            Place::Memory => Location::Kept(Medium::memory()),
            Place::Disk(disk) => Location::Kept(Medium::disk(disk)),
        };
        Self { location, options: options.clone(), geometry }
    }

    /// Returns the location of the store, for messages.
    pub(crate) fn location(&self) -> impl std::fmt::Display {
        match &self.location {
            Location::Path(path) => path.display().to_string(),
            Location::Kept(_) => "the store".to_owned(),
        }
    }

    /// Returns the size of the cache for pages.
    pub(crate) fn page_bytes(&self) -> usize {
        self.options.cache_size - self.index_bytes()
    }

    /// Returns the size of the cache for filters and rows of fingerprint tables.
    pub(crate) fn index_bytes(&self) -> usize {
        self.options.cache_size / 4 * 3
    }

    /// Opens the store, or creates it unless an `expected` one must exist. If another handle has it open,
    /// waits for as long as the options allow.
    pub(crate) fn open(&self, expected: Option<u128>) -> Result<(Session, Meta)> {
        let (started, mut pause) = (Instant::now(), FIRST_LOOK_AFTER);
        loop {
            let opened = self.try_open(expected);
            let left = self.options.open_timeout.saturating_sub(started.elapsed());
            let is_held = opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyOpen);
            if !is_held || left.is_zero() {
                return opened;
            }
            thread::sleep(pause.min(left));
            pause = LOOK_EVERY.min(pause * 2);
        }
    }

    fn try_open(&self, expected: Option<u128>) -> Result<(Session, Meta)> {
        let if_empty = self.if_empty(expected);
        // The file may be new, so its name must survive a loss of power, too.
        let new_in = match &self.location {
            Location::Path(path) if !path.exists() => Some(directory_of(path)),
            _ => None,
        };
        let was_closed = match &self.location {
            Location::Path(path) => check_path(path, if_empty)?,
            Location::Kept(medium) => check_medium(medium),
        };
        let mut session = self.open_once(if_empty)?;
        if was_closed == WasClosed::No {
            // Closing removes the growth of the file for commits that never happened.
            let _ = session.database.close();
            session = self.open_once(if_empty)?;
        }
        let database = &session.database;
        let meta = contained("reading the store's format", || match (read_meta(database)?, expected) {
            (Some(meta), Some(expected)) if meta.store_id != expected => Err(Error::not_found(
                "this store is gone: its file was replaced by that of another store. Open that one anew, as its own",
            )),
            (Some(meta), _) => Ok(meta),
            (None, _) => {
                if_empty.check(empty_database)?;
                make_store(database, &self.options, self.geometry)
            }
        })?;
        session.backend.finish();
        if let Some(directory) = new_in {
            sync_directory(directory);
        }
        if self.options.access == Access::ReadWrite {
            // If the disk has no space now, it is reserved when it is needed.
            let _ = session.backend.keep_all();
        }
        Ok((session, meta))
    }

    fn open_once(&self, if_empty: IfEmpty) -> Result<Session> {
        let path = match &self.location {
            Location::Path(path) => path,
            Location::Kept(medium) => return self.open_medium(medium, None),
        };
        loop {
            let file = self.open_file(path, if_empty)?;
            let failed = |error| Error::io(format_args!("opening {}", path.display()), error);
            let id = FileId::of(&file).map_err(failed)?;
            let opened = self.open_medium(&file_medium(path, &file)?, Some(id))?;
            // Before the lock was taken, another process may have replaced the file with a vacuumed one.
            if id.is_at(path) {
                return Ok(opened);
            }
        }
    }

    /// Opens a medium, which locks it.
    pub(super) fn open_medium(&self, medium: &Medium, file: Option<FileId>) -> Result<Session> {
        let backend = Backend::new(medium);
        let database = contained("opening the store", || self.open_database(backend.clone()))?;
        Ok(Session::new(database, backend, file))
    }

    fn if_empty(&self, expected: Option<u128>) -> IfEmpty {
        // A store that is not a file is created together with its medium.
        let may_make =
            self.options.if_missing == IfMissing::Create || matches!(self.location, Location::Kept(_));
        match (expected, self.options.access) {
            (Some(_), _) => IfEmpty::Gone,
            (None, Access::ReadWrite) if may_make => IfEmpty::Make,
            (None, _) => IfEmpty::Refuse,
        }
    }

    /// Returns the path of the store's file, or `None` if it is not in a file, or the file is gone.
    pub(crate) fn existing_path(&self) -> Option<&Path> {
        match &self.location {
            Location::Path(path) => Some(path.as_path()).filter(|path| path.exists()),
            Location::Kept(_) => None,
        }
    }

    fn open_database(&self, backend: Backend) -> Result<OpenDatabase> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.page_bytes());
        if let Some(RepairObserver(observer)) = self.options.on_repair.clone() {
            builder.set_repair_callback(move |session| {
                if observer(session.progress()).is_break() {
                    session.abort();
                }
            });
        }
        let failed = |error| match &self.location {
            Location::Path(path) => cannot_open(path, error),
            Location::Kept(_) => failure::translate(error.into()),
        };
        let handle = match self.options.access {
            Access::ReadWrite => builder.create_with_backend(backend).map(Handle::Writable).map_err(failed),
            Access::ReadOnly => match builder.open_read_only_with_backend(backend) {
                Ok(database) => Ok(Handle::ReadOnly(database)),
                Err(DatabaseError::RepairAborted) => Err(Error::new(
                    ErrorKind::ReadOnly,
                    "the program that wrote to the store last did not close it. The file must be recovered, which writes to it: open it \
                     once with `Access::ReadWrite`, with the right to write to it",
                )),
                Err(error) => Err(failed(error)),
            },
        };
        handle.map(OpenDatabase::new)
    }

    /// Opens the file, which must be a store or may become one.
    fn open_file(&self, path: &Path, if_empty: IfEmpty) -> Result<File> {
        let mut open = OpenOptions::new();
        open.read(true);
        if self.options.access == Access::ReadWrite {
            open.write(true).create(if_empty == IfEmpty::Make).truncate(false);
        }
        open.open(path).map_err(|error| Error::io(format_args!("opening {}", path.display()), error))
    }
}

/// Returns a medium for a file. It shares the file's lock.
pub(super) fn file_medium(path: &Path, file: &File) -> Result<Medium> {
    let cloned = file.try_clone().and_then(|one| Ok((one, file.try_clone()?)));
    let (file, room) =
        cloned.map_err(|error| Error::io(format_args!("opening {}", path.display()), error))?;
    Ok(Medium::new(FileBackend::new(file).map_err(|error| cannot_open(path, error))?, room))
}

/// The reaction of opening if there is nothing: no file, an empty one, or a database without tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfEmpty {
    /// Creates a store.
    Make,
    /// Refuses it unchanged, because it is not a store.
    Refuse,
    /// Refuses it unchanged, because there was a store before.
    Gone,
}

impl IfEmpty {
    /// Returns an error unless a store may be created.
    fn check(self, refusal: impl FnOnce() -> Error) -> Result<()> {
        match self {
            Self::Make => Ok(()),
            Self::Refuse => Err(refusal()),
            Self::Gone => Err(Error::not_found("the store is gone: an empty file lies where it was")),
        }
    }
}

fn empty_database() -> Error {
    not_a_store("it is empty")
}

/// The state in which the last writer left the store: closed, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WasClosed {
    Yes,
    /// The store was not closed. It is recovered when it is opened for writing.
    No,
}

/// Checks if a store that is not in a file was closed.
fn check_medium(medium: &Medium) -> WasClosed {
    let mut builder = Builder::new();
    let opened = contained("opening the store", || {
        Ok(builder.set_cache_size(0).open_read_only_with_backend(Backend::new(medium)))
    });
    match opened {
        Ok(Err(DatabaseError::RepairAborted)) => WasClosed::No,
        // Opening it reports any other problem.
        _ => WasClosed::Yes,
    }
}

/// Returns an error if the path holds anything other than a store that this code reads. Does not write to it.
fn check_path(path: &Path, if_empty: IfEmpty) -> Result<WasClosed> {
    let name = path.display();
    let refusal = |what: &str| Error::new(ErrorKind::NotAStore, format!("{name} is {what}, not a store"));
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(refusal("a directory")),
        Ok(meta) if !meta.is_file() => Err(refusal("a device, pipe or socket")),
        Ok(meta) if meta.len() > 0 => check_file(path, if_empty),
        Ok(_) => if_empty.check(|| refusal("empty")).map(|()| WasClosed::Yes),
        Err(error) if error.kind() == io::ErrorKind::NotFound && if_empty == IfEmpty::Make => {
            Ok(WasClosed::Yes)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::not_found(format!("there is no store at {name}")).with_source(error))
        }
        Err(error) => Err(Error::io(format_args!("opening {name}"), error)),
    }
}

fn cannot_open(path: &Path, error: DatabaseError) -> Error {
    let name = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => already_open(path),
        DatabaseError::RepairAborted => Error::new(ErrorKind::Cancelled, failure::REPAIR_STOPPED),
        DatabaseError::Storage(redb::StorageError::Io(error)) if is_refusal(&error) => {
            Error::io(format_args!("opening {name}"), error)
        }
        other => Error::corrupt(format!("{name} is damaged: {other}")).with_source(redb::Error::from(other)),
    }
}

/// Returns true if the error came from the system, and not from a truncated file or a file that is not a
/// database.
fn is_refusal(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn already_open(path: &Path) -> Error {
    let holder = holder_of(path).unwrap_or_else(|| "in this process or another one".to_owned());
    Error::new(
        ErrorKind::AlreadyOpen,
        format!(
            "{} is open already, {holder}: one handle at a time may write, and none beside it may read. \
             `StoreOptions::open_timeout` waits for it",
            path.display()
        ),
    )
}

/// Returns an error if the file is not a store that this code reads. Does not write to it.
fn check_file(path: &Path, if_empty: IfEmpty) -> Result<WasClosed> {
    let name = path.display();
    let mut magic = [0; REDB_MAGIC.len()];
    let mut file = OpenOptions::new()
        .read(true)
        .open(path)
        .map_err(|error| Error::io(format_args!("opening {name}"), error))?;
    // redb writes its first bytes last. A file that begins with zeros may be a store that another process is
    // creating, which then has locked it.
    let is_redb = read_full(&mut file, &mut magic)? && (magic == REDB_MAGIC || magic == UNFINISHED);
    if !is_redb {
        return Err(Error::new(
            ErrorKind::NotAStore,
            format!("{name} is not a data pool store: its first bytes are those of something else"),
        ));
    }
    drop(file);
    contained("reading the file", || match Builder::new().set_cache_size(0).open_read_only(path) {
        Ok(database) => match read_meta(&OpenDatabase::new(Handle::ReadOnly(database)))? {
            Some(_) => Ok(WasClosed::Yes),
            None => if_empty.check(empty_database).map(|()| WasClosed::Yes),
        },
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(already_open(path)),
        Err(_) if magic == UNFINISHED => Err(Error::new(
            ErrorKind::NotAStore,
            format!(
                "{name} is not a data pool store: it begins with zeros. If a process was killed while it created the store, delete \
                 the file"
            ),
        )),
        // The file was not closed. Only opening it for writing, which recovers it, can find out more.
        Err(DatabaseError::RepairAborted) => Ok(WasClosed::No),
        Err(error) => Err(cannot_open(path, error)),
    })
}

fn read_full(file: &mut File, bytes: &mut [u8]) -> Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Error::io("reading the file's first bytes", error)),
    }
}

/// The metadata of a store.
pub(crate) struct Meta {
    pub(crate) store_id: u128,
    pub(crate) hash_key: [u8; 16],
    pub(crate) geometry: Geometry,
}

/// Reads the metadata of the file. Returns `None` if the file is new.
fn read_meta(database: &OpenDatabase) -> Result<Option<Meta>> {
    let txn = database.begin_read()?;
    let table = match txn.open_table(schema::META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => {
            return match txn.list_tables().storage()?.next() {
                None => Ok(None),
                Some(other) => {
                    Err(not_a_store(&format!("it has a table {:?} and no table \"meta\"", other.name())))
                }
            };
        }
        Err(TableError::TableTypeMismatch { .. }) => {
            return Err(not_a_store("its table \"meta\" is of another type"));
        }
        Err(error) => return Err(error).storage(),
    };
    let format =
        table.get(schema::META_FORMAT).storage()?.ok_or_else(|| not_a_store("it names no format"))?;
    let format = format
        .value()
        .try_into()
        .map(u32::from_le_bytes)
        .map_err(|_| not_a_store("its format is no number"))?;
    if format != FORMAT_VERSION {
        return Err(unsupported(format));
    }
    let damaged = |what: &str| Error::corrupt(format!("the store's {what} is missing or damaged"));
    let hash_key = table.get(schema::META_HASH_KEY).storage()?.ok_or_else(|| damaged("hash key"))?;
    let hash_key = hash_key.value().try_into().map_err(|_| damaged("hash key"))?;
    let geometry = table.get(schema::META_GEOMETRY).storage()?.ok_or_else(|| damaged("geometry"))?;
    let geometry = decode_geometry(geometry.value()).ok_or_else(|| damaged("geometry"))?;
    let store_id = table.get(schema::META_STORE_ID).storage()?.ok_or_else(|| damaged("id"))?;
    let store_id = store_id.value().try_into().map(u128::from_le_bytes).map_err(|_| damaged("id"))?;
    Ok(Some(Meta { store_id, hash_key, geometry }))
}

fn unsupported(format: u32) -> Error {
    let remedy = match format {
        1..=schema::UNRELEASED_FORMAT => {
            "was never released: export its pools with the version of the crate that wrote it, and import them into a new \
             store"
        }
        _ => "is of another version of the crate: open the store with that one",
    };
    let text = format!(
        "the store has format {format}, and this version of the crate reads format {FORMAT_VERSION}. Format {format} \
         {remedy}"
    );
    Error::new(ErrorKind::UnsupportedFormat { found: format, supported: FORMAT_VERSION }, text)
}

fn not_a_store(reason: &str) -> Error {
    Error::new(ErrorKind::NotAStore, format!("the file is a database but not a data pool store: {reason}"))
}

fn decode_geometry(bytes: &[u8]) -> Option<Geometry> {
    let (segment, chunk) = bytes.split_first_chunk::<4>()?;
    let chunk = u32::from_le_bytes(chunk.try_into().ok()?);
    let geometry = Geometry { segment_slots: u32::from_le_bytes(*segment), chunk_slots: chunk };
    geometry.is_sound().then_some(geometry)
}

/// Writes the metadata of a new store.
fn make_store(database: &OpenDatabase, options: &StoreOptions, geometry: Geometry) -> Result<Meta> {
    let hash_key = options.hash_key.map_or_else(random_bytes, Ok)?;
    let store_id = random_bytes()?;
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(options.recovery == Recovery::Instant);
    {
        let mut meta = txn.open_table(schema::META).storage()?;
        let mut put = |name: &[u8], bytes: &[u8]| meta.insert(name, bytes).storage().map(drop);
        put(schema::META_FORMAT, &FORMAT_VERSION.to_le_bytes())?;
        put(schema::META_STORE_ID, &store_id)?;
        put(schema::META_HASH_KEY, &hash_key)?;
        let sizes = [geometry.segment_slots.to_le_bytes(), geometry.chunk_slots.to_le_bytes()].concat();
        put(schema::META_GEOMETRY, &sizes)?;
        put(schema::META_NEXT_POOL, &1_u64.to_le_bytes())?;
    }
    txn.commit().storage()?;
    Ok(Meta { store_id: u128::from_le_bytes(store_id), hash_key, geometry })
}
