//! JSON payloads to typed columns, guided by a plugin's input fields.
//! Knows neither Kafka nor WebAssembly; what is in a payload is the sender's business, how it may fail is ours.
//!
//! There are two roads to the same result. The scanner walks the whole payload once, strictly, and notes
//! where the wanted values lie; then each value is converted at the end of its column. It decides what is
//! JSON and says what is wrong with a message. But messages of one producer look alike: the bytes between
//! the values of those that passed are remembered, and the next message with the same ones is read without
//! a search, value by value. Whatever is unexpected there goes back to the scanner.

mod cpu;
mod digits;
mod escape;
mod layout;
mod learn;
mod numbers;
mod pointer;
mod quick;
mod scan;
mod simd;
pub(crate) mod timestamp;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::batch::Batch;
use crate::columns::{Column, Kind};
use crate::description::InputField;
use crate::exact::ExactInputs;
use crate::rows::{Decoded, Rejection, Stage};
use cpu::{Cpu, Portable, Task};
use digits::Form;
use layout::{Layouts, Targets};
use pointer::Tree;
use quick::Target;
use scan::{Memory, Scanner, Shape, Token};
use simd::Cursor;
use value::Problem;

/// Turns the payloads of batches into columns, one per input field, and one more for each field of which both
/// the value and the digits are needed. Keeps its memory between batches, and what it learned of the messages.
#[derive(Debug)]
pub struct Decoder {
    tree: Tree,
    /// One per column.
    fields: Vec<Field>,
    exact: ExactInputs,
    /// For input fields whose digits are kept: the column that has them.
    digits: BTreeMap<usize, usize>,
    means: Means,
    layouts: Layouts,
    /// The columns of each slot.
    slots: Vec<Vec<Target>>,
    /// Where the values of the message at hand lie, by slot.
    found: Vec<Token>,
    /// Room for text that is stored in an unescaped form nowhere else.
    unescaped: Vec<u8>,
    memory: Memory,
    /// Room for messages that lie too close to the end of their batch's arena.
    padded: Vec<u8>,
}

#[derive(Debug)]
struct Field {
    pointer: String,
    /// What is expected in the payload; the column's kind follows from it and the form.
    kind: Kind,
    form: Form,
    required: bool,
    /// Index in [`Decoder::found`]; fields with the same pointer share it.
    slot: usize,
}

/// What a decoder may use. For tests and measurements: results are the same.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// All that the processor has.
    Best,
    /// What any processor has.
    Portable,
    /// No layouts: each message is searched.
    Scanner,
}

/// A method, and the proof that the processor has what it takes.
#[derive(Debug, Clone, Copy)]
enum Means {
    #[cfg(target_arch = "x86_64")]
    Avx2(simd::Avx2),
    Portable,
    Scanner,
}

impl Means {
    fn of(method: Method) -> Self {
        match method {
            #[cfg(target_arch = "x86_64")]
            Method::Best => simd::Avx2::detect().map_or(Self::Portable, Self::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Method::Best => Self::Portable,
            Method::Portable => Self::Portable,
            Method::Scanner => Self::Scanner,
        }
    }
}

/// One batch and what becomes of it.
struct Work<'a> {
    decoder: &'a mut Decoder,
    batch: &'a Batch,
    into: &'a mut Decoded,
    rejected: &'a mut Vec<Rejection>,
}

