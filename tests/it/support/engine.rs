//! The engine on which the tests run: the embedded one, or PostgreSQL.
//!
//! With `DATAPOOL_ENGINE=postgres`, `DATAPOOL_POSTGRES_URL` names the server. Each store has its own schema.
//! Tests that need the embedded engine are listed with the reason in `tests/data/embedded-only.txt`, and
//! `.ci/postgres` skips them.

use datapool_store::testing::{self, Sizes};
use datapool_store::{DataPoolStore, Pool, Result, StoreOptions};

use super::options;

/// The requirements of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// No special requirements.
    Any,
    /// A clock that the test sets.
    Clock,
    /// Features that only a store in a file or in memory has.
    Embedded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Embedded,
    Postgres,
}

impl Engine {
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("DATAPOOL_ENGINE").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("DATAPOOL_ENGINE is {other:?}; allowed are embedded and postgres"),
        }
    }
}

/// Returns false if the tests run on another engine than the embedded one.
pub(crate) fn is_embedded() -> bool {
    Engine::of_this_run() == Engine::Embedded
}

/// Creates an empty store.
pub(crate) fn store_for(need: Need) -> DataPoolStore {
    store_with(need, &options())
}

/// Creates an empty store with options. In the embedded engine, it has tiny segments, so that a few records
/// reach every path.
pub(crate) fn store_with(need: Need, options: &StoreOptions) -> DataPoolStore {
    match (Engine::of_this_run(), need) {
        (Engine::Embedded, _) => testing::in_memory(options, Sizes::SMALL).unwrap(),
        (Engine::Postgres, Need::Any | Need::Clock) => connect(&new_schema(), options).unwrap(),
        (Engine::Postgres, Need::Embedded) => panic!("{}", embedded::LISTED),
    }
}

/// Creates an empty store, and returns several handles on it. On a server, each is a store of its own, as in several
/// processes: they share neither connections nor commits. A file has one store.
pub(crate) fn handles(count: usize) -> Vec<DataPoolStore> {
    match Engine::of_this_run() {
        Engine::Embedded => vec![store_for(Need::Any); count],
        Engine::Postgres => {
            let (schema, options) = (new_schema(), options());
            (0..count).map(|_| connect(&schema, &options).unwrap()).collect()
        }
    }
}

/// Creates a pool in such a store.
pub(crate) fn pool_for(need: Need) -> Pool {
    store_for(need).get_or_create_pool("orders").unwrap()
}

#[cfg(feature = "postgres")]
mod server {
    use datapool_store::Timestamp;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{DataPoolStore, Result, StoreOptions};

    fn url() -> String {
        std::env::var("DATAPOOL_POSTGRES_URL").expect("DATAPOOL_POSTGRES_URL names the server of the tests")
    }

    /// Returns a schema name that is not in use.
    pub(crate) fn new_schema() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let started = Timestamp::now().as_micros();
        format!("test_{}_{}_{started}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn connect(schema: &str, options: &StoreOptions) -> Result<DataPoolStore> {
        options.clone().schema(schema).connect(&url())
    }
}

#[cfg(not(feature = "postgres"))]
mod server {
    use super::{DataPoolStore, Result, StoreOptions};

    pub(crate) fn new_schema() -> String {
        panic!("run the tests with the feature postgres")
    }

    pub(crate) fn connect(_: &str, _: &StoreOptions) -> Result<DataPoolStore> {
        panic!("run the tests with the feature postgres")
    }
}

pub(crate) use server::{connect, new_schema};

/// Stores of the embedded engine, for tests that are only about it.
pub(crate) mod embedded {
    use std::path::Path;

    use datapool_store::testing::{self, Disk, Sizes};
    use datapool_store::{DataPoolStore, Result, StoreOptions};

    use super::Engine;

    pub(crate) const LISTED: &str =
        "this test needs the embedded engine: list it in tests/data/embedded-only.txt, with the reason";

    pub(crate) fn needed() {
        assert_eq!(Engine::of_this_run(), Engine::Embedded, "{LISTED}");
    }

    pub(crate) fn open(path: &Path, options: &StoreOptions, sizes: Sizes) -> Result<DataPoolStore> {
        needed();
        testing::open(path, options, sizes)
    }

    pub(crate) fn in_memory(options: &StoreOptions, sizes: Sizes) -> Result<DataPoolStore> {
        needed();
        testing::in_memory(options, sizes)
    }

    pub(crate) fn on_disk(disk: impl Disk, options: &StoreOptions, sizes: Sizes) -> Result<DataPoolStore> {
        needed();
        testing::on_disk(disk, options, sizes)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use crate::support::data;

    /// Returns the lines of the list: a test's name or its prefix, and the reason.
    fn listed() -> Vec<(String, String)> {
        let text = std::fs::read_to_string(data("embedded-only.txt")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let entry = |line: &str| {
            let (name, reason) = line.split_once(' ').unwrap_or((line, ""));
            (name.to_owned(), reason.trim().to_owned())
        };
        lines.map(entry).collect()
    }

    #[test]
    fn each_test_that_needs_the_embedded_engine_is_listed_once_with_its_reason() {
        let list = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        let tests: Vec<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        let listed = listed();
        for (number, (name, reason)) in listed.iter().enumerate() {
            assert!(reason.len() >= 5, "{name} has no reason");
            assert!(tests.iter().any(|test| test.starts_with(name.as_str())), "no test begins with {name}");
            let mut others = listed.iter().enumerate().filter(|(other, _)| *other != number);
            assert!(
                !others.any(|(_, (other, _))| name.starts_with(other.as_str())),
                "{name} is listed twice"
            );
            // The script skips every test whose name contains the text anywhere.
            let elsewhere =
                tests.iter().find(|test| test.contains(name.as_str()) && !test.starts_with(name.as_str()));
            assert_eq!(elsewhere, None, "{name}");
        }
    }

    #[test]
    fn an_engine_that_nobody_knows_is_refused() {
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.env("DATAPOOL_ENGINE", "oracle").args(["--exact", "behaviour::dedupe::verdicts_are_a_list"]);
        let output = run.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains("DATAPOOL_ENGINE is \"oracle\""), "{said}");
    }
}
