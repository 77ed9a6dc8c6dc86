//! Payloads that are no JSON, not quite JSON, or JSON of a strange kind.

use super::{End, Kind, dead_letter};

/// Objects and arrays within each other that the decoder follows.
const DEPTH_MAX: usize = 127;

const MALFORMED: &[(&str, &str)] = &[
    ("an empty payload", ""),
    ("white space alone", " \t\r\n "),
    ("cut after the brace", "{"),
    ("cut in a name", "{\"id"),
    ("cut after a name", "{\"id\""),
    ("cut after a colon", "{\"id\":"),
    ("cut after a value", "{\"id\":$N"),
    ("cut after a comma", "{\"id\":$N,"),
    ("cut in a string", "{\"id\":$N,\"note\":\"ab"),
    ("cut behind a backslash", "{\"id\":$N,\"note\":\"ab\\"),
    ("cut in an escape", "{\"id\":$N,\"note\":\"ab\\u00"),
    ("cut in a literal", "{\"id\":$N,\"flag\":tr"),
    ("cut in a list", "{\"id\":$N,\"smalls\":[1,"),
    ("cut in an object", "{\"id\":$N,\"doc\":{\"a\":1"),
    ("cut in a number", "{\"id\":$N,\"double\":1."),
    ("escape x41", "{\"id\":$N,\"note\":\"\\x41\"}"),
    ("escape of an apostrophe", "{\"id\":$N,\"note\":\"\\'\"}"),
    ("escape of a line end", "{\"id\":$N,\"note\":\"a\\\nb\"}"),
    ("escape in octal", "{\"id\":$N,\"note\":\"\\012\"}"),
    ("escape with a G", "{\"id\":$N,\"note\":\"\\u12G4\"}"),
    ("escape with three digits", "{\"id\":$N,\"note\":\"\\u123\"}"),
    ("escape with capital U", "{\"id\":$N,\"note\":\"\\U0041\"}"),
    ("escape with braces", "{\"id\":$N,\"note\":\"\\u{41}\"}"),
    ("a leading surrogate alone", "{\"id\":$N,\"note\":\"\\ud800\"}"),
    ("a trailing surrogate alone", "{\"id\":$N,\"note\":\"\\udc00\"}"),
    ("two leading surrogates", "{\"id\":$N,\"note\":\"\\ud800\\ud800\"}"),
    ("a leading surrogate and a character", "{\"id\":$N,\"note\":\"\\ud800\\u0041\"}"),
    ("surrogates the wrong way round", "{\"id\":$N,\"note\":\"\\udc00\\ud800\"}"),
    ("a lone surrogate inside of json", "{\"id\":$N,\"doc\":{\"a\":\"\\udead\"}}"),
    ("a lone surrogate in a name", "{\"id\":$N,\"\\ud800\":1}"),
    ("a lone surrogate that nobody reads", "{\"id\":$N,\"unread\":\"\\ud800\"}"),
    ("a character behind the end", "{\"id\":$N}x"),
    ("a semicolon behind the end", "{\"id\":$N};"),
    ("NUL behind the end", "{\"id\":$N}\0"),
    ("a brace too many", "{\"id\":$N}}"),
    ("two values", "{\"id\":$N}{\"id\":1}"),
    ("two lines", "{\"id\":$N}\n{\"id\":1}\n"),
    ("a value after a comma", "{\"id\":$N},"),
    ("a byte order mark", "\u{feff}{\"id\":$N}"),
    ("a comma too many in an object", "{\"id\":$N,}"),
    ("a comma too many in a list", "{\"id\":$N,\"smalls\":[1,]}"),
    ("a comma first", "{,\"id\":$N}"),
    ("two commas", "{\"id\":$N,,\"small\":1}"),
    ("no comma", "{\"id\":$N \"small\":1}"),
    ("no colon", "{\"id\" $N}"),
    ("two colons", "{\"id\"::$N}"),
    ("a name without quotes", "{id:$N}"),
    ("apostrophes for quotes", "{'id':$N}"),
    ("a number for a name", "{\"id\":$N,1:2}"),
    ("a name alone", "{\"id\":$N,\"small\"}"),
    ("a colon in a list", "{\"id\":$N,\"smalls\":[1:2]}"),
    ("brackets that cross", "{\"id\":$N,\"smalls\":[1}]"),
    ("an unpaired quote", "{\"id\":$N,\"note\":\"a\"b\"}"),
    ("a quote missing at the end", "{\"id\":$N,\"note\":\"a}"),
    ("a quote missing at the start", "{\"id\":$N,\"note\":a\"}"),
    ("a comment in the line", "{\"id\":$N} // one"),
    ("a comment inside", "{/* one */\"id\":$N}"),
    ("a leading zero", "{\"id\":$N,\"small\":01}"),
    ("a leading minus and zero", "{\"id\":$N,\"small\":-01}"),
    ("a plus sign", "{\"id\":$N,\"small\":+1}"),
    ("no digit before the point", "{\"id\":$N,\"double\":.5}"),
    ("no digit behind the point", "{\"id\":$N,\"double\":5.}"),
    ("no digit in the exponent", "{\"id\":$N,\"double\":1e}"),
    ("no digit behind the exponent's sign", "{\"id\":$N,\"double\":1e+}"),
    ("a hexadecimal number", "{\"id\":$N,\"small\":0x1F}"),
    ("underscores in a number", "{\"id\":$N,\"medium\":1_000}"),
    ("a decimal comma", "{\"id\":$N,\"double\":1,5}"),
    ("two points", "{\"id\":$N,\"double\":1.2.3}"),
    ("a minus alone", "{\"id\":$N,\"small\":-}"),
    ("two minuses", "{\"id\":$N,\"small\":--1}"),
    ("a suffix", "{\"id\":$N,\"large\":1n}"),
    ("a full-width digit", "{\"id\":$N,\"small\":\u{ff11}}"),
    ("NaN", "{\"id\":$N,\"double\":NaN}"),
    ("Infinity", "{\"id\":$N,\"double\":Infinity}"),
    ("minus Infinity", "{\"id\":$N,\"double\":-Infinity}"),
    ("undefined", "{\"id\":$N,\"note\":undefined}"),
    ("True", "{\"id\":$N,\"flag\":True}"),
    ("nul", "{\"id\":$N,\"note\":nul}"),
    ("nullx", "{\"id\":$N,\"note\":nullx}"),
    ("a line end in a string", "{\"id\":$N,\"note\":\"a\nb\"}"),
    ("a tabulator in a string", "{\"id\":$N,\"note\":\"a\tb\"}"),
    ("NUL in a string", "{\"id\":$N,\"note\":\"a\0b\"}"),
    ("an escape sequence in a string", "{\"id\":$N,\"note\":\"\u{1b}[31m\"}"),
    ("the last control character in a string", "{\"id\":$N,\"note\":\"\u{1f}\"}"),
    ("a control character in a name", "{\"id\":$N,\"a\u{1}\":1}"),
    ("a vertical tabulator between members", "{\"id\":$N,\u{b}\"small\":1}"),
    ("a no-break space between members", "{\"id\":$N,\u{a0}\"small\":1}"),
    ("XML", "<reading id=\"$N\"/>"),
    ("CSV", "$N;2026-11-22;ok"),
    ("a formatted message", "id=$N small=1"),
];

