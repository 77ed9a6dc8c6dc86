//! What the derive macros say of messages and rows, as constants.

pub use crate::bindings::exports::sluice::plugin::transform::Description;
pub use crate::bindings::sluice::plugin::columns::Kind;
pub use crate::bindings::sluice::plugin::schema::Attributes;
use crate::bindings::sluice::plugin::schema::{InputField, Output, OutputField, Payload, Source};

/// A field of the JSON payload.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// RFC 6901 JSON Pointer.
    pub pointer: &'static str,
    /// What it contains.
    pub kind: Kind,
    /// True when a message without it is rejected.
    pub required: bool,
}

/// A column of an output.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Name of the column.
    pub name: &'static str,
    /// What it contains.
    pub kind: Kind,
    /// True when a row may have no value.
    pub nullable: bool,
    /// Where the host finds it in the payload; `None` for what the plugin computes.
    pub pointer: Option<&'static str>,
}

/// The columns of one output.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Name of the output.
    pub output: &'static str,
    /// Its columns.
    pub cells: &'static [Cell],
}

/// The outputs of a transform, in their order: a tree, because constants cannot be concatenated.
#[derive(Debug, Clone, Copy)]
pub enum Tables {
    /// One output.
    One(Table),
    /// Those of the left, then those of the right.
    Both(&'static Tables, &'static Tables),
}

impl Tables {
    fn collect(&self, into: &mut Vec<Table>) {
        match self {
            Self::One(table) => into.push(*table),
            Self::Both(left, right) => {
                left.collect(into);
                right.collect(into);
            }
        }
    }

    /// True when an output is called `name`.
    pub(crate) const fn has(&self, name: &str) -> bool {
        match self {
            Self::One(table) => same(table.output, name),
            Self::Both(left, right) => left.has(name) || right.has(name),
        }
    }

    /// True when an output of `self` has the name of one of `other`.
    pub(crate) const fn overlaps(&self, other: &Self) -> bool {
        match self {
            Self::One(table) => other.has(table.output),
            Self::Both(left, right) => left.overlaps(other) || right.overlaps(other),
        }
    }

    /// True when no two outputs have the same name.
    pub(crate) const fn differ(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Both(left, right) => left.differ() && right.differ() && !left.overlaps(right),
        }
    }
}

const fn same(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// The contract's description of a message's fields and a transform's outputs.
///
/// Fields that the message reads come first; one that is passed too is not decoded twice.
pub(crate) fn describe(inputs: &[Input], tables: &Tables) -> (Payload, Vec<Output>) {
    let mut fields: Vec<InputField> = inputs.iter().map(|input| input.field(true)).collect();
    let mut all = Vec::new();
    tables.collect(&mut all);
    let outputs = all
        .iter()
        .map(|table| Output {
            name: table.output.to_owned(),
            fields: table.cells.iter().map(|cell| cell.field(&mut fields)).collect(),
        })
        .collect();
    let payload = if fields.is_empty() { Payload::Raw } else { Payload::Json(fields) };
    (payload, outputs)
}

impl Input {
    fn field(&self, read: bool) -> InputField {
        InputField {
            pointer: self.pointer.to_owned(),
            kind: self.kind,
            required: self.required,
            read,
        }
    }
}

impl Cell {
    fn field(&self, inputs: &mut Vec<InputField>) -> OutputField {
        let source = match self.pointer {
            None => Source::Computed,
            Some(pointer) => Source::Field(self.input(pointer, inputs)),
        };
        OutputField { name: self.name.to_owned(), kind: self.kind, nullable: self.nullable, source }
    }

    /// Index of the input field that feeds this cell; adds it when the message does not read it.
    fn input(&self, pointer: &'static str, inputs: &mut Vec<InputField>) -> u32 {
        let known =
            inputs.iter().position(|input| input.pointer == pointer && input.kind == self.kind);
        let index = known.unwrap_or_else(|| {
            let required = !self.nullable;
            inputs.push(Input { pointer, kind: self.kind, required }.field(false));
            inputs.len() - 1
        });
        // What one side can do without, the other may not.
        inputs[index].required |= !self.nullable;
        index as u32
    }
}
