//! The section of the manual that shows what became of each way. Knows nothing of the rest of the page.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::way::{End, Way};

const BEGIN: &str = "<!-- refusals: begin -->\n";
const END: &str = "<!-- refusals: end -->\n";
const NOT_TRIED: &str = "not tried here";

const INTRODUCTION: &str = "
Each line was tried on a real server, twice: with one bad row among 1,000, and with 1,000 bad rows.

| what became of it | |
|---|---|
| *1 dead letter* | That message became a dead letter, under this SQLSTATE. The 999 others became rows, in the same transaction. |
| *blocked* | Nothing was written and nothing dead-lettered. Once somebody had mended the cause, the same batch passed. |
| *retried* | Nothing was written and nothing dead-lettered while the cause lasted. Then the same batch passed by itself. |
| *written* | All 1,000 rows were written. |

Where no row is to blame, such as for a lock, the first batch has one row that violates a constraint besides, and the
second has none: an outage never costs a message. `SL-P020` is the limit `[dead_letters] max_in_a_row`: where all rows
are rejected for one cause, the messages are hardly at fault.
";

/// A line of a table.
#[derive(Debug)]
pub struct Line {
    /// `| name |`, by which the line is known.
    start: String,
    text: String,
    tried: bool,
}

impl Line {
    pub fn new(way: &Way, one: Option<End>, all: Option<End>) -> Self {
        let state = if way.state.is_empty() { "–" } else { way.state };
        let [one, all] = [(one, "1 dead letter"), (all, "1,000 dead letters")]
            .map(|(end, dead_letters)| cell(end, dead_letters));
        let tried = one != NOT_TRIED;
        let start = format!("| {} |", way.name);
        let text = format!("{start} {state} | {one} | {all} |");
        Self { start, text, tried }
    }
}

fn cell(end: Option<End>, dead_letters: &str) -> String {
    match end {
        Some(End::DeadLetters) => dead_letters.to_owned(),
        Some(End::Blocked(code)) => format!("blocked, {code}"),
        Some(End::Retried) => "retried".to_owned(),
        Some(End::Written) => "written".to_owned(),
        None => NOT_TRIED.to_owned(),
    }
}

/// All tables, in the order of the page.
#[derive(Debug, Default)]
pub struct Section {
    groups: Vec<(String, Vec<Line>)>,
}

impl Section {
    pub fn add(&mut self, title: &str, lines: Vec<Line>) {
        self.groups.push((title.to_owned(), lines));
    }

    fn text(&self) -> String {
        let mut text = INTRODUCTION.to_owned();
        for (title, lines) in &self.groups {
            let _ = write!(
                text,
                "\n### {title}\n\n| way | SQLSTATE or code | one bad row of 1,000 | all rows |\n|---|---|---|---|\n"
            );
            for line in lines {
                text.push_str(&line.text);
                text.push('\n');
            }
        }
        text.push('\n');
        text
    }

    /// Compares with `host/docs/failures.md`, or writes it there when asked to.
    ///
    /// # Panics
    /// When they differ.
    pub fn compare_with_manual(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/failures.md");
        if std::env::var_os("UPDATE_MANUAL").is_some() {
            replace_in(&file, &self.text());
        }
        let stored = std::fs::read_to_string(&file).unwrap();
        let (now, stored) = (self.text(), between_marks(&stored).unwrap_or_default());
        let differs = |(now, then): &(&str, &str)| now != then && !self.may_differ(now, then);
        let difference = now.lines().zip(stored.lines()).find(differs);
        assert!(
            difference.is_none() && now.lines().count() == stored.lines().count(),
            "host/docs/failures.md is old, write it again with UPDATE_MANUAL=1; first difference: {difference:?}"
        );
    }

    /// What this server lacks, another one may have tried.
    fn may_differ(&self, now: &str, then: &str) -> bool {
        let mut lines = self.groups.iter().flat_map(|(_, lines)| lines);
        let not_tried = lines.find(|line| line.text == now && !line.tried);
        not_tried.is_some_and(|line| then.starts_with(&line.start))
    }
}

fn between_marks(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(BEGIN)?;
    Some(rest.split_once(END)?.0)
}

/// Under a lock: another test writes the rest of the page.
fn replace_in(file: &Path, section: &str) {
    let mut file: File = OpenOptions::new().read(true).write(true).open(file).unwrap();
    file.lock().unwrap();
    let mut page = String::new();
    file.read_to_string(&mut page).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for this section");
    let (_, behind) = rest.split_once(END).expect("the section has an end");
    let page = format!("{before}{BEGIN}{section}{END}{behind}");
    file.rewind().unwrap();
    file.set_len(0).unwrap();
    file.write_all(page.as_bytes()).unwrap();
}