/// With the name of what follows the payload's start.
const NOT_UTF8: &[(&str, &[u8])] = &[
    ("an overlong slash", b"{\"id\":$N,\"note\":\"\xc0\xaf\"}"),
    ("an overlong NUL", b"{\"id\":$N,\"note\":\"\xc0\x80\"}"),
    ("a continuation alone", b"{\"id\":$N,\"note\":\"\x80\"}"),
    ("a character cut short by a quote", b"{\"id\":$N,\"note\":\"\xe2\x82\"}"),
    ("a character cut short by the end", b"{\"id\":$N,\"note\":\"\xf0\x9f\x98"),
    ("a surrogate in UTF-8", b"{\"id\":$N,\"note\":\"\xed\xa0\x80\"}"),
    ("a pair of surrogates in UTF-8", b"{\"id\":$N,\"note\":\"\xed\xa0\xbd\xed\xb8\x80\"}"),
    ("beyond the last character", b"{\"id\":$N,\"note\":\"\xf4\x90\x80\x80\"}"),
    ("five bytes for a character", b"{\"id\":$N,\"note\":\"\xf8\x88\x80\x80\x80\"}"),
    ("Latin-1", b"{\"id\":$N,\"note\":\"caf\xe9\"}"),
    ("no UTF-8 in a name", b"{\"id\":$N,\"\xff\":1}"),
    ("no UTF-8 where nobody reads", b"{\"id\":$N,\"unread\":\"\xff\"}"),
    ("no UTF-8 behind the end", b"{\"id\":$N}\xff"),
    ("UTF-16 with its mark", b"\xff\xfe{\0\"\0i\0d\0"),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\xcaLQ\xb22\xac\x05\x00"),
    ("Avro", b"\x00\x00\x00\x00\x07\x90\x06\x0ehems-01"),
    ("random bytes", b"\x9d\x1e\xc4\x02\x77\xfa\x88\x31\xe0\x5b"),
];

