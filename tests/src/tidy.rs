//! Rules about the files of this repository that no other tool checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;
const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "host",
    "migrations",
    "plugins",
    "rust-toolchain.toml",
    "tests",
    "wit",
];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}

/// All our files with their text, without what git does not keep.
fn files() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for name in TOP_LEVEL.into_iter().chain([".github"]) {
        collect(&workspace().join(name), &mut files);
    }
    assert!(files.len() > 50, "the walk found next to nothing");
    files
}

fn collect(path: &Path, files: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of ours is readable") {
            let path = entry.expect("a folder of ours is readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != "target" && !name.starts_with('.') {
                collect(&path, files);
            }
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        let path = path.strip_prefix(workspace()).unwrap_or(path).to_path_buf();
        files.push((path, text));
    }
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Says what is wrong with each file that `wrong` finds something in.
fn check(wrong: impl Fn(&Path, &str) -> Option<String>) {
    let found: Vec<String> = files()
        .iter()
        .filter_map(|(path, text)| Some(format!("{}: {}", path.display(), wrong(path, text)?)))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_500_lines() {
    check(|path, text| {
        let lines = text.lines().count();
        (is_rust(path) && lines > LINES_MAX).then(|| format!("{lines} lines"))
    });
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    check(|path, text| {
        (is_rust(path) && !text.starts_with("//! ")).then(|| "does not open with //!".to_owned())
    });
}

#[test]
fn a_module_is_called_like_its_file() {
    check(|path, _| path.ends_with("mod.rs").then(|| "write name.rs + name/".to_owned()));
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    check(|path, text| {
        let is_marked = |line: &str| {
            let words = line.split(|character: char| !character.is_alphanumeric());
            words.into_iter().any(|word| marks.iter().any(|mark| mark == word))
        };
        let (number, line) = text.lines().enumerate().find(|(_, line)| is_marked(line))?;
        (!path.ends_with("Cargo.lock")).then(|| format!("line {}: {}", number + 1, line.trim()))
    });
}

#[test]
fn no_path_of_a_single_machine_is_named() {
    let paths = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    check(|_, text| {
        paths.iter().find(|path| text.contains(*path)).map(|path| format!("names {path}"))
    });
}

#[test]
fn the_top_level_blocks_what_the_design_lists() {
    let entries = fs::read_dir(workspace()).expect("the workspace is readable");
    let names =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    let there: BTreeSet<String> =
        names.filter(|name| !name.starts_with('.') && name != "target").collect();
    let listed: BTreeSet<String> = TOP_LEVEL.map(str::to_owned).into();
    let surplus: Vec<_> = there.difference(&listed).collect();
    let missing: Vec<_> = listed.difference(&there).collect();
    assert!(surplus.is_empty() && missing.is_empty(), "surplus {surplus:?}, missing {missing:?}");
}

/// Words of this project's first dialect, which people who know Kafka and Postgres had to learn, with what to write
/// instead. In identifiers as well: they are taken apart at underscores and capitals.
const WORDS: &[(&str, &str)] = &[
    ("hold", "blocked, own, keep open, contain"),
    ("holds", "blocked, own, keep open, contain"),
    ("held", "blocked, owned, kept open, contained"),
    ("letter", "dead letter"),
    ("letters", "dead letters"),
    ("bury", "dead-letter"),
    ("buries", "dead-letters"),
    ("buried", "dead-lettered"),
    ("turned away", "rejected"),
    ("way out", "hint"),
    ("rights", "privileges"),
    ("goes on again", "resumed"),
    ("suspect", "violation, quarantine"),
    ("guilty", "violating, the cause"),
    ("accuse", "violation"),
    ("acquit", "release"),
    ("verdict", "result"),
    ("trial", "quarantine, dry run"),
    ("judge", "check, decide"),
    ("judged", "checked, decided"),
    ("fate", "disposition"),
    ("forgive", "reset"),
    ("goodbye", "clean release"),
    ("for ever", "indefinitely"),
    ("growing pauses", "exponential backoff"),
    ("crosswise", "deadlock"),
    ("advice", "informational"),
    ("passed over", "skipped"),
    ("let go", "released"),
    ("halved", "bisected"),
    ("halving", "bisecting"),
    ("anew", "again"),
    ("meanwhile", "in the meantime"),
    ("by now", "now"),
    ("lest", "so that not"),
];

/// The words of a line in lower case, identifiers taken apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for character in line.chars() {
        if !character.is_alphanumeric() || (character.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            words.last_mut().expect("never empty").extend(character.to_lowercase());
        }
        before = character;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The first of [`WORDS`] that a line has, unless it stands where it is the field's own.
fn dialect(line: &str) -> Option<&'static (&'static str, &'static str)> {
    let words = words(&line.replace("\\n", " "));
    let is_about_locks = words.iter().any(|word| word.starts_with("lock"));
    WORDS.iter().find(|(term, _)| {
        let term: Vec<&str> = term.split(' ').collect();
        let mut places = words.windows(term.len()).enumerate();
        places.any(|(at, here)| {
            let before = at.checked_sub(1).map_or("", |before| words[before].as_str());
            here == term
                && match term[0] {
                    "hold" | "holds" | "held" => !is_about_locks,
                    "letter" | "letters" => !matches!(before, "dead" | "ascii"),
                    _ => true,
                }
        })
    })
}

