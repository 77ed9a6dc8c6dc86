//! What was learned from some messages leads to the same results for others, and is of use.

use proptest::prelude::*;

use super::agreement::{POINTERS, document};
use super::*;

/// A row's cells, or why there is none.
type Disposition = Result<Vec<String>, String>;

/// What lies behind a message in its batch, and could be taken for a part of it.
const NEIGHBOURS: [&[u8]; 5] = [
    br#"1234567890"}]},"a":"b\\","c":[1,2,3]}1234567890123456789012345678901234567890"#,
    br#"""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""""#,
    b"                                                                            ",
    b"}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}",
    b"",
];

fn dispositions(decoder: &mut Decoder, batch: &Batch) -> Vec<Disposition> {
    let (mut into, mut rejected) = (Decoded::default(), Vec::new());
    decoder.decode(batch, &mut into, &mut rejected);
    let mut dispositions = vec![Err(String::new()); batch.len()];
    for rejection in rejected {
        dispositions[rejection.message as usize] =
            Err(format!("{}: {}", rejection.code, rejection.reason));
    }
    for (row, message) in into.messages.iter().enumerate() {
        let cells = into.columns.iter().map(|column| cell(column, row));
        dispositions[*message as usize] = Ok(cells.collect());
    }
    dispositions
}

/// A decoder that has seen all of these messages finds in each what the scanner does, alone and
/// among others, whatever lies behind it.
fn agree(fields: &[InputField], messages: &[impl AsRef<[u8]>]) {
    agree_exactly(fields, &ExactInputs::default(), messages);
}

/// The same with digits that are kept.
pub fn agree_exactly(fields: &[InputField], exact: &ExactInputs, messages: &[impl AsRef<[u8]>]) {
    let messages: Vec<_> = messages.iter().map(|message| Some(message.as_ref())).collect();
    let mut scanner = Decoder::using(Method::Scanner, fields, exact).unwrap();
    let expected = dispositions(&mut scanner, &batch(&messages));
    for method in [Method::Best, Method::Portable] {
        let mut decoder = Decoder::using(method, fields, exact).unwrap();
        for neighbour in NEIGHBOURS {
            let among: Vec<_> =
                messages.iter().flat_map(|message| [*message, Some(neighbour)]).collect();
            let dispositions = dispositions(&mut decoder, &batch(&among));
            for ((ours, expected), message) in
                dispositions.iter().step_by(2).zip(&expected).zip(&messages)
            {
                let text = message.unwrap_or_default().escape_ascii();
                assert_eq!(ours, expected, "{method:?} {text}");
            }
        }
        for (message, expected) in messages.iter().zip(&expected) {
            let text = message.unwrap_or_default().escape_ascii();
            assert_eq!(
                &dispositions(&mut decoder, &batch(&[*message]))[0],
                expected,
                "{method:?} {text}"
            );
        }
    }
}

/// Messages are read without the scanner once they have been seen.
fn quick(fields: &[InputField], messages: &[&str]) {
    quick_exactly(fields, &ExactInputs::default(), messages);
}

/// The same with digits that are kept.
pub fn quick_exactly(fields: &[InputField], exact: &ExactInputs, messages: &[&str]) {
    agree_exactly(fields, exact, messages);
    let messages: Vec<_> = messages.iter().map(|message| Some(message.as_bytes())).collect();
    for method in [Method::Best, Method::Portable] {
        let mut decoder = Decoder::using(method, fields, exact).unwrap();
        let once = dispositions(&mut decoder, &batch(&messages));
        let misses = decoder.layouts.misses();
        assert!(misses > 0 && misses as usize <= messages.len());
        assert_eq!(dispositions(&mut decoder, &batch(&messages)), once);
        assert_eq!(decoder.layouts.misses(), misses, "{method:?}: {once:?}");
    }
}

/// An optional field of each kind, `/boolean` and so on, below `parent`.
fn one_of_each(parent: &str) -> Vec<InputField> {
    Kind::ALL.iter().map(|kind| field(&format!("{parent}/{}", kind.name()), *kind, false)).collect()
}