/// Documents without an id.
const WITHOUT_ID: &[(&str, &str, &str)] = &[
    ("an empty object", "{}", "/id is missing"),
    ("an id that is null", "{\"id\":null}", "/id is null"),
    ("an id with a capital", "{\"ID\":$N}", "/id is missing"),
    ("an id further inside", "{\"reading\":{\"id\":$N}}", "/id is missing"),
    ("an id that is null in the end", "{\"id\":$N,\"id\":null}", "/id is null"),
    ("null for a document", "null", "/id is missing"),
    ("true for a document", "true", "/id is missing"),
    ("a number for a document", "$N", "/id is missing"),
    ("a string for a document", "\"id\"", "/id is missing"),
    ("a list for a document", "[{\"id\":$N}]", "/id is missing"),
];

/// All of them.
pub(super) fn kinds() -> Vec<Kind> {
    let bad = dead_letter("decode", "malformed-json", "at byte");
    let mut kinds: Vec<Kind> =
        MALFORMED.iter().map(|(name, payload)| Kind::new(*name, *payload, bad)).collect();
    let bad = dead_letter("decode", "invalid-utf8", "the payload is not UTF-8 at byte");
    kinds.extend(NOT_UTF8.iter().map(|(name, payload)| Kind::new(*name, *payload, bad)));
    // The second id is no UTF-8.
    let prefixed =
        dead_letter("decode", "malformed-json", "prefix of the Confluent schema registry");
    let framed = [
        ("JSON Schema of the schema registry", b"\0\0\0\0\x05{\"id\":$N}"),
        ("JSON Schema of the schema registry, a high id", b"\0\0\0\x01\x85{\"id\":$N}"),
    ];
    kinds.extend(framed.map(|(name, payload)| Kind::new(name, payload, prefixed)));
    kinds.extend(WITHOUT_ID.iter().map(|&(name, payload, says)| {
        Kind::new(name, payload, dead_letter("decode", "missing-field", says))
    }));
    kinds.extend(deep());
    kinds.extend(wide());
    kinds
}

fn deep() -> Vec<Kind> {
    let nested = |depth: usize, open: &str, close: &str| {
        format!("{{\"id\":$N,\"unread\":{}1{}}}", open.repeat(depth), close.repeat(depth))
    };
    let bad = dead_letter("decode", "malformed-json", "no more than 127 levels of nesting");
    vec![
        Kind::new("as deep as may be", nested(DEPTH_MAX - 1, "[", "]"), End::Row("")),
        Kind::new("lists one too deep", nested(DEPTH_MAX, "[", "]"), bad),
        Kind::new("objects one too deep", nested(DEPTH_MAX, "{\"a\":", "}"), bad),
        Kind::new("a hundred thousand lists", nested(100_000, "[", "]"), bad),
        Kind::new("a million brackets without end", "[".repeat(1_000_000), bad),
    ]
}

/// Nothing wrong with these.
fn wide() -> Vec<Kind> {
    let members: String = (0..5000).map(|number| format!(",\"m{number}\":{number}")).collect();
    let good = |name: &str, payload: &str, row| Kind::new(name, payload, End::Row(row));
    vec![
        good("five thousand members", &format!("{{\"id\":$N{members}}}"), ""),
        good("white space everywhere", " {\r\n\t\"id\" : $N , \"small\" : 1 } \n", "small=1"),
        good("an escaped name", "{\"\\u0069d\":$N,\"sm\\u0061ll\":2}", "small=2"),
        good("a member twice", "{\"small\":1,\"id\":$N,\"small\":3}", "small=3"),
        good(
            "a bad value that a good one replaces",
            "{\"small\":\"x\",\"id\":$N,\"small\":4}",
            "small=4",
        ),
        good("a pair of surrogates", "{\"id\":$N,\"note\":\"\\ud83d\\ude00\"}", "note=\u{1f600}"),
        good("noncharacters", "{\"id\":$N,\"note\":\"\u{ffff}\u{fffd}\"}", "note=\u{ffff}\u{fffd}"),
        good("text from right to left", "{\"id\":$N,\"note\":\"\u{202e}abc\"}", "note=\u{202e}abc"),
        good("delete", "{\"id\":$N,\"note\":\"\u{7f}\"}", "note=\u{7f}"),
        good(
            "SQL",
            "{\"id\":$N,\"note\":\"'); DROP TABLE poison; --\"}",
            "note='); DROP TABLE poison; --",
        ),
        good("what COPY reads as an end", "{\"id\":$N,\"note\":\"\\\\.\"}", "note=\\."),
        good("what COPY reads as null", "{\"id\":$N,\"note\":\"\\\\N\"}", "note=\\N"),
    ]
}
