//! Values that do not fit: another type, out of range, no date, no label, characters that Postgres cannot store.

use super::{End, Kind, dead_letter};

/// Member, code and what the decoder says.
const UNDECODABLE: &[(&str, &str, &str)] = &[
    ("\"id\":\"7\"", "wrong-type", "/id: expected an integer"),
    ("\"id\":7.0", "wrong-type", "/id: expected an integer"),
    ("\"id\":7e0", "wrong-type", "/id: expected an integer"),
    ("\"id\":true", "wrong-type", "/id: expected an integer"),
    ("\"id\":[7]", "wrong-type", "/id: expected an integer"),
    ("\"id\":{\"is\":7}", "wrong-type", "/id: expected an integer"),
    ("\"flag\":1", "wrong-type", "/flag: expected true or false"),
    ("\"flag\":\"true\"", "wrong-type", "/flag: expected true or false"),
    ("\"small\":\"5\"", "wrong-type", "/small: expected an integer"),
    ("\"double\":\"1.5\"", "wrong-type", "/double: expected a number"),
    ("\"note\":5", "wrong-type", "/note: expected a string"),
    ("\"note\":{\"text\":\"a\"}", "wrong-type", "/note: expected a string"),
    ("\"at\":1790000000", "wrong-type", "/at: expected a string"),
    ("\"blob\":[1,2]", "wrong-type", "/blob: expected a string"),
    ("\"smalls\":5", "wrong-type", "/smalls: expected a list of integers"),
    ("\"smalls\":\"{1,2}\"", "wrong-type", "/smalls: expected a list of integers"),
    ("\"smalls\":[1,\"2\"]", "wrong-type", "/smalls: expected integers only"),
    ("\"smalls\":[1,2.5]", "wrong-type", "/smalls: expected integers only"),
    ("\"smalls\":[[1],[2]]", "wrong-type", "/smalls: expected integers only"),
    ("\"doubles\":[1.5,null]", "wrong-type", "/doubles: expected numbers only"),
    ("\"doubles\":{\"0\":1}", "wrong-type", "/doubles: expected a list of numbers"),
    (
        "\"large\":9223372036854775808",
        "out-of-range",
        "/large: expected a signed integer of 64 bits",
    ),
    (
        "\"large\":-9223372036854775809",
        "out-of-range",
        "/large: expected a signed integer of 64 bits",
    ),
    (
        "\"large\":123456789012345678901234567890",
        "out-of-range",
        "/large: expected a signed integer of 64 bits",
    ),
    ("\"double\":1e309", "out-of-range", "/double: expected a number that a double can represent"),
    (
        "\"double\":-1e999999999",
        "out-of-range",
        "/double: expected a number that a double can represent",
    ),
    (
        "\"larges\":[1,9223372036854775808]",
        "out-of-range",
        "/larges: expected a signed integer of 64 bits",
    ),
    (
        "\"doubles\":[1e400]",
        "out-of-range",
        "/doubles: expected a number that a double can represent",
    ),
    ("\"at\":\"2026-02-30T00:00:00Z\"", "bad-timestamp", "/at: expected a time as in RFC 3339"),
    ("\"at\":\"2025-02-29T00:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-13-01T00:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-00-01T00:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-11-22T24:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-11-22T12:60:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-11-22T12:00:60Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-11-22T12:00:00\"", "bad-timestamp", "the time zone is missing"),
    ("\"at\":\"2026-11-22T12:00:00+25:00\"", "bad-timestamp", "/at: "),
    ("\"at\":\"2026-11-22\"", "bad-timestamp", "/at: "),
    ("\"at\":\"10000-01-01T00:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"-0001-01-01T00:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"294277-01-01T00:00:00Z\"", "bad-timestamp", "/at: "),
    ("\"at\":\"now\"", "bad-timestamp", "/at: "),
    ("\"at\":\"\"", "bad-timestamp", "/at: "),
    ("\"at\":\"infinity\"", "bad-timestamp", "/at: "),
    ("\"at_day\":\"22.11.2026\"", "bad-timestamp", "/at_day: "),
];

