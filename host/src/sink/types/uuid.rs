//! UUIDs from text, in the forms that Postgres takes.

/// The 16 bytes of `text`: 32 hexadecimal digits, with or without braces, a hyphen allowed after each
/// group of four.
pub fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let text = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut bytes = [0; 16];
    let mut rest = text.iter();
    for (index, byte) in bytes.iter_mut().enumerate() {
        let mut next = *rest.next()?;
        if next == b'-' && index % 2 == 0 && index > 0 {
            next = *rest.next()?;
        }
        *byte = digit(next)? << 4 | digit(*rest.next()?)?;
    }
    rest.next().is_none().then_some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, good: bool) {
        let expected = good.then_some([
            0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38,
            0x0a, 0x11,
        ]);
        assert_eq!(parse(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn the_forms_that_postgres_takes_are_taken() {
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", true);
        check("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", true);
        check("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", true);
        check("a0eebc999c0b4ef8bb6d6bb9bd380a11", true);
        check("a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", true);
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", false);
        check("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a112", false);
        check("a0e-ebc99-9c0b-4ef8-bb6d-6bb9bd380a11", false);
        check("-a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", false);
        check("a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", false);
        check("g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", false);
        check("", false);
    }
}
