//! Standard output: texts or one JSON value, free of unprintable characters.

use std::io::{self, Write as _};

use serde::Serialize;

use super::Format;
use crate::printable::{escaped_json, escaped_lines};

/// Prints `text`, or `value` as JSON.
pub fn print(
    format: Format,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    match format {
        Format::Text => print_text(&text()),
        Format::Json => print_text(&escaped_json(&serde_json::to_string_pretty(value)?)),
    }
}

/// Prints `text`, if there is any, and ends its last line. A reader that went away (`| head`) is no error.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    let text = escaped_lines(text.trim_end_matches('\n'));
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// `text` on one line, cut to `characters_max`.
pub fn line(text: &str, characters_max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// A number with a comma between groups of three digits.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// `text` in lines of at most `width` characters.
pub fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut line_characters = 0;
    for word in text.split_whitespace() {
        let characters = word.chars().count();
        if line_characters > 0 && line_characters + 1 + characters <= width {
            wrapped.push(' ');
            line_characters += 1 + characters;
        } else {
            if line_characters > 0 {
                wrapped.push('\n');
            }
            line_characters = characters;
        }
        wrapped.push_str(word);
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_become_one() {
        assert_eq!(line("a\n  b\tc", 10), "a b c");
        assert_eq!(line("größer", 3), "grö...");
        assert_eq!(line("größer", 6), "größer");
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")]
        {
            assert_eq!(count(number), expected);
        }
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two  three\nfour", 9), "one two\nthree\nfour");
        assert_eq!(wrap("incomprehensible", 4), "incomprehensible");
    }
}
