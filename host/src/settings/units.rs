//! Sizes such as `32MiB` and times such as `10s`.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

/// Bytes in `text`: digits and a unit, `32MiB`, `500 kB`, `1024`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits_end].parse().ok()?;
    match text[digits_end..].trim() {
        "" => Some(number),
        unit => number.checked_mul(UNITS.iter().find(|(name, _)| *name == unit)?.1),
    }
}

/// `bytes` as a person writes them: the largest binary unit that divides them.
pub(super) fn show_bytes(bytes: u64) -> String {
    let unit =
        UNITS[..3].iter().rev().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    match unit {
        Some(("kib", size)) => format!("{}KiB", bytes / size),
        Some(("mib", size)) => format!("{}MiB", bytes / size),
        Some((_, size)) => format!("{}GiB", bytes / size),
        None => format!("{bytes}"),
    }
}

/// The time in `text`: `10s`, `500ms`, `1m 30s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_unit() {
        for (text, expected) in [
            ("32MiB", Some(32 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("500kB", Some(500_000)),
            ("1024", Some(1024)),
            ("7 B", Some(7)),
            ("1.5MiB", None),
            ("MiB", None),
            ("", None),
            ("-1", None),
            ("10 bananas", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_as_they_are_written() {
        for text in ["1KiB", "32MiB", "2GiB", "1000", "1025"] {
            assert_eq!(show_bytes(bytes(text).unwrap()), text);
        }
    }
}
