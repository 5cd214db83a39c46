//! Proves that the source code keeps its layout: which modules may name which, and what code outside tests
//! must not do.
//!
//! The sources are read as text. Comments and `#[cfg(test)]` modules do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    /// The path below `src/`, with `/` between folders.
    name: String,
    code: String,
}

/// Returns every source file, without comments and test modules.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    // A test module that has a file of its own.
    files.retain(|file| file.file_name().is_some_and(|name| name != "tests.rs"));
    files.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        Source { name, code: code_of(&fs::read_to_string(&path).unwrap()) }
    };
    let sources: Vec<Source> = files.into_iter().map(read).collect();
    assert!(sources.len() > 20, "only {} files were found", sources.len());
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // A package of its own has a folder of its own for what cargo makes.
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns the code of a file without comments and without its test module, which is the last item by the
/// conventions of rustfmt and this crate.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut in_tests = false;
    for line in text.lines() {
        let attribute = line.trim();
        in_tests |= attribute == "#[cfg(test)]";
        if in_tests {
            // A test module ends at the first line that is not indented.
            in_tests = line != "}";
            continue;
        }
        if !attribute.starts_with("//") {
            code.push_str(line.split(" // ").next().unwrap_or(line));
            code.push('\n');
        }
    }
    code
}

/// Returns true if the code names a crate or module at the start of a path or in a `use`.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let whole = !before.ends_with(is_part) && !after.starts_with(is_part);
        // A longer path (`crate::csv::`) names something else with the same name.
        let starts = !before.ends_with("::") || before.ends_with("use ::");
        let used = before.ends_with("use ") && after.starts_with([';', ' ']);
        whole && starts && (after.starts_with("::") || used)
    })
}

/// Returns the modules of this crate that the code uses: `engine` in `crate::engine::View` and in `use
/// crate::{engine, ids}`.
fn modules(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => found.push(word(rest)),
            Some(group) => {
                let group = &group[..group.find("};").unwrap_or(group.len())];
                let (mut opened, mut closed) = (0, 0);
                for part in group.split(',') {
                    if opened == closed {
                        found.push(word(part.trim()));
                    }
                    opened += part.matches('{').count();
                    closed += part.matches('}').count();
                }
            }
        }
    }
    found
}

fn is_engine(name: &str) -> bool {
    name == "engine.rs" || name.starts_with("engine/")
}

/// Returns the files that name the crate although they are not allowed to.
fn strangers(sources: &[Source], dependency: &str, allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let strange = sources.iter().filter(|source| !allowed(&source.name) && names(&source.code, dependency));
    strange.map(|source| source.name.clone()).collect()
}

#[test]
fn the_reader_of_sources_sees_code_and_nothing_else() {
    let text = "//! redb::Database\nuse redb::{Table};\n#[cfg(test)]\nmod tests {\n    use jiff::Zoned;\n}\nfn f() {} // x\n";
    let code = code_of(text);
    assert_eq!(code, "use redb::{Table};\nfn f() {}\n");
    assert!(names(&code, "redb") && !names(&code, "jiff"));
    assert!(names("let x = csv::Reader::new();", "csv") && names("use csv;", "csv"));
    assert!(!names("crate::csv::Import", "csv") && !names("my_csv::x", "csv") && !names("csv.read()", "csv"));
    assert_eq!(modules("use crate::{csv::{A, B}, store};\ncrate::engine::x"), ["csv", "store", "engine"]);
}