/// Member, code and what the host says of the cell, before Postgres has seen it.
const MISFITS: &[(&str, &str, &str)] = &[
    ("\"small\":32768", "out-of-range", "column \"small\": 32768 does not fit in smallint"),
    ("\"small\":-32769", "out-of-range", "column \"small\": -32769 does not fit in smallint"),
    (
        "\"medium\":2147483648",
        "out-of-range",
        "column \"medium\": 2147483648 does not fit in integer",
    ),
    (
        "\"medium\":-2147483649",
        "out-of-range",
        "column \"medium\": -2147483649 does not fit in integer",
    ),
    (
        "\"amount\":10000",
        "out-of-range",
        "column \"amount\": 10000 does not fit the column's precision",
    ),
    (
        "\"amount\":-10000",
        "out-of-range",
        "column \"amount\": -10000 does not fit the column's precision",
    ),
    ("\"single\":1e39", "out-of-range", "column \"single\": 1e39 does not fit in real"),
    ("\"single\":-3.5e38", "out-of-range", "column \"single\""),
    ("\"ratio\":100.0", "out-of-range", "column \"ratio\""),
    ("\"ratio\":99.9996", "out-of-range", "column \"ratio\""),
    ("\"ratio\":-1e300", "out-of-range", "column \"ratio\""),
    ("\"price\":\"100000000\"", "out-of-range", "column \"price\""),
    ("\"price\":\"99999999.995\"", "out-of-range", "column \"price\""),
    ("\"price\":\"Infinity\"", "out-of-range", "column \"price\""),
    ("\"price\":\"1e9999\"", "out-of-range", "column \"price\""),
    ("\"price\":\"abc\"", "bad-number", "column \"price\": \"abc\" is not a number"),
    ("\"price\":\"\"", "bad-number", "column \"price\""),
    ("\"price\":\"1,5\"", "bad-number", "column \"price\""),
    ("\"price\":\"0x10\"", "bad-number", "column \"price\""),
    ("\"price\":\"1 000\"", "bad-number", "column \"price\""),
    ("\"price\":\"12 EUR\"", "bad-number", "column \"price\""),
    ("\"exact\":\"1e131072\"", "out-of-range", "column \"exact\""),
    ("\"exact\":\"1e-16384\"", "out-of-range", "column \"exact\""),
    ("\"exact\":\"1e999999999999\"", "out-of-range", "column \"exact\""),
    ("\"exact\":\"--1\"", "bad-number", "column \"exact\""),
    ("\"note\":\"a\\u0000b\"", "nul-character", "column \"note\": contains the character U+0000"),
    ("\"short\":\"\\u0000\"", "nul-character", "column \"short\""),
    ("\"short\":\"abcdef\"", "too-long", "column \"short\": has 6 characters of 5"),
    (
        "\"short\":\"\u{e4}\u{f6}\u{fc}\u{df}\u{e9}\u{e8}\"",
        "too-long",
        "column \"short\": has 6 characters of 5",
    ),
    ("\"short\":\"abc   d\"", "too-long", "column \"short\": has 7 characters of 5"),
    ("\"fixed\":\"abcd\"", "too-long", "column \"fixed\": has 4 characters of 3"),
    ("\"uid\":\"\"", "bad-uuid", "column \"uid\""),
    ("\"uid\":\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1\"", "bad-uuid", "column \"uid\""),
    ("\"uid\":\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1z\"", "bad-uuid", "is not a UUID"),
    ("\"uid\":\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\\u0000\"", "bad-uuid", "column \"uid\""),
    ("\"day\":\"2026-02-29\"", "bad-date", "column \"day\": \"2026-02-29\" is not a date"),
    ("\"day\":\"2026-13-01\"", "bad-date", "column \"day\""),
    ("\"day\":\"22.11.2026\"", "bad-date", "column \"day\""),
    ("\"day\":\"0000-01-01\"", "bad-date", "column \"day\""),
    ("\"day\":\"5874898-01-01\"", "bad-date", "column \"day\""),
    ("\"day\":\"2026-11-22T00:00:00Z\"", "bad-date", "column \"day\""),
    ("\"day\":\"\"", "bad-date", "column \"day\""),
    ("\"clock\":\"25:00\"", "bad-time", "column \"clock\": \"25:00\" is not a time"),
    ("\"clock\":\"24:00:01\"", "bad-time", "column \"clock\""),
    ("\"clock\":\"12:60\"", "bad-time", "column \"clock\""),
    ("\"clock\":\"noon\"", "bad-time", "column \"clock\""),
    (
        "\"mood\":\"angry\"",
        "unknown-enum-value",
        "column \"mood\": \"angry\" is none of calm, tense",
    ),
    ("\"mood\":\"Calm\"", "unknown-enum-value", "column \"mood\""),
    ("\"mood\":\" calm\"", "unknown-enum-value", "column \"mood\""),
    ("\"mood\":\"\"", "unknown-enum-value", "column \"mood\""),
    (
        "\"doc\":{\"a\":\"\\u0000\"}",
        "nul-character",
        "column \"doc\": contains \\u0000, which jsonb cannot store",
    ),
    ("\"doc\":{\"\\u0000\":1}", "nul-character", "column \"doc\""),
    (
        "\"doc\":[1e999999]",
        "out-of-range",
        "column \"doc\": \"1e999999\" is a number that does not fit in jsonb",
    ),
    ("\"doc_text\":\"{\"", "bad-json", "column \"doc_text\": is not JSON"),
    ("\"doc_text\":\"\"", "bad-json", "column \"doc_text\""),
    ("\"doc_text\":\"{} {}\"", "bad-json", "column \"doc_text\""),
    ("\"doc_text\":\"'a'\"", "bad-json", "column \"doc_text\""),
    ("\"doc_text\":\"\\\"\\\\u0000\\\"\"", "nul-character", "column \"doc_text\""),
    (
        "\"doc_text\":\"\\\"\\\\ud800\\\"\"",
        "lone-surrogate",
        "column \"doc_text\": contains half of a surrogate pair",
    ),
    ("\"doc_text\":\"\\\"\\\\udc00\\\\ud800\\\"\"", "lone-surrogate", "column \"doc_text\""),
    ("\"raw_text\":\"[1,]\"", "bad-json", "column \"raw_text\""),
    ("\"raw_text\":\"a\\u0000\"", "bad-json", "column \"raw_text\""),
    ("\"smalls\":[1,40000]", "out-of-range", "column \"smalls\": 40000 does not fit in smallint"),
    (
        "\"mediums\":[3000000000]",
        "out-of-range",
        "column \"mediums\": 3000000000 does not fit in integer",
    ),
    ("\"singles\":[1e39]", "out-of-range", "column \"singles\": 1e39 does not fit in real"),
    ("\"act\":\"say-nul\"", "nul-character", "column \"said\""),
];

