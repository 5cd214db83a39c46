//! Compares datapool-store with what a Rust program would otherwise use, row by row, in one run of one machine.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [GROUP]... [--size 1M|10M] [--data DIRECTORY]
//! ```
//!
//! Without a group all are run, at 10M unless told otherwise. Markdown tables go to stdout, progress to stderr. The
//! files lie in a temporary directory; with `--data` they stay in that one, and the next run uses them as they are.
//! At 10M a run takes some ten minutes, most of them to find the fastest ways to ask SQLite, and 6 GB of disk.
//!
//! [`data`], [`query`] and [`answer`] say what is stored, asked and answered, in the words of no engine; [`store`] and
//! [`sqlite`] are the engines;
//! a group, such as [`listing`], has the rows; [`measure`] times and prints them.

mod answer;
// The benches' own module. It is as they need it, not as this crate does.
#[path = "../../common/mod.rs"]
mod common;
mod data;
mod listing;
mod measure;
mod query;
mod sqlite;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use data::Size;

/// Whatever goes wrong ends the program: there is nobody to tell the kinds apart.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Rows that are measured together, over the same files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Listing,
}

impl Group {
    const ALL: [Self; 1] = [Self::Listing];

    fn name(self) -> &'static str {
        match self {
            Self::Listing => "listing",
        }
    }

    fn run(self, command: &Command) -> Result<()> {
        match self {
            Self::Listing => listing::run(command.size, &command.directory),
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
struct Command {
    groups: Vec<Group>,
    size: Size,
    directory: PathBuf,
    /// Removes the directory at the end, unless it is the caller's.
    _temporary: Option<tempfile::TempDir>,
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut groups, mut size, mut data) = (Vec::new(), Size::TenMillion, None);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--size" => size = named(Size::ALL, Size::name, arguments.next())?,
                "--data" => data = Some(PathBuf::from(arguments.next().ok_or("--data needs a directory")?)),
                _ => groups.push(named(Group::ALL, Group::name, Some(argument))?),
            }
        }
        if groups.is_empty() {
            groups.extend(Group::ALL);
        }
        let Some(directory) = data else {
            let temporary = tempfile::Builder::new().prefix("datapool-peers-").tempdir()?;
            let directory = temporary.path().to_owned();
            return Ok(Self { groups, size, directory, _temporary: Some(temporary) });
        };
        std::fs::create_dir_all(&directory)?;
        Ok(Self { groups, size, directory, _temporary: None })
    }
}

/// The choice of that name.
fn named<T: Copy, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
    asked: Option<String>,
) -> Result<T> {
    let asked = asked.unwrap_or_default();
    let found = all.into_iter().find(|choice| name(*choice) == asked);
    found.ok_or_else(|| format!("{asked:?} is not one of {}", all.map(name).join(", ")).into())
}

fn main() -> ExitCode {
    let outcome = Command::parse(std::env::args().skip(1))
        .and_then(|command| command.groups.iter().try_for_each(|group| group.run(&command)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("datapool-peers: {error}");
            ExitCode::FAILURE
        }
    }
}
