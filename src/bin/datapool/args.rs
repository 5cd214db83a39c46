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

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, ValueHint};

pub(crate) use self::command::Command;
use self::command::Wrong;
pub(crate) use self::dedupe::Dedupe;
pub(crate) use self::pool::PoolCommand;
pub(crate) use self::records::{Records, Selection};
pub(crate) use self::transfer::{Copy, Export, Import};
use self::values::server_url;
use crate::failure;
use crate::format::Format;
use crate::open::StoreFile;
use crate::settings::duration;
use crate::url;

/// The environment variable that names the store if no argument does.
const FILE_VARIABLE: &str = "DATAPOOL_FILE";

/// Inspects and changes a store of data pools: lists records, finds new values, imports, exports, maintains the file
#[derive(Debug, Parser)]
#[command(name = "datapool", version, after_help = texts::TOOL, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// The store's file, or the URL of its server (postgresql://...); default: `DATAPOOL_FILE`
    #[arg(value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// The URL of the store's server, instead of FILE
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "URL", value_parser = server_url)]
    store: Option<String>,
    /// The schema of a store on a server; default: datapool
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "NAME")]
    schema: Option<String>,
    /// The time to wait for a file that another program has open: 30s, 5m; not for a server
    #[arg(long, global = true, help_heading = "Options of all commands", value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// Print JSON for programs instead of tables for people; also for errors
    #[arg(long, global = true, help_heading = "Options of all commands")]
    json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the program's arguments. Ends the program with a message if they are wrong.
    pub(crate) fn read() -> Self {
        let whole = Self::whole_command();
        let found = whole
            .clone()
            .try_get_matches()
            .unwrap_or_else(|error| end(&mistyped_command(&whole, &error).unwrap_or(error)));
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

    /// Returns the tool with all its commands. Their usage names FILE.
    pub(crate) fn whole_command() -> clap::Command {
        let mut whole = Self::command();
        whole.build();
        name_file(whole)
    }

    /// Checks what clap cannot, before a store is opened.
    fn check(&self) -> Result<(), (ErrorKind, String)> {
        self.check_number_of_stores()?;
        self.check_stores()?;
        self.command.check().map_err(|error| match error {
            Wrong::Missing(text) => (ErrorKind::MissingRequiredArgument, text.to_owned()),
            Wrong::Value(error) => (ErrorKind::InvalidValue, error.to_string()),
        })
    }

    /// Checks that exactly one store is named, or two by `copy`.
    fn check_number_of_stores(&self) -> Result<(), (ErrorKind, String)> {
        let conflict = |text: &str| Err((ErrorKind::ArgumentConflict, text.to_owned()));
        match (&self.file, &self.store) {
            (None, None) if self.command.has_store() => {
                let text = format!(
                    "the following required arguments were not provided:\n  <FILE>, or the environment variable {FILE_VARIABLE}"
                );
                Err((ErrorKind::MissingRequiredArgument, text))
            }
            (Some(_), None) | (None, Some(_)) if matches!(self.command, Command::Copy(_)) => {
                conflict("`copy` takes its two stores after its name: datapool copy FROM TO")
            }
            (Some(_), None) | (None, Some(_)) if !self.command.has_store() => {
                conflict("this command needs no store: leave FILE and --store out")
            }
            (Some(_), Some(_)) => conflict("the store is named twice: by FILE and by --store"),
            _ => Ok(()),
        }
    }

    /// Checks the names of the stores, and the options that fit only some of them.
    fn check_stores(&self) -> Result<(), (ErrorKind, String)> {
        let conflict = |text: &str| Err((ErrorKind::ArgumentConflict, text.to_owned()));
        let places: Vec<&Path> = match &self.command {
            Command::Copy(copy) => vec![&copy.from, &copy.to],
            _ => self.file.iter().map(PathBuf::as_path).chain(self.store.iter().map(Path::new)).collect(),
        };
        if places.iter().any(|place| url::is_misspelled(place)) {
            let text = "the store is neither a file nor the URL of a server: a URL begins with postgresql:// or postgres://";
            return Err((ErrorKind::InvalidValue, text.to_owned()));
        }
        let is_server = |place: &&Path| url::of_server(place).is_some();
        if self.schema.is_some() && !places.iter().any(is_server) {
            return conflict("only a store on a server has a schema");
        }
        if self.wait.is_some() && !places.is_empty() && places.iter().all(is_server) {
            return conflict(
                "`--wait` is for files: any number of programs can have a store on a server open",
            );
        }
        if let Command::Copy(copy) = &self.command {
            if copy.to_schema.is_some() && url::of_server(&copy.to).is_none() {
                return conflict("only a store on a server has a schema");
            }
            let (from, to) = self.stores_of(copy);
            if from.is_same_as(&to) {
                return conflict(&format!("FROM and TO are both {}", from.display()));
            }
        }
        Ok(())
    }

    /// Returns the store that FILE or --store names.
    pub(crate) fn store_file(&self) -> StoreFile {
        match (&self.store, &self.file) {
            (Some(url), _) => StoreFile::server(url, self.schema.as_deref()),
            (None, Some(file)) => self.place(file, None),
            // The command has no FILE. `copy` puts the names of its stores into its messages.
            (None, None) => StoreFile::file(Path::new("datapool"), self.wait.unwrap_or_default()),
        }
    }

    /// Returns the source and the destination of `copy`.
    pub(crate) fn stores_of(&self, copy: &Copy) -> (StoreFile, StoreFile) {
        (self.place(&copy.from, None), self.place(&copy.to, copy.to_schema.as_deref()))
    }

    fn place(&self, name: &Path, schema: Option<&str>) -> StoreFile {
        match url::of_server(name) {
            Some(url) => StoreFile::server(url, schema.or(self.schema.as_deref())),
            None => StoreFile::file(name, self.wait.unwrap_or_default()),
        }
    }

    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Human }
    }
}

/// Returns a better error if clap took a mistyped command for FILE.
fn mistyped_command(whole: &clap::Command, error: &clap::Error) -> Option<clap::Error> {
    let is_about_command = matches!(
        error.kind(),
        ErrorKind::MissingSubcommand
            | ErrorKind::InvalidSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if !is_about_command {
        return None;
    }
    let found = whole.clone().ignore_errors(true).try_get_matches().ok()?;
    let file = found.get_one::<PathBuf>("file").filter(|file| !file.exists())?.to_str()?;
    if !file.chars().all(|character| character.is_ascii_alphabetic() || character == '-') {
        return None;
    }
    // In the place of a command, clap finds a similar one.
    let tried = whole.clone().try_get_matches_from([whole.get_name(), "FILE", file]);
    let Err(error) = tried else { return None };
    let Some(ContextValue::Strings(similar)) = error.get(ContextKind::SuggestedSubcommand) else {
        return None;
    };
    let text = format!(
        "there is no command and no file '{file}'\n\n  tip: a similar command exists: '{}'",
        similar.last()?
    );
    Some(whole.clone().error(ErrorKind::InvalidSubcommand, text))
}

/// Ends the program with a message about wrong usage, or with the help that the user asked for.
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

/// Puts FILE into the usage of the commands that have a store. For clap it is an argument of the tool alone.
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