/// Member and what it becomes: at the edge, but not beyond.
const GOOD: &[(&str, &str)] = &[
    ("\"small\":32767", "small=32767"),
    ("\"small\":-32768", "small=-32768"),
    ("\"medium\":2147483647", "medium=2147483647"),
    ("\"medium\":-2147483648", "medium=-2147483648"),
    ("\"large\":9223372036854775807", "large=9223372036854775807"),
    ("\"large\":-9223372036854775808", "large=-9223372036854775808"),
    ("\"large\":-0", "large=0"),
    ("\"amount\":9999", "amount=9999.00"),
    ("\"ratio\":99.9994", "ratio=99.999"),
    ("\"single\":3.4e38", "single=3.4e+38"),
    ("\"single\":1e-50", "single=0"),
    ("\"double\":1.7976931348623157e308", "double=1.7976931348623157e+308"),
    ("\"double\":5e-324", "double=5e-324"),
    ("\"double\":1e-999", "double=0"),
    ("\"double\":-0.0", "double=-0"),
    ("\"price\":\"99999999.994\"", "price=99999999.99"),
    ("\"price\":\"NaN\"", "price=NaN"),
    ("\"price\":\" 1.5 \"", "price=1.50"),
    ("\"exact\":\"-Infinity\"", "exact=-Infinity"),
    ("\"exact\":\"1e-30\"", "exact=0.000000000000000000000000000001"),
    ("\"note\":null,\"small\":null", ""),
    ("\"note\":\"\"", "note="),
    ("\"short\":\"abcde   \"", "short=abcde"),
    ("\"short\":\"\u{e4}\u{f6}\u{fc}\u{df}\u{1f600}\"", "short=\u{e4}\u{f6}\u{fc}\u{df}\u{1f600}"),
    ("\"uid\":\"{A0EEBC999C0B4EF8BB6D6BB9BD380A11}\"", "uid=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("\"day\":\"0001-01-01\"", "day=0001-01-01"),
    ("\"day\":\"9999-12-31\"", "day=9999-12-31"),
    ("\"clock\":\"24:00:00\"", "clock=24:00:00"),
    ("\"at\":\"0000-01-01T00:00:00Z\"", "at=0001-01-01 00:00:00+00 BC"),
    ("\"at\":\"9999-12-31T23:59:59.999999Z\"", "at=9999-12-31 23:59:59.999999+00"),
    ("\"at\":\"2016-12-31T23:59:60Z\"", "at=2017-01-01 00:00:00+00"),
    ("\"at\":\"2026-11-22T23:00:00-02:00\"", "at=2026-11-23 01:00:00+00"),
    ("\"at\":\"2026-11-22T12:00Z\"", "at=2026-11-22 12:00:00+00"),
    ("\"at\":\"2026-11-22 13:00:00,5+0100\"", "at=2026-11-22 12:00:00.5+00"),
    ("\"at_day\":\"2024-02-29T23:59:59Z\"", "at_day=2024-02-29"),
    ("\"mood\":\"tense\"", "mood=tense"),
    ("\"doc\":{\"b\":1,\"a\":[1.50,null]}", "doc={\"a\": [1.50, null], \"b\": 1}"),
    ("\"doc\":null", ""),
    ("\"raw\":{\"a\":\"\\u0000\"}", "raw={\"a\":\"\\u0000\"}"),
    ("\"doc_text\":\"[1e5]\"", "doc_text=[100000]"),
    ("\"raw_text\":\"\\\"\\\\ud800\\\"\"", "raw_text=\"\\ud800\""),
    ("\"blob\":\"\\u0000a\"", "blob=\\x0061"),
    ("\"smalls\":[]", "smalls={}"),
    ("\"smalls\":[-32768,32767]", "smalls={-32768,32767}"),
    ("\"doubles\":[1,2.5,1e300]", "doubles={1,2.5,1e+300}"),
    ("\"unread\":\"\\u0000\"", ""),
];

