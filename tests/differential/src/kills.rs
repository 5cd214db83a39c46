//! Killed processes: a child does the work and says what is done; what it had said must be there.
//!
//! The parent does the same operations in the model alone. The store that the child left must be as after its last finished
//! operation, or as after the one that was under way. Then the parent goes on with the store and the model that fits.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::generate::Limits;
use crate::operation::Operation;
use crate::random::Random;
use crate::run::{Difference, Run};
use crate::subject::{Setup, Subject};
use crate::{Arguments, START};

impl Arguments {
    /// Expired records may be seen again after a crash if the clock was set back, so it never is; and an import that commits
    /// in parts is neither whole nor absent.
    fn limits_of_kills(&self) -> Limits {
        Limits { forward_only: true, one_commit: true, file: true, ..self.limits() }
    }

    /// A store that does not wait for the disk may lose its last operations, so each of them waits here.
    fn setup_of_kills(&self, seed: u64, directory: &Path) -> Setup {
        Setup { relaxed: false, ..self.setup(seed, directory.to_owned()) }
    }
}

/// The work of the child: prints the number of each operation that is done.
pub fn child(arguments: &Arguments) {
    let setup = arguments.setup_of_kills(arguments.seed, &arguments.directory);
    let mut subject = Subject::open(setup).expect("opening");
    let mut run = Run::new(arguments.seed, START, false, arguments.limits_of_kills());
    let mut out = std::io::stdout();
    writeln!(out, "0").expect("the parent reads");
    while run.done < arguments.operations {
        if let Err(difference) = run.step(&mut subject, false) {
            writeln!(out, "{difference:?}").expect("the parent reads");
            return;
        }
        writeln!(out, "{}", run.done).expect("the parent reads");
        out.flush().expect("the parent reads");
    }
    // Ending would release what the guards hold.
    loop {
        thread::park();
    }
}

/// Starts a child, kills it at a random moment, and returns the number of operations that it had finished.
fn killed(arguments: &Arguments, seed: u64, directory: &Path) -> Result<u64, Difference> {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args(["--child", "--seed", &seed.to_string(), "--operations", &arguments.operations.to_string()])
        .args(["--big", &arguments.big.to_string(), "--directory"])
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starting the child");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("reading from the child");
    // Of its operations, most take well under a millisecond, and some a second.
    let mut random = Random::new(seed ^ 0xDEAD);
    let longest = *random.pick(&[20, 300, 4_000]);
    thread::sleep(Duration::from_micros(random.below(longest * 1_000)));
    child.kill().ok();
    child.wait().expect("waiting for the child");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("reading from the child");
    match rest.lines().last() {
        None => Ok(0),
        Some(last) => last.parse().map_err(|_| Difference { number: 0, text: rest }),
    }
}

pub fn run(arguments: &Arguments, seed: u64, setup: &Setup) -> Result<String, Difference> {
    let directory = match &setup.place {
        crate::subject::Place::Directory(directory) => directory.clone(),
        crate::subject::Place::Postgres { .. } => {
            return Err(Difference { number: 0, text: "--kills is for the embedded engine".to_owned() });
        }
    };
    let done = killed(arguments, seed, &directory)?;
    // The model as after the last finished operation, and as after the one under way.
    let mut finished = Run::new(seed, START, false, arguments.limits_of_kills());
    while finished.done < done {
        finished.step_model();
    }
    let is_last = done == arguments.operations;
    let mut whole = Run::new(seed, START, false, arguments.limits_of_kills());
    let mut under_way = None;
    while whole.done < if is_last { done } else { done + 1 } {
        under_way = Some(whole.step_model());
    }
    let setup = arguments.setup_of_kills(seed, &directory);
    let with_time = |run: &Run| Subject::open_left(setup.clone(), run.model.now);
    let opened = |error| Difference { number: done, text: format!("opening after the kill: {error}") };
    let fits = |run: &mut Run, subject: &mut Subject| {
        run.left_alone();
        run.compare_everything(subject)
    };
    let mut subject = with_time(&finished).map_err(opened)?;
    let kept = fits(&mut finished, &mut subject);
    let mut run = match kept {
        Ok(()) => finished,
        Err(difference) => {
            drop(subject);
            subject = with_time(&whole).map_err(opened)?;
            let text = |other: Difference| {
                let under_way = crate::run::short(&format!("{under_way:?}"));
                format!("killed in {under_way}\nabsent: {}\nwhole: {}", difference.text, other.text)
            };
            fits(&mut whole, &mut subject).map_err(|other| Difference { number: done, text: text(other) })?;
            whole
        }
    };
    let end = run.done + arguments.operations / 2;
    while run.done < end || !run.generator.is_between() {
        run.step(&mut subject, arguments.verbose)?;
    }
    run.compare_everything(&mut subject)?;
    Ok(format!("killed after {done} operations in {}, then {}", name(under_way), end - done))
}

fn name(operation: Option<Operation>) -> String {
    let text = operation.map_or_else(String::new, |operation| format!("{operation:?}"));
    text.chars().take_while(|letter| letter.is_alphanumeric()).collect()
}