#[test]
fn words_are_those_of_kafka_postgres_and_webassembly() {
    check(|path, text| {
        let is_prose = path.extension().is_some_and(|it| it == "rs" || it == "md");
        // What was applied is frozen; a changelog and tests of upgrades say how things were called; this file has
        // the list.
        let free = ["CHANGELOG.md", "sink/tests/migrate.rs", "e2e/upgrade.rs", "tidy.rs"];
        let is_free = path.starts_with("migrations") || free.iter().any(|it| path.ends_with(it));
        if !is_prose || is_free {
            return None;
        }
        let mut found = text.lines().enumerate().filter_map(|(number, line)| {
            let (word, instead) = dialect(line)?;
            Some(format!("line {}: `{word}`, write: {instead}", number + 1))
        });
        let first = found.next()?;
        Some(format!("{first} (and {} more)", found.count()))
    });
}

#[test]
fn the_dialect_is_found_in_identifiers_and_prose() {
    let found = |line| dialect(line).map(|(word, _)| *word);
    assert_eq!(found("fn is_held(&self)"), Some("held"));
    assert_eq!(found("struct HeldPartition"), Some("held"));
    assert_eq!(found("/// A letter, a dead letter."), Some("letter"));
    assert_eq!(found("let dead_letters = DeadLetters::new(); // a DEAD_LETTER"), None);
    assert_eq!(found("the previous owner still holds the lock"), None);
    assert_eq!(found("threshold, withhold, nameplates"), None);
    assert_eq!(found("tried again for ever"), Some("for ever"));
}

/// What a page writes in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// True when `text` looks like the path of a file here; one with a star or capitals stands for several.
fn is_path(text: &str) -> bool {
    let plain = |it: char| it.is_ascii_lowercase() || "0123456789_-./".contains(it);
    let is_rust = Path::new(text).extension().is_some_and(|it| it == "rs");
    text.contains('/') && is_rust && text.chars().all(plain)
}

/// The file that a page names, at the top or below `host/src`.
fn named(path: &str) -> Option<PathBuf> {
    let places = [workspace().to_path_buf(), workspace().join("host/src")];
    places.into_iter().map(|place| place.join(path)).find(|path| path.is_file())
}

#[test]
fn pages_name_files_and_tests_that_exist() {
    check(|path, text| {
        let is_page = path.starts_with("host/docs") || path.starts_with(".github");
        if !is_page || path.extension().is_none_or(|it| it != "md") {
            return None;
        }
        let missing = quoted(text).filter(|it| is_path(it)).find(|it| named(it).is_none());
        if let Some(missing) = missing {
            return Some(format!("there is no file {missing}"));
        }
        // Rows of a table: invariant, then `file`: `test`, `test`; `file`: `test`.
        text.lines().filter(|line| line.contains(".rs`: `")).find_map(|line| {
            let mut file = String::new();
            quoted(line).find_map(|word| {
                if is_path(word) {
                    file = fs::read_to_string(named(word)?).unwrap_or_default();
                    return None;
                }
                let is_test = word.contains('_') && !file.is_empty();
                (is_test && !file.contains(&format!("fn {word}(")))
                    .then(|| format!("there is no test {word}"))
            })
        })
    });
}

/// A contract without comments and blank lines.
fn contract(text: &str) -> Vec<&str> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim_end());
    code.filter(|line| !line.trim().is_empty()).collect()
}

/// Plugins are built for a version of the contract; each that there was is kept in `tests/contract`.
#[test]
fn a_contract_that_changes_has_another_version() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap_or_default();
    let now = read("wit/plugin.wit");
    let package = now.lines().find_map(|line| line.strip_prefix("package sluice:plugin@"));
    let version = package.expect("the contract has a version").trim_end_matches(';');
    let kept = read(&format!("tests/contract/plugin-{version}.wit"));
    assert!(!kept.is_empty(), "version {version} is new: keep it in tests/contract");
    let difference =
        contract(&now).into_iter().zip(contract(&kept)).find(|(now, kept)| now != kept);
    assert!(
        contract(&now) == contract(&kept),
        "the contract differs from its version {version}: give it another one; {difference:?}"
    );
}
