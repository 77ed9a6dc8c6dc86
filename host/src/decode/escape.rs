//! Escapes in strings that were walked before, and are well-formed therefore.

use super::scan::{Shape, Token};

/// The characters of a string that was walked before, its escapes resolved in `room` if it has any.
#[inline]
pub fn unescaped<'a>(payload: &'a [u8], token: Token, room: &'a mut Vec<u8>) -> &'a [u8] {
    if token.shape == Shape::Text {
        return token.unquoted(payload);
    }
    room.clear();
    unescape_into(token.unquoted(payload), room);
    room
}

/// Appends the characters of a string that was walked before.
pub fn unescape_into(mut text: &[u8], into: &mut Vec<u8>) {
    while let Some(index) = text.iter().position(|byte| *byte == b'\\') {
        into.extend_from_slice(&text[..index]);
        text = &text[index + 1..];
        let (character, length) = escaped(text);
        into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        text = &text[length..];
    }
    into.extend_from_slice(text);
}

/// The character that an escape stands for, and how many bytes it takes behind the backslash.
fn escaped(text: &[u8]) -> (char, usize) {
    let unit = |at: usize| text.get(at..at + 4).and_then(hex).unwrap_or_default();
    match text[0] {
        b'b' => ('\u{8}', 1),
        b'f' => ('\u{c}', 1),
        b'n' => ('\n', 1),
        b'r' => ('\r', 1),
        b't' => ('\t', 1),
        b'u' => match unit(1) {
            high @ 0xD800..=0xDBFF => {
                let code = 0x10000 + ((high - 0xD800) << 10) + (unit(7) - 0xDC00);
                (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
            }
            code => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
        },
        other => (char::from(other), 1),
    }
}

/// Value of four hexadecimal digits.
pub fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}
