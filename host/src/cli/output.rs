//! Standard output: whole texts or one JSON value, free of control characters.

use std::io::{self, Write as _};

use serde::Serialize;

use super::Format;

/// Prints `text`, or `value` as JSON.
pub fn print(
    format: Format,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    match format {
        Format::Text => print_text(&text()),
        Format::Json => print_text(&plain_json(&serde_json::to_string_pretty(value)?)),
    }
}

/// Prints `text`, if there is any, and ends its last line. A reader that went away (`| head`) is no error.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    let text = plain(text.trim_end_matches('\n'));
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

/// `text` with control characters written out, so that no plugin and no message can move the cursor of a terminal.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// JSON with the control characters that JSON itself allows inside of strings written out in its own way.
fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_control() && character != '\n' {
            plain.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            plain.push(character);
        }
    }
    plain
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
    fn control_characters_are_written_out() {
        assert_eq!(plain("a\u{1b}[31mred\r\n\tb\u{7}"), "a\\u{1b}[31mred\\r\n\tb\\u{7}");
    }

    #[test]
    fn json_stays_json() {
        let value = serde_json::json!({ "text": "a\u{7f}b\u{85}\u{1b}c" });
        let printed = plain(&plain_json(&serde_json::to_string_pretty(&value).unwrap()));
        assert_eq!(printed, "{\n  \"text\": \"a\\u007fb\\u0085\\u001bc\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
    }

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
