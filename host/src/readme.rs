//! The README is kept true: what it shows of the project is what is there.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use crate::cli::CommandLine;
use crate::settings::Settings;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// The block of code in `language`, without the indentation of the list it stands in.
fn block(language: &str) -> String {
    let readme = read("README.md");
    let mut lines = readme.lines().skip_while(|line| line.trim_start() != format!("```{language}"));
    let fence = lines.next().unwrap_or_else(|| panic!("no block in {language}"));
    let indent = fence.len() - fence.trim_start().len();
    let code = lines.take_while(|line| line.trim_start() != "```");
    code.map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n").collect()
}

#[test]
fn the_plugin_in_it_is_the_real_one() {
    let source = read("plugins/readings/src/lib.rs");
    let (plugin, _) = source.split_once("\n#[cfg(test)]").expect("the plugin has tests");
    assert_eq!(block("rust"), plugin);
}

#[test]
fn its_settings_are_valid() {
    let lookup = |name: &str| (name == "DATABASE_URL").then(|| "postgres://localhost".to_owned());
    let settings = Settings::parse("readings.toml", &block("toml"), &lookup).unwrap();
    assert_eq!(settings.sink.tables[""].table, "readings");
}

/// One setting: section, key, default, and what it is for.
type Setting = (String, String, String, String);

/// The settings as their doc comments describe them: `key`: text, "Default: ...." or "Required." at the end.
fn documented() -> Vec<Setting> {
    let source = include_str!("settings.rs");
    let (mut section, mut doc, mut found) = (String::new(), String::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let text = std::mem::take(&mut doc).trim().to_owned();
        if line.starts_with("pub struct") {
            let of_file = text.strip_prefix("`[").and_then(|it| it.split_once("]`"));
            section = of_file.map_or_else(String::new, |(name, _)| name.to_owned());
        }
        let Some((key, text)) = text.strip_prefix('`').and_then(|it| it.split_once("`: ")) else {
            continue;
        };
        if !section.is_empty() && line.starts_with("pub ") && line.ends_with(',') {
            let (text, default) = match text.rsplit_once(" Default: ") {
                Some((text, default)) => (text, default.trim_end_matches('.').to_owned()),
                None if text.contains("Required") => (text, "required".to_owned()),
                None => (text, String::new()),
            };
            let text = text.trim_end_matches(" Required.").trim_end_matches('.').to_owned();
            found.push((section.clone(), key.to_owned(), default, text));
        }
    }
    // Sections in the order of the file, each once although two structs may describe it.
    let order: Vec<String> = found.iter().map(|(section, ..)| section.clone()).collect();
    found.sort_by_key(|(section, ..)| order.iter().position(|it| it == section));
    found
}

/// The table of README.md is made of the doc comments; `UPDATE_MANUAL=1` writes it.
#[test]
fn its_table_of_settings_is_that_of_the_code() {
    let mut table = String::from("| section | key | default | |\n|---|---|---|---|\n");
    let mut before = String::new();
    let settings = documented();
    assert!(settings.len() > 30, "{settings:?}");
    for (section, key, default, text) in settings {
        let shown = if section == before { "" } else { &section };
        table.push_str(
            &format!("| {shown} | `{key}` | {default} | {text} |\n").replace("|  |", "| |"),
        );
        before = section;
    }
    let readme = read("README.md");
    let at = readme.find("| section | key |").expect("the table's head");
    let rest = &readme[at..];
    let end = rest.find("\n\n").expect("the table ends") + 1;
    if std::env::var_os("UPDATE_MANUAL").is_some() {
        let page = format!("{}{table}{}", &readme[..at], &rest[end..]);
        std::fs::write(root().join("README.md"), page).unwrap();
        return;
    }
    let difference = table.lines().zip(rest[..end].lines()).find(|(now, then)| now != then);
    assert!(table == rest[..end], "write it again with UPDATE_MANUAL=1: {difference:?}");
}

#[test]
fn it_names_every_command() {
    let readme = read("README.md");
    let commands = CommandLine::command();
    for command in commands.get_subcommands().filter(|command| command.get_name() != "help") {
        let line = format!("\n    sluice {}", command.get_name());
        assert!(readme.contains(&line), "README.md does not list `sluice {}`", command.get_name());
    }
}
