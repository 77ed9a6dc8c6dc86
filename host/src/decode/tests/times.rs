//! Which texts are times, what is wrong with the others, and that the plugin SDK says the same.

use proptest::prelude::*;

use super::*;

/// By the host and by the SDK.
fn read(text: &str) -> Result<i64, String> {
    let ours = timestamp::read(text.as_bytes()).map_err(|wrong| wrong.reason().to_owned());
    let theirs = text.parse::<sluice_plugin::Timestamp>();
    let theirs = theirs.map(sluice_plugin::Timestamp::as_micros);
    let theirs = theirs.map_err(|error| error.part().to_owned());
    assert_eq!(ours, theirs, "{text:?}: the host and the SDK differ");
    ours
}

#[test]
fn times_as_in_rfc_3339_are_read_to_the_microsecond() {
    let cases = [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T03:04:05.123Z", 1_795_316_645_123_000),
        ("2026-11-22T03:04:05.123456789Z", 1_795_316_645_123_456),
        ("2026-11-22T04:04:05.1239999+01:00", 1_795_316_645_123_999),
        ("2026-11-21t23:34:05-03:30", 1_795_316_645_000_000),
        ("2026-11-22T03:04:05-00:00", 1_795_316_645_000_000),
        ("2026-11-22T17:04:05+14:00", 1_795_316_645_000_000),
        ("1969-12-31T23:59:59.5z", -500_000),
        ("2024-02-29 00:00:00Z", 1_709_164_800_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000_000),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
    ];
    for (text, micros) in cases {
        assert_eq!(read(text), Ok(micros), "{text}");
    }
}

#[test]
fn times_that_rfc_3339_does_not_allow_are_read_where_they_are_unambiguous() {
    const MINUTE: i64 = 1_795_316_640_000_000;
    const SECOND: i64 = MINUTE + 5_000_000;
    let cases = [
        ("2026-11-22T03:04Z", MINUTE),
        ("2026-11-22T04:04+01:00", MINUTE),
        ("2026-11-22t02:04-0100", MINUTE),
        ("2026-11-22 04:04+01", MINUTE),
        ("2026-11-22T04:04:05.123+0100", SECOND + 123_000),
        ("2026-11-22T08:49:05+0545", SECOND),
        ("2026-11-22 03:04:05.123+00", SECOND + 123_000),
        ("2026-11-22 00:04:05-03", SECOND),
        ("2026-11-22T03:04:05,123Z", SECOND + 123_000),
        ("2026-11-22 04:04:05,1234567+01", SECOND + 123_456),
        ("2017-01-01T00:59:60,5+01", 1_483_228_800_500_000),
    ];
    for (text, micros) in cases {
        assert_eq!(read(text), Ok(micros), "{text}");
        check(Kind::Timestamp, &format!("{text:?}"), &format!("{micros} us"));
    }
}

#[test]
fn a_text_that_is_no_time_is_rejected_with_the_part_that_is_wrong() {
    let zone = "the time zone is neither Z nor an offset such as +01:00";
    let no_zone = "the time zone is missing, write Z or an offset such as +01:00";
    let clock = "the time of day is neither HH:MM nor HH:MM:SS";
    let cases = [
        ("", "the date is not YYYY-MM-DD"),
        ("1795316645123", "the date is not YYYY-MM-DD"),
        ("2026/11/22T03:04:05Z", "the date is not YYYY-MM-DD"),
        ("+026-11-22T03:04:05Z", "the date is not YYYY-MM-DD"),
        ("10000-01-01T00:00:00Z", "the date is not YYYY-MM-DD"),
        ("2026-13-22T03:04:05Z", "there is no such date"),
        ("2026-00-10T03:04:05Z", "there is no such date"),
        ("2026-11-00T03:04:05Z", "there is no such date"),
        ("2026-02-29T03:04:05Z", "there is no such date"),
        ("2026-11-22", "the time of day is missing"),
        ("2026-11-22_03:04:05Z", "neither T nor a blank follows the date"),
        ("2026-11-22T", clock),
        ("2026-11-22T03", clock),
        ("2026-11-22T3:04:05Z", clock),
        ("2026-11-22T03:04:5Z", clock),
        ("2026-11-22T03:04:", clock),
        ("2026-11-22T24:00:00Z", "there is no such time of day"),
        ("2026-11-22T03:60Z", "there is no such time of day"),
        ("2026-11-22T03:04:61Z", "there is no such time of day"),
        ("2026-11-22T03:04:60Z", "second 60 exists only at 23:59:60 UTC"),
        ("2026-11-22T23:59:60+01:00", "second 60 exists only at 23:59:60 UTC"),
        ("2026-11-22T03:04:05.Z", "the fraction of the second has no digits"),
        ("2026-11-22T03:04:05,+01", "the fraction of the second has no digits"),
        ("2026-11-22T03:04", no_zone),
        ("2026-11-22T03:04:05", no_zone),
        ("2026-11-22T03:04:05.123456", no_zone),
        ("2026-11-22T03:04.5Z", zone),
        ("2026-11-22T03:04:05+1:00", zone),
        ("2026-11-22T03:04:05+1", zone),
        ("2026-11-22T03:04:05+24:00", zone),
        ("2026-11-22T03:04:05+0160", zone),
        ("2026-11-22T03:04:05+01:00[Europe/Berlin]", zone),
        ("2026-11-22T03:04:05 01:00", zone),
        ("2026-11-22T03:04:05Z ", zone),
        ("2026-11-22T03:04:05 UTC", zone),
    ];
    for (text, part) in cases {
        assert_eq!(read(text), Err(part.to_owned()), "{text}");
    }
    let expected = "bad-timestamp: /v: expected a time as in RFC 3339, such as 2026-11-22T03:04:05.123Z, \
        found \"2026-11-22T03:04:05\" at byte 6; the time zone is missing, write Z or an offset such as +01:00";
    check(Kind::Timestamp, "\"2026-11-22T03:04:05\"", expected);
}

/// Pieces of which most combinations are nearly times.
fn nearly() -> impl Strategy<Value = String> {
    let piece = |pieces: &'static [&'static str]| prop::sample::select(pieces);
    let date =
        piece(&["2026-11-22", "2024-02-29", "2023-02-29", "1900-02-29", "0000-12-31", "2026-1-22"]);
    let mark = piece(&["T", "t", " ", "", "_"]);
    let time = piece(&["03:04", "23:59:60", "22:59:60", "23:59:59", "24:00", "3:04", "03:04:", ""]);
    let fraction = piece(&["", ".", ",", ".5", ",123456789", ".1234567x"]);
    let zone =
        piece(&["", "Z", "z", "+01:00", "-0130", "+14", "-00:00", "+1", "+24", "+01:60", "UTC"]);
    (date, mark, time, fraction, zone)
        .prop_map(|(date, mark, time, fraction, zone)| [date, mark, time, fraction, zone].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_host_and_the_sdk_read_the_same(
        text in nearly(),
        at in any::<prop::sample::Index>(),
        other in prop::sample::select(b"0123456789-:+.,TZ ".to_vec()),
        is_damaged in any::<bool>(),
    ) {
        let mut text = text.into_bytes();
        if is_damaged && !text.is_empty() {
            let at = at.index(text.len());
            text[at] = other;
        }
        let text = String::from_utf8(text).expect("ASCII");
        let result = read(&text);
        if let Some(micros) = timestamp::strict(text.as_bytes()) {
            prop_assert_eq!(result, Ok(micros), "{}", text);
            prop_assert_eq!(timestamp::leniently(text.as_bytes()), Ok(micros), "{}", text);
        }
    }
}
