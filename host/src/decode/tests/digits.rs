//! Numbers whose digits are kept, and doubles that would lose some.

use proptest::prelude::*;

use super::agreement::{POINTERS, document};
use super::layouts::{agree_exactly, quick_exactly, varied};
use super::*;
use crate::description::{FieldSource, OutputField};

/// Where the numbers of an input field are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// In the plugin alone.
    Read,
    /// In the plugin, which computes doubles for a numeric column.
    Computed,
    /// In a column of their kind.
    Passed,
    /// In a numeric column.
    Exact,
    /// In both columns.
    Both,
    /// In the plugin and in a numeric column.
    ReadAndExact,
}

const NEEDS: [Need; 6] =
    [Need::Read, Need::Computed, Need::Passed, Need::Exact, Need::Both, Need::ReadAndExact];

/// Optional fields, and what is needed of each.
fn fields(wanted: &[(&str, Kind, Need)]) -> (Vec<InputField>, ExactInputs) {
    let mut exact = ExactInputs::default();
    let mut fields = Vec::new();
    for (input, (pointer, kind, need)) in wanted.iter().enumerate() {
        let mut add = |source, exactly| {
            let field = OutputField { name: String::new(), kind: *kind, nullable: true, source };
            exact.add(&field, exactly);
        };
        if matches!(need, Need::Passed | Need::Both) {
            add(FieldSource::Field(input), false);
        }
        if matches!(need, Need::Exact | Need::Both | Need::ReadAndExact) {
            add(FieldSource::Field(input), true);
        }
        if *need == Need::Computed {
            add(FieldSource::Computed, true);
        }
        let read = matches!(need, Need::Read | Need::Computed | Need::ReadAndExact);
        fields.push(InputField { read, ..field(pointer, *kind, false) });
    }
    (fields, exact)
}

/// The value at `/v` as its column and its digits have it, or why there is neither.
fn found(kind: Kind, need: Need, value: &str) -> Result<(String, Option<String>), String> {
    let (fields, exact) = fields(&[("/v", kind, need)]);
    let payload = format!("{{\"v\": {value}}}");
    let (decoded, rejected) = decode_exactly(&fields, &exact, &[Some(payload.as_bytes())]);
    match rejected.as_slice() {
        [] => {
            let digits = exact.has(0).then(|| cell(decoded.digits_of(0), 0));
            Ok((cell(&decoded.columns[0], 0), digits))
        }
        [rejection] => Err(format!("{}: {}", rejection.code, rejection.reason)),
        _ => panic!("one message is rejected once"),
    }
}

#[test]
fn a_number_that_is_only_passed_on_stays_as_it_was_written() {
    let numbers = [
        "0",
        "-0",
        "-0.0",
        "1e-7",
        "1E400",
        "-1.50E+2",
        "1e100000",
        "1234567890123.456789",
        "169299987.35345112123",
        "9007199254740993",
        "0.1",
        "123456789012345",
        "1234567890123456",
        "12345678901234567",
        "18446744073709551615",
        "1234567890123456789012345678901234567890",
        "-0.00000000000000000000000000000000001",
    ];
    for number in numbers {
        let kept = Ok((number.to_owned(), Some(number.to_owned())));
        assert_eq!(found(Kind::Float64, Need::Exact, number), kept);
        if number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
            assert_eq!(found(Kind::Int64, Need::Exact, number), kept);
        } else {
            let wrong = format!("wrong-type: /v: expected an integer, found {number} at byte 6");
            assert_eq!(found(Kind::Int64, Need::Exact, number), Err(wrong));
        }
    }
    let missing = Ok(("missing".to_owned(), Some("missing".to_owned())));
    for kind in [Kind::Int64, Kind::Float64] {
        assert_eq!(found(kind, Need::Exact, "null"), missing);
        for other in ["\"1\"", "true", "[1]", "{}", "\"\""] {
            let error = found(kind, Need::Exact, other).unwrap_err();
            assert!(error.starts_with("wrong-type: /v: expected "), "{error}");
        }
    }
    let error = found(Kind::Float64, Need::Exact, "\"1\"").unwrap_err();
    assert_eq!(error, "wrong-type: /v: expected a number, found \"1\" at byte 6");
}

