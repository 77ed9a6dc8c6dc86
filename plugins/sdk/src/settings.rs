//! A plugin's settings: read strictly, described by a JSON Schema that travels with the plugin.

use std::collections::BTreeMap;
use std::fmt::Display;

pub use serde_json::Value;
use serde_json::{Map, json};

/// Settings of a plugin; implemented by `#[derive(Settings)]`. A struct without fields takes none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is read from settings",
    label = "needs `#[derive(sluice_plugin::Settings)]`"
)]
pub trait Settings: Sized {
    /// Reads settings as the host hands them over: a JSON object, or nothing.
    fn from_json(settings: &str) -> Result<Self, String>;

    /// JSON Schema of the settings; empty when there are none.
    fn json_schema() -> String;
}

/// A type that a field of settings can have.
#[diagnostic::on_unimplemented(
    message = "settings have no field of type `{Self}`",
    label = "cannot be read from settings",
    note = "a field is a `bool`, a number, a `String`, a struct with `#[derive(sluice_plugin::Settings)]`, or a `Vec`, `BTreeMap<String, _>` or `Option` of one of these"
)]
pub trait Setting: Sized {
    /// False when the settings may lack it even without a default.
    const REQUIRED: bool = true;

    /// Its JSON Schema.
    fn schema() -> Value;

    /// Reads it, and says what is wrong, a line each: `: reason`, or `.field: reason` for a part.
    fn read(value: Value) -> Result<Self, String>;

    /// What to take when the settings lack it.
    fn absent() -> Option<Self> {
        None
    }

    /// It as JSON, for the default in the schema.
    fn write(&self) -> Value;
}

macro_rules! plain {
    ($($type:ty: $schema:tt;)+) => { $(
        impl Setting for $type {
            fn schema() -> Value {
                json!($schema)
            }

            fn read(value: Value) -> Result<Self, String> {
                serde_json::from_value(value).map_err(|error| format!(": {error}"))
            }

            fn write(&self) -> Value {
                json!(self)
            }
        }
    )+ };
}

plain! {
    bool: { "type": "boolean" };
    f64: { "type": "number" };
    f32: { "type": "number" };
    i64: { "type": "integer" };
    i32: { "type": "integer", "minimum": (i32::MIN), "maximum": (i32::MAX) };
    u64: { "type": "integer", "minimum": 0 };
    u32: { "type": "integer", "minimum": 0, "maximum": (u32::MAX) };
    u16: { "type": "integer", "minimum": 0, "maximum": (u16::MAX) };
    usize: { "type": "integer", "minimum": 0 };
    String: { "type": "string" };
}

impl<T: Setting> Setting for Option<T> {
    const REQUIRED: bool = false;

    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), { "type": "null" }] })
    }

    fn read(value: Value) -> Result<Self, String> {
        if value.is_null() { Ok(None) } else { T::read(value).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }

    fn read(value: Value) -> Result<Self, String> {
        let Value::Array(items) = value else { return Err(unlike(&value, "a list")) };
        let read =
            |(index, item)| T::read(item).map_err(|error| within(&format!("[{index}]"), &error));
        items.into_iter().enumerate().map(read).collect()
    }

    fn write(&self) -> Value {
        self.iter().map(T::write).collect()
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }

    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(entries) = value else { return Err(unlike(&value, "a table")) };
        let read = |(key, item)| match T::read(item) {
            Ok(item) => Ok((key, item)),
            Err(error) => Err(within(&format!(".{key}"), &error)),
        };
        entries.into_iter().map(read).collect()
    }

    fn write(&self) -> Value {
        self.iter().map(|(key, item)| (key.clone(), item.write())).collect::<Map<_, _>>().into()
    }
}

/// Puts the place before each line.
fn within(place: &str, errors: &str) -> String {
    errors.lines().map(|line| format!("{place}{line}")).collect::<Vec<_>>().join("\n")
}

