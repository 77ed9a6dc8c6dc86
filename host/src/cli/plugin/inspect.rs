//! `sluice plugin inspect`: loads a plugin as `run` would, and shows what it says of itself.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::size;
use crate::cli::{Format, output};
use crate::description::{Attributes, Description, FieldSource, InputField, Output, OutputField};
use crate::fault::Fault;
use crate::plugin::{Generation, Limits, Loader};
use crate::settings::{Isolation, PluginSettings};

/// Arguments of `sluice plugin inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The component, such as target/plugins/readings.wasm
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Settings for the plugin, as JSON
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json)]
    settings: Value,
}

/// Without it clap would take any text as a JSON string.
fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

/// Loads and prints.
pub fn run(args: &InspectArgs, format: Format) -> anyhow::Result<()> {
    let limits = Limits::default();
    let settings = PluginSettings {
        path: args.file.clone(),
        settings: args.settings.clone(),
        memory_bytes: limits.memory_bytes_max,
        timeout: Duration::from_secs(10),
        isolation: Isolation::Lane,
        poison_limit: 100,
    };
    let loader = Loader::new("inspect", &settings);
    let generation = loader.load_file(&args.file).map_err(Fault::from)?;
    output::print(format, &value(&generation), || text(&generation))
}

fn text(generation: &Generation) -> String {
    let Generation { digest, description, component_bytes, imports, .. } = generation;
    let Description { name, version, reads, settings_schema, .. } = description;
    let inputs = description.payload.fields();
    let mut text = String::new();
    let mut line = |head: &str, rest: &str| {
        let _ = writeln!(text, "{}", format!("{head:<10}{rest}").trim_end());
    };
    line("plugin", &format!("{name} {version}"));
    line("digest", &format!("sha256:{digest}"));
    line("size", &size(*component_bytes));
    line("imports", &imports.join(", "));
    line("reads", &attributes(*reads).join(", "));
    for (index, input) in inputs.iter().enumerate() {
        line(if index == 0 { "input" } else { "" }, &input_line(input));
    }
    for output in &description.outputs {
        line("output", &output.name);
        for field in &output.fields {
            line("", &field_line(field, inputs));
        }
    }
    match serde_json::from_str::<Value>(settings_schema) {
        Ok(schema) => line("settings", &schema.to_string()),
        Err(_) => line("settings", "none"),
    }
    text
}

fn input_line(InputField { pointer, kind, required, read }: &InputField) -> String {
    let required = if *required { "required" } else { "optional" };
    let read = if *read { "" } else { "not read" };
    format!("{pointer:<20} {:<12} {required:<9} {read}", kind.name())
}

fn field_line(field: &OutputField, inputs: &[InputField]) -> String {
    let nullable = if field.nullable { "nullable" } else { "not null" };
    format!("{:<20} {:<12} {nullable:<9} {}", field.name, field.kind.name(), origin(field, inputs))
}

fn origin(field: &OutputField, inputs: &[InputField]) -> String {
    match field.source {
        FieldSource::Computed => "computed".into(),
        FieldSource::Field(index) => format!("from {}", inputs[index].pointer),
    }
}

fn attributes(reads: Attributes) -> Vec<&'static str> {
    let Attributes { payload, key, timestamp, position, headers } = reads;
    let all = [
        (payload, "payload"),
        (key, "key"),
        (timestamp, "timestamp"),
        (position, "position"),
        (headers, "headers"),
    ];
    all.into_iter().filter_map(|(is_read, name)| is_read.then_some(name)).collect()
}

fn value(generation: &Generation) -> Value {
    let description = &generation.description;
    let inputs = description.payload.fields();
    json!({
        "name": description.name,
        "version": description.version,
        "digest": generation.digest,
        "component_bytes": generation.component_bytes,
        "imports": generation.imports,
        "reads": attributes(description.reads),
        "input": inputs.iter().map(input_value).collect::<Vec<_>>(),
        "outputs": description.outputs.iter().map(|it| output_value(it, inputs)).collect::<Vec<_>>(),
        "settings_schema": serde_json::from_str::<Value>(&description.settings_schema).ok(),
    })
}

fn input_value(InputField { pointer, kind, required, read }: &InputField) -> Value {
    json!({ "pointer": pointer, "kind": kind.name(), "required": required, "read": read })
}

fn output_value(output: &Output, inputs: &[InputField]) -> Value {
    let fields = output.fields.iter().map(|field| {
        let from = match field.source {
            FieldSource::Computed => Value::Null,
            FieldSource::Field(index) => json!(inputs[index].pointer),
        };
        let (name, kind, nullable) = (&field.name, field.kind.name(), field.nullable);
        json!({ "name": name, "kind": kind, "nullable": nullable, "from": from })
    });
    json!({ "name": output.name, "fields": fields.collect::<Vec<_>>() })
}
