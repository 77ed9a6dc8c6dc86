//! What a plugin author uses: describe the message, describe the row, write the rules.
//!
//! ```
//! use sluice_plugin::{Message, Rejection, Row, Settings, Transform, reject};
//!
//! /// Settable per pipeline; its JSON Schema travels with the plugin.
//! #[derive(Settings)]
//! struct Limits {
//!     /// Readings beyond this are sensor faults, in watts.
//!     #[settings(default = 50_000.0)]
//!     max_power_w: f64,
//! }
//!
//! /// What the rules look at; the host decodes it out of the JSON payload.
//! #[derive(Message)]
//! struct Reading<'a> {
//!     device_id: &'a str,
//!     power_w: f64,
//!     #[message(pointer = "/meta/firmware")]
//!     firmware: Option<&'a str>,
//! }
//!
//! /// What is written. Fields named in `pass` go straight from the message to the table.
//! #[derive(Row)]
//! #[row(output = "readings", pass(device_id: &str, power_w: f64))]
//! struct Kept {
//!     beta: bool,
//! }
//!
//! impl Transform for Limits {
//!     type Message<'a> = Reading<'a>;
//!     type Rows<'a> = Kept;
//!
//!     fn transform<'a>(&'a self, reading: Reading<'a>) -> Result<Kept, Rejection> {
//!         if reading.power_w.abs() > self.max_power_w {
//!             reject!("power-out-of-range", "{} W on {}", reading.power_w, reading.device_id);
//!         }
//!         Ok(Kept { beta: reading.firmware.is_some_and(|version| version.ends_with("-beta")) })
//!     }
//! }
//!
//! sluice_plugin::export!(Limits, name = "readings");
//! # fn main() {}
//! ```
//!
//! A number that is passed into a `numeric` column arrives digit for digit, be it declared as `f64` or as `i64`,
//! and may exceed both. What a rule computes from an `f64` is a double: where such a result fills a `numeric`
//! column, messages with more digits than a double keeps become dead letters (`inexact-number`). For exact rules
//! read the field as `Json<&str>` and parse it as a [`Decimal`].
//!
//! Build it with `sluice plugin build`, or with `cargo build --release --target wasm32-unknown-unknown`
//! and `wasm-component-ld` as linker. Test it with `cargo test`: natively it is an ordinary library.

// The derive macros name this crate by its outside name, in its own tests too.
extern crate self as sluice_plugin;

mod transform;
pub use transform::Transform;

pub mod message;
pub use message::Message;

pub mod attribute;
pub use attribute::{Headers, Position};

pub mod row;
pub use row::{Row, Text};

pub mod rows;
pub use rows::{Change, Rows};

mod rejection;
pub use rejection::Rejection;

pub mod settings;
pub use settings::Settings;

mod timestamp;
pub use timestamp::{ParseTimestampError, Timestamp};

mod json;
pub use json::Json;

mod decimal;
pub use decimal::{Decimal, ParseDecimalError};

pub mod log;

pub mod schema;

#[doc(hidden)]
pub mod runtime;

#[doc(hidden)]
pub mod bindings;

/// Maps the fields of a struct to fields of the JSON payload, by name or by
/// `#[message(pointer = "/meta/firmware")]`, and to parts of the Kafka message by
/// `#[message(payload)]`, `key`, `timestamp`, `position`, `headers` and `topic`.
///
/// A field that cannot be decoded is an error about that field:
///
/// ```compile_fail,E0277
/// #[derive(sluice_plugin::Message)]
/// struct Reading {
///     device_id: std::collections::HashMap<String, String>,
/// }
/// ```
pub use sluice_plugin_derive::Message;

/// Maps the fields of a struct to the columns of an output:
/// `#[row(output = "readings", pass(device_id: &str, firmware: Option<&str> = "/meta/firmware"))]`.
///
/// A field in `pass` is taken from the message by the host and never enters the sandbox; give a
/// pointer when its name in the payload differs. `#[row(column = "type")]` renames a field.
pub use sluice_plugin_derive::Row;

/// Reads a struct from the pipeline's settings and derives its JSON Schema: doc comments become
/// descriptions, `#[settings(default = 5)]` a default (`default` alone: the type's own),
/// `#[settings(minimum = 0, maximum = 9)]` bounds. Unknown settings are refused.
pub use sluice_plugin_derive::Settings;

#[cfg(test)]
mod tests;
