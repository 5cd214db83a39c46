//! Opening the store for a command, and closing it afterwards.
//!
//! Always holds: a command that only reads opens the file for reading only, so that others can read it at the same time.
//! The store is closed before the answer is printed, except for streams and for the findings of `verify`. A failure to
//! close it is a failure of the command. A URL is shown without its password.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapool_store::{Access, DataPoolStore, ErrorKind, IfMissing, Pool, PoolId, StoreOptions};

use crate::bars::Bar;
use crate::failure::{self, Failure};
use crate::url;

/// A store, and the time for which a command waits for its file.
#[derive(Debug)]
pub(crate) struct StoreFile {
    place: Place,
    wait: Duration,
}

/// Where a store is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Server { url: String, schema: Option<String> },
}

impl StoreFile {
    pub(crate) fn file(path: &Path, wait: Duration) -> Self {
        Self { place: Place::File(path.to_owned()), wait }
    }

    /// Without a schema, the library's default is used.
    pub(crate) fn server(url: &str, schema: Option<&str>) -> Self {
        let place = Place::Server { url: url.to_owned(), schema: schema.map(str::to_owned) };
        Self { place, wait: Duration::ZERO }
    }

    /// Returns the name of the store in messages.
    pub(crate) fn display(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Server { url, schema: None } => url::without_secrets(url),
            Place::Server { url, schema: Some(schema) } => {
                format!("{} (schema {schema})", url::without_secrets(url))
            }
        }
    }

    /// Returns the store's file; `None` if it is on a server.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Server { .. } => None,
        }
    }

    /// Returns true if both names lead to the same place.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        match (self.path(), other.path()) {
            (Some(one), Some(other)) => match (one.canonicalize(), other.canonicalize()) {
                (Ok(one), Ok(other)) => one == other,
                _ => one == other,
            },
            _ => self.place == other.place,
        }
    }

    fn options(&self) -> StoreOptions {
        StoreOptions::new().open_timeout(self.wait)
    }
}

/// The cache of a command that only reads: it does not run long enough to use a larger one.
const READING_CACHE_BYTES: usize = 64 << 20;

/// Runs a command that only reads. A file that was not closed is recovered first, which writes to it.
pub(crate) fn to_read<T>(
    file: &StoreFile,
    command: impl FnOnce(&DataPoolStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let options = file.options().cache_size(READING_CACHE_BYTES).if_missing(IfMissing::Fail);
    let store = open_to_read(file, options)?;
    let done = command(&store);
    // The command has its answer, and wrote nothing that closing could lose.
    let _ = store.close();
    done
}

fn open_to_read(file: &StoreFile, options: StoreOptions) -> Result<DataPoolStore, Failure> {
    let read_only = options.clone().access(Access::ReadOnly);
    let path = match &file.place {
        Place::File(path) => path,
        Place::Server { url, schema } => return connect(file, url, schema.as_deref(), read_only),
    };
    match read_only.open(path) {
        Err(error) if error.kind() == ErrorKind::ReadOnly => open(file, options).map_err(|failure| {
            let Failure::Message(_, reason) = failure else { return failure };
            Failure::of(ErrorKind::ReadOnly, format!(
                "{} was not closed by the program that wrote to it last. Recovering it writes to the file: run the command once \
                 as a user who may write to it ({reason})",
                file.display()
            ))
        }),
        opened => opened.map_err(|error| hint(file, path, error)),
    }
}

/// Runs a command that writes to an existing store.
pub(crate) fn to_write<T>(
    file: &StoreFile,
    command: impl FnOnce(&DataPoolStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run(open(file, file.options().if_missing(IfMissing::Fail))?, command)
}

/// Runs a command that creates the store if there is none.
pub(crate) fn to_create<T>(
    file: &StoreFile,
    command: impl FnOnce(&DataPoolStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run(open(file, file.options().if_missing(IfMissing::Create))?, command)
}

/// Returns the pool of that id or name.
pub(crate) fn pool(store: &DataPoolStore, file: &StoreFile, term: &str) -> Result<Pool, Failure> {
    let by_id = term.parse::<PoolId>().ok().map(|id| store.pool(id));
    let found = match by_id {
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => store.pool_named(term),
        Some(by_id) => by_id,
        None => store.pool_named(term),
    };
    found.map_err(|error| match error.kind() {
        kind @ ErrorKind::NotFound => Failure::of(
            kind,
            format!(
                "{} has no data pool of the id or name {term:?}; `pool list` lists its pools",
                file.display()
            ),
        ),
        _ => error.into(),
    })
}

/// Opens the store for writing, and shows the progress of its recovery if it needs one.
fn open(file: &StoreFile, options: StoreOptions) -> Result<DataPoolStore, Failure> {
    let path = match &file.place {
        Place::File(path) => path,
        Place::Server { url, schema } => return connect(file, url, schema.as_deref(), options),
    };
    let bar = Bar::parts("recovering");
    let shown = bar.handle();
    let options = options.on_repair_progress(move |share| {
        shown.set_share(share);
        ControlFlow::Continue(())
    });
    options.open(path).map_err(|error| hint(file, path, error))
}

#[cfg(feature = "postgres")]
fn connect(
    file: &StoreFile,
    url: &str,
    schema: Option<&str>,
    options: StoreOptions,
) -> Result<DataPoolStore, Failure> {
    let options = match schema {
        Some(schema) => options.schema(schema),
        None => options,
    };
    options.connect(url).map_err(|error| match error.kind() {
        kind @ ErrorKind::NotFound => {
            Failure::of(kind, format!("{}: {error}; `pool create` or `copy` creates one", file.display()))
        }
        ErrorKind::InvalidArgument => Failure::Usage(error.to_string()),
        _ => Failure::about(file.display(), error),
    })
}

#[cfg(not(feature = "postgres"))]
fn connect(file: &StoreFile, _: &str, _: Option<&str>, _: StoreOptions) -> Result<DataPoolStore, Failure> {
    Err(Failure::Usage(format!(
        "{} is on a server, but this tool was built for files only; for both, build it with `cargo install --locked \
         --path . --features cli,postgres`",
        file.display()
    )))
}

/// Returns the failure to open a file, with what the user can do about it.
fn hint(file: &StoreFile, path: &Path, error: datapool_store::Error) -> Failure {
    match error.kind() {
        kind @ ErrorKind::NotFound if has_directory(path) => {
            Failure::of(kind, format!("{error}; {}", creates_one(file)))
        }
        kind @ ErrorKind::NotAStore if is_empty(path) => {
            Failure::of(kind, format!("{error}; {}", creates_one(file)))
        }
        ErrorKind::AlreadyOpen => {
            let message = error.to_string();
            let (what, _) = message.split_once(" `StoreOptions").unwrap_or((&message, ""));
            Failure::Held(format!("{what} `--wait 30s` waits until it is closed"))
        }
        _ => error.into(),
    }
}

fn creates_one(file: &StoreFile) -> String {
    format!("`datapool {} pool create NAME` creates one", file.display())
}

fn has_directory(file: &Path) -> bool {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).is_dir()
}

fn is_empty(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

fn run<T>(
    store: DataPoolStore,
    command: impl FnOnce(&DataPoolStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let done = command(&store);
    let closed = store.close();
    let done = done?;
    if let Err(error) = closed {
        // Each call was on disk when it returned, so the command has done what it prints.
        failure::note(&format!("the command was carried out, but closing the store failed: {error}"));
    }
    Ok(done)
}
