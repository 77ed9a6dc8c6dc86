//! Text of strangers as it may stand in a log, on a terminal or in JSON: nothing in it can end a line, move a cursor,
//! or be shown in another order than it is stored. Knows neither logs nor terminals.

use std::fmt::{self, Write as _};

/// Stands where text was cut.
const CUT: char = '…';

/// Bytes of the longest escape, one of JSON for a character beyond the first 65,536.
const ESCAPE_BYTES_MAX: usize = 12;

/// Control characters, line and paragraph separators, and characters that take no room or turn the direction of text.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// `text` on one line, with everything that is not printable written out.
pub fn escaped(text: &str) -> String {
    escaped_but(text, |_| false)
}

/// The same for a text of several lines and columns.
pub fn escaped_lines(text: &str) -> String {
    escaped_but(text, |character| matches!(character, '\n' | '\t'))
}

fn escaped_but(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) && !stays(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// JSON with the same characters written out in JSON's own way: the values in it stay what they are.
pub fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        // JSON has no raw line break but between values.
        if is_unprintable(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Takes text up to a number of bytes, counted as they will be when escaped. After that it refuses, so that
/// nothing is formatted that nobody will see.
#[derive(Debug)]
pub struct Bounded {
    text: String,
    left_bytes: usize,
    is_cut: bool,
}

impl Bounded {
    /// Takes at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { text: String::new(), left_bytes: bytes_max, is_cut: false }
    }

    /// How much more it takes.
    pub fn left_bytes(&self) -> usize {
        self.left_bytes
    }

    /// What it has taken, unescaped, with an ellipsis if that is not all.
    pub fn into_text(mut self) -> String {
        if self.is_cut {
            self.text.push(CUT);
        }
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let bytes = match character {
                '"' | '\\' => 2,
                character if is_unprintable(character) => ESCAPE_BYTES_MAX,
                character => character.len_utf8(),
            };
            match self.left_bytes.checked_sub(bytes) {
                Some(left_bytes) if !self.is_cut => self.left_bytes = left_bytes,
                _ => {
                    self.is_cut = true;
                    return Err(fmt::Error);
                }
            }
            self.text.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character, between two that are printable.
    fn all() -> String {
        ('\0'..=char::MAX).flat_map(|character| ['a', character]).chain(['b']).collect()
    }

    #[test]
    fn what_is_not_printable_is_written_out() {
        let check = |text: &str, expected: &str| assert_eq!(escaped(text), expected);
        check("Grüße", "Grüße");
        check("a\n2026-12-01 ERROR forged\r\tb", r"a\n2026-12-01 ERROR forged\r\tb");
        check("\u{1b}[2J\0\u{7f}\u{85}", r"\u{1b}[2J\u{0}\u{7f}\u{85}");
        check("a\u{202e}b\u{2066}c\u{2028}\u{e0041}", r"a\u{202e}b\u{2066}c\u{2028}\u{e0041}");
        assert_eq!(escaped_lines("a\n\tb\r\u{202e}"), "a\n\tb\\r\\u{202e}");
        assert!(!escaped(&all()).contains(is_unprintable));
    }

    #[test]
    fn json_stays_json_and_keeps_its_values() {
        let value = serde_json::json!({ "text": "a\u{7f}b\u{85}\u{1b}\u{202e}\u{e0041}c" });
        let printed = escaped_json(&serde_json::to_string_pretty(&value).unwrap());
        assert_eq!(printed, "{\n  \"text\": \"a\\u007fb\\u0085\\u001b\\u202e\\udb40\\udc41c\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value);
        let printed = escaped_json(&serde_json::to_string(&all()).unwrap());
        assert!(!printed.contains(is_unprintable));
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), all());
    }

    #[test]
    fn text_is_cut_by_what_it_takes_when_it_is_escaped() {
        let check = |text: &str, bytes_max, expected: &str| {
            let mut bounded = Bounded::new(bytes_max);
            let _ = bounded.write_str(text);
            assert_eq!(bounded.into_text(), expected, "{text:?}");
        };
        check("abc", 3, "abc");
        check("abcd", 3, "abc…");
        check("aü", 2, "a…");
        check("\n\nb", 25, "\n\nb");
        check("\n\nb", 24, "\n\n…");
        // What comes after the cut could fit again.
        let mut bounded = Bounded::new(3);
        let _ = bounded.write_str("a\u{202e}b");
        let _ = bounded.write_char('b');
        assert_eq!(bounded.into_text(), "a…");
    }
}
