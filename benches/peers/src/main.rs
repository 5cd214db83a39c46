//! Compares datapool-store with its alternatives for a Rust program, row by row, in one run on one machine.
//!
//! ```sh
//! benches/peers/run [GROUP]... [--size SIZE] [--data DIRECTORY] [--out DIRECTORY]
//! ```
//!
//! Without a group, all groups are run. The default size is 10M; sizes are 10K, 30K, 100K and so on up to
//! 100M. Markdown tables go to stdout, and progress to stderr. With `--out`, the tables are also written to a
//! file in that directory, with charts beside it. The measured files are in a temporary directory. With
//! `--data`, they stay in that directory, and the next run uses them again. At 10M, all groups need about 40
//! GB of disk and several hours; `listing` alone needs 6 GB and ten minutes.
//!
//! [`data`], [`query`] and [`answer`] define the data, the queries and the answers, independent of any
//! engine. [`engines`] has the engines that write; [`store`] and [`sqlite`] are the two that `listing` reads.
//! [`groups`] has the rows, and [`files`] the files that they use. [`measure`] takes the times, [`report`]
//! and [`chart`] show the results, and [`targets`] compares them with the targets.
//!
//! Every rival must be at its best: its module describes what it does for speed. Durability (synced on
//! return), the cache (256 MiB), the fields and the indexed columns are the same for all.

mod answer;
mod chart;
// The module of the criterion benches. Not everything in it is used here.
#[path = "../../criterion/benches/common/mod.rs"]
mod common;
mod data;
mod engines;
mod files;
mod groups;
mod measure;
mod query;
mod report;
mod sqlite;
mod store;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use data::Size;
use files::Setting;
use groups::Group;
use report::Report;

/// Any error ends the program, so the kinds of errors need not be distinguished.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The argument with which this program starts itself to import in a separate process.
const IMPORT_ONCE: &str = "--import-once";

/// The parsed command line.
#[derive(Debug)]
struct Command {
    groups: Vec<Group>,
    size: Size,
    directory: PathBuf,
    out: Option<PathBuf>,
    /// Removes the temporary directory at the end. `None` if the caller named the directory.
    _temporary: Option<tempfile::TempDir>,
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut groups, mut size, mut data, mut out) = (Vec::new(), Size::TEN_MILLION, None, None);
        while let Some(argument) = arguments.next() {
            let mut directory = || arguments.next().map(PathBuf::from).ok_or("that needs a directory");
            match argument.as_str() {
                "--data" => data = Some(directory()?),
                "--out" => out = Some(directory()?),
                "--size" => size = named(&Size::ALL, Size::name, arguments.next())?,
                _ => groups.push(named(&Group::all(), Group::name, Some(argument))?),
            }
        }
        if groups.is_empty() {
            groups.extend(Group::ALONE);
        }
        for directory in data.iter().chain(&out) {
            fs::create_dir_all(directory)?;
        }
        let Some(directory) = data else {
            let temporary = tempfile::Builder::new().prefix("datapool-peers-").tempdir()?;
            let directory = temporary.path().to_owned();
            return Ok(Self { groups, size, directory, out, _temporary: Some(temporary) });
        };
        Ok(Self { groups, size, directory, out, _temporary: None })
    }

    /// Measures one group after the other, and prints each as soon as it is done.
    fn run(&self) -> Result<()> {
        let (mut reports, mut text) = (Vec::new(), String::new());
        for group in &self.groups {
            let (report, points) = group.run(Setting { size: self.size, directory: &self.directory })?;
            println!("{}", report.markdown());
            text += &report.markdown();
            text.push('\n');
            if let Some(out) = &self.out {
                draw(&report, &points, out)?;
            }
            reports.push(report);
        }
        let judgement = targets::judge(&reports, self.size);
        println!("{judgement}");
        if let Some(out) = &self.out {
            fs::write(out.join("peers.md"), text + &judgement)?;
        }
        Ok(())
    }
}

fn draw(report: &Report, points: &[groups::Point], out: &Path) -> Result<()> {
    let path = out.join(format!("{}.svg", report.group));
    if points.is_empty() { chart::bars(report, &path) } else { chart::growth(points, &path) }
}

/// Returns the choice with that name, ignoring case.
fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, asked: Option<String>) -> Result<T> {
    let asked = asked.unwrap_or_default();
    let found = all.iter().copied().find(|choice| name(*choice).eq_ignore_ascii_case(&asked));
    let names: Vec<&str> = all.iter().copied().map(name).collect();
    found.ok_or_else(|| format!("{asked:?} is not one of {}", names.join(", ")).into())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let outcome = if arguments.next_if(|first| first == IMPORT_ONCE).is_some() {
        groups::run_once(arguments)
    } else {
        Command::parse(arguments).and_then(|command| command.run())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("datapool-peers: {error}");
            ExitCode::FAILURE
        }
    }
}