#[test]
fn a_number_that_is_needed_in_two_ways_is_there_in_two_ways() {
    let both = |value: &str, digits: &str| Ok((value.to_owned(), Some(digits.to_owned())));
    for need in [Need::Both, Need::ReadAndExact] {
        let float = |number| found(Kind::Float64, need, number);
        assert_eq!(
            float("1234567890123.456789"),
            both("1234567890123.4568", "1234567890123.456789")
        );
        assert_eq!(float("-0.0"), both("-0.0", "-0.0"));
        assert_eq!(float("9007199254740993"), both("9007199254740992.0", "9007199254740993"));
        assert_eq!(float("1e-400"), both("0.0", "1e-400"));
        assert_eq!(float("null"), both("missing", "missing"));
        let wide = "out-of-range: /v: expected a number that a double can represent, found 1E400 at byte 6";
        assert_eq!(float("1E400"), Err(wide.to_owned()));
        let int = |number| found(Kind::Int64, need, number);
        assert_eq!(int("-0"), both("0", "-0"));
        let max = i64::MAX.to_string();
        assert_eq!(int(&max), both(&max, &max));
        let wide = "out-of-range: /v: expected a signed integer of 64 bits, found 18446744073709551615 at byte 6";
        assert_eq!(int("18446744073709551615"), Err(wide.to_owned()));
    }
    for need in [Need::Read, Need::Passed] {
        let expected = Ok(("9007199254740992.0".to_owned(), None));
        assert_eq!(found(Kind::Float64, need, "9007199254740993"), expected);
    }
}

#[test]
fn a_double_that_is_computed_with_loses_no_digit_unnoticed() {
    let same = [
        "0",
        "-0.0",
        "0e99999",
        "0.1",
        "0.10000",
        "100e-3",
        "-1.5",
        "1e-7",
        "1e23",
        "100000000000000000000000",
        "9007199254740992",
        "9007199254740994",
        "96.48064786969077",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "5e-324",
        "0.00000000000000000000000000000000000012",
        "12300000000000000000000000000000000000.000",
    ];
    for number in same {
        let double: f64 = number.parse().unwrap();
        let expected = Ok((format!("{double:?}"), None));
        assert_eq!(found(Kind::Float64, Need::Computed, number), expected, "{number}");
    }
    let other = [
        "9007199254740993",
        "-9007199254740993",
        "1234567890123.456789",
        "169299987.35345112123",
        "0.1000000000000000055511151231257827",
        "99999999999999991611392",
        "1e-400",
        "3e-324",
        "4.9e-324",
        "18446744073709551615",
        "1e-99999999999999999999999999",
        "1234567890123456789012345678901234567890",
    ];
    let (fields, exact) = fields(&[("/v", Kind::Float64, Need::Computed)]);
    let messages = [&["1"], &same[..], &other[..]].concat();
    let messages = messages.into_iter().map(|number| format!("{{\"v\": {number}}}"));
    agree_exactly(&fields, &exact, &messages.collect::<Vec<_>>());
    for number in other {
        let error = found(Kind::Float64, Need::Computed, number).unwrap_err();
        assert!(error.starts_with("inexact-number: "), "{number}: {error}");
        assert!(error.contains(&format!("found {number} at byte 6")), "{number}: {error}");
        found(Kind::Float64, Need::Read, number).unwrap();
    }
    let error = found(Kind::Float64, Need::Computed, "9007199254740993").unwrap_err();
    assert_eq!(
        error,
        "inexact-number: /v: expected a number that a double keeps exactly, found 9007199254740993 at byte 6; \
         the plugin computes doubles for a numeric column, and this number would change unnoticed: \
         a field that is passed through, or read as JSON, keeps its digits"
    );
    let error = found(Kind::Float64, Need::Computed, "1e400").unwrap_err();
    assert!(error.starts_with("out-of-range: "), "{error}");
}

