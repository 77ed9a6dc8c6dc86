//! Passes fields of every kind through to its table, and does with a message what its field `act` says.
//! Written against the bare contract, because the SDK would not let it.

use std::hint::black_box;

use bindings::exports::sluice::plugin::transform::{Batch, Guest, Outcome, Rejection, Rows};
use bindings::sluice::plugin::columns::{Column, Kind, Spans, Values};
use bindings::sluice::plugin::log::{self, Level};
use bindings::sluice::plugin::schema::{
    Attributes, Description, InputField, Output, OutputField, Payload, Source,
};

/// What wit-bindgen makes of the contract.
#[allow(missing_docs, clippy::pedantic, unsafe_op_in_unsafe_fn)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
    export!(EveryType with_types_in self);
    use super::EveryType;
}

/// Fields that are passed through, none of them required: each fills the column of its name.
const PASSED: [(Kind, &[&str]); 9] = [
    (Kind::Boolean, &["flag"]),
    (
        Kind::Int64,
        &[
            "small",
            "medium",
            "large",
            "amount",
            "positive",
            "even",
            "unique_no",
            "owner",
            "late_owner",
            "starts",
            "ends",
            "divisor",
            "kept",
        ],
    ),
    (Kind::Float64, &["single", "double", "ratio"]),
    (
        Kind::Text,
        &[
            "note",
            "short",
            "fixed",
            "price",
            "exact",
            "uid",
            "day",
            "clock",
            "mood",
            "doc_text",
            "raw_text",
            "word",
            "state",
            "late_state",
            "indexed",
            "searched",
        ],
    ),
    (Kind::Timestamp, &["at", "at_day"]),
    (Kind::Json, &["doc", "raw"]),
    (Kind::Bytes, &["blob"]),
    (Kind::Int64List, &["smalls", "mediums", "larges"]),
    (Kind::Float64List, &["singles", "doubles"]),
];

struct EveryType;

impl Guest for EveryType {
    fn configure(_: String) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string())));
        Ok(())
    }

    fn describe() -> Description {
        let mut inputs = vec![input("id", Kind::Int64, true), input("act", Kind::Text, true)];
        inputs[0].required = true;
        let mut fields = vec![
            field("id", Kind::Int64, false, Source::Field(0)),
            field("said", Kind::Text, true, Source::Computed),
        ];
        for (kind, names) in PASSED {
            for name in names {
                let source = Source::Field(u32::try_from(inputs.len()).expect("a few"));
                fields.push(field(name, kind, true, source));
                inputs.push(input(name, kind, false));
            }
        }
        Description {
            name: "every-type".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            reads: Attributes::empty(),
            payload: Payload::Json(inputs),
            outputs: vec![Output { name: "every_type".into(), fields }],
            settings: String::new(),
        }
    }

    fn process(batch: Batch) -> Result<Outcome, String> {
        let (Values::Int64(ids), Values::Text(acts)) =
            (&batch.fields[0].values, &batch.fields[1].values)
        else {
            return Err("the fields are not those described".into());
        };
        let mut made = Made::default();
        let mut start = 0;
        for (message, (id, end)) in (0..).zip(ids.iter().zip(&acts.ends)) {
            let end = *end as usize;
            made.obey(message, *id, &acts.data[start..end])?;
            start = end;
        }
        Ok(made.outcome())
    }
}

fn input(name: &str, kind: Kind, read: bool) -> InputField {
    InputField { pointer: format!("/{name}"), kind, required: false, read }
}

fn field(name: &str, kind: Kind, nullable: bool, source: Source) -> OutputField {
    OutputField { name: name.into(), kind, nullable, source }
}

/// What became of the messages so far.
#[derive(Default)]
struct Made {
    messages: Vec<u32>,
    said: Vec<u8>,
    said_ends: Vec<u32>,
    rejections: Vec<Rejection>,
    lies: bool,
}

impl Made {
    /// Does what the message asks for; nothing special when that is nothing.
    fn obey(&mut self, message: u32, id: i64, act: &[u8]) -> Result<(), String> {
        match act {
            b"drop" => return Ok(()),
            b"reject" => self.reject(message, "unwanted", format!("{id} is not wanted")),
            b"reject-oddly" => self.reject(message, "odd", "line\nnext\u{1b}[31m\0".into()),
            b"fail" => return Err(format!("cannot look {id} up")),
            b"panic" => panic!("{id} is too much for me"),
            b"divide" => divide(17, black_box(0)),
            b"index" => self.messages.push(self.messages[black_box(usize::MAX)]),
            b"unwrap" => self.messages.push(None.expect("there must be something")),
            b"trap" => trap(),
            b"loop" => endless_loop(),
            b"hog" => hog_memory(),
            b"recurse" => self.messages.truncate(recurse(1) as usize),
            b"flood" => self.messages.resize(5_000_000, message),
            b"lie" => self.lies = true,
            b"say-nul" => return self.keep(message, "a\0b"),
            b"twice" => self.keep(message, "first")?,
            _ => {}
        }
        if self.rejections.last().is_some_and(|last| last.message == message) {
            return Ok(());
        }
        self.keep(message, "")
    }

    fn keep(&mut self, message: u32, said: &str) -> Result<(), String> {
        self.messages.push(message);
        self.said.extend_from_slice(said.as_bytes());
        self.said_ends.push(u32::try_from(self.said.len()).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn reject(&mut self, message: u32, code: &str, reason: String) {
        self.rejections.push(Rejection { message, code: code.into(), reason, retry: false });
    }

    fn outcome(mut self) -> Outcome {
        let starts = std::iter::once(&0).chain(&self.said_ends);
        let nulls =
            starts.zip(&self.said_ends).map(|(start, end)| u8::from(start == end)).collect();
        if self.lies {
            self.said_ends.push(u32::MAX);
        }
        let values = Values::Text(Spans { data: self.said, ends: self.said_ends });
        let columns = vec![Column { values, nulls }];
        let rows = Rows { messages: self.messages, columns, deletes: Vec::new() };
        Outcome { outputs: vec![rows], rejections: self.rejections }
    }
}

#[inline(never)]
fn divide(dividend: i64, divisor: i64) {
    black_box(dividend / divisor);
}

#[inline(never)]
fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

#[inline(never)]
fn endless_loop() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns + 1);
    }
}

#[inline(never)]
fn hog_memory() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![7_u8; 1 << 20]));
    }
}

/// Keeps its numbers in locals, so that the host's stack ends before the guest's own.
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + depth
}
