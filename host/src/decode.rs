//! JSON payloads to typed columns, guided by a plugin's input fields.
//! Knows neither Kafka nor WebAssembly; what is in a payload is the sender's business, how it may fail is ours.
//!
//! A message is read in two steps: the scanner walks the whole payload once, strictly, and notes
//! where the wanted values lie; then each value is converted at the end of its column.

mod pointer;
mod scan;
mod timestamp;
mod value;

#[cfg(test)]
mod tests;

use crate::batch::Batch;
use crate::columns::{Column, Kind};
use crate::description::InputField;
use crate::rows::{Decoded, Rejection, Stage};
use pointer::Tree;
use scan::{Scanner, Shape, Token};
use value::Problem;

/// Turns the payloads of batches into columns, one per input field. Keeps its memory between batches.
#[derive(Debug)]
pub struct Decoder {
    tree: Tree,
    fields: Vec<Field>,
    /// Where the values of the message at hand lie, by slot.
    found: Vec<Token>,
    /// Room for text that is stored in an unescaped form nowhere else.
    unescaped: Vec<u8>,
}

#[derive(Debug)]
struct Field {
    pointer: String,
    kind: Kind,
    required: bool,
    /// Index in [`Decoder::found`]; fields with the same pointer share it.
    slot: usize,
}

impl Decoder {
    /// A decoder of these fields. Without fields every message passes as it is, unread.
    ///
    /// # Errors
    /// When a pointer is not one as in RFC 6901.
    pub fn new(fields: &[InputField]) -> Result<Self, String> {
        let tree = Tree::new(fields.iter().map(|field| field.pointer.as_str()))?;
        let fields = fields
            .iter()
            .enumerate()
            .map(|(index, field)| Field {
                pointer: field.pointer.clone(),
                kind: field.kind,
                required: field.required,
                slot: tree.slot(index),
            })
            .collect();
        let found = vec![Token::ABSENT; tree.slots()];
        Ok(Self { tree, fields, found, unescaped: Vec::new() })
    }

    /// Replaces what is in `into` by the messages of `batch`, and appends those that do not fit to `rejected`.
    pub fn decode(&mut self, batch: &Batch, into: &mut Decoded, rejected: &mut Vec<Rejection>) {
        self.clear(into);
        if self.fields.is_empty() {
            into.messages.extend(0..batch.len() as u32);
            return;
        }
        for message in 0..batch.len() {
            let row = into.messages.len();
            match self.message(batch.payloads.get(message), row, &mut into.columns) {
                Ok(()) => into.messages.push(message as u32),
                Err(problem) => {
                    into.columns.iter_mut().for_each(|column| column.truncate(row));
                    rejected.push(problem.into_rejection(message as u32));
                }
            }
        }
    }

    /// Empties the columns and keeps their memory, unless they are another decoder's.
    fn clear(&self, into: &mut Decoded) {
        into.messages.clear();
        let kinds = self.fields.iter().map(|field| field.kind);
        if into.columns.iter().map(Column::kind).eq(kinds.clone()) {
            into.columns.iter_mut().for_each(Column::clear);
        } else {
            into.columns = kinds.map(Column::new).collect();
        }
    }

    /// Appends one row to the columns. On an error some of them may have it already.
    fn message(
        &mut self,
        payload: Option<&[u8]>,
        row: usize,
        columns: &mut [Column],
    ) -> Result<(), Problem> {
        let payload = payload.ok_or_else(Problem::no_payload)?;
        std::str::from_utf8(payload).map_err(|error| Problem::invalid_utf8(&error))?;
        self.found.fill(Token::ABSENT);
        Scanner::new(payload)
            .document(&self.tree, &mut self.found, &mut self.unescaped)
            .map_err(|malformed| Problem::malformed(&malformed))?;
        for (field, column) in self.fields.iter().zip(columns) {
            let token = self.found[field.slot];
            if matches!(token.shape, Shape::Absent | Shape::Null) {
                if field.required {
                    return Err(Problem::missing(&field.pointer, token));
                }
                column.push_null();
            } else {
                value::push(payload, token, column, &mut self.unescaped)
                    .map_err(|mismatch| mismatch.at(&field.pointer, field.kind, payload, token))?;
                column.mark_present(row);
            }
        }
        Ok(())
    }
}

impl Problem {
    fn into_rejection(self, message: u32) -> Rejection {
        let code = self.code.to_owned();
        Rejection { message, stage: Stage::Decode, code, reason: self.reason, retry: false }
    }
}
