//! A corpus of poison, as data: messages that must end as dead letters, each for its own reason, and odd ones that
//! must not. They are for the plugin `every_type` and the tables in `tables`. Pure; knows nothing of the host.

use crate::load::Made;

mod constraints;
mod envelope;
mod json;
mod plugin;
mod tables;
mod values;

pub use tables::{CASTING, STRAIGHT, Sent, arrivals};

/// Stands in a payload where the message's number belongs.
const NUMBER: &[u8] = b"$N";

/// Name of the message that is there for company.
const HARMLESS: &str = "harmless";

const TIMESTAMP_MS: i64 = 1_790_000_000_000;

/// A message of the corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// What is odd about it.
    pub name: String,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload; `$N` in it stands for the number that the row will have.
    pub payload: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// What must become of it.
    pub end: End,
}

/// What must become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A row with these columns beside its number: `small=7 word=x`, by name.
    Row(&'static str),
    /// Two such rows.
    Rows([&'static str; 2]),
    /// Nothing: the plugin filters it.
    Nothing,
    /// A dead letter.
    DeadLetter(DeadLetter),
}

/// What must stand in a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    /// Who turned the message away.
    pub stage: &'static str,
    /// Short and stable.
    pub code: &'static str,
    /// Something that the reason says.
    pub says: &'static str,
}

impl Kind {
    /// A message with this payload.
    fn new(name: impl Into<String>, payload: impl Into<Vec<u8>>, end: End) -> Self {
        let headers = vec![("trace".to_owned(), Some(b"00-4bf92f35".to_vec()))];
        let (key, payload) = (Some(b"device-7".to_vec()), Some(payload.into()));
        Self { name: name.into(), key, payload, headers, end }
    }

    /// A message that lacks nothing, with one more member, such as `"small":7`.
    pub fn with(name: impl Into<String>, member: &str, end: End) -> Self {
        Self::new(name, format!("{{\"id\":$N,{member}}}"), end)
    }

    /// A message that becomes a row, for company.
    pub fn harmless() -> Self {
        let payload = Some(b"{\"id\":$N}".to_vec());
        let (name, headers) = (HARMLESS.to_owned(), Vec::new());
        Self { name, key: None, payload, headers, end: End::Row("") }
    }

    /// True for [`Kind::harmless`].
    pub fn is_harmless(&self) -> bool {
        self.name == HARMLESS
    }

    /// The message as it is sent, under this number.
    pub fn made(&self, number: i64) -> Made {
        let payload = self.payload.as_ref().map(|payload| numbered(payload, number));
        let (key, headers) = (self.key.clone(), self.headers.clone());
        Made { key, payload, headers, timestamp_ms: TIMESTAMP_MS + number % 1_000_000 }
    }

    /// True when only Postgres can tell.
    pub fn is_refused_by_postgres(&self) -> bool {
        let is_sqlstate =
            |code: &str| code.len() == 5 && code.contains(|it: char| it.is_ascii_digit());
        matches!(self.end, End::DeadLetter(DeadLetter { stage: "sink", code, .. }) if is_sqlstate(code))
    }

    /// True when finding it costs the host seconds, again and again: the plugin's whole time, or many megabytes.
    pub fn is_heavy(&self) -> bool {
        let is_slow = matches!(self.end, End::DeadLetter(DeadLetter { code: "timeout", .. }));
        is_slow || self.payload.as_ref().is_some_and(|payload| payload.len() > 1 << 20)
    }
}

fn numbered(payload: &[u8], number: i64) -> Vec<u8> {
    let Some(at) = payload.windows(NUMBER.len()).position(|window| window == NUMBER) else {
        return payload.to_vec();
    };
    [&payload[..at], number.to_string().as_bytes(), &payload[at + NUMBER.len()..]].concat()
}

/// The end as a dead letter.
pub const fn dead_letter(stage: &'static str, code: &'static str, says: &'static str) -> End {
    End::DeadLetter(DeadLetter { stage, code, says })
}

/// Kinds for any table: what the decoder and the plugin turn away, and what is odd but good.
pub fn for_any_table() -> Vec<Kind> {
    let mut kinds = json::kinds();
    kinds.extend(envelope::kinds());
    kinds.extend(plugin::kinds());
    kinds
}

/// Kinds for the table [`STRAIGHT`] alone: what fits no column, and what Postgres refuses.
pub fn for_straight() -> Vec<Kind> {
    let mut kinds = values::kinds();
    kinds.extend(constraints::straight());
    kinds
}

/// Kinds for the table [`CASTING`] alone: what Postgres refuses.
pub fn for_casting() -> Vec<Kind> {
    constraints::casting()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_at_least_120_kinds_of_poison_and_each_has_its_own_name() {
        let mut kinds = for_any_table();
        kinds.extend(for_straight());
        kinds.extend(for_casting());
        let names: BTreeSet<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!(names.len(), kinds.len());
        let dead_letters = kinds.iter().filter(|kind| matches!(kind.end, End::DeadLetter(_)));
        assert!(dead_letters.count() >= 120);
    }

    #[test]
    fn a_payload_is_numbered_once() {
        assert_eq!(numbered(b"{\"id\":$N}$N", 17), b"{\"id\":17}$N");
        assert_eq!(numbered(b"{}", 17), b"{}");
    }
}