#[test]
fn digits_are_read_quickly_at_every_depth() {
    let wanted = [
        ("/a/int", Kind::Int64, Need::Exact),
        ("/a/float", Kind::Float64, Need::Exact),
        ("/a/computed", Kind::Float64, Need::Computed),
        ("/a/both", Kind::Float64, Need::Both),
        ("/a/read", Kind::Int64, Need::ReadAndExact),
    ];
    let (fields, exact) = fields(&wanted);
    let message = |number: &str| {
        format!(
            r#"{{"a":{{"int":{number},"float":{number},"computed":{number},"both":{number},"read":{number},"x":{number}}}}}"#
        )
    };
    let messages = ["1", "-12", "123456789012345", "null", "9007199254740992"].map(message);
    quick_exactly(&fields, &exact, &messages.each_ref().map(String::as_str));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_with_digits_are_what_the_scanner_says(
        documents in proptest::collection::vec(document(), 1..5),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..24),
        wanted in proptest::collection::vec(
            (
                prop::sample::select(POINTERS.to_vec()),
                prop::sample::select(vec![Kind::Int64, Kind::Float64, Kind::Float64, Kind::Text]),
                prop::sample::select(NEEDS.to_vec()),
            ),
            1..8,
        ),
    ) {
        let (fields, exact) = fields(&wanted);
        let messages: Vec<_> =
            picks.iter().map(|(pick, seed)| varied(pick.get::<String>(&documents), *seed)).collect();
        agree_exactly(&fields, &exact, &messages);
    }

    #[test]
    fn what_is_kept_of_a_number_is_what_stands_in_the_document(document in document()) {
        let json: Vec<_> = POINTERS.iter().map(|pointer| field(pointer, Kind::Json, false)).collect();
        let (values, rejected) = decode(&json, &[Some(document.as_bytes())]);
        prop_assert!(rejected.is_empty());
        for (pointer, column) in POINTERS.iter().zip(&values.columns) {
            let value = cell(column, 0);
            let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            let (fields, exact) = fields(&[(*pointer, Kind::Float64, Need::Exact)]);
            let (decoded, rejected) = decode_exactly(&fields, &exact, &[Some(document.as_bytes())]);
            if is_number || value == "missing" {
                prop_assert_eq!(cell(decoded.digits_of(0), 0), value);
            } else {
                prop_assert_eq!(rejected[0].code.as_str(), "wrong-type", "{}", value);
            }
        }
    }

    #[test]
    fn sequences_of_numbers_are_what_the_scanner_says(
        numbers in proptest::collection::vec(
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?|-?9[0-9]{15}|-?[0-9.eE+-]{1,20}|null",
            1..24,
        ),
        need in prop::sample::select(NEEDS.to_vec()),
        kind in prop::sample::select(vec![Kind::Int64, Kind::Float64]),
    ) {
        let (fields, exact) = fields(&[("/v", kind, need), ("/w", Kind::Int64, Need::Exact)]);
        let mut messages = vec!["{\"v\":1,\"w\":2}".to_owned()];
        messages.extend(numbers.iter().map(|number| format!("{{\"v\":{number},\"w\":{number}}}")));
        agree_exactly(&fields, &exact, &messages);
    }

    #[test]
    fn every_double_keeps_its_own_digits_and_no_others(
        value in any::<f64>().prop_filter("zero has no digits", |value| value.is_finite() && *value != 0.0),
        digit in 1..10_u8,
        zeros in 0..20_usize,
    ) {
        let kept = |number: &str| found(Kind::Float64, Need::Computed, number).is_ok();
        for own in [format!("{value:e}"), format!("{value}")] {
            prop_assert!(kept(&own), "{}", own);
        }
        // 17 digits that are not the shortest ones are another number, and so is any with a digit behind them.
        let seventeen = format!("{value:.16e}");
        let (digits, exponent) = seventeen.split_once('e').unwrap();
        let shortest = digits.trim_end_matches('0').trim_end_matches('.').to_owned() + "e" + exponent;
        prop_assert_eq!(kept(&seventeen), shortest == format!("{value:e}"));
        let nearby = format!("{digits}{}{digit}e{exponent}", "0".repeat(zeros));
        prop_assert!(!kept(&nearby), "{}", nearby);
    }
}