fn unlike(value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    };
    format!(": {found} where {wanted} belongs")
}

/// For a derived [`Settings::from_json`].
#[doc(hidden)]
pub fn from_json<T: Setting>(settings: &str) -> Result<T, String> {
    let value = match settings.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text)
            .map_err(|error| format!("the settings are not JSON: {error}"))?,
    };
    T::read(value).map_err(|error| within("settings", &error).replace('\n', "; "))
}

/// For a derived [`Settings::json_schema`].
#[doc(hidden)]
pub fn json_schema<T: Setting>() -> String {
    let mut schema = T::schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema.to_string()
}

/// Reads the fields of a struct, for `#[derive(Settings)]`.
#[doc(hidden)]
pub struct Reader {
    entries: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<String>,
}

impl Reader {
    /// On a JSON object.
    pub fn new(value: Value) -> Result<Self, String> {
        match value {
            Value::Object(entries) => Ok(Self { entries, known: Vec::new(), errors: Vec::new() }),
            other => Err(unlike(&other, "a table")),
        }
    }

    /// The field, or `None` when it is wrong, which is remembered.
    pub fn field<T: Setting>(
        &mut self,
        name: &'static str,
        default: Option<T>,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> Option<T> {
        self.known.push(name);
        let read = match self.entries.remove(name) {
            Some(value) => T::read(value),
            None => default.or_else(T::absent).ok_or_else(|| " is missing".to_owned()),
        };
        let checked = read.and_then(|field| check(&field).map(|()| field));
        checked.map_err(|error| self.errors.push(within(&format!(".{name}"), &error))).ok()
    }

    /// Refuses what is wrong and what nobody asked for.
    pub fn finish(mut self) -> Result<(), String> {
        for name in self.entries.keys() {
            self.errors.push(match self.known.as_slice() {
                [] => format!(".{name} is unknown; there are no settings"),
                known => format!(".{name} is unknown; known: {}", known.join(", ")),
            });
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors.join("\n")) }
    }
}

/// A bound of a field, for `#[settings(minimum = ..., maximum = ...)]`.
#[doc(hidden)]
pub fn bound<T: PartialOrd + Display>(
    value: &T,
    minimum: Option<T>,
    maximum: Option<T>,
) -> Result<(), String> {
    match (minimum, maximum) {
        (Some(minimum), _) if *value < minimum => {
            Err(format!(": {value} is below the minimum of {minimum}"))
        }
        (_, Some(maximum)) if *value > maximum => {
            Err(format!(": {value} is above the maximum of {maximum}"))
        }
        _ => Ok(()),
    }
}

/// Builds the JSON Schema of a struct, for `#[derive(Settings)]`.
#[doc(hidden)]
pub struct SchemaWriter {
    properties: Map<String, Value>,
    required: Vec<Value>,
    description: &'static str,
}

impl SchemaWriter {
    /// Of a struct with this documentation.
    pub fn new(description: &'static str) -> Self {
        Self { properties: Map::new(), required: Vec::new(), description }
    }

    /// Adds a field.
    pub fn field<T: Setting>(
        &mut self,
        name: &'static str,
        description: &'static str,
        default: Option<T>,
        bounds: [(&'static str, Option<T>); 2],
    ) {
        let mut schema = T::schema();
        if !description.is_empty() {
            schema["description"] = description.into();
        }
        for (keyword, bound) in bounds {
            if let Some(bound) = bound {
                schema[keyword] = bound.write();
            }
        }
        match default {
            Some(default) => schema["default"] = default.write(),
            None if T::REQUIRED => self.required.push(name.into()),
            None => {}
        }
        self.properties.insert(name.to_owned(), schema);
    }

    /// The schema.
    pub fn finish(self) -> Value {
        let mut schema = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": self.properties,
        });
        if !self.required.is_empty() {
            schema["required"] = self.required.into();
        }
        if !self.description.is_empty() {
            schema["description"] = self.description.into();
        }
        schema
    }
}