impl Task for Work<'_> {
    type Result = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Cpu`")]
    fn run<C: Cpu>(mut self, cpu: C) {
        let payloads = &self.batch.payloads.values;
        let mut start = 0;
        for (message, end) in payloads.ends.iter().enumerate() {
            let end = *end as usize;
            let decoder = &mut *self.decoder;
            // A message without payload is an empty one here, which no layout fits.
            let cursor = Cursor::new(&payloads.data, start, end)
                .unwrap_or_else(|| Cursor::copied(&payloads.data[start..end], &mut decoder.padded));
            let mut targets = Targets {
                slots: &decoder.slots,
                columns: &mut self.into.columns,
                room: &mut decoder.unescaped,
            };
            if decoder.layouts.read(cpu, cursor, &mut targets) {
                self.into.messages.push(message as u32);
            } else {
                self.scan(message, true);
            }
            start = end;
        }
    }
}

impl Work<'_> {
    /// Decodes a message by the scanner alone.
    #[cold]
    #[inline(never)]
    fn scan(&mut self, message: usize, learn: bool) {
        let row = self.into.messages.len();
        let columns = &mut self.into.columns;
        truncate(columns, row);
        match self.decoder.message(self.batch.payloads.get(message), columns) {
            Ok(payload) => {
                self.into.messages.push(message as u32);
                if learn {
                    self.decoder.learn(payload);
                }
            }
            Err(problem) => {
                truncate(columns, row);
                self.rejected.push(problem.into_rejection(message as u32));
            }
        }
    }
}

impl Decoder {
    /// A decoder of these fields that keeps the digits which the tables need. Without fields every message
    /// passes as it is, unread.
    ///
    /// # Errors
    /// When a pointer is not one as in RFC 6901.
    pub fn new(fields: &[InputField], exact: &ExactInputs) -> Result<Self, String> {
        Self::using(Method::Best, fields, exact)
    }

    /// A decoder that works by this method.
    ///
    /// # Errors
    /// When a pointer is not one as in RFC 6901.
    #[doc(hidden)]
    pub fn using(
        method: Method,
        fields: &[InputField],
        exact: &ExactInputs,
    ) -> Result<Self, String> {
        let tree = Tree::new(fields.iter().map(|field| field.pointer.as_str()))?;
        let mut slots = vec![Vec::new(); tree.slots()];
        let (columns, digits) = columns(fields, exact);
        let columns = columns.into_iter().enumerate().map(|(column, (input, form))| {
            let InputField { pointer, kind, required, .. } = &fields[input];
            let (slot, required) = (tree.slot(input), *required);
            slots[slot].push(Target { column: column as u32, required, depth: 0, form });
            Field { pointer: pointer.clone(), kind: *kind, form, required, slot }
        });
        Ok(Self {
            fields: columns.collect(),
            exact: exact.clone(),
            digits,
            found: vec![Token::ABSENT; tree.slots()],
            tree,
            means: Means::of(method),
            layouts: Layouts::default(),
            slots,
            unescaped: Vec::new(),
            memory: Memory::default(),
            padded: Vec::new(),
        })
    }

    /// True when the decoder keeps the digits that these tables need.
    pub fn is_for(&self, exact: &ExactInputs) -> bool {
        self.exact == *exact
    }

    /// Replaces what is in `into` by the messages of `batch`, and appends those that do not fit to `rejected`.
    pub fn decode(&mut self, batch: &Batch, into: &mut Decoded, rejected: &mut Vec<Rejection>) {
        self.clear(into);
        if self.fields.is_empty() {
            into.messages.extend(0..batch.len() as u32);
            return;
        }
        let means = self.means;
        let mut work = Work { decoder: self, batch, into, rejected };
        match means {
            #[cfg(target_arch = "x86_64")]
            Means::Avx2(cpu) => cpu.run(work),
            Means::Portable => Portable.run(work),
            Means::Scanner => (0..batch.len()).for_each(|message| work.scan(message, false)),
        }
        into.columns.iter_mut().for_each(complete_nulls);
    }

    /// Empties the columns and keeps their memory, unless they are another decoder's.
    fn clear(&self, into: &mut Decoded) {
        into.messages.clear();
        if into.digits != self.digits {
            into.digits.clone_from(&self.digits);
        }
        let kinds = self.fields.iter().map(|field| field.form.column(field.kind));
        if into.columns.iter().map(Column::kind).eq(kinds.clone()) {
            into.columns.iter_mut().for_each(Column::clear);
        } else {
            into.columns = kinds.map(Column::new).collect();
        }
    }

    /// Appends one row to the columns. On an error some of them may have it already.
    fn message<'a>(
        &mut self,
        payload: Option<&'a [u8]>,
        columns: &mut [Column],
    ) -> Result<&'a [u8], Problem> {
        let payload = payload.ok_or_else(Problem::no_payload)?;
        std::str::from_utf8(payload).map_err(|error| Problem::invalid_utf8(&error, payload))?;
        self.found.fill(Token::ABSENT);
        Scanner::new(payload)
            .document(&self.tree, &mut self.found, &mut self.memory)
            .map_err(|malformed| Problem::malformed(&malformed, payload))?;
        for (field, column) in self.fields.iter().zip(columns) {
            let token = self.found[field.slot];
            if matches!(token.shape, Shape::Absent | Shape::Null) {
                if field.required {
                    return Err(Problem::missing(&field.pointer, token));
                }
                column.push_null();
            } else {
                value::push(payload, token, field.form, column, &mut self.unescaped)
                    .map_err(|mismatch| mismatch.at(&field.pointer, field.kind, payload, token))?;
            }
        }
        Ok(payload)
    }

    /// Remembers the layout of a message that passed, if there is room.
    fn learn(&mut self, payload: &[u8]) {
        if self.layouts.want()
            && let Ok(layout) = learn::layout(payload, &self.tree, &self.slots)
        {
            self.layouts.add(layout);
        }
    }
}

/// The input field and the form of each column, and the columns that have digits, by input field. Those of the
/// input fields come first, in their order. Where only the digits are needed, they take the place of the value:
/// it may be out of the kind's range.
fn columns(
    fields: &[InputField],
    exact: &ExactInputs,
) -> (Vec<(usize, Form)>, BTreeMap<usize, usize>) {
    let (mut columns, mut beside) = (Vec::new(), Vec::new());
    let mut digits = BTreeMap::new();
    for (input, field) in fields.iter().enumerate() {
        let text = Form::text_of(field.kind);
        let form = if exact.has_only(input) && !field.read {
            digits.insert(input, input);
            text
        } else {
            if exact.has(input) {
                digits.insert(input, fields.len() + beside.len());
                beside.push((input, text));
            }
            let is_double = field.read && field.kind == Kind::Float64;
            if is_double && exact.doubles_become_numerics { Form::Guarded } else { Form::Kind }
        };
        columns.push((input, form));
    }
    columns.append(&mut beside);
    (columns, digits)
}

/// Takes back what a message left in the columns that did not pass.
fn truncate(columns: &mut [Column], row: usize) {
    for column in columns {
        column.truncate(row);
    }
}

/// While rows are appended only gaps are marked: the rows behind the last one have their values, and a
/// gap of a message that was rejected afterwards is none.
fn complete_nulls(column: &mut Column) {
    if column.nulls.contains(&1) {
        column.nulls.resize(column.len(), 0);
    } else {
        column.nulls.clear();
    }
}

impl Problem {
    fn into_rejection(self, message: u32) -> Rejection {
        let code = self.code.to_owned();
        Rejection { message, stage: Stage::Decode, code, reason: self.reason, retry: false }
    }
}
