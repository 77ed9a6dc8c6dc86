//! What a plugin says of itself: the fields it reads and the rows it produces.
//! The host's own copy of the contract's `schema` interface, free of generated types.

use crate::columns::Kind;

/// Message attributes a plugin wants beside its decoded fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Attributes {
    /// The payload's bytes.
    pub payload: bool,
    /// The key's bytes.
    pub key: bool,
    /// The timestamp.
    pub timestamp: bool,
    /// Partition and offset.
    pub position: bool,
    /// The headers.
    pub headers: bool,
}

/// A field that the host decodes out of a JSON payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputField {
    /// RFC 6901 JSON Pointer, such as `/power_w` or `/meta/firmware`.
    pub pointer: String,
    /// What the field contains.
    pub kind: Kind,
    /// A message without a required field is rejected before the plugin sees it.
    pub required: bool,
    /// False when the field only feeds an output: the plugin gets no column for it.
    pub read: bool,
}

/// How the payload reaches the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Undecoded.
    Raw,
    /// Decoded by the host into these fields.
    Json(Vec<InputField>),
}

impl Payload {
    /// The decoded fields; none for raw payloads.
    pub fn fields(&self) -> &[InputField] {
        match self {
            Self::Raw => &[],
            Self::Json(fields) => fields,
        }
    }
}

/// Where an output field's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSource {
    /// A column that the plugin computes.
    Computed,
    /// The input field at this index, taken from each row's message.
    Field(usize),
}

/// One column of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputField {
    /// Name of the table's column.
    pub name: String,
    /// What the field contains.
    pub kind: Kind,
    /// True when a row may have no value.
    pub nullable: bool,
    /// Where the values come from.
    pub source: FieldSource,
}

/// Rows that a plugin produces, for one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Matched to a table by the pipeline's settings.
    pub name: String,
    /// The columns.
    pub fields: Vec<OutputField>,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name of the plugin.
    pub name: String,
    /// Semantic version of the plugin.
    pub version: String,
    /// Message attributes it wants.
    pub reads: Attributes,
    /// How the payload reaches it.
    pub payload: Payload,
    /// The rows it produces.
    pub outputs: Vec<Output>,
    /// JSON Schema of its settings; empty when it takes none.
    pub settings_schema: String,
}
