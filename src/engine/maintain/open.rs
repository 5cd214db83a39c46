//! Opening a store, and creating one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use crate::backend::counters::Counters;
use crate::backend::fingerprint::HashKey;
use crate::backend::queue::Queue;
use crate::backend::waiting::Waiting;
use crate::engine::Engine;
use crate::engine::format::schema::{Geometry, Tuning};
use crate::engine::maintain::opener::{Opener, Place};
use crate::engine::probe::budget::Budget;
use crate::engine::storage::poison::Poison;
use crate::engine::write::log::{Event, log};
use crate::error::{Error, Result};
use crate::options::StoreOptions;
use crate::time::Clock;

impl Engine {
    pub(crate) fn open(
        place: Place<'_>,
        options: &StoreOptions,
        geometry: Geometry,
        tuning: Tuning,
    ) -> Result<Self> {
        if !geometry.is_sound() {
            return Err(Error::invalid_argument(format!("{geometry:?} is no geometry of a store")));
        }
        let opener = Opener::new(place, options, geometry);
        let started = Instant::now();
        let (session, meta) = opener.open(None)?;
        log(&Event::Opened { took: started.elapsed() });
        let (clock, waiting) = (Clock::new(options.clock.clone()), Arc::<Waiting>::default());
        let woken = Arc::clone(&waiting);
        let watcher: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            woken.wake_all();
            woken.notify();
        });
        clock.watch(&watcher);
        Ok(Self {
            geometry: meta.geometry,
            tuning,
            budget: Arc::new(Budget::of(opener.index_bytes())),
            store_id: meta.store_id,
            hash_key: HashKey::new(meta.hash_key),
            clock,
            waiting,
            _watcher: watcher,
            latest_times: Mutex::default(),
            durability: options.durability,
            recovery: options.recovery,
            published: RwLock::default(),
            queue: Queue::default(),
            writer: Mutex::default(),
            aging: Mutex::default(),
            poison: Poison::default(),
            unflushed: AtomicBool::default(),
            flush_signal: Arc::default(),
            counters: Counters::default(),
            opener,
            session: RwLock::new(Some(session)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::engine::format::schema::{self, FORMAT_VERSION};
    use crate::error::ErrorKind;
    use crate::options::{Access, IfMissing};
    use redb::{Database, TableDefinition};

    fn open(path: &Path) -> Result<Engine> {
        Engine::open(Place::Path(path), &StoreOptions::new(), Geometry::DEFAULT, Tuning::DEFAULT)
    }

    fn assert_refused(path: &Path, kind: ErrorKind) -> String {
        let before = fs::read(path).unwrap();
        let error = open(path).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(fs::read(path).unwrap() == before, "the refused file was changed");
        error.to_string()
    }

    /// Opens a store whose file has this format version, and returns the error message.
    fn refused_format(found: u32) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.redb");
        drop(open(&path).unwrap());
        let db = Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(schema::META)
            .unwrap()
            .insert(schema::META_FORMAT, found.to_le_bytes().as_slice())
            .unwrap();
        txn.commit().unwrap();
        drop(db);
        assert_refused(&path, ErrorKind::UnsupportedFormat { found, supported: FORMAT_VERSION })
    }

    #[test]
    fn a_store_of_a_newer_format_is_refused_and_left_as_it_is() {
        let text = refused_format(FORMAT_VERSION + 1);
        assert!(
            text.contains(&format!("format {}", FORMAT_VERSION + 1)) && text.contains("another version"),
            "{text}"
        );
    }

    #[test]
    fn a_store_of_the_unreleased_format_1_is_refused_with_the_way_out_and_left_as_it_is() {
        let text = refused_format(1);
        assert!(
            text.contains("never released") && text.contains("export") && text.contains("import"),
            "{text}"
        );
    }

    #[test]
    fn another_programs_database_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.redb");
        let table = TableDefinition::<u64, u64>::new("theirs");
        let db = Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(table).unwrap().insert(1, 2).unwrap();
        txn.commit().unwrap();
        drop(db);
        assert_refused(&path, ErrorKind::NotAStore);
    }

    #[test]
    fn a_store_that_was_being_made_when_the_power_went_is_made_now_unless_it_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("empty.redb");
        drop(Database::create(&path).unwrap());
        for options in
            [StoreOptions::new().if_missing(IfMissing::Fail), StoreOptions::new().access(Access::ReadOnly)]
        {
            let before = fs::read(&path).unwrap();
            let place = Place::Path(&path);
            let error = Engine::open(place, &options, Geometry::DEFAULT, Tuning::DEFAULT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
            assert!(fs::read(&path).unwrap() == before, "the refused file was changed");
        }
        assert!(open(&path).is_ok());
    }
}
