//! Completions for shells, and the manual page. Both are generated from the arguments.

use std::io::{self, Write};

use clap::{Command, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::Arguments;
use crate::failure::Failure;

const NAME: &str = "datapool";

/// The call with which the script of `clap_complete` offers words.
const WORDS: &str = "compgen -W \"${opts}\"";
/// The same call with files.
const WORDS_AND_FILES: &str = "compgen -f -W \"${opts}\"";

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut command = Arguments::whole_command();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut text);
    if shell == Shell::Bash {
        text = with_files(&command, &String::from_utf8_lossy(&text)).into_bytes();
    }
    print(&text)
}

/// Makes bash also offer files where an argument may be one. `clap_complete` does so for options only.
fn with_files(command: &Command, script: &str) -> String {
    let takes_file = |command: &Command| {
        command.get_positionals().any(|argument| argument.get_value_hint() == ValueHint::FilePath)
    };
    let mut labels: Vec<String> = command
        .get_subcommands()
        .filter(|command| takes_file(command))
        .map(|command| format!("{NAME}__subcmd__{})", command.get_name()))
        .collect();
    labels.extend(takes_file(command).then(|| format!("{NAME})")));
    let mut is_in_block = false;
    let lines = script.lines().map(|line| {
        let label = line.trim();
        if label.starts_with(NAME) && label.ends_with(')') && !label.contains(',') {
            is_in_block = labels.iter().any(|with_file| with_file == label);
        }
        if is_in_block { line.replace(WORDS, WORDS_AND_FILES) } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n").replace("-o bashdefault", "-o filenames -o bashdefault") + "\n"
}

/// Prints the manual page, with a section for each command.
pub(crate) fn page() -> Result<(), Failure> {
    let command = Arguments::whole_command();
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    let mut synopsis = Roff::new();
    synopsis.control("SH", ["SYNOPSIS"]);
    synopsis.text([roman(usage_of(&command))]);
    text.extend(synopsis.to_roff().into_bytes());
    man.render_description_section(&mut text)?;
    let (details, examples) = help_of(&command);
    text.extend(paragraphs(&details).into_bytes());
    man.render_options_section(&mut text)?;
    text.extend(list(&command).into_bytes());
    text.extend(example_section("SH", "EXAMPLES", &examples).into_bytes());
    sections(&command, "", &mut text)?;
    man.render_version_section(&mut text)?;
    print(&text)
}

/// Returns each command that has no commands of its own, with the name by which it is called.
fn commands<'a>(command: &'a Command, prefix: &str, found: &mut Vec<(String, &'a Command)>) {
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("{prefix}{}", command.get_name());
        if command.has_subcommands() {
            commands(command, &format!("{name} "), found);
        } else {
            found.push((name, command));
        }
    }
}

/// Lists the commands, each with a sentence.
fn list(command: &Command) -> String {
    let mut found = Vec::new();
    commands(command, "", &mut found);
    let mut list = Roff::new();
    list.control("SH", ["COMMANDS"]);
    list.text([roman("Each has a section of its own below.")]);
    for (name, command) in found {
        list.control("TP", []);
        list.text([bold(name)]);
        list.text([roman(command.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
    list.to_roff()
}

/// Writes a section for each command.
fn sections(command: &Command, prefix: &str, text: &mut Vec<u8>) -> io::Result<()> {
    let mut found = Vec::new();
    commands(command, prefix, &mut found);
    for (name, command) in found {
        let mut start = Roff::new();
        start.control("SH", [name.to_uppercase().as_str()]);
        start.text([roman(usage_of(command))]);
        text.extend(start.to_roff().into_bytes());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let (details, examples) = help_of(command);
        text.extend(paragraphs(&[vec![about], details].concat()).into_bytes());
        // The options of all commands are described once.
        let own = command
            .clone()
            .mut_args(|argument| if argument.is_global_set() { argument.hide(true) } else { argument });
        let mut options = Vec::new();
        Man::new(own).render_options_section(&mut options)?;
        text.extend(String::from_utf8_lossy(&options).replace(".SH ", ".SS ").into_bytes());
        text.extend(example_section("SS", "Examples", &examples).into_bytes());
    }
    Ok(())
}

fn usage_of(command: &Command) -> String {
    command.clone().render_usage().to_string().replace("Usage: ", "")
}

/// Returns the paragraphs at the end of a command's help, and the lines of its examples.
fn help_of(command: &Command) -> (Vec<String>, Vec<String>) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (mut details, mut examples) = (Vec::new(), Vec::new());
    for part in help.split("\n\n").filter(|part| !part.is_empty()) {
        match part.split_once('\n') {
            Some(("Example:" | "Examples:", lines)) => examples.extend(lines.lines().map(str::to_owned)),
            _ => details.push(part.replace('\n', " ")),
        }
    }
    (details, examples)
}

fn paragraphs(texts: &[String]) -> String {
    let mut written = Roff::new();
    for text in texts {
        written.control("PP", []);
        written.text([roman(text.as_str())]);
    }
    written.to_roff()
}

/// Writes examples line by line, as they are typed.
fn example_section(level: &str, title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut section = Roff::new();
    section.control(level, [title]);
    section.control("nf", []);
    for line in lines {
        section.text([roman(line.as_str())]);
    }
    section.control("fi", []);
    section.to_roff()
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    Ok(out.flush()?)
}
