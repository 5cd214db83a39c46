//! `datapool`: the store's command-line tool.
//!
//! Each command is a module that calls the library and prints the answer: as tables and sentences for people, or as
//! JSON for programs. Must not know: anything but the library's public API.

mod args;
mod bars;
mod claims;
mod consent;
mod contains;
mod copy;
mod dedupe;
mod failure;
mod filter;
mod format;
mod grid;
mod input;
mod lines;
mod manual;
mod open;
mod output;
mod plain;
mod pools;
mod records;
mod rehearsal;
mod settings;
mod stats;
mod terminal;
mod transfer;
mod upkeep;
mod url;

use std::process::ExitCode;

use crate::args::{Arguments, Command};
use crate::failure::Failure;
use crate::open::StoreFile;

fn main() -> ExitCode {
    failure::keep_contained_panics_quiet();
    let arguments = Arguments::read();
    let file = arguments.store_file();
    match run(&arguments, &file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure
            .report(|damage| of_damage(&arguments.command, &file.display(), damage), arguments.format()),
    }
}

fn run(arguments: &Arguments, file: &StoreFile) -> Result<(), Failure> {
    let format = arguments.format();
    match &arguments.command {
        Command::Pool(command) => pools::run(file, command, format),
        Command::Import(import) => transfer::import(file, import, format),
        Command::Export(export) => transfer::export(file, export, format),
        Command::Records(records) => records::list(file, records, format),
        Command::Dedupe(dedupe) => dedupe::run(file, dedupe, format),
        Command::Contains { pool, entity_type } => contains::run(file, pool, *entity_type, format),
        Command::Claims(claims) => claims::run(file, claims, format),
        Command::Delete(delete) => records::delete(file, &delete.pool, &delete.selection(), format),
        Command::Clear { pool, consent } => records::clear(file, pool, *consent, format),
        Command::Stats { pool: None } => stats::of_store(file, format),
        Command::Stats { pool: Some(pool) } => stats::of_pool(file, pool, format),
        Command::Prune { pool } => upkeep::prune(file, pool.as_deref(), format),
        Command::Verify => upkeep::verify(file, format),
        Command::RebuildIndexes => upkeep::rebuild_indexes(file, format),
        Command::Compact => upkeep::compact(file, format),
        Command::Vacuum => upkeep::vacuum(file, format),
        Command::Copy(copy) => {
            let (from, to) = arguments.stores_of(copy);
            copy::run(&from, &to, format)
        }
        Command::Backup { destination } => upkeep::backup(file, destination, format),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man => manual::page(),
    }
}

/// Adds the name of the damaged store, unless the message has it, and what to do next.
fn of_damage(command: &Command, store: &str, message: &str) -> String {
    let named = if message.contains(store) { message.to_owned() } else { format!("{store}: {message}") };
    match command {
        Command::Verify => format!("{named}; `verify` cannot go on: restore a backup"),
        // The message says what to do.
        Command::RebuildIndexes => named,
        // The message names the one of its two stores that is damaged.
        Command::Copy(_) => format!("{message}; `datapool FILE verify` reports where"),
        _ => format!("{named}; `datapool {store} verify` reports where"),
    }
}
