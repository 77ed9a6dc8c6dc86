//! Random documents, whole and damaged: the decoder and `serde_json` find the same.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

pub const POINTERS: [&str; 14] = [
    "", "/a", "/b", "/a/b", "/a/a", "/b/0", "/b/1", "/b/1/a", "/c/0/b", "/0", "/1/a", "/x~1y",
    "/x~0y", "/",
];

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
        (-100..100_i32).prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        "[1-9][0-9]{0,8}\\.[0-9]{1,7}",
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
    ]
}

fn string() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[ -!#-\\[\\]-~]{0,12}",
        "[à-ü€😀]{1,3}",
        Just("\\n".to_owned()),
        Just("\\\"".to_owned()),
        Just("\\u00e9".to_owned()),
        Just("\\ud83d\\uDE00".to_owned()),
        Just("\\u0000".to_owned()),
    ];
    let free = proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat());
    let time = Just("2026-11-22T03:04:05.25+01:00".to_owned());
    prop_oneof![6 => free, 1 => time].prop_map(|text| format!("\"{text}\""))
}

fn name() -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(vec![
        r#""a""#,
        r#""a""#,
        r#""b""#,
        r#""b""#,
        r#""c""#,
        r#""0""#,
        r#""1""#,
        r#""x/y""#,
        r#""x~y""#,
        r#""""#,
        r#""\u0061""#,
        r#""other""#,
    ])
}

fn space() -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(vec!["", "", "", " ", "\n\t", "\r "])
}

/// The text of a document, with duplicate names and odd white space.
pub fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        1 => Just("null".to_owned()),
        1 => Just("true".to_owned()),
        1 => Just("false".to_owned()),
        4 => number(),
        4 => string(),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let item =
            (space(), inner.clone(), space()).prop_map(|(a, item, b)| format!("{a}{item}{b}"));
        let member = (space(), name(), space(), inner, space())
            .prop_map(|(a, name, b, value, c)| format!("{a}{name}{b}:{value}{c}"));
        prop_oneof![
            proptest::collection::vec(item, 0..5)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(member.clone(), 0..6)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
            proptest::collection::vec(member, 0..6)
                .prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

/// What an optional field of `kind` is by `serde_json`: a cell, or the code of a rejection.
/// `None` where it keeps too little of a number to tell.
fn by_serde(value: Option<&Value>, kind: Kind) -> Option<Result<String, &'static str>> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Some(Ok("missing".to_owned()));
    };
    let text = |text: &str| Ok(text.to_owned());
    Some(match (kind, value) {
        (Kind::Boolean, Value::Bool(value)) => Ok(value.to_string()),
        (Kind::Int64, Value::Number(_)) => integer(value)?.map(|value| value.to_string()),
        (Kind::Float64, Value::Number(number)) => Ok(format!("{:?}", number.as_f64()?)),
        (Kind::Text | Kind::Bytes, Value::String(value)) => text(value),
        (Kind::Timestamp, Value::String(value)) => match value.as_str() {
            "2026-11-22T03:04:05.25+01:00" => text("1795313045250000 us"),
            // Damaged, and perhaps a time still.
            other if other.len() > 19 => return None,
            _ => Err("bad-timestamp"),
        },
        (Kind::Json, value) => Ok(value.to_string()),
        (Kind::Int64List, Value::Array(items)) => {
            let items: Option<Vec<_>> = items.iter().map(integer).collect();
            items?.into_iter().collect::<Result<Vec<i64>, _>>().map(|items| format!("{items:?}"))
        }
        (Kind::Float64List, Value::Array(items)) => {
            let items: Option<Vec<f64>> = items.iter().map(Value::as_f64).collect();
            items.map(|items| format!("{items:?}")).ok_or("wrong-type")
        }
        _ => Err("wrong-type"),
    })
}