#[test]
fn each_dependency_is_named_where_it_belongs_and_used_there() {
    let sources = sources();
    let table: [(&str, &[&str]); 19] = [
        ("redb", &["engine.rs", "engine/"]),
        ("roaring", &["engine.rs", "engine/"]),
        ("siphasher", &["backend/fingerprint.rs"]),
        ("blake3", &["model/version.rs"]),
        ("rpds", &["engine/"]),
        ("bincode", &["engine/format/codec.rs"]),
        ("tracing", &["engine/write/log.rs"]),
        ("futures_channel", &["asynchronous/"]),
        ("tokio_postgres", &["postgres/"]),
        ("tokio", &["postgres/connection/reactor.rs"]),
        ("futures_util", &["postgres/"]),
        ("bytes", &["postgres/"]),
        ("rustls", &["postgres/tls.rs"]),
        ("jiff", &["time.rs"]),
        ("csv", &["csv.rs", "csv/"]),
        ("clap", &["bin/"]),
        ("comfy_table", &["bin/"]),
        ("console", &["bin/"]),
        ("indicatif", &["bin/"]),
    ];
    for (dependency, places) in table {
        let belongs = |name: &str| {
            places.iter().any(|place| name == *place || place.ends_with('/') && name.starts_with(place))
        };
        let none: [&str; 0] = [];
        assert_eq!(strangers(&sources, dependency, belongs), none, "these name {dependency}");
        let used = sources.iter().any(|source| belongs(&source.name) && names(&source.code, dependency));
        assert!(used, "nothing names {dependency}; does the test still find names?");
    }
}

#[test]
fn the_engine_does_not_know_who_uses_it() {
    for source in sources().iter().filter(|source| is_engine(&source.name)) {
        for upper in ["store", "pool", "scan", "csv", "json", "testing"] {
            assert!(
                !modules(&source.code).iter().any(|module| module == upper),
                "{} uses crate::{upper}",
                source.name
            );
        }
    }
}

/// All other code uses the backend trait.
#[test]
fn only_opening_a_store_names_an_engine() {
    for source in sources().iter().filter(|source| !is_engine(&source.name)) {
        let names_it = modules(&source.code).iter().any(|module| module == "engine");
        let opens = ["store.rs", "testing.rs", "testing/scheduled.rs"].contains(&source.name.as_str());
        assert_eq!(names_it, opens, "{}", source.name);
    }
}

/// The modules of the library and of the tool, each with its file.
struct Modules {
    files: BTreeMap<Vec<String>, String>,
}

impl Modules {
    fn of(sources: &[Source]) -> Self {
        let path = |name: &str| {
            let parts = name.trim_end_matches(".rs").split('/').map(str::to_owned);
            // The tool is a separate crate.
            let mut path: Vec<String> = parts.skip(usize::from(name.starts_with("bin/"))).collect();
            path.pop_if(|last| ["lib", "main"].contains(&last.as_str()));
            path
        };
        Self { files: sources.iter().map(|source| (path(&source.name), source.name.clone())).collect() }
    }

    /// Returns the files that a file imports from, or names in a path.
    fn imports_of(&self, source: &Source) -> BTreeSet<String> {
        let (module, _) = self.files.iter().find(|(_, file)| **file == source.name).unwrap();
        let root = if source.name.starts_with("bin/") { &module[..1] } else { &[] };
        let resolve = |path: String| {
            let mut parts = path.split("::").map(str::trim).peekable();
            let mut base = match *parts.peek()? {
                "crate" => root.to_vec(),
                "super" | "self" => module.clone(),
                // Without a keyword, a path begins at a child of the module, or at another crate.
                child => self
                    .files
                    .contains_key(&[module.as_slice(), &[child.to_owned()]].concat())
                    .then(|| module.clone())?,
            };
            for part in parts {
                match part {
                    "crate" | "self" => {}
                    "super" => drop(base.pop()),
                    part => base.push(part.to_owned()),
                }
            }
            while !self.files.contains_key(&base) {
                base.pop()?;
            }
            self.files.get(&base).filter(|file| **file != source.name).cloned()
        };
        paths(&source.code).into_iter().filter_map(resolve).collect()
    }
}

/// Returns every path in a `use`, and every other path that begins with `crate`, `super` or `self`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let tree = &code[at + 4..];
        expand("", &tree[..tree.find(';').unwrap_or(0)], &mut found);
    }
    for keyword in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(keyword) {
            let end = code[at..].find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).unwrap_or(0);
            // A `use` tree was already read above.
            if !code[at + end..].starts_with('{') {
                found.push(code[at..at + end].trim_end_matches(':').to_owned());
            }
        }
    }
    found
}

