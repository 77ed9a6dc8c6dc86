//! What is decoded, what is rejected and with which words, and that `serde_json` agrees.

use super::*;
use crate::batch::Message;
use crate::columns::Values;

mod agreement;
mod digits;
mod layouts;
mod many;
mod processors;
mod times;

/// A batch of these payloads.
fn batch(payloads: &[Option<&[u8]>]) -> Batch {
    let mut batch = Batch::new("topic");
    for (offset, payload) in (0..).zip(payloads) {
        batch.push(Message {
            partition: 0,
            offset,
            timestamp_us: -1,
            key: None,
            payload: *payload,
        });
        batch.close_message();
    }
    batch
}

fn field(pointer: &str, kind: Kind, required: bool) -> InputField {
    InputField { pointer: pointer.to_owned(), kind, required, read: true }
}

/// By all methods, with what was learned and without: the results are the same.
fn decode(fields: &[InputField], payloads: &[Option<&[u8]>]) -> (Decoded, Vec<Rejection>) {
    decode_exactly(fields, &ExactInputs::default(), payloads)
}

/// The same with digits that are kept.
fn decode_exactly(
    fields: &[InputField],
    exact: &ExactInputs,
    payloads: &[Option<&[u8]>],
) -> (Decoded, Vec<Rejection>) {
    let batch = batch(payloads);
    let decode = |decoder: &mut Decoder| {
        let (mut into, mut rejected) = (Decoded::default(), Vec::new());
        decoder.decode(&batch, &mut into, &mut rejected);
        (into, rejected)
    };
    let decoder = |method| Decoder::using(method, fields, exact).expect("pointers are well-formed");
    let expected = decode(&mut decoder(Method::Scanner));
    for method in [Method::Best, Method::Portable] {
        let mut decoder = decoder(method);
        for _ in 0..2 {
            let (into, rejected) = decode(&mut decoder);
            assert_eq!(
                (&into.columns, &into.messages),
                (&expected.0.columns, &expected.0.messages)
            );
            assert_eq!(rejected, expected.1);
        }
    }
    expected
}

/// One cell as text, so that all kinds compare alike.
fn cell(column: &Column, row: usize) -> String {
    if column.is_null(row) {
        return "missing".to_owned();
    }
    match &column.values {
        Values::Boolean(values) => (values[row] != 0).to_string(),
        Values::Int64(values) => values[row].to_string(),
        Values::Float64(values) => format!("{:?}", values[row]),
        Values::Timestamp(values) => format!("{} us", values[row]),
        Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => {
            String::from_utf8(spans.get(row).to_vec()).expect("decoded text is UTF-8")
        }
        Values::Int64List(lists) => format!("{:?}", lists.get(row)),
        Values::Float64List(lists) => format!("{:?}", lists.get(row)),
    }
}

/// Decodes one field of one payload: the cell, or `code: reason`.
fn one(pointer: &str, kind: Kind, required: bool, payload: &[u8]) -> String {
    let (decoded, rejected) = decode(&[field(pointer, kind, required)], &[Some(payload)]);
    match rejected.as_slice() {
        [] => cell(&decoded.columns[0], 0),
        [rejection] => format!("{}: {}", rejection.code, rejection.reason),
        _ => panic!("one message is rejected once"),
    }
}

/// `value` is what stands at `/v`.
fn check(kind: Kind, value: &str, expected: &str) {
    let payload = format!("{{\"v\": {value}}}");
    assert_eq!(one("/v", kind, true, payload.as_bytes()), expected, "{} {value}", kind.name());
}

