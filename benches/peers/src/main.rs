//! Compares datapool-store with what a Rust program would otherwise use, row by row, in one run of one machine.
//!
//! ```sh
//! benches/peers/run [GROUP]... [--size SIZE] [--data DIRECTORY] [--out DIRECTORY]
//! ```
//!
//! Without a group all are run, at 10M unless told otherwise; sizes are 10K, 30K, 100K and so on to 100M. Markdown
//! tables go to stdout, progress to stderr; with `--out` the tables also go to a file there, with charts beside it. The
//! files that are measured lie in a temporary directory; with `--data` they stay in that one, and the next run uses
//! them as they are. At 10M all groups need some 40 GB of disk, and hours; `listing` alone ten minutes and 6 GB.
//!
//! [`data`], [`query`] and [`answer`] say what is stored, asked and answered, in the words of no engine. [`engines`]
//! are what writes; [`store`] and [`sqlite`] what `listing` reads by. [`groups`] have the rows, [`files`] what they
//! work on; [`measure`] times, [`report`] and [`chart`] show what came of it, and [`targets`] judge it.
//!
//! Every rival is to be at its best: its module says what it does for speed. The same for all are durability (synced
//! on return), the cache (256 MiB), the fields, and what is indexed.

mod answer;
mod chart;
// The benches' own module. It is as they need it, not as this crate does.
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

/// Whatever goes wrong ends the program: there is nobody to tell the kinds apart.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What this program tells itself when it imports in a process of its own.
const IMPORT_ONCE: &str = "--import-once";

/// What the command line asks for.
#[derive(Debug)]
struct Command {
    groups: Vec<Group>,
    size: Size,
    directory: PathBuf,
    out: Option<PathBuf>,
    /// Removes the directory at the end, unless it is the caller's.
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

    /// Measures group after group, and shows each as soon as it is done.
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

/// The choice of that name, in whatever case.
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
