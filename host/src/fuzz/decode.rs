//! Sequences of messages: the decoder learns their layout, and reads what its own scanner and `serde_json` read.

use serde_json::Value;

use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind, Values};
use crate::decode::{Decoder, Method};
use crate::description::{FieldSource, InputField, OutputField};
use crate::exact::ExactInputs;
use crate::rows::{Decoded, Rejection};

/// Ends a message in the fuzzer's input; no message that is JSON has it.
const SEPARATOR: u8 = 0xFF;

const POINTERS: [&str; 10] = ["/a", "/b", "/c", "/d", "/e", "/f", "/a/b", "/b/0", "/c/0/a", ""];

/// Decodes a sequence of messages by all methods, twice, and panics when they differ from each other
/// or from `serde_json`. The first byte says how many fields there are and which of them keep their digits,
/// the next ones what they are.
pub(super) fn check(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let Some((header, rest)) = rest.split_at_checked(usize::from(count % 8) + 1) else { return };
    let fields: Vec<_> = header.iter().map(|byte| field(*byte)).collect();
    let exact = exact(&fields, count / 8);
    let mut batch = Batch::new("topic");
    for (offset, message) in (0..).zip(rest.split(|byte| *byte == SEPARATOR)) {
        let payload = Some(message);
        batch.push(Message { partition: 0, offset, timestamp_us: -1, key: None, payload });
        batch.close_message();
    }
    let expected = decode(&mut decoder(Method::Scanner, &fields, &exact), &batch);
    for method in [Method::Best, Method::Portable] {
        let mut decoder = decoder(method, &fields, &exact);
        for _ in 0..2 {
            let (ours, rejected) = decode(&mut decoder, &batch);
            assert_eq!(ours.messages, expected.0.messages, "{method:?}");
            assert!(bits(&ours.columns) == bits(&expected.0.columns), "{method:?}: {ours:?}");
            assert_eq!(rejected, expected.1, "{method:?}");
        }
    }
    compare(&fields, &batch, &expected);
}

fn field(byte: u8) -> InputField {
    let pointer = POINTERS[usize::from(byte) / 18 % POINTERS.len()].to_owned();
    let kind = Kind::ALL[usize::from(byte) / 2 % Kind::ALL.len()];
    InputField { pointer, kind, required: byte % 2 == 1, read: !byte.is_multiple_of(3) }
}

/// The lowest four bits name the fields that keep their digits, the next one says whether doubles are guarded.
fn exact(fields: &[InputField], bits: u8) -> ExactInputs {
    let mut exact = ExactInputs::default();
    for (input, InputField { kind, .. }) in fields.iter().enumerate() {
        let (name, source) = (String::new(), FieldSource::Field(input));
        let passed = OutputField { name, kind: *kind, nullable: true, source };
        exact.add(&passed, bits >> (input % 4) & 1 == 1);
    }
    exact.doubles_become_numerics = bits >> 4 & 1 == 1;
    exact
}

fn decoder(method: Method, fields: &[InputField], exact: &ExactInputs) -> Decoder {
    Decoder::using(method, fields, exact).expect("the pointers are well-formed")
}

fn decode(decoder: &mut Decoder, batch: &Batch) -> (Decoded, Vec<Rejection>) {
    let (mut into, mut rejected) = (Decoded::default(), Vec::new());
    decoder.decode(batch, &mut into, &mut rejected);
    (into, rejected)
}

/// All that is in the columns; for equality `-0.0` is `0.0`, here it is not.
fn bits(columns: &[Column]) -> Vec<(Column, Vec<u64>)> {
    let of = |column: &Column| match &column.values {
        Values::Float64(values) => values.iter().map(|value| value.to_bits()).collect(),
        Values::Float64List(lists) => lists.items.iter().map(|value| value.to_bits()).collect(),
        _ => Vec::new(),
    };
    columns.iter().map(|column| (column.clone(), of(column))).collect()
}

/// What is no JSON for one is none for the other, and values that need no interpretation are the same.
fn compare(fields: &[InputField], batch: &Batch, (decoded, rejected): &(Decoded, Vec<Rejection>)) {
    for message in 0..batch.len() {
        let payload = batch.payloads.get(message).unwrap_or_default();
        let parsed = serde_json::from_slice::<Value>(payload);
        let rejection = rejected.iter().find(|rejection| rejection.message as usize == message);
        let is_json = rejection
            .is_none_or(|rejection| !matches!(&*rejection.code, "malformed-json" | "invalid-utf8"));
        let Ok(document) = parsed else {
            let error = parsed.expect_err("there is no document").to_string();
            // A number beyond all doubles is JSON all the same.
            assert!(!is_json || error.contains("number out of range"), "{error}");
            continue;
        };
        assert!(is_json, "{rejection:?}");
        let Ok(row) = decoded.messages.binary_search(&(message as u32)) else { continue };
        for (field, column) in fields.iter().zip(&decoded.columns) {
            let theirs = document.pointer(&field.pointer).filter(|value| !value.is_null());
            assert_eq!(column.is_null(row), theirs.is_none(), "{}", field.pointer);
            let Some(theirs) = theirs else { continue };
            let is_same = match &column.values {
                Values::Boolean(values) => theirs.as_bool() == Some(values[row] == 1),
                Values::Int64(values) => {
                    theirs.as_i64() == Some(values[row]) || theirs.as_f64() == Some(0.0)
                }
                Values::Text(spans) if field.kind != Kind::Text => {
                    theirs.is_number()
                        && spans.get(row).iter().all(|byte| !byte.is_ascii_whitespace())
                }
                Values::Text(spans) | Values::Bytes(spans) => {
                    theirs.as_str().map(str::as_bytes) == Some(spans.get(row))
                }
                Values::Json(spans) => {
                    serde_json::from_slice::<Value>(spans.get(row)).ok().as_ref() == Some(theirs)
                }
                Values::Int64List(lists) => {
                    theirs.as_array().map(Vec::len) == Some(lists.get(row).len())
                }
                Values::Float64List(lists) => {
                    theirs.as_array().map(Vec::len) == Some(lists.get(row).len())
                }
                Values::Float64(_) => theirs.is_number(),
                Values::Timestamp(_) => theirs.is_string(),
            };
            assert!(is_same, "{} is {theirs}", field.pointer);
        }
    }
}
