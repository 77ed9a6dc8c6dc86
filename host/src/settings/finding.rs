//! What is wrong with a settings file: a code, the place, the line with a caret, a hint.
//! Knows no key and no section.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One thing that is wrong. Displays over several lines, ready for the terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Explained by `sluice explain`.
    pub code: &'static str,
    /// Lower-case fragment.
    pub message: String,
    /// The near match, or what to do; stands behind the caret.
    pub hint: Option<String>,
    /// The file, as it was named on the command line.
    pub file: String,
    /// Where in the file; `None` for what concerns all of it.
    #[serde(flatten)]
    pub place: Option<Place>,
}

/// A place in a file. The text never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, or the part of it around the caret, with secrets replaced by `***`.
    #[serde(rename = "source")]
    pub text: String,
    /// Where the carets stand in `text`, in characters.
    #[serde(skip)]
    pub caret: Range<usize>,
}

/// Everything that is wrong with the files of a command. Not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// By file, then from top to bottom.
    pub findings: Vec<Finding>,
}

impl SettingsError {
    /// The first finding's code.
    pub fn code(&self) -> &'static str {
        self.findings.first().map_or("SL-C002", |finding| finding.code)
    }
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(formatter, "{gap}{finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message, hint, file, place } = self;
        write!(formatter, "error {code}: {message}")?;
        let Some(place) = place else {
            write!(formatter, "\n  --> {file}")?;
            return hint.iter().try_for_each(|hint| write!(formatter, "\n   = {hint}"));
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        write!(formatter, "\n{margin}--> {file}:{number}:{}", place.column)?;
        write!(formatter, "\n{margin} |\n{number} | {}", place.text)?;
        let carets = "^".repeat(place.caret.len().max(1));
        write!(formatter, "\n{margin} | {}{carets}", " ".repeat(place.caret.start))?;
        hint.iter().try_for_each(|hint| write!(formatter, " {hint}"))
    }
}

impl Place {
    /// The place of the bytes `at` of `text`; bytes in `secrets` are not shown.
    pub(super) fn find(text: &str, at: &Range<usize>, secrets: &[Range<usize>]) -> Self {
        let start = floor_char_boundary(text, at.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let line = line_start..line_end;
        let shown = Shown::new(text, &line, secrets);
        // What is wrong may be missing behind blanks at the line's end, which are not shown.
        let shown_end = shown.text.chars().count();
        let caret_start = shown.column(start).min(shown_end);
        let caret_end = shown.column_behind(at.end.min(line_end)).min(shown_end);
        let caret = caret_start..caret_end.max(caret_start + 1);
        let (text_shown, caret) = window(&shown.text, caret);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text_shown,
            caret,
        }
    }
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

/// A line as it may be shown, and where each of its bytes came to stand.
struct Shown {
    text: String,
    /// (byte of the file, column in `text`), ascending.
    columns: Vec<(usize, usize)>,
}

impl Shown {
    fn new(text: &str, line: &Range<usize>, secrets: &[Range<usize>]) -> Self {
        let mut shown = Self { text: String::new(), columns: Vec::new() };
        let mut column = 0;
        let mut hidden_until = line.start;
        for (offset, character) in text[line.clone()].char_indices() {
            let byte = line.start + offset;
            if byte < hidden_until {
                continue;
            }
            shown.columns.push((byte, column));
            if let Some(secret) = secrets.iter().find(|secret| secret.contains(&byte)) {
                hidden_until = secret.end;
                shown.text.push_str("***");
                column += 3;
            } else {
                // Tabs and control characters would move the caret or the terminal.
                shown.text.push(if character.is_control() { ' ' } else { character });
                column += 1;
            }
        }
        shown.columns.push((line.end, column));
        shown.text.truncate(shown.text.trim_end().len());
        shown
    }

    fn column(&self, byte: usize) -> usize {
        let after = self.columns.partition_point(|(start, _)| *start <= byte);
        self.columns[after.saturating_sub(1)].1
    }

    /// A range that ends inside a secret is shown to the end of its stars.
    fn column_behind(&self, byte: usize) -> usize {
        let index = self.columns.partition_point(|(start, _)| *start < byte);
        self.columns[index.min(self.columns.len() - 1)].1
    }
}

/// The part of a long line around the caret.
fn window(text: &str, caret: Range<usize>) -> (String, Range<usize>) {
    const WIDTH_MAX: usize = 120;
    let length = text.chars().count();
    if length <= WIDTH_MAX {
        return (text.to_owned(), caret);
    }
    let from = caret.start.saturating_sub(WIDTH_MAX / 2);
    let until = (from + WIDTH_MAX).min(length);
    let before = if from > 0 { "..." } else { "" };
    let after = if until < length { "..." } else { "" };
    let part: String = text.chars().skip(from).take(until - from).collect();
    let shift = |column: usize| column.min(until) - from + before.len();
    (format!("{before}{part}{after}"), shift(caret.start)..shift(caret.end))
}
