//! Opening the store for a command, and closing it afterwards.
//!
//! Always holds: a command that only reads opens the file for reading only, so that others can read it, too. The store
//! is closed before the answer is printed, except for streams and for what `verify` finds, and a failure to close it is
//! a failure of the command.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapool_store::{Access, DataPoolStore, ErrorKind, IfMissing, Pool, PoolId, StoreOptions};

use crate::bars::Bar;
use crate::failure::Failure;

/// The store's file, and the time for which a command waits for it.
#[derive(Debug)]
pub(crate) struct StoreFile {
    pub(crate) path: PathBuf,
    pub(crate) wait: Duration,
}

impl StoreFile {
    pub(crate) fn display(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    fn options(&self) -> StoreOptions {
        StoreOptions::new().open_timeout(self.wait)
    }
}

/// The cache of a command that reads a page or a stream, which does not run for long.
const READING_CACHE_BYTES: usize = 64 << 20;

/// Runs a command that only reads. A file that was not closed is recovered first, which writes to it.
pub(crate) fn to_read<T>(
    file: &StoreFile,
    command: impl FnOnce(&DataPoolStore) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let options = file.options().cache_size(READING_CACHE_BYTES).if_missing(IfMissing::Fail);
    let store = match options.clone().access(Access::ReadOnly).open(&file.path) {
        Err(error) if error.kind() == ErrorKind::ReadOnly => open(file, options).map_err(|failure| {
            let Failure::Message(reason) = failure else { return failure };
            Failure::new(format!(
                "{} was not closed by the program that wrote to it last, and must be recovered, which writes to it: run the \
                 command once as a user who may ({reason})",
                file.display()
            ))
        })?,
        opened => opened.map_err(|error| hint(file, error))?,
    };
    let done = command(&store);
    // The command has its answer, so it does not matter here if the file cannot be closed in order.
    let _ = store.close();
    done
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
        ErrorKind::NotFound => Failure::new(format!(
            "{} has no data pool of the id or name {term:?}; `pool list` shows those it has",
            file.display()
        )),
        _ => error.into(),
    })
}

/// Opens the file for writing, and shows the progress of its recovery if it needs one.
fn open(file: &StoreFile, options: StoreOptions) -> Result<DataPoolStore, Failure> {
    let bar = Bar::parts("recovering");
    let shown = bar.handle();
    let options = options.on_repair_progress(move |share| {
        shown.set_share(share);
        ControlFlow::Continue(())
    });
    options.open(&file.path).map_err(|error| hint(file, error))
}

/// Returns the failure to open a file, with what the user can do about it.
fn hint(file: &StoreFile, error: datapool_store::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound if has_directory(&file.path) => {
            Failure::new(format!("{error}; {}", makes_one(file)))
        }
        ErrorKind::NotAStore if is_empty(&file.path) => Failure::new(format!("{error}; {}", makes_one(file))),
        ErrorKind::AlreadyOpen => {
            let message = error.to_string();
            let (what, _) = message.split_once(" `StoreOptions").unwrap_or((&message, ""));
            Failure::Held(format!("{what} `--wait 30s` waits for it"))
        }
        _ => error.into(),
    }
}

fn makes_one(file: &StoreFile) -> String {
    format!("`datapool {} pool create NAME` makes one", file.display())
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
    closed?;
    Ok(done)
}
