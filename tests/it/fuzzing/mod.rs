//! Proves that no input makes the store panic, hang or answer wrongly. Has the body of each fuzz target, and
//! replays the committed inputs.
//!
//! `fuzz/` runs these bodies under libFuzzer. Here, each seed in `tests/data/seeds/TARGET` is replayed on
//! stable Rust. `DATAPOOL_FUZZ_INPUTS=DIRECTORY` also replays another directory of the same layout, for
//! example `fuzz/corpus`.

mod claim_token;
pub(crate) mod csv_model;
mod csv_options;
mod damaged_file;
pub(crate) mod import_csv;
mod operations;
pub(crate) mod query_string;
mod rows;
mod versions;

/// The body of a target, which runs one input. It panics if the store misbehaves.
pub(crate) type Body = fn(&[u8]);

/// Every target, by its name.
pub(crate) const TARGETS: [(&str, Body); 8] = [
    ("claim_token", claim_token::run),
    ("csv_options", csv_options::run),
    ("damaged_file", damaged_file::run),
    ("import_csv", import_csv::run),
    ("operations", operations::run),
    ("query_string", query_string::run),
    ("rows", rows::run),
    ("versions", versions::run),
];

/// An input that is read as a sequence of decisions. After its end, it reads as zeros.
pub(crate) struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn new(bytes: &'i [u8]) -> Self {
        Self(bytes)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    /// Returns a position below `end`, which is at most 2^24.
    fn place(&mut self, end: usize) -> usize {
        let number = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]);
        usize::try_from(number).unwrap() % end.max(1)
    }

    fn take(&mut self, count: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Returns true if a damaged file may cause this error.
fn is_of_a_kind_for_damage(error: &datapool_store::Error) -> bool {
    use datapool_store::ErrorKind::{
        AlreadyExists, Closed, Corrupt, NotAStore, NotFound, OutcomeUnknown, Storage, UnsupportedFormat,
    };
    matches!(
        error.kind(),
        AlreadyExists
            | Closed
            | Corrupt
            | NotAStore
            | NotFound
            | OutcomeUnknown
            | Storage
            | UnsupportedFormat { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::TARGETS;

    /// The targets that need a feature: a test binary of that feature replays their seeds.
    const ELSEWHERE: [&str; 1] = ["json_payload"];

    /// Runs a target on every file in a folder. Returns the number of files.
    fn replay(folder: &Path, body: super::Body) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let fails = |file: &&PathBuf| {
            let bytes = std::fs::read(file).unwrap();
            std::panic::catch_unwind(|| body(&bytes)).is_err()
        };
        let failing: Vec<&PathBuf> = files.iter().filter(fails).collect();
        assert!(failing.is_empty(), "inputs that fail their target: {failing:#?}");
        files.len()
    }

    #[test]
    fn every_committed_seed_passes_its_fuzz_target() {
        let seeds = crate::support::data("seeds");
        for (name, body) in TARGETS {
            assert!(replay(&seeds.join(name), body) >= 4, "{name} has too few seeds");
        }
        let folders = std::fs::read_dir(&seeds).unwrap().count();
        assert_eq!(folders, TARGETS.len() + ELSEWHERE.len(), "there are seeds of an unknown target");
        if let Some(more) = std::env::var_os("DATAPOOL_FUZZ_INPUTS") {
            for (name, body) in TARGETS {
                println!("{name}: {} inputs", replay(&Path::new(&more).join(name), body));
            }
        }
    }
}
