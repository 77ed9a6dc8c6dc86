//! Keys, headers and sizes: what a dead letter must keep to the byte, and what must not get into a row's way.

use super::{End, Kind, dead_letter};

/// The largest payload.
const HUGE_BYTES: usize = 4 << 20;

/// All of them.
pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = keys();
    kinds.extend(headers());
    kinds.extend(sizes());
    kinds
}

/// Poison whatever its key.
fn keys() -> Vec<Kind> {
    let malformed = dead_letter("decode", "malformed-json", "");
    let keyed = |name: &str, key: Option<&[u8]>| Kind {
        key: key.map(<[u8]>::to_vec),
        ..Kind::new(name, "{\"id\":$N,", malformed)
    };
    let tombstone = |name: &str, key: Option<&[u8]>| Kind {
        key: key.map(<[u8]>::to_vec),
        payload: None,
        ..Kind::new(name, "", dead_letter("decode", "no-payload", "the message has no payload"))
    };
    vec![
        keyed("no key", None),
        keyed("an empty key", Some(b"")),
        keyed("a key of bytes", Some(b"\0\xff\xfe\x80\\x")),
        keyed("a key like NULL", Some(b"\\N")),
        keyed("a key of 64 KiB", Some(&[b'k'; 64 << 10])),
        tombstone("a tombstone", Some(b"device-7")),
        tombstone("a tombstone with an empty key", Some(b"")),
        tombstone("nothing at all", None),
        Kind {
            key: None,
            payload: Some(Vec::new()),
            headers: Vec::new(),
            ..Kind::new("an empty payload without key", "", malformed)
        },
        Kind { key: None, ..Kind::with("good: no key", "\"small\":1", End::Row("small=1")) },
        Kind {
            key: Some(Vec::new()),
            ..Kind::with("good: an empty key", "\"small\":2", End::Row("small=2"))
        },
        Kind {
            key: Some(b"\xff\0".to_vec()),
            ..Kind::with("good: a key of bytes", "\"small\":3", End::Row("small=3"))
        },
    ]
}

/// Poison whatever its headers, and a good one.
fn headers() -> Vec<Kind> {
    let malformed = dead_letter("decode", "malformed-json", "");
    let with = |name: &str, headers: &[(&str, Option<&[u8]>)]| Kind {
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
            .collect(),
        ..Kind::new(name, "{\"id\":$N]", malformed)
    };
    let numbered: Vec<(String, Option<Vec<u8>>)> = (0..500_u16)
        .rev()
        .map(|number| (format!("h{}", number % 50), Some(number.to_be_bytes().to_vec())))
        .collect();
    vec![
        with("no headers", &[]),
        with("one header twice", &[("trace", Some(b"1")), ("trace", Some(b"2"))]),
        with(
            "one header twice with the same value",
            &[("trace", Some(b"1")), ("trace", Some(b"1"))],
        ),
        with(
            "headers against the alphabet",
            &[("z", Some(b"1")), ("m", Some(b"2")), ("a", Some(b"3"))],
        ),
        with("a header without value", &[("trace", None)]),
        with("a header with an empty value", &[("trace", Some(b""))]),
        with("a header without name", &[("", Some(b"1"))]),
        with("a header of bytes", &[("trace", Some(b"\xff\xfe\0\x80"))]),
        with("a header name beyond ASCII", &[("\u{1f600} {\"},'", Some(b"1"))]),
        with("a header like NULL", &[("NULL", Some(b"NULL")), ("\\N", Some(b"\\N"))]),
        with("a header of 64 KiB", &[("trace", Some(&[0x80; 64 << 10]))]),
        Kind { headers: numbered.clone(), ..with("five hundred headers", &[]) },
        Kind {
            headers: numbered,
            ..Kind::with("good: five hundred headers", "\"small\":4", End::Row("small=4"))
        },
    ]
}

/// As large as messages get.
fn sizes() -> Vec<Kind> {
    let filled = |front: &str, fill: u8, back: &[u8]| {
        let mut payload = front.as_bytes().to_vec();
        payload.resize(HUGE_BYTES - back.len(), fill);
        payload.extend_from_slice(back);
        payload
    };
    let malformed = dead_letter("decode", "malformed-json", "expected");
    vec![
        Kind::new(
            "4 MiB of an endless string",
            filled("{\"id\":$N,\"note\":\"", b'x', b""),
            malformed,
        ),
        Kind::new("4 MiB of white space", filled("{\"id\":$N", b' ', b""), malformed),
        Kind::new("4 MiB of brackets", filled("{\"id\":$N,\"unread\":", b'[', b""), malformed),
        Kind::new(
            "4 MiB that end in no UTF-8",
            filled("{\"id\":$N,\"note\":\"", b'x', b"\xff\"}"),
            dead_letter("decode", "invalid-utf8", "at byte"),
        ),
        Kind::new(
            "4 MiB of a number",
            filled("{\"id\":$N,\"large\":", b'1', b"}"),
            dead_letter("decode", "out-of-range", "/large"),
        ),
        Kind::new(
            "4 MiB that the plugin rejects",
            filled("{\"id\":$N,\"act\":\"reject\",\"note\":\"", b'x', b"\"}"),
            dead_letter("plugin", "unwanted", "is not wanted"),
        ),
        Kind::new(
            "4 MiB that make the plugin panic",
            filled("{\"id\":$N,\"act\":\"panic\",\"note\":\"", b'x', b"\"}"),
            dead_letter("plugin", "trap", "is too much for me"),
        ),
        Kind::new(
            "good: 4 MiB of a text",
            filled("{\"id\":$N,\"note\":\"", b'x', b"\"}"),
            End::Row("note=long"),
        ),
        Kind::new(
            "good: 4 MiB that nobody reads",
            filled("{\"id\":$N,\"unread\":\"", b'x', b"\"}"),
            End::Row(""),
        ),
    ]
}
