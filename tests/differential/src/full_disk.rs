//! Full disks: the store is on a small file system, which is full now and then. A call that fails changes nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::generate::Limits;
use crate::random::Random;
use crate::run::{Difference, Run};
use crate::subject::{Setup, Subject};
use crate::{Arguments, START};

/// A file system in memory, which ends with this.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path, kib: u64) -> Result<Self, String> {
        let size = format!("size={kib}k");
        let path_text = path.to_string_lossy();
        command("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &path_text])?;
        Ok(Self(path.to_owned()))
    }

    /// Makes it larger or smaller. It cannot get smaller than what it has.
    fn resize(&self, kib: u64) {
        let size = format!("remount,size={kib}k");
        let _ = command("mount", &["-o", &size, &self.0.to_string_lossy()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = command("umount", &[&self.0.to_string_lossy()]);
    }
}

fn command(program: &str, words: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

pub fn run(arguments: &Arguments, seed: u64, directory: &Path) -> Result<String, Difference> {
    let place = directory.join("disk");
    std::fs::create_dir_all(&place).expect("making a directory");
    let failed = |text: String| Difference { number: 0, text: format!("a small file system: {text}") };
    let mount = Mount::new(&place, 4_096).map_err(failed)?;
    // The files that the run imports and exports lie elsewhere: it is the store that runs out of space.
    let setup = Setup { relaxed: false, ..arguments.setup(seed, place.clone()) };
    // Where a page finds no room, the store opens its file again: from then on, leases run by the clock.
    let limits = Limits { one_commit: true, steady: true, ..arguments.limits() };
    if arguments.verbose {
        eprintln!("{setup:?}");
    }
    let opened = Subject::open(setup);
    let mut subject = opened.map_err(|error| failed(error.to_string()))?;
    let mut run = Run::new(seed, START, false, limits);
    let mut random = Random::new(seed ^ 0xF011);
    while run.done < arguments.operations || !run.generator.is_between() {
        // Every few operations it gets room, or so little that the next ones fail.
        if random.once_in(40) {
            let used = used_kib(&place);
            let more = *random.pick(&[0, 0, 16, 64, 512, 8_192]);
            mount.resize(used + more);
            if arguments.verbose {
                eprintln!("  {used} KiB used, {more} KiB left");
            }
        }
        run.step(&mut subject, arguments.verbose)?;
    }
    mount.resize(1 << 20);
    run.compare_everything(&mut subject)?;
    let (done, full, ended) = (run.done, run.full, run.ended_snapshots);
    drop(subject);
    Ok(format!("{done} operations, {full} of them with a full disk, which ended {ended} snapshots"))
}

/// Returns the kibibytes that the file system has used.
fn used_kib(path: &Path) -> u64 {
    let done = Command::new("df").args(["-k", "--output=used", &path.to_string_lossy()]).output();
    let text = done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    text.lines().nth(1).and_then(|line| line.trim().parse().ok()).unwrap_or(4_096)
}
