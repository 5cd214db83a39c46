//! Asking before a change that cannot be undone.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::failure::Failure;
use crate::open::{self, StoreFile};
use crate::output;
use crate::plain::plain;

/// The user's consent, if it was given on the command line.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Consent {
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

impl Consent {
    pub(crate) fn is_given(self) -> bool {
        self.yes
    }
}

/// Asks before doing something to a whole pool, unless consent was given already.
///
/// Fails if the answer is not yes, or if there is no terminal to ask on.
pub(crate) fn ask(consent: Consent, file: &StoreFile, pool: &str, verb: &str) -> Result<(), Failure> {
    if consent.is_given() {
        return Ok(());
    }
    let (row, stats) = open::to_read(file, |store| {
        let pool = open::pool(store, file, pool)?;
        Ok((pool.info()?, pool.stats()?))
    })?;
    confirm(&format!(
        "{verb} data pool {}, {:?}, with {} and {}",
        row.id,
        row.name,
        output::number_of(stats.live, "record"),
        output::number_of(stats.claims, "claim")
    ))
}

/// Asks before doing something, which begins with a verb. The store must be closed, so that others can use it while this
/// waits for the answer.
///
/// Fails if the answer is not yes, or if there is no terminal to ask on.
pub(crate) fn confirm(what: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(format!(
            "this would {what}; without a terminal to ask on, it needs `--yes`"
        )));
    }
    let mut answer = String::new();
    let question = write!(io::stderr(), "{}? [y/N] ", plain(what));
    match question.and_then(|()| io::stdin().read_line(&mut answer)) {
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) => Ok(()),
        Ok(_) => Err(Failure::new("nothing was done")),
        Err(error) => Err(Failure::new(format!("asking before it would {what}: {error}"))),
    }
}