fn integer(value: &Value) -> Option<Result<i64, &'static str>> {
    match value {
        Value::Number(number) if number.is_i64() => Some(Ok(number.as_i64()?)),
        Value::Number(number) if number.is_u64() => Some(Err("out-of-range")),
        // A long integer, or `-0`: `serde_json` makes floats of them.
        Value::Number(number) if number.as_f64()?.abs() > 9e18 || number.as_f64()? == 0.0 => None,
        _ => Some(Err("wrong-type")),
    }
}

/// Equal, but for the last bits of floats: `serde_json` rounds some of them wrongly.
fn alike(ours: &str, theirs: &str) -> bool {
    let close = |ours: &str, theirs: &str| match (ours.parse::<f64>(), theirs.parse::<f64>()) {
        (Ok(ours), Ok(theirs)) => (ours - theirs).abs() <= ours.abs() * 1e-15 + f64::MIN_POSITIVE,
        _ => ours == theirs,
    };
    let mut theirs = theirs.trim_matches(['[', ']']).split(", ");
    let ours = ours.trim_matches(['[', ']']).split(", ");
    ours.zip(theirs.by_ref()).all(|(ours, theirs)| close(ours, theirs)) && theirs.next().is_none()
}

fn compare(payload: &[u8]) {
    let parsed: Result<Value, _> = serde_json::from_slice(payload);
    // A number beyond all doubles is JSON all the same.
    if parsed.as_ref().is_err_and(|error| error.to_string().contains("number out of range")) {
        return;
    }
    for pointer in POINTERS {
        for kind in Kind::ALL {
            let ours = one(pointer, kind, false, payload);
            let Ok(document) = &parsed else {
                let refused =
                    ours.starts_with("malformed-json") || ours.starts_with("invalid-utf8");
                assert!(refused, "{ours} of {}", payload.escape_ascii());
                continue;
            };
            let Some(theirs) = by_serde(document.pointer(pointer), kind) else { continue };
            let equal = match (&theirs, kind) {
                (Ok(theirs), Kind::Float64 | Kind::Float64List) => alike(&ours, theirs),
                (Ok(theirs), Kind::Json) if theirs != "missing" => {
                    serde_json::from_str::<Value>(&ours)
                        .is_ok_and(|ours| theirs == &ours.to_string())
                }
                (Ok(theirs), _) => ours == *theirs,
                (Err(code), _) => ours.starts_with(code),
            };
            assert!(
                equal,
                "{pointer} {}: {ours}, not {theirs:?} of {}",
                kind.name(),
                payload.escape_ascii()
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn serde_json_finds_the_same_in_every_document(document in document()) {
        compare(document.as_bytes());
    }

    #[test]
    fn serde_json_finds_the_same_in_damaged_documents(
        document in document(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\"\\{}[]:,0-.eE \n\x00u\xc3\xa9t".to_vec()),
        damage in 0..3_u8,
    ) {
        let mut payload = document.into_bytes();
        let at = at.index(payload.len());
        match damage {
            0 => payload[at] = byte,
            1 => payload.insert(at, byte),
            _ => drop(payload.remove(at)),
        }
        compare(&payload);
    }

    #[test]
    fn all_fields_together_are_what_each_is_alone(document in document()) {
        let fields: Vec<_> = POINTERS.iter().map(|pointer| field(pointer, Kind::Json, false)).collect();
        let (decoded, rejected) = decode(&fields, &[Some(document.as_bytes())]);
        prop_assert!(rejected.is_empty());
        for (pointer, column) in POINTERS.iter().zip(&decoded.columns) {
            prop_assert_eq!(cell(column, 0), one(pointer, Kind::Json, false, document.as_bytes()));
        }
    }

    #[test]
    fn floats_are_rounded_correctly(text in number()) {
        let expected: f64 = text.parse().unwrap();
        prop_assert_eq!(one("", Kind::Float64, true, text.as_bytes()), format!("{expected:?}"));
    }

    #[test]
    fn times_come_back(micros in -62_167_219_200_000_000..253_402_300_800_000_000_i64) {
        let text = jiff::Timestamp::from_microsecond(micros).unwrap().to_string();
        prop_assert_eq!(timestamp::read(text.as_bytes()), Ok(micros), "{}", text);
    }
}
