//! Proves that shell completions and the manual have every command.

use std::process::Command;

use crate::support::{Answer, Place, finish};

fn syntax_check() -> Command {
    let mut command = Command::new("bash");
    command.arg("-n");
    command
}

fn run(place: &Place, arguments: &[&str]) -> Answer {
    finish(place.command(arguments.iter().copied()), b"")
}

#[test]
fn completions_know_the_commands_and_their_options() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        let text = run(&place, &["completions", shell]).ok();
        for word in ["rebuild-indexes", "on-duplicate", "release-all", "filter-and-track"] {
            assert!(text.contains(word), "{shell}: no {word}");
        }
    }
    let bash = run(&place, &["completions", "bash"]).ok();
    let checked = finish(syntax_check(), bash.as_bytes());
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    assert!(run(&place, &["completions", "tcsh"]).error(2).contains("bash"));
    assert!(place.files().is_empty());
}

#[test]
fn the_manual_page_has_a_section_for_each_command() {
    let place = Place::empty();
    let page = run(&place, &["man"]).ok();
    assert!(page.contains(".TH datapool 1"), "{page}");
    for command in ["POOL CREATE", "IMPORT", "CONTAINS", "CLAIMS", "REBUILD-INDEXES", "COPY", "MAN"] {
        assert!(
            page.lines().any(|line| line.replace("\\-", "-") == format!(".SH {command}")),
            "no {command}"
        );
    }
    assert!(page.contains("datapool [FILE] import") && page.contains("DATAPOOL_FILE"), "{page}");
}

#[test]
fn commands_about_no_store_take_none() {
    let place = Place::new();
    for command in [["completions", "bash"].as_slice(), &["man"]] {
        let error = place.run(command.iter().copied()).error(2);
        assert!(error.contains("this command is about no store"), "{error}");
    }
}
