//! Bytes of messages as people and programs can read them: text as it is, all else written out.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::printable::is_unprintable;

/// On one line: what is not printable UTF-8 is escaped, as is the backslash, so that no two byte strings look alike.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                character if is_unprintable(character) => {
                    text.extend(character.escape_default());
                }
                character => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The same for what may be missing, cut to `bytes_max`.
pub(super) fn maybe(bytes: Option<&[u8]>, bytes_max: usize) -> String {
    let Some(bytes) = bytes else { return "(none)".to_owned() };
    match bytes.get(..bytes_max) {
        _ if bytes.is_empty() => "(empty)".to_owned(),
        Some(head) if bytes.len() > bytes_max => {
            format!("{}... {} more bytes", text(head), bytes.len() - bytes_max)
        }
        _ => text(bytes),
    }
}

/// For programs: `{"text": ...}` when it is UTF-8, else `{"hex": ...}`.
pub(super) fn value(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "text": text }),
        Err(_) => {
            json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_is_written_out() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(text(bytes), expected);
        check("Grüße".as_bytes(), "Grüße");
        check(b"{\"a\": 1}\n\t\x1b[2J\0", r#"{"a": 1}\n\t\u{1b}[2J\u{0}"#);
        check(b"\xff\xfe ok \xc3", r"\xff\xfe ok \xc3");
        check(br"\xff", r"\\xff");
        check("a\u{202e}b".as_bytes(), r"a\u{202e}b");
    }

    #[test]
    fn missing_empty_and_long_are_told_apart() {
        assert_eq!(maybe(None, 10), "(none)");
        assert_eq!(maybe(Some(b""), 10), "(empty)");
        assert_eq!(maybe(Some(b"0123456789"), 10), "0123456789");
        assert_eq!(maybe(Some(b"0123456789a"), 10), "0123456789... 1 more bytes");
        assert_eq!(maybe(Some("Gr\u{fc}\u{df}e".as_bytes()), 3), "Gr\\xc3... 4 more bytes");
    }

    #[test]
    fn programs_lose_no_byte() {
        assert_eq!(value(None), Value::Null);
        assert_eq!(value(Some(b"a\0b")), json!({ "text": "a\0b" }));
        assert_eq!(value(Some(b"a\xff")), json!({ "hex": "61ff" }));
    }
}
