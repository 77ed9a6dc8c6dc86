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

#[test]
fn it_names_every_command() {
    let readme = read("README.md");
    let commands = CommandLine::command();
    for command in commands.get_subcommands().filter(|command| command.get_name() != "help") {
        let line = format!("\n    sluice {}", command.get_name());
        assert!(readme.contains(&line), "README.md does not list `sluice {}`", command.get_name());
    }
}