#[test]
fn every_kind_takes_its_values() {
    check(Kind::Boolean, "true", "true");
    check(Kind::Boolean, "false", "false");
    check(Kind::Int64, "-0", "0");
    check(Kind::Int64, "9223372036854775807", "9223372036854775807");
    check(Kind::Int64, "-9223372036854775808", "-9223372036854775808");
    check(Kind::Float64, "5", "5.0");
    check(Kind::Float64, "-0", "-0.0");
    check(Kind::Float64, "1234.5", "1234.5");
    check(Kind::Float64, "5e-324", "5e-324");
    check(Kind::Float64, "0.1e1", "1.0");
    check(Kind::Float64, "9007199254740993", "9007199254740992.0");
    check(Kind::Float64, "96.48064786969077", "96.48064786969077");
    check(Kind::Float64, "123456789012345678901234567890", "1.2345678901234568e29");
    check(Kind::Text, r#""""#, "");
    check(Kind::Text, r#""hems-00004711""#, "hems-00004711");
    check(Kind::Text, r#""ä\u00e4\ud83d\ude00\n\t\"\\\/\b\f\r""#, "ää😀\n\t\"\\/\u{8}\u{c}\r");
    check(Kind::Bytes, r#""ab\u0000c""#, "ab\0c");
    check(Kind::Timestamp, r#""2026-11-22T03:04:05.123Z""#, "1795316645123000 us");
    check(Kind::Timestamp, r#""2026-11-22\u005403:04:05Z""#, "1795316645000000 us");
    check(Kind::Json, r#"{"a" : [1,  2]}"#, r#"{"a" : [1,  2]}"#);
    check(Kind::Json, "1e400", "1e400");
    check(Kind::Json, r#""x""#, r#""x""#);
    check(Kind::Int64List, "[ 1,-2 , 3 ]", "[1, -2, 3]");
    check(Kind::Int64List, "[]", "[]");
    check(Kind::Float64List, "[1,2.5,-3e2]", "[1.0, 2.5, -300.0]");
}

#[test]
fn every_kind_rejects_what_it_cannot_represent() {
    check(Kind::Boolean, "1", "wrong-type: /v: expected true or false, found 1 at byte 6");
    check(Kind::Int64, "5.0", "wrong-type: /v: expected an integer, found 5.0 at byte 6");
    check(Kind::Int64, "5e0", "wrong-type: /v: expected an integer, found 5e0 at byte 6");
    check(Kind::Int64, "\"5\"", "wrong-type: /v: expected an integer, found \"5\" at byte 6");
    let wide = "out-of-range: /v: expected a signed integer of 64 bits, found 9223372036854775808 at byte 6";
    check(Kind::Int64, "9223372036854775808", wide);
    let wide = "out-of-range: /v: expected a signed integer of 64 bits, found -9223372036854775809 at byte 6";
    check(Kind::Int64, "-9223372036854775809", wide);
    let wide =
        "out-of-range: /v: expected a number that a double can represent, found 1e400 at byte 6";
    check(Kind::Float64, "1e400", wide);
    check(Kind::Float64, "\"1\"", "wrong-type: /v: expected a number, found \"1\" at byte 6");
    check(Kind::Text, "{}", "wrong-type: /v: expected a string, found {} at byte 6");
    let long = format!("[{}]", "1,".repeat(50) + "1");
    let quoted =
        format!("wrong-type: /v: expected a string, found [{}1... at byte 6", "1,".repeat(19));
    check(Kind::Text, &long, &quoted);
    check(Kind::Bytes, "true", "wrong-type: /v: expected a string, found true at byte 6");
    check(Kind::Timestamp, "17", "wrong-type: /v: expected a string, found 17 at byte 6");
    let time = "bad-timestamp: /v: expected a time as in RFC 3339, such as 2026-11-22T03:04:05.123Z, found \"now\" at byte 6; the date is not YYYY-MM-DD";
    check(Kind::Timestamp, "\"now\"", time);
    check(Kind::Int64List, "1", "wrong-type: /v: expected a list of integers, found 1 at byte 6");
    check(
        Kind::Int64List,
        "[1, 2.0]",
        "wrong-type: /v: expected integers only, found 2.0 at byte 10",
    );
    check(
        Kind::Int64List,
        "[1, null]",
        "wrong-type: /v: expected integers only, found null at byte 10",
    );
    check(Kind::Float64List, "[[1]]", "wrong-type: /v: expected numbers only, found [1] at byte 7");
    let wide =
        "out-of-range: /v: expected a number that a double can represent, found 1e400 at byte 7";
    check(Kind::Float64List, "[1e400]", wide);
    check(Kind::Json, "null", "missing-field: /v is null at byte 6");
}

#[test]
fn payloads_that_are_not_json_are_rejected_with_the_place() {
    let broken = |payload: &[u8], expected: &str| {
        assert_eq!(one("/v", Kind::Int64, false, payload), expected, "{}", payload.escape_ascii());
    };
    broken(b"", "malformed-json: expected a value at byte 0");
    broken(b"{\"v\":1", "malformed-json: expected `,` or `}` at byte 6");
    broken(b"{\"v\":1,}", "malformed-json: expected a name in quotes at byte 7");
    broken(b"{\"v\" 1}", "malformed-json: expected `:` at byte 5");
    broken(b"{\"v\":1} x", "malformed-json: expected the end at byte 8");
    broken(b"{\"v\":01}", "malformed-json: expected no digit after a leading zero at byte 6");
    broken(b"{\"v\":-}", "malformed-json: expected a digit at byte 6");
    broken(b"{\"v\":1.}", "malformed-json: expected a digit at byte 7");
    broken(b"{\"v\":NaN}", "malformed-json: expected a value at byte 5");
    broken(b"{\"a\":[1,]}", "malformed-json: expected a value at byte 8");
    broken(b"{\"a\":[1 2]}", "malformed-json: expected `,` or `]` at byte 8");
    broken(
        b"{\"a\":\"\n\"}",
        "malformed-json: expected no control character in a string at byte 6",
    );
    broken(b"{\"a\":\"x", "malformed-json: expected the end of the string at byte 7");
    broken(br#"{"a":"\x"}"#, "malformed-json: expected an escape that JSON knows at byte 7");
    broken(br#"{"a":"\ud83d"}"#, "malformed-json: expected a trailing surrogate at byte 12");
    broken(br#"{"a":"\ud83d\u0041"}"#, "malformed-json: expected a trailing surrogate at byte 18");
    broken(br#"{"a":"\ude00"}"#, "malformed-json: expected a leading surrogate first at byte 12");
    broken(b"{\"a\":\"\xff\"}", "invalid-utf8: the payload is not UTF-8 at byte 6");
    broken(b"\xef\xbb\xbf{}", "malformed-json: expected a value at byte 0");
    let nested = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
    broken(&nested(127), "missing");
    broken(format!("[{}[]]", "[],".repeat(200)).as_bytes(), "missing");
    broken(format!("{{{}\"b\":{{}}}}", "\"a\":{\"c\":1},".repeat(200)).as_bytes(), "missing");
    broken(&nested(128), "malformed-json: expected no more than 127 levels of nesting at byte 127");
}

#[test]
fn the_prefix_of_the_schema_registry_is_named_with_its_schema_id() {
    let check = |payload: &[u8], expected: &str| {
        let found = one("/v", Kind::Int64, false, payload);
        assert!(found.starts_with(expected), "{found} of {}", payload.escape_ascii());
    };
    let looks = |id: u32| {
        format!(
            "malformed-json: the JSON begins at byte 5, after what looks like the prefix of the Confluent schema \
             registry (a zero byte and schema id {id}); "
        )
    };
    check(b"\x00\x00\x00\x00\x05{\"v\":1}", &looks(5));
    check(b"\x00\x00\x00\x01\x02[1]", &looks(258));
    // Not UTF-8.
    check(b"\x00\x00\x00\x00\x85{\"v\":1}", &looks(133));
    check(b"\x00\xff\xff\xff\xff{", &looks(u32::MAX));
    check(b"\x00\x00\x00\x00\x05", "malformed-json: expected a value at byte 0");
    check(b"\x00\x00\x00\x00\x05\"v\"", "malformed-json: expected a value at byte 0");
    check(b"\x01\x00\x00\x00\x05{}", "malformed-json: expected a value at byte 0");
    check(b"\x00\x00\x00\x00\x85v", "invalid-utf8: the payload is not UTF-8 at byte 4");
}

#[test]
fn a_tombstone_is_rejected_and_a_raw_message_is_not_looked_at() {
    let (decoded, rejected) = decode(&[field("/v", Kind::Int64, false)], &[None]);
    assert!(decoded.messages.is_empty());
    assert_eq!((rejected[0].code.as_str(), rejected[0].stage), ("no-payload", Stage::Decode));
    let (decoded, rejected) = decode(&[], &[None, Some(b"\xff")]);
    assert_eq!((decoded.messages, rejected), (vec![0, 1], vec![]));
}

#[test]
fn pointers_lead_through_objects_and_arrays() {
    let document =
        br#"{"a":{"b":[10,{"c":"x"}]},"a/b":1,"m~n":2,"":3,"01":[4],"k\u0065y":5,"meta":{"v":6}}"#;
    let cases = [
        ("/a/b/0", "10"),
        ("/a/b/1/c", "\"x\""),
        ("/a/b", "[10,{\"c\":\"x\"}]"),
        ("/a/b/2", "missing"),
        ("/a/b/01", "missing"),
        ("/a/b/-", "missing"),
        ("/a/b/0/c", "missing"),
        ("/a~1b", "1"),
        ("/m~0n", "2"),
        ("/", "3"),
        ("/01/0", "4"),
        ("/key", "5"),
        ("/meta", "{\"v\":6}"),
        ("/meta/v", "6"),
        ("/absent/v", "missing"),
        ("", std::str::from_utf8(document).unwrap()),
    ];
    for (pointer, expected) in cases {
        assert_eq!(one(pointer, Kind::Json, false, document), expected, "{pointer}");
    }
    let fields: Vec<_> =
        cases.iter().map(|(pointer, _)| field(pointer, Kind::Json, false)).collect();
    let (decoded, rejected) = decode(&fields, &[Some(document)]);
    let cells: Vec<_> = decoded.columns.iter().map(|column| cell(column, 0)).collect();
    assert_eq!(cells, cases.map(|(_, expected)| expected.to_owned()));
    assert!(rejected.is_empty());
}

#[test]
fn of_members_with_the_same_name_the_last_one_counts_as_a_whole() {
    let check = |document: &str, expected: &str| {
        assert_eq!(one("/a/b", Kind::Int64, false, document.as_bytes()), expected, "{document}");
    };
    check(r#"{"a":{"b":1,"b":2}}"#, "2");
    check(r#"{"a":{"b":1},"a":{"b":2}}"#, "2");
    check(r#"{"a":{"b":1},"a":{"c":2}}"#, "missing");
    check(r#"{"a":{"b":1},"a":null}"#, "missing");
    check(r#"{"a":{"b":1},"\u0061":7}"#, "missing");
    check(r#"{"a":{"b":"no number"},"a":{"b":3}}"#, "3");
}

#[test]
fn a_required_field_must_be_there() {
    let check = |document: &str, expected: &str| {
        assert_eq!(one("/a", Kind::Int64, true, document.as_bytes()), expected, "{document}");
    };
    check("{}", "missing-field: /a is missing");
    check("[]", "missing-field: /a is missing");
    check(r#"{"a":null}"#, "missing-field: /a is null at byte 5");
}

#[test]
fn a_rejected_message_leaves_no_trace_in_the_columns() {
    let fields = [
        field("/text", Kind::Text, false),
        field("/items", Kind::Int64List, false),
        field("/text", Kind::Json, false),
        field("/last", Kind::Int64, true),
    ];
    let payloads = [
        br#"{"text":"a","items":[1],"last":1}"#.as_slice(),
        br#"{"text":"b\n","items":[2,3],"last":"x"}"#,
        br#"{"text":"c","items":[4,null],"last":3}"#,
        br#"{"last":"x"}"#,
        br#"{"last":4}"#,
        br#"{"text":null,"items":[5],"last":"x"}"#,
        br#"{"text":"d","items":[6],"last":5}"#,
    ];
    let (decoded, rejected) = decode(&fields, &payloads.map(Some));
    assert_eq!(decoded.messages, [0, 4, 6]);
    assert_eq!(
        rejected.iter().map(|rejection| rejection.message).collect::<Vec<_>>(),
        [1, 2, 3, 5]
    );
    let rows: Vec<Vec<String>> = (0..3)
        .map(|row| decoded.columns.iter().map(|column| cell(column, row)).collect())
        .collect();
    assert_eq!(
        rows,
        [
            ["a", "[1]", "\"a\"", "1"],
            ["missing", "missing", "missing", "4"],
            ["d", "[6]", "\"d\"", "5"]
        ]
    );
    for column in &decoded.columns {
        assert_eq!(column.len(), 3);
        assert!(column.nulls.is_empty() || column.nulls.len() == 3);
    }
}

#[test]
fn columns_are_reused_for_the_next_batch() {
    let mut decoder =
        Decoder::new(&[field("/v", Kind::Text, true)], &ExactInputs::default()).unwrap();
    let mut into = Decoded {
        messages: vec![9],
        columns: vec![Column::new(Kind::Int64)],
        ..Decoded::default()
    };
    let mut rejected = Vec::new();
    for _ in 0..2 {
        decoder.decode(&batch(&[Some(br#"{"v":"first"}"#)]), &mut into, &mut rejected);
    }
    let Values::Text(spans) = &into.columns[0].values else { panic!("a text column") };
    let place = spans.data.as_ptr();
    decoder.decode(&batch(&[Some(br#"{"v":"next"}"#)]), &mut into, &mut rejected);
    let Values::Text(spans) = &into.columns[0].values else { panic!("a text column") };
    assert_eq!((spans.data.as_ptr(), cell(&into.columns[0], 0).as_str()), (place, "next"));
    assert_eq!((into.messages.as_slice(), rejected.len()), (&[0][..], 0));
}

#[test]
fn bad_pointers_are_refused() {
    let check = |pointer: &str, expected: &str| {
        let error =
            Decoder::new(&[field(pointer, Kind::Json, true)], &ExactInputs::default()).err();
        assert_eq!(error.as_deref(), Some(expected));
    };
    check("a", "pointer `a` does not begin with a slash");
    check("/a~", "pointer `/a~` has a `~` without 0 or 1 behind it");
    check("/a~2", "pointer `/a~2` has a `~` without 0 or 1 behind it");
}
