//! The arguments, and the help that clap makes of them.

mod command;
mod dedupe;
mod origin;
mod pool;
mod records;
mod texts;
mod transfer;
mod values;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser};

pub(crate) use self::command::Command;
pub(crate) use self::dedupe::Dedupe;
pub(crate) use self::pool::PoolCommand;
pub(crate) use self::records::Selection;
pub(crate) use self::transfer::{Copy, Export, Import};
use self::values::server_url;
use crate::failure;
use crate::format::Format;
use crate::open::StoreFile;
use crate::settings::duration;
use crate::url;

/// The environment variable that names the store if no argument does.
const FILE_VARIABLE: &str = "DATAPOOL_FILE";

/// Inspects and changes a store of data pools: lists records, finds what is new in a list, imports, exports, maintains.
#[derive(Debug, Parser)]
#[command(name = "datapool", version, after_help = texts::TOOL, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// The store's file, or the URL of its server (postgresql://...); default: what `DATAPOOL_FILE` names
    file: Option<PathBuf>,
    /// The URL of the store's server, in place of FILE
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "URL", value_parser = server_url)]
    store: Option<String>,
    /// The schema that the store has on a server: datapool, unless another one is named
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "NAME")]
    schema: Option<String>,
    /// The time to wait for a store that another program has open: 30s, 5m
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "DURATION", value_parser = duration, default_value = "0s", hide_default_value = true)]
    wait: Duration,
    /// Print JSON for programs instead of tables for people; errors, too
    #[arg(long, global = true, help_heading = "Options of all commands")]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the program's arguments. Ends it with a message if they make no sense.
    pub(crate) fn read() -> Self {
        let whole = Self::whole_command();
        let found = whole.clone().try_get_matches().unwrap_or_else(|error| end(&error));
        let command = found.subcommand_name().and_then(|name| whole.find_subcommand(name)).unwrap_or(&whole);
        let mut arguments = Self::from_arg_matches(&found).unwrap_or_else(|error| end(&error));
        if arguments.file.is_none() && arguments.store.is_none() && arguments.command.has_store() {
            arguments.file =
                std::env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        }
        match arguments.check() {
            Ok(()) => arguments,
            Err((kind, text)) => end(&command.clone().error(kind, text)),
        }
    }

    /// Returns the tool with all its commands, whose usage names FILE.
    pub(crate) fn whole_command() -> clap::Command {
        let mut whole = Self::command();
        whole.build();
        name_file(whole)
    }

    /// Checks what clap cannot: that exactly one store is named, or two by `copy`, and that a schema is of a server.
    fn check(&self) -> Result<(), (ErrorKind, String)> {
        match (&self.file, &self.store) {
            (None, None) if self.command.has_store() => {
                let text = format!(
                    "the following required arguments were not provided:\n  <FILE>, which {FILE_VARIABLE} can name, too"
                );
                return Err((ErrorKind::MissingRequiredArgument, text));
            }
            (Some(_), None) | (None, Some(_)) if matches!(self.command, Command::Copy(_)) => {
                let text = "`copy` names both of its stores itself: datapool copy FROM TO".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            (Some(_), None) | (None, Some(_)) if !self.command.has_store() => {
                let text = "this command is about no store: leave FILE and --store out".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            (Some(_), Some(_)) => {
                let text = "the store is named twice: by FILE and by --store".to_owned();
                return Err((ErrorKind::ArgumentConflict, text));
            }
            _ => {}
        }
        if let Command::Delete(delete) = &self.command
            && !delete.names_records()
        {
            let text =
                "no records are named: by ID..., by a filter (--value, --run and so on), or by --where QUERY";
            return Err((ErrorKind::MissingRequiredArgument, text.to_owned()));
        }
        let is_server = |place: &PathBuf| url::of_server(place).is_some();
        let places = match &self.command {
            Command::Copy(Copy { from, to, .. }) => vec![from, to],
            _ => self.file.iter().collect(),
        };
        if places.into_iter().any(|place| url::is_misspelled(place)) {
            let text = "the store is neither a file nor the URL of a server, which begins with postgresql:// or postgres://";
            return Err((ErrorKind::InvalidValue, text.to_owned()));
        }
        let (has_server, to_is_server) = if let Command::Copy(Copy { from, to, .. }) = &self.command {
            (is_server(from) || is_server(to), is_server(to))
        } else {
            (self.store.is_some() || self.file.as_ref().is_some_and(is_server), false)
        };
        let to_schema = matches!(&self.command, Command::Copy(Copy { to_schema: Some(_), .. }));
        if (self.schema.is_some() && !has_server) || (to_schema && !to_is_server) {
            let text = "a schema can be named only for a store on a server".to_owned();
            return Err((ErrorKind::ArgumentConflict, text));
        }
        Ok(())
    }

    /// Returns the store that the command is about. `copy` has two.
    pub(crate) fn store_file(&self) -> StoreFile {
        match (&self.store, &self.file) {
            (Some(url), _) => StoreFile::server(url, self.schema.as_deref()),
            (None, Some(file)) => self.place(file, None),
            // Commands without a store of their own: `copy` names its stores in messages itself.
            (None, None) => StoreFile::file(Path::new("datapool"), self.wait),
        }
    }

    /// Returns the stores from which and to which `copy` copies.
    pub(crate) fn stores_of(&self, copy: &Copy) -> (StoreFile, StoreFile) {
        (self.place(&copy.from, None), self.place(&copy.to, copy.to_schema.as_deref()))
    }

    fn place(&self, name: &Path, schema: Option<&str>) -> StoreFile {
        match url::of_server(name) {
            Some(url) => StoreFile::server(url, schema.or(self.schema.as_deref())),
            None => StoreFile::file(name, self.wait),
        }
    }

    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }
}

/// Ends the program with the message of wrong usage, or with the help that was asked for.
fn end(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    let arguments = || std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let text = url::hide_in(error.render().to_string(), arguments());
    if arguments().any(|argument| argument == "--json") {
        failure::tell_json("Usage", text.strip_prefix("error: ").unwrap_or(&text).trim_end());
    } else {
        // If standard error is closed, the message is lost.
        let _ = write!(io::stderr(), "{text}");
    }
    std::process::exit(error.exit_code())
}

/// Puts FILE into the usage of the commands that have a store: to clap it is an argument of the tool alone.
fn name_file(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|mut command| {
        if ["copy", "completions", "man"].contains(&command.get_name()) {
            return command;
        }
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").replacen("datapool ", "datapool [FILE] ", 1);
        name_file(command.override_usage(usage))
    })
}
