//! Random operations against a store and an independent model of it, side by side.
//!
//! The model is written from the documentation alone, by full scans. The program stops at the first difference, with the seed,
//! the number of the operation, and both answers. The same seed does the same operations.

mod answer;
mod full_disk;
mod generate;
mod kills;
mod model;
mod operation;
mod random;
mod run;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use crate::generate::Limits;
use crate::random::Random;
use crate::run::{Difference, run};
use crate::subject::{Place, Setup};

const HELP: &str = "\
Usage: datapool-differential [OPTIONS]
  --engine embedded|postgres  the engine under test (embedded)
  --url URL                   the server, for postgres
  --seed N                    the first seed (1)
  --seeds N                   the number of seeds (1)
  --operations N              operations of each seed (1000)
  --big N                     records of the one big pool, at most (3000)
  --kills                     a child process does the work, and is killed
  --full-disk                 on a small file system that is full now and then (needs root)
  --directory DIR             where the files are made
  --verbose                   print each operation";

/// The time that the clock shows when a run begins: 2026-01-01.
const START: i64 = 1_767_225_600_000_000;

#[derive(Debug, Clone)]
pub struct Arguments {
    postgres: bool,
    url: String,
    seed: u64,
    seeds: u64,
    operations: u64,
    big: usize,
    kills: bool,
    child: bool,
    full_disk: bool,
    directory: PathBuf,
    verbose: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        postgres: false,
        url: "postgresql://datapool@127.0.0.1:54331/postgres".to_owned(),
        seed: 1,
        seeds: 1,
        operations: 1_000,
        big: 3_000,
        kills: false,
        child: false,
        full_disk: false,
        directory: std::env::temp_dir(),
        verbose: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match word.as_str() {
            "--engine" => found.postgres = value()? == "postgres",
            "--url" => found.url = value()?,
            "--seed" => found.seed = number(value()?)?,
            "--seeds" => found.seeds = number(value()?)?,
            "--operations" => found.operations = number(value()?)?,
            "--big" => found.big = usize::try_from(number(value()?)?).map_err(|error| error.to_string())?,
            "--kills" => found.kills = true,
            "--child" => found.child = true,
            "--full-disk" => found.full_disk = true,
            "--directory" => found.directory = value()?.into(),
            "--verbose" => found.verbose = true,
            _ => return Err(format!("unknown option {word}\n{HELP}")),
        }
    }
    Ok(found)
}

impl Arguments {
    /// Returns the options that a seed chooses.
    pub fn setup(&self, seed: u64, directory: PathBuf) -> Setup {
        let mut random = Random::new(seed ^ 0x5E7);
        let place = if self.postgres {
            Place::Postgres {
                url: self.url.clone(),
                schema: format!("differential_{seed}_{}", std::process::id()),
            }
        } else {
            Place::Directory(directory)
        };
        Setup {
            place,
            small: random.once_in(2) && self.big <= 10_000,
            relaxed: random.once_in(4),
            instant: random.once_in(3),
            cache: *random.pick(&[1 << 20, 16 << 20, 256 << 20]),
            start: START,
            files: self.directory.clone(),
        }
    }

    pub fn limits(&self) -> Limits {
        Limits { file: !self.postgres, big: self.big, ..Limits::default() }
    }
}

fn one_seed(arguments: &Arguments, seed: u64) -> Result<String, Difference> {
    let directory = tempfile::tempdir_in(&arguments.directory).expect("a directory for the files");
    let setup = arguments.setup(seed, directory.path().to_owned());
    if arguments.kills {
        return kills::run(arguments, seed, &setup);
    }
    if arguments.full_disk {
        return full_disk::run(arguments, seed, directory.path());
    }
    let run = run(seed, &setup, arguments.limits(), arguments.operations, arguments.verbose)?;
    Ok(format!("{} operations, at most {} records in a pool", run.done, run.largest))
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    if arguments.child {
        kills::child(&arguments);
        return ExitCode::SUCCESS;
    }
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let (seed, number) = (run::SEED.load(Ordering::Relaxed), run::NUMBER.load(Ordering::Relaxed));
        eprintln!("seed {seed}, operation {number}: panicked");
        usual(panic);
    }));
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        match one_seed(&arguments, seed) {
            Ok(done) => println!("seed {seed}: {done}, no difference"),
            Err(Difference { number, text }) => {
                println!("seed {seed}, operation {number}: different answers\n{text}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