const EACH: &str = r#"{"boolean":true,"int64":-12,"float64":1.5,"text":"abc","bytes":"","timestamp":"2026-11-22T03:04:05.123Z","json":{"a":[1, {}]},"int64-list":[1,-2],"float64-list":[0.5]}"#;

#[test]
fn every_kind_is_read_quickly_at_every_depth() {
    quick(&one_of_each(""), &[EACH]);
    quick(&one_of_each("/a/b"), &[&format!(r#"{{"a":{{"x":1,"b":{EACH}}},"y":[]}}"#)]);
    quick(&one_of_each("/a/1"), &[&format!(r#"{{"a":[0,{EACH},2]}}"#)]);
    quick(&one_of_each("/0"), &[&format!("[{EACH}]")]);
    let deep = "/a".repeat(120);
    let text = format!("{}{EACH}{}", r#"{"a":"#.repeat(120), "}".repeat(120));
    quick(&one_of_each(&deep), &[&text]);
    quick(&[field("", Kind::Json, true)], &[EACH]);
    quick(&[field("", Kind::Text, true)], &["\"some text\""]);
}

#[test]
fn other_values_at_the_same_places_need_no_other_layout() {
    let values = ["null", "true", "false", "0", "-1", "17", "2.5", "1e3", "12345678901234567890"];
    let texts = [
        "\"\"",
        "\"a\"",
        r#""a\nb""#,
        "\"Küche\"",
        "\"2026-11-22T03:04:05Z\"",
        "[]",
        "[1, 2]",
        "{}",
    ];
    for (kind, required) in Kind::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let fields = [field("/v", kind, required), field("/w", Kind::Int64, true)];
        let messages: Vec<_> = values
            .iter()
            .chain(&texts)
            .map(|value| format!(r#"{{"v":{value},"skipped":{value},"w":1}}"#))
            .collect();
        agree(&fields, &messages);
        let mut decoder = Decoder::new(&fields, &ExactInputs::default()).unwrap();
        let payloads: Vec<_> = messages.iter().map(|message| Some(message.as_bytes())).collect();
        let dispositions = dispositions(&mut decoder, &batch(&payloads));
        // The first good one was learned, and then only those that were refused went to the scanner.
        let refused = dispositions.iter().filter(|disposition| disposition.is_err()).count();
        assert_eq!(decoder.layouts.misses(), 1, "{}", kind.name());
        assert!(refused < dispositions.len(), "{} takes one of them", kind.name());
    }
}

#[test]
fn several_layouts_are_known_at_the_same_time() {
    let fields = [
        field("/a", Kind::Int64, true),
        field("/b/c", Kind::Text, false),
        field("/d", Kind::Float64, false),
    ];
    quick(
        &fields,
        &[
            r#"{"a":1,"b":{"c":"x"},"d":1.5}"#,
            r#"{"d":1.5,"a":1,"b":{"c":"x"}}"#,
            r#"{"b":{"c":"x"},"d":1.5,"a":1}"#,
            r#"{"a":1}"#,
            r#"{"a":1,"d":1.5}"#,
            r#"{"a":1,"b":null,"d":1.5}"#,
            r#"{"a":1,"b":{},"d":1.5}"#,
            r#"{"a":1,"b":{"c":null},"d":null}"#,
            r#"{"a":1,"b":[1,{"c":"no"}],"d":1.5}"#,
            r#"{"a": 1, "b": {"c": "x"}, "d": 1.5}"#,
            " { \"a\" : 1 , \"d\" :\t1.5 }\r\n",
            r#"{"a":1,"a name that is longer than what is compared at once":[true],"d":1.5}"#,
        ],
    );
}

#[test]
fn a_layout_never_hides_what_else_may_stand_at_a_place() {
    let fields = [field("/a/b", Kind::Int64, false), field("/c", Kind::Int64, false)];
    agree(
        &fields,
        &[
            r#"{"a":1,"c":2}"#,
            r#"{"a":{"b":3},"c":2}"#,
            r#"{"a":{"b":3,"b":4},"c":2}"#,
            r#"{"a":{"b":3},"a":4,"c":2}"#,
            r#"{"a":[{"b":3}],"c":2}"#,
            r#"{"a":null,"c":2}"#,
            r#"{"a":{},"c":2}"#,
            r#"{"a":1,"c":2,"c":3}"#,
            r#"{"a":1,"c":2,"\u0063":3}"#,
            r#"{"a":1,"c":"no number","c":3}"#,
            r#"{"a":1,"c":{"c":5}}"#,
            r#"{"a":1,"c":2}}"#,
            r#"{"a":1,"c":2} "#,
            r#"{"a":1,"c":2"#,
            r#"{"a":1,"c":2},"#,
            "",
        ],
    );
    let shared = [
        field("/a", Kind::Int64, false),
        field("/a", Kind::Text, false),
        field("/a", Kind::Json, false),
        field("/b", Kind::Text, true),
    ];
    agree(
        &shared,
        &[r#"{"a":null,"b":"x"}"#, r#"{"a":1,"b":"x"}"#, r#"{"a":"1","b":"x"}"#, r#"{"b":"x"}"#],
    );
    let item = [field("/a/0", Kind::Int64, false), field("/c", Kind::Int64, false)];
    agree(&item, &[r#"{"a":1,"c":2}"#, r#"{"a":[7],"c":2}"#, r#"{"a":{"0":8},"c":2}"#]);
    let both = [field("/a", Kind::Json, false), field("/a/b", Kind::Int64, false)];
    agree(&both, &[r#"{"a":{"b":1}}"#, r#"{"a":{"b":2}}"#, r#"{"a":3}"#, r#"{"a":{"b":null}}"#]);
}

#[test]
fn nesting_is_limited_behind_learned_bytes_too() {
    for (kind, name) in [(Kind::Json, "v"), (Kind::Int64List, "v"), (Kind::Json, "other")] {
        for depth in 120..128 {
            let fields = [field(&format!("{}/v", "/a".repeat(depth - 1)), kind, false)];
            let message = |value: &str| {
                let (open, close) = (r#"{"a":"#.repeat(depth - 1), "}".repeat(depth - 1));
                format!("{open}{{\"{name}\":{value}}}{close}")
            };
            let nested = |levels: usize| message(&("[".repeat(levels) + &"]".repeat(levels)));
            let mut messages = vec![message("null"), message("[1]"), message("[[1]]")];
            messages.extend((1..10).map(nested));
            agree(&fields, &messages);
        }
    }
}

#[test]
fn a_missing_value_leaves_its_row_empty_in_a_learned_layout_too() {
    let fields = one_of_each("");
    quick(&fields, &["{}", EACH, "{}", EACH, r#"{"text":null,"json":null,"int64":null}"#]);
}

#[test]
fn learning_is_bounded_and_begins_again() {
    let fields = [field("/a", Kind::Int64, true)];
    let mut decoder = Decoder::new(&fields, &ExactInputs::default()).unwrap();
    let all: Vec<_> = (0..5000).map(|name| format!(r#"{{"x{name}":0,"a":1}}"#)).collect();
    let all: Vec<_> = all.iter().map(|message| Some(message.as_bytes())).collect();
    assert!(dispositions(&mut decoder, &batch(&all)).iter().all(Result::is_ok));
    assert!(decoder.layouts.size() <= (16, 64), "{:?}", decoder.layouts.size());
    // A producer that comes later is learned after some time.
    let same = vec![Some(br#"{"a":1,"new":2}"#.as_slice()); 3000];
    dispositions(&mut decoder, &batch(&same));
    let misses = decoder.layouts.misses();
    dispositions(&mut decoder, &batch(&same));
    assert_eq!(decoder.layouts.misses(), misses);
    // A layout that is too large is not learned.
    let wide = format!("{{{}\"a\":1}}", "\"b\":1,".repeat(2000));
    let mut decoder = Decoder::new(&fields, &ExactInputs::default()).unwrap();
    agree(&fields, &[&wide, &wide]);
    dispositions(&mut decoder, &batch(&[Some(wide.as_bytes()); 2]));
    assert_eq!(decoder.layouts.size(), (0, 0));
}

#[test]
fn a_learned_message_that_is_cut_or_damaged_anywhere_is_what_the_scanner_says() {
    let text = r#" {"device_id":"hems-00004711","boolean":false, "n":{"a":[12,{"b":-1.25}]},"t":"2026-11-22T03:04:05.123Z","list":[1,-2.5,3],"text":"Küche\n","skip":["x",{"y":[1, 2],"z":"ü\u00e9\ud83d\ude00"},null,-1.5e3],"last":123456}"#;
    let fields = [
        field("/device_id", Kind::Text, true),
        field("/boolean", Kind::Boolean, true),
        field("/n/a/1/b", Kind::Float64, true),
        field("/t", Kind::Timestamp, true),
        field("/list", Kind::Float64List, true),
        field("/text", Kind::Text, true),
        field("/last", Kind::Int64, true),
    ];
    quick(&fields, &[text]);
    let text = text.as_bytes();
    let mut messages = vec![text.to_vec()];
    for at in 0..text.len() {
        messages.push(text[..at].to_vec());
        messages.push([&text[..at], &text[at + 1..]].concat());
        for byte in *b"\"\\{}[]:,.-+eE019 \n\x00\x1f\x7fut\x80\xc3\xa9\xff" {
            let mut damaged = text.to_vec();
            damaged[at] = byte;
            messages.push(damaged);
        }
        for byte in *b"0\",]} \\\xc3" {
            messages.push([&text[..at], &[byte], &text[at..]].concat());
        }
    }
    for some in messages.chunks(500) {
        let mut some = some.to_vec();
        some.insert(0, text.to_vec());
        agree(&fields, &some);
    }
}

#[test]
fn strings_and_lists_of_every_length_are_read_to_their_end() {
    let fields = [field("/text", Kind::Text, true), field("/list", Kind::Int64List, false)];
    let mut messages = Vec::new();
    for length in 0..140 {
        for end in ["", "é", "\\n", "\\u00e9", "\\ud83d\\ude00", "\u{1}", "\\", "\\x", "\\ud83d"] {
            let text = "x".repeat(length);
            let list = vec!["1"; length].join(",");
            messages.push(format!(r#"{{"text":"{text}{end}","skipped":"{end}{text}","list":[{list}],"rest":[{list}]}}"#));
        }
    }
    agree(&fields, &messages);
}

/// Other digits at random: mostly the same layout with other values.
pub fn varied(text: &str, seed: u64) -> String {
    let mut seed = seed;
    let vary = |character: char| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match (character, seed >> 61) {
            ('0'..='9', 0) => char::from(b'0' + ((seed >> 33) % 10) as u8),
            _ => character,
        }
    };
    text.chars().map(vary).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_of_messages_are_what_the_scanner_says(
        documents in proptest::collection::vec(document(), 1..5),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..24),
        fields in proptest::collection::vec(
            (prop::sample::select(POINTERS.to_vec()), prop::sample::select(Kind::ALL.to_vec()), any::<bool>()),
            1..8,
        ),
    ) {
        let fields: Vec<_> = fields
            .into_iter()
            .map(|(pointer, kind, required)| field(pointer, kind, required))
            .collect();
        let messages: Vec<_> =
            picks.iter().map(|(pick, seed)| varied(pick.get::<String>(&documents), *seed)).collect();
        agree(&fields, &messages);
    }

    #[test]
    fn sequences_for_optional_json_are_all_learned(
        document in document(),
        seeds in proptest::collection::vec(any::<u64>(), 1..8),
        damage in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"\"\\{}[]:,0-.eE \n\x00u\xc3\xa9t".to_vec()),
    ) {
        let fields: Vec<_> = ["/a", "/b/0", "/b/1", "/c/0/b", "/x~1y", "/0", "/1/a"]
            .iter()
            .map(|pointer| field(pointer, Kind::Json, false))
            .collect();
        let mut messages: Vec<_> =
            seeds.iter().map(|seed| varied(&document, *seed).into_bytes()).collect();
        messages.insert(0, document.clone().into_bytes());
        let mut damaged = document.into_bytes();
        let at = damage.index(damaged.len());
        damaged[at] = byte;
        messages.push(damaged);
        agree(&fields, &messages);
    }
}
