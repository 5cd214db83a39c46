//! The rows of the group `export`: all records to a CSV file that is synced at the end.
//!
//! Always holds: before anything is timed, the engines' files are checked to be identical byte for byte. The
//! file of SQLite's command-line program, if it exists, must have the same number of lines.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;
use crate::engines::{EngineKind, Past};
use crate::files::Setting;
use crate::measure::{Rounds, Spread, Turn, float, take_turns, timed};
use crate::report::{Report, Unit};

/// The name of SQLite's command-line program among the engines.
pub(crate) const SQLITE_COMMAND: &str = "sqlite3, the command";

/// The limit set by the disk. It is not an engine.
const FLOOR: &str = "the bytes alone";

const QUERY: &str = "SELECT value, entity_type AS entity_type_id FROM record ORDER BY id";

pub(super) fn run(setting: Setting<'_>) -> Result<Report> {
    eprintln!("measuring: export");
    let mut report = Report::new("export", format!("Export, {} records", setting.size.name()));
    let scratch = setting.scratch()?;
    let file = scratch.path().join("export.csv");
    let database = setting.base(EngineKind::Sqlite, Past::Loaded)?.join("pools.sqlite");
    let (mut turns, mut names) = (Vec::new(), Vec::new());
    let mut expected = None;
    for kind in EngineKind::peers() {
        let mut engine = kind.open(&setting.base(kind, Past::Loaded)?)?;
        engine.export(&file)?;
        let bytes = fs::read(&file)?;
        assert!(*expected.get_or_insert_with(|| bytes.clone()) == bytes, "{}: another file", kind.name());
        let file = file.clone();
        turns.push(Turn::new(move || Ok(timed(|| engine.export(&file))?.0)));
        names.push(kind.name());
    }
    let bytes = expected.unwrap_or_default();
    let copy = file.clone();
    turns.push(Turn::new(move || Ok(timed(|| write_synced(&copy, &bytes))?.0)));
    names.push(FLOOR);
    report.note(format!("{FLOOR:?}: the same file, written from memory and synced."));
    match command_version() {
        Some(version) => {
            export_by_command(&database, &file)?;
            let lines = BufReader::new(File::open(&file)?).lines().count();
            assert_eq!(lines, setting.size.records() + 1, "{SQLITE_COMMAND}");
            turns.push(Turn::new(|| Ok(timed(|| export_by_command(&database, &file))?.0)));
            names.push(SQLITE_COMMAND);
            report.note(format!("{SQLITE_COMMAND}: {version}, with -csv, its start included."));
        }
        None => report.note("There is no command sqlite3 here to compare with."),
    }
    let taken = take_turns(Rounds::Enough, turns)?;
    let rows = float(setting.size.records() as u64);
    let spreads = taken.iter().map(|turns| Spread::of(turns.iter().map(|seconds| seconds / rows)));
    report.row("rows", Unit::Rate("rows"), names.into_iter().zip(spreads));
    Ok(report)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

/// Returns the version of SQLite's command-line program, if it exists.
fn command_version() -> Option<String> {
    let output = Command::new("sqlite3").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().next()?.to_owned())
}

fn export_by_command(database: &Path, file: &Path) -> Result<()> {
    let out = File::create(file)?;
    let mut command = Command::new("sqlite3");
    command.args(["-readonly", "-csv", "-header"]).arg(database).arg(QUERY);
    let status = command.stdout(out.try_clone()?).stderr(Stdio::inherit()).status()?;
    if !status.success() {
        return Err(format!("{SQLITE_COMMAND} ended with {status}").into());
    }
    Ok(out.sync_all()?)
}
