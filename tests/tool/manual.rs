//! Proves that shell completions and the manual have every command.

use std::process::Command;

use crate::support::{Answer, FILE, Place, finish};

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
            page.lines().any(|line| line.replace("\\-", "-").replace('"', "") == format!(".SH {command}")),
            "no {command}"
        );
    }
    assert!(page.contains("datapool [FILE] import") && page.contains("DATAPOOL_FILE"), "{page}");
}

#[test]
fn the_manual_page_names_its_own_sections_and_shows_values_of_options() {
    let place = Place::empty();
    let page = run(&place, &["man"]).ok().replace("\\-", "-");
    for wrong in ["EXTRA", "datapool-pool(1)", "SUBCOMMANDS"] {
        assert!(!page.contains(wrong), "{wrong}: {page}");
    }
    let synopsis = page.split(".SH SYNOPSIS\n").nth(1).unwrap().split(".SH ").next().unwrap();
    assert!(synopsis.contains("[OPTIONS] [FILE]"), "{synopsis}");
    assert!(!synopsis.contains("--store]"), "{synopsis}");
    for part in [".SH COMMANDS", ".SS Examples", "datapool pools.redb import orders seen.csv", "75"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn bash_completes_files_where_one_is_meant() {
    let place = Place::new();
    let script = run(&place, &["completions", "bash"]).ok();
    let complete = |words: &[&str]| {
        let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let (current, previous) = (words[words.len() - 1], words[words.len() - 2]);
        let index = words.len() - 1;
        let text = format!(
            "{script}\nCOMP_WORDS=({list}); COMP_CWORD={index}; _datapool datapool '{current}' '{previous}'\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.current_dir(place.path("."));
        finish(bash, text.as_bytes()).out
    };
    place.write("seen.csv", "");
    let first = complete(&["datapool", "p"]);
    assert!(first.lines().any(|line| line == FILE) && first.lines().any(|line| line == "pool"), "{first}");
    for words in [
        ["datapool", FILE, "import", "orders", "se"].as_slice(),
        &["datapool", FILE, "export", "orders", "se"],
        &["datapool", FILE, "backup", "se"],
        &["datapool", "copy", "se"],
        &["datapool", "copy", FILE, "se"],
    ] {
        let answer = complete(words);
        assert!(answer.lines().any(|line| line == "seen.csv"), "{words:?}: {answer}");
    }
    assert!(complete(&["datapool", FILE, "rec"]).lines().any(|line| line == "records"));
    let zsh = run(&place, &["completions", "zsh"]).ok();
    assert!(zsh.contains("FILE") && zsh.contains(":_files"), "{zsh}");
}

#[test]
fn commands_about_no_store_take_none() {
    let place = Place::new();
    for command in [["completions", "bash"].as_slice(), &["man"]] {
        let error = place.run(command.iter().copied()).error(2);
        assert!(error.contains("this command needs no store"), "{error}");
    }
}
