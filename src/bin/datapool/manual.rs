//! What shells and `man` need of the tool: completions and a manual page, made from its arguments.

use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Arguments;
use crate::failure::Failure;

const NAME: &str = "datapool";

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::whole_command(), NAME, &mut text);
    print(&text)
}

/// Prints the manual page, with a section for each command.
pub(crate) fn page() -> Result<(), Failure> {
    let command = Arguments::whole_command();
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    sections(&command, "", &mut text)?;
    print(&text)
}

/// Writes a section for each command that has no commands of its own.
fn sections(command: &Command, prefix: &str, text: &mut Vec<u8>) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = format!("{prefix}{}", command.get_name());
        if command.has_subcommands() {
            sections(command, &format!("{name} "), text)?;
            continue;
        }
        let man = Man::new(command.clone());
        let mut section = Vec::new();
        man.render_description_section(&mut section)?;
        man.render_options_section(&mut section)?;
        man.render_extra_section(&mut section)?;
        let section = String::from_utf8_lossy(&section).replace(".SH ", ".SS ");
        let usage = command.clone().render_usage().to_string().replace("Usage: ", "");
        writeln!(text, ".SH {}\n{}\n{section}", name.to_uppercase(), usage.replace('-', "\\-"))?;
    }
    Ok(())
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    Ok(out.flush()?)
}