/// Expands the paths of a `use` tree.
fn expand(before: &str, tree: &str, found: &mut Vec<String>) {
    let Some((start, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap().trim();
        found.push(format!("{before}{path}"));
        return;
    };
    let before = format!("{before}{}", start.trim());
    let (mut depth, mut from) = (0, 0);
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                if !rest[from..at].trim().is_empty() {
                    expand(&before, rest[from..at].trim(), found);
                }
                from = at + 1;
                if c == '}' {
                    return;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// Returns each file with the files that it imports from.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let modules = Modules::of(&sources);
    sources.iter().map(|source| (source.name.clone(), modules.imports_of(source))).collect()
}

#[test]
fn imports_are_read_from_all_forms_of_paths() {
    let source = |name: &str, code: &str| Source { name: name.to_owned(), code: code.to_owned() };
    let sources = [
        source("lib.rs", ""),
        source("a.rs", "mod child;\npub(crate) use child::Deep;\nuse self::child::{Deep, Other as X};"),
        source(
            "a/child.rs",
            "use crate::{b::{self, Thing}, c::d};\nfn f() { super::g(); super::super::e::h::<u8>() }",
        ),
        source("b.rs", "use std::collections::HashMap;\nfn f() { crate::a::child::f() }"),
        source("c.rs", ""),
        source("e.rs", "use redb::a;"),
    ];
    let modules = Modules::of(&sources);
    let of = |index: usize| modules.imports_of(&sources[index]).into_iter().collect::<Vec<_>>();
    assert_eq!(of(1), ["a/child.rs"]);
    assert_eq!(of(2), ["a.rs", "b.rs", "c.rs", "e.rs"]);
    assert_eq!(of(3), ["a/child.rs"]);
    assert!(of(5).is_empty());
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    // Repeatedly removes the files that import none of the remaining ones.
    let mut left = imports();
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > 500, "too few imports were found");
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, imports| !imports.is_disjoint(&names));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "import cycles, or files that import from them: {:?}", left.keys());
}

#[test]
fn the_folders_of_the_engine_import_only_from_those_below() {
    let order = ["storage", "format", "probe", "pool", "read", "write", "maintain", "embedded"];
    let height = |name: &str| {
        let folder = name.strip_prefix("engine/")?.split(['/', '.']).next()?;
        Some(order.iter().position(|of| *of == folder).unwrap_or_else(|| panic!("{name} is in no folder")))
    };
    let mut seen = BTreeSet::new();
    for (name, imports) in imports() {
        for import in imports {
            if let (Some(above), Some(below)) = (height(&name), height(&import)) {
                assert!(below <= above, "{name} imports from {import}");
                seen.extend([above, below]);
            }
        }
    }
    assert_eq!(seen.len(), order.len(), "a folder is gone");
}

#[test]
fn words_do_not_know_the_machine() {
    let words = [
        "error.rs",
        "ids.rs",
        "time.rs",
        "limits.rs",
        "model.rs",
        "dedupe.rs",
        "disk.rs",
        "query.rs",
        "options.rs",
    ];
    let sources = sources();
    let is_word =
        |name: &str| words.contains(&name) || name.starts_with("query/") || name.starts_with("model/");
    assert!(words.iter().all(|word| sources.iter().any(|source| source.name == *word)), "a file is gone");
    for source in sources.iter().filter(|source| is_word(&source.name)) {
        for upper in ["engine", "backend", "store", "pool", "scan", "csv", "json", "testing"] {
            assert!(
                !modules(&source.code).iter().any(|module| module == upper),
                "{} uses crate::{upper}",
                source.name
            );
        }
    }
}

#[test]
fn only_the_clock_reads_the_systems_clock() {
    for source in sources().iter().filter(|source| source.name != "time.rs") {
        assert!(!source.code.contains("SystemTime::now"), "{}", source.name);
    }
}

#[test]
fn no_code_outside_tests_panics_on_purpose() {
    for source in sources() {
        for banned in [".unwrap()", ".expect(", "panic!(", "unreachable!(", "dbg!(", "unsafe "] {
            assert!(!source.code.contains(banned), "{} has {banned}", source.name);
        }
    }
}

#[test]
fn every_module_says_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests"] {
        let mut files = Vec::new();
        collect(&root.join(folder), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{} does not begin with a module comment", file.display());
        }
    }
}
