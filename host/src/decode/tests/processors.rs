//! What one processor finds in a few bytes, all find.

use proptest::prelude::*;
use serde_json::Value;

use super::super::cpu::{NUMBER_MAX, Number, TIME};
use super::super::numbers::{Found, Grammar};
use super::*;

/// Bytes that mean something in JSON, more often than others.
fn bytes<const COUNT: usize>() -> impl Strategy<Value = [u8; COUNT]> {
    let byte = prop_oneof![
        6 => prop::sample::select(b"0123456789".to_vec()),
        3 => prop::sample::select(b"\"\\.,-+eE]}[{ :".to_vec()),
        2 => any::<u8>(),
        2 => b'a'..=b'z',
    ];
    proptest::collection::vec(byte, COUNT).prop_map(|bytes| bytes.try_into().unwrap())
}

/// `None` on a processor without AVX2, where there is nothing to compare.
#[cfg(target_arch = "x86_64")]
fn other() -> Option<simd::Avx2> {
    simd::Avx2::detect()
}

#[cfg(not(target_arch = "x86_64"))]
fn other() -> Option<Portable> {
    None
}

#[test]
fn a_number_ends_where_its_grammar_says() {
    let check = |text: &str, expected: Option<(i64, usize, usize)>| {
        for text in [text.to_owned(), format!("-{text}")] {
            let negative = text.starts_with('-');
            let mut ahead = [b'}'; 32];
            ahead[..text.len()].copy_from_slice(text.as_bytes());
            let expected = expected.map(|(digits, length, fraction)| {
                let length = length + usize::from(negative);
                Number { negative, digits, length, fraction }
            });
            let expected = expected.filter(|number| number.length <= NUMBER_MAX);
            assert_eq!(Portable.number(&ahead), expected, "{text}");
            if let Some(cpu) = other() {
                assert_eq!(cpu.number(&ahead), expected, "{text}");
            }
        }
    };
    check("0", Some((0, 1, 0)));
    check("7,8", Some((7, 1, 0)));
    check("7-8", Some((7, 1, 0)));
    check("123456789012345", Some((123_456_789_012_345, 15, 0)));
    check("1234567890123456", Some((1_234_567_890_123_456, 16, 0)));
    check("12345678.012345", Some((12_345_678_012_345, 15, 6)));
    check("123456789.012345", Some((123_456_789_012_345, 16, 6)));
    check("0.00001", Some((1, 7, 5)));
    check("9999999999999999", Some((9_999_999_999_999_999, 16, 0)));
    check("12345678901234567", None);
    check("1234567890123456.5", None);
    check("123456789012345.", None);
    check("1234567890123456789012345678901", None);
    check("00", None);
    check("01.5", None);
    check("-", None);
    check(".5", None);
    check("5.", None);
    check("5e1", None);
    check("5.5E1", None);
    check("1.2.3", None);
    check("", None);
}

/// Whether the bytes behind an opening bracket are a plain list, as [`Grammar`] sees it.
fn is_list(text: &[u8]) -> bool {
    let Some(cpu) = other() else { return serde_json::from_slice::<Value>(text).is_ok() };
    let mut padded = text[1..].to_vec();
    padded.resize(padded.len() + 128, b'1');
    let mut grammar = Grammar::START;
    let mut at = 0;
    loop {
        let Some(ahead) = padded[at..].first_chunk() else { return false };
        match grammar.walk(&cpu.marks(ahead).unwrap()) {
            Found::Other => return false,
            Found::Part => at += 64,
            Found::End(index) => return at + index + 2 == text.len(),
        }
    }
}

#[test]
fn a_list_is_plain_wherever_its_items_lie() {
    let good = ["1", "-2.5", "0", "-0.25", "10", "1234567890123456789012345678901234567890.5"];
    let bad =
        ["", "-", "01", "-01", "1.", ".5", "1.2.3", "1-", "--1", "1 ", "a", "-.5", "1.-5", "1..5"];
    let long = format!("0.{}.5", "1234567890".repeat(8));
    let bad = bad.into_iter().chain([long.as_str()]);
    for length in 0..150 {
        for separator in [",", ", "] {
            // Items of one to three bytes move the last ones over the borders of 64.
            let mut text = "[".to_owned();
            while text.len() < length {
                text += ["1", "22", "3.5"][text.len() % 3];
                text += separator;
            }
            for item in good {
                assert!(is_list(format!("{text}{item}]").as_bytes()), "{text}{item}]");
                assert!(
                    is_list(format!("{text}{item}{separator}7]").as_bytes()),
                    "{text}{item},7]"
                );
            }
            for item in bad.clone() {
                assert!(!is_list(format!("{text}{item}]").as_bytes()), "{text}{item}]");
                assert!(
                    !is_list(format!("{text}{item}{separator}7]").as_bytes()),
                    "{text}{item},7]"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_processor_sees_the_same(ahead in bytes::<32>(), gap in bytes::<32>(), same in 0..=32_usize) {
        let Some(cpu) = other() else { return Ok(()) };
        prop_assert_eq!(cpu.plain(&ahead), Portable.plain(&ahead));
        let twice: [u8; 64] = [ahead, gap].concat().try_into().unwrap();
        let is_plain = !twice.iter().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x80..));
        prop_assert_eq!((cpu.is_plain(&twice), Portable.is_plain(&twice)), (is_plain, is_plain));
        prop_assert_eq!(cpu.number(&ahead), Portable.number(&ahead));
        let mut gap = gap;
        gap[..same].copy_from_slice(&ahead[..same]);
        for length in 0..=32 {
            let expected = ahead[..length] == gap[..length];
            prop_assert_eq!(cpu.is_gap_ahead(&ahead, &gap, length), expected);
            prop_assert_eq!(Portable.is_gap_ahead(&ahead, &gap, length), expected);
        }
    }

    #[test]
    fn a_plain_list_is_json(items in proptest::collection::vec(
        prop::sample::select(vec!["1.25,", "-3,", "0.5,", "12345.678,", "0,", "4, ", "9.,", "-,", "01,", "1.2.3,", ",", "1e5,", "1", " "]), 0..40,
    ), end in prop::sample::select(vec!["4]", "-0.5]", "]", "4", "]]"])) {
        let text = format!("[{}{end}", items.concat());
        if is_list(text.as_bytes()) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn a_time_is_what_the_scanner_says(
        digits in proptest::collection::vec(b'0'..=b'9', TIME),
        at in 0..TIME,
        byte in prop_oneof![prop::sample::select(b"-T:.Z\"09/;".to_vec()), any::<u8>()],
        is_damaged in any::<bool>(),
    ) {
        let Some(cpu) = other() else { return Ok(()) };
        let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
        for (to, digit) in text.iter_mut().zip(&digits) {
            if *to == b'0' {
                *to = *digit;
            }
        }
        // Most months and days that are drawn do not exist.
        text[6] = b'0' + (text[6] & 1);
        text[9] = b'0' + (text[9] & 3);
        if is_damaged {
            text[at] = byte;
        }
        let clock = cpu.time(&text).filter(|clock| clock.second < 60);
        let ours = clock.and_then(|clock| clock.micros_since_1970(0));
        let theirs = timestamp::read(&text[1..25]).ok().filter(|_| (text[0], text[25]) == (b'"', b'"'));
        if is_damaged {
            prop_assert!(ours.is_none() || ours == theirs);
        } else if &text[18..20] != b"60" {
            prop_assert_eq!(ours, theirs);
        }
    }
}
