//! Helpers for the tests: a directory with a store, and running the tool in it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use datapool_store::{DataPoolStore, EntityTypeId, Key, ManualClock, Mode, Origin, StoreOptions};
use serde_json::Value;

pub(crate) const ORDERS: EntityTypeId = EntityTypeId::new(37);
/// The store's file in the directory.
pub(crate) const FILE: &str = "pools.redb";

/// A directory in which the tool runs.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

/// The output of the tool, and its exit code.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// Creates a directory without a store.
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Creates a directory with a store that has the pool "orders".
    pub(crate) fn new() -> Self {
        let place = Self::empty();
        place.run(["pool", "create", "orders"]).ok();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Returns the names of all files, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Opens the store in this process.
    pub(crate) fn open(&self) -> DataPoolStore {
        self.open_at(None)
    }

    /// Opens the store with a clock.
    pub(crate) fn open_at(&self, clock: Option<&ManualClock>) -> DataPoolStore {
        let mut options = StoreOptions::new();
        if let Some(clock) = clock {
            options = options.clock(clock.clone());
        }
        options.open(self.path(FILE)).unwrap()
    }

    /// Returns a command of the tool in this directory, with exactly these arguments.
    pub(crate) fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_datapool"));
        command.args(arguments).current_dir(self.directory.path());
        command
    }

    /// Runs the tool on the store.
    pub(crate) fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Answer {
        self.run_with("", arguments)
    }

    /// Runs the tool on the store, with this as standard input.
    pub(crate) fn run_with<'a>(
        &self,
        input: impl AsRef<[u8]>,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Answer {
        finish(self.command([FILE].into_iter().chain(arguments)), input.as_ref())
    }

    /// Runs the tool with `--json`. Returns its output; it must succeed.
    pub(crate) fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        self.run(["--json"].into_iter().chain(arguments)).json()
    }

    /// Tracks values as orders without an origin.
    pub(crate) fn track(&self, values: &[&str]) {
        self.run_with(values.join("\n"), ["dedupe", "orders", "--entity-type", "37"]).ok();
    }
}

/// Runs a command until it exits.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Answer {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Use another thread, because the tool may print before it has read everything, or not read at all.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command whose standard output is a terminal of this many rows and columns, without colours. Returns
/// what it sends there. It must succeed, with nothing on standard error.
#[cfg(target_os = "linux")]
pub(crate) fn on_terminal(mut command: Command, input: &str, (rows, columns): (u16, u16)) -> String {
    use std::io::Read;
    use std::os::unix::{ffi::OsStrExt, fs::OpenOptionsExt};

    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&main).unwrap();
    tcsetwinsize(&main, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&main, Vec::new()).unwrap();
    let no_control = i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap();
    let terminal = std::fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(no_control)
        .open(std::ffi::OsStr::from_bytes(name.as_bytes()))
        .unwrap();
    command.env("NO_COLOR", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(terminal).stderr(Stdio::piped()).spawn().unwrap();
    // It has the terminal open, too.
    drop(command);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let mut sent = Vec::new();
    // When the program has closed the terminal, reading ends with an error.
    let _ = std::fs::File::from(main).read_to_end(&mut sent);
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    String::from_utf8(sent).unwrap().replace("\r\n", "\n")
}

impl Answer {
    /// Returns the output. The tool must have succeeded, with nothing on standard error.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// Returns the only JSON value in the output.
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Returns the JSON values in the output, one per line.
    pub(crate) fn json_lines(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the error, for people or as JSON. The tool must have failed with this code and printed nothing
    /// else.
    pub(crate) fn error(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        assert!(["error: ", "{\"error\":{"].iter().any(|start| self.err.starts_with(start)), "{}", self.err);
        self.err
    }
}

/// Returns true if a line of the text has all of these words in order, with anything between them.
pub(crate) fn has_line(text: &str, words: &[&str]) -> bool {
    text.lines().any(|line| {
        let mut rest = line;
        words.iter().all(|word| match rest.split_once(word) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

/// Tracks values as orders of a flow, through the library.
pub(crate) fn track_as(store: &DataPoolStore, flow: &str, values: &[String]) {
    let pool = store.get_or_create_pool("orders").unwrap();
    let origin = Origin::new(flow, "run 1", "read orders");
    let verdicts = pool.dedupe(Mode::Track, values, |value| Key::new(ORDERS, value), &origin).unwrap();
    assert_eq!(verdicts.new_count(), values.len());
}
