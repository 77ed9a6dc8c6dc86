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
    for name in TOP_LEVEL {
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
            let words = line.split(|letter: char| !letter.is_alphanumeric());
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
fn the_top_level_holds_what_the_design_lists() {
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