/// All of them, for the table with a column of each type.
pub(super) fn kinds() -> Vec<Kind> {
    let named = |stage: &str, member: &str| format!("{stage}: {member}");
    let mut kinds: Vec<Kind> = UNDECODABLE
        .iter()
        .map(|&(member, code, says)| {
            Kind::with(named("decode", member), member, dead_letter("decode", code, says))
        })
        .collect();
    kinds.extend(MISFITS.iter().map(|&(member, code, says)| {
        Kind::with(named("sink", member), member, dead_letter("sink", code, says))
    }));
    kinds.extend(
        GOOD.iter().map(|&(member, row)| Kind::with(named("good", member), member, End::Row(row))),
    );
    let deep = format!("\"doc_text\":\"{}{}\"", "[".repeat(200), "]".repeat(200));
    kinds.push(Kind::with("good: json in a text, deep", &deep, End::Row("doc_text=long")));
    let deep = format!("\"doc_text\":\"{}{}\"", "[".repeat(100_000), "]".repeat(100_000));
    let end = dead_letter("sink", "too-deep", "nested deeper than 5000 levels");
    kinds.push(Kind::with("sink: json in a text, too deep", &deep, end));
    let long = format!("\"exact\":\"{}\"", "9".repeat(131_073));
    let end = dead_letter("sink", "out-of-range", "column \"exact\"");
    kinds.push(Kind::with("sink: a number of 131,073 digits", &long, end));
    let huge = format!("\"short\":\"{}\"", "x".repeat((4 << 20) - 100));
    let end = dead_letter("sink", "too-long", "column \"short\"");
    kinds.push(Kind::with("sink: 4 MiB too long", &huge, end));
    kinds
}
