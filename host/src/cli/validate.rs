//! `sluice validate`: settings, plugin, tables and the way to the brokers are checked; nothing moves.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Format, block_on, connections, output, report};
use crate::description::{FieldSource, Output, OutputField};
use crate::fault::{Fault, sqlstate};
use crate::plugin::{Generation, Loader};
use crate::settings::{DeadLetterSettings, Mode, Settings, TableSettings};
use crate::sink::postgres::{Options, Session};
use crate::sink::privileges::{self, Tables};
use crate::sink::table::{self, Table, TableColumn};
use crate::sink::types::Encoding;
use crate::source::{handshake, properties};

/// Which pipelines.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files, one pipeline each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// A pipeline in which nothing is wrong, and what it would do.
#[derive(Debug, Serialize)]
struct Valid {
    pipeline: String,
    lanes: usize,
    dead_letters: DeadLetterSettings,
    brokers: String,
    topic: String,
    group: String,
    plugin: String,
    version: String,
    digest: String,
    database: String,
    outputs: Vec<ValidOutput>,
    #[serde(skip)]
    warnings: Vec<Fault>,
}

#[derive(Debug, Serialize)]
struct ValidOutput {
    output: String,
    table: String,
    mode: &'static str,
    key: Vec<String>,
    newer_than: Option<String>,
    fields: Vec<ValidField>,
}

#[derive(Debug, Serialize)]
struct ValidField {
    name: String,
    kind: &'static str,
    column_type: String,
    /// True when a number of the message keeps all its digits on its way into the column.
    exact: bool,
    /// The input field that is passed through; `null` for what the plugin computes.
    from: Option<String>,
}

/// Checks everything and says all that is wrong; what is right is shown all the same.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let (mut valid, mut wrong) = (Vec::new(), Vec::new());
    let all = Settings::load_all(&arguments.files)?;
    for settings in &all {
        match check(settings) {
            Ok(pipeline) => valid.push(pipeline),
            Err(faults) => {
                let context = format!("pipeline {}", settings.pipeline.name);
                wrong.extend(faults.into_iter().map(|fault| fault.context(context.clone())));
            }
        }
    }
    output::print(format, &valid, || valid.iter().map(Valid::text).collect::<Vec<_>>().join("\n"))?;
    for fault in all.iter().flat_map(Settings::warnings) {
        report::warn(&fault, format);
    }
    for fault in valid.iter().flat_map(|pipeline| &pipeline.warnings) {
        report::warn(fault, format);
    }
    for fault in &block_on(async { Ok(connections::shortages(&all, false).await) })? {
        report::warn(fault, format);
    }
    let Some(last) = wrong.pop() else { return Ok(()) };
    for error in &wrong {
        report::print(error, format);
    }
    Err(last)
}

/// Whether brokers let us in is looked at as well, also when something else is wrong. Brokers that do not answer say nothing
/// of the settings.
fn check(settings: &Settings) -> Result<Valid, Vec<anyhow::Error>> {
    let config = properties::fetcher(&settings.source, 1);
    let refusal = handshake::refusal(&config, &settings.source.topic).map(anyhow::Error::from);
    match (check_behind_brokers(settings), refusal) {
        (checked, None) => checked,
        (Ok(_), Some(refusal)) => Err(vec![refusal]),
        (Err(faults), Some(refusal)) => Err([refusal].into_iter().chain(faults).collect()),
    }
}

/// Plugin and database are looked at both, also when one of them is wrong.
fn check_behind_brokers(settings: &Settings) -> Result<Valid, Vec<anyhow::Error>> {
    let loader = Loader::new(&settings.pipeline.name, &settings.plugin);
    let generation = loader.load_file(&settings.plugin.path).map_err(Fault::from);
    let options = Options::of(&settings.sink).map_err(|fault| vec![fault.into()])?;
    let generation_there = generation.as_deref().ok();
    let outputs = block_on(async { Ok(outputs(settings, &options, generation_there).await) });
    match (generation, outputs.unwrap_or_else(|error| Err(vec![error]))) {
        (Ok(generation), Ok(outputs)) => Ok(Valid::new(settings, &generation, &options, outputs)),
        (generation, outputs) => {
            let plugin = generation.err().map(anyhow::Error::from);
            Err(plugin.into_iter().chain(outputs.err().into_iter().flatten()).collect())
        }
    }
}

/// How outputs are written, and what is not quite as it should be.
type Outputs = (Vec<ValidOutput>, Vec<Fault>);

/// How the plugin's outputs would be written. Without a plugin only whether the database can be reached, and what the
/// role may do in schema `sluice`.
async fn outputs(
    settings: &Settings,
    options: &Options,
    generation: Option<&Generation>,
) -> Result<Outputs, Vec<anyhow::Error>> {
    let one = |fault: Fault| vec![fault.into()];
    let session = options.connect().await.map_err(one)?;
    session.refuse_pooler(options).await.map_err(one)?;
    let warnings = fits(settings, &session, generation).await?;
    let Some(generation) = generation else { return Ok((Vec::new(), warnings)) };
    let description = &generation.description;
    let mut outputs = Vec::new();
    for output in &description.outputs {
        let tables = &settings.sink.tables;
        let Some(target) = tables.get(&output.name).or(tables.get("")) else { continue };
        let read = Table::read(&session, &target.table).await.map_err(one)?;
        let Some(table) = read else { continue };
        let pointer = |index: usize| {
            description.payload.fields().get(index).map(|field| field.pointer.clone())
        };
        outputs.push(ValidOutput::new(output, target, &table, &pointer));
    }
    Ok((outputs, warnings))
}

/// Compares outputs with tables, and asks for privileges on everything at once. Warns of those that may not be needed.
async fn fits(
    settings: &Settings,
    session: &Session,
    generation: Option<&Generation>,
) -> Result<Vec<Fault>, Vec<anyhow::Error>> {
    let tables = &settings.sink.tables;
    let mut missing =
        privileges::on_schemas(session, tables).await.map_err(|fault| vec![fault.into()])?;
    // Without USAGE on their schemas the tables cannot be read.
    let hidden = !missing.needed.is_empty();
    let plan = match generation.filter(|_| !hidden) {
        Some(it) => Some(table::fit(session, &it.description.outputs, tables).await),
        None => None,
    };
    let (plan, differences) = match plan {
        Some(Ok(plan)) => (Some(plan), None),
        Some(Err(fault)) => (None, Some(fault)),
        None => (None, None),
    };
    let known = match &plan {
        Some(plan) => Tables::Planned(plan),
        None if hidden => Tables::Hidden(tables),
        None => Tables::Unknown,
    };
    let asked = privileges::on_everything(session, known).await;
    missing.add(asked.map_err(|fault| vec![fault.into()])?);
    let wrong: Vec<anyhow::Error> =
        differences.into_iter().chain(missing.none_or_fault().err()).map(Into::into).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let warning = |missing: &String| {
        let pipeline = &settings.pipeline.name;
        let what = "a row that the plugin deletes would block the pipeline";
        Fault::block(
            sqlstate::PRIVILEGES,
            format!("pipeline {pipeline}: {missing} is missing: {what}"),
        )
    };
    Ok(missing.for_deletes.iter().map(warning).collect())
}

impl Valid {
    fn new(
        settings: &Settings,
        generation: &Generation,
        options: &Options,
        (outputs, warnings): Outputs,
    ) -> Self {
        Self {
            warnings,
            pipeline: settings.pipeline.name.clone(),
            lanes: settings.pipeline.lanes,
            dead_letters: settings.dead_letters.clone(),
            brokers: settings.source.brokers.clone(),
            topic: settings.source.topic.clone(),
            group: settings.source.group.clone(),
            plugin: generation.description.name.clone(),
            version: generation.description.version.clone(),
            digest: generation.digest.clone(),
            database: options.to_string(),
            outputs,
        }
    }

    fn text(&self) -> String {
        let Self {
            pipeline,
            lanes,
            dead_letters,
            brokers,
            topic,
            group,
            plugin,
            version,
            digest,
            database,
            outputs,
            warnings: _,
        } = self;
        let digest: String = digest.chars().take(12).collect();
        let mut text = format!(
            "{pipeline}: ok\n  source    {topic} at {brokers}, group {group}\n  plugin    {plugin} {version}, \
            sha256:{digest}\n  database  {database}\n  lanes     {lanes}\n"
        );
        let DeadLetterSettings { topic, max_per_minute, max_in_a_row: _ } = dead_letters;
        let topic = topic.as_ref().map(|topic| format!("relayed to {topic}"));
        let limit = max_per_minute.map(|max| format!("at most {max} a minute on each host"));
        let dead_letters: Vec<String> = topic.into_iter().chain(limit).collect();
        if !dead_letters.is_empty() {
            let _ = writeln!(text, "  dead letters   {}", dead_letters.join(", "));
        }
        for output in outputs {
            output.write(&mut text);
        }
        text
    }
}

impl ValidOutput {
    fn new(
        output: &Output,
        target: &TableSettings,
        table: &Table,
        pointer: &dyn Fn(usize) -> Option<String>,
    ) -> Self {
        let column = |field: &OutputField| table.column(&field.name);
        let fields = output.fields.iter().map(|field| ValidField {
            name: field.name.clone(),
            kind: field.kind.name(),
            column_type: column(field).map(|it| it.type_name.clone()).unwrap_or_default(),
            exact: column(field).is_some_and(|column| keeps_digits(field, column)),
            from: match field.source {
                FieldSource::Computed => None,
                FieldSource::Field(index) => pointer(index),
            },
        });
        Self {
            output: output.name.clone(),
            table: table.name.clone(),
            mode: match target.mode {
                Mode::Append => "append",
                Mode::Upsert => "upsert",
                Mode::Ignore => "ignore",
            },
            key: target.key.clone(),
            newer_than: target.newer_than.clone(),
            fields: fields.collect(),
        }
    }

    fn write(&self, text: &mut String) {
        let Self { output, table, mode, key, newer_than, fields } = self;
        let key = if key.is_empty() { String::new() } else { format!(" by {}", key.join(", ")) };
        let newer =
            newer_than.iter().map(|column| format!(", newer {column} wins")).collect::<String>();
        let _ = writeln!(text, "  output    {output} -> {table}, {mode}{key}{newer}");
        let width = fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
        for ValidField { name, kind, column_type, exact, from } in fields {
            let exact = if *exact { ", every digit kept" } else { "" };
            let from = from.iter().map(|pointer| format!(", from {pointer}")).collect::<String>();
            let _ = writeln!(text, "    {name:<width$}  {kind} -> {column_type}{exact}{from}");
        }
    }
}

fn keeps_digits(field: &OutputField, column: &TableColumn) -> bool {
    let passed_through = matches!(field.source, FieldSource::Field(_));
    let encoding = Encoding::new(field.kind, &column.target, passed_through);
    matches!(encoding, Some(Encoding::DigitsAsNumeric(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_pipeline_shows_what_it_would_do() {
        let field = |name: &str, kind, column_type: &str, from: Option<&str>| ValidField {
            name: name.into(),
            kind,
            column_type: column_type.into(),
            exact: column_type.starts_with("numeric"),
            from: from.map(str::to_owned),
        };
        let valid = Valid {
            pipeline: "readings".into(),
            lanes: 4,
            dead_letters: DeadLetterSettings {
                topic: Some("hems.readings.dlt".into()),
                max_per_minute: Some(600),
                max_in_a_row: 100,
            },
            brokers: "localhost:9092".into(),
            topic: "hems.readings".into(),
            group: "readings".into(),
            plugin: "readings".into(),
            version: "1.0.0".into(),
            digest: "0123456789abcdef".repeat(4),
            database: "db:5432/energy".into(),
            outputs: vec![ValidOutput {
                output: "readings".into(),
                table: "public.readings".into(),
                mode: "upsert",
                key: vec!["device_id".into()],
                newer_than: Some("seq".into()),
                fields: vec![
                    field("device_id", "text", "text", Some("/device_id")),
                    field("seq", "int64", "bigint", None),
                    field("power_w", "float64", "numeric(20,6)", Some("/power_w")),
                ],
            }],
            warnings: Vec::new(),
        };
        insta::assert_snapshot!(valid.text(), @"
        readings: ok
          source    hems.readings at localhost:9092, group readings
          plugin    readings 1.0.0, sha256:0123456789ab
          database  db:5432/energy
          lanes     4
          dead letters   relayed to hems.readings.dlt, at most 600 a minute on each host
          output    readings -> public.readings, upsert by device_id, newer seq wins
            device_id  text -> text, from /device_id
            seq        int64 -> bigint
            power_w    float64 -> numeric(20,6), every digit kept, from /power_w
        ");
        insta::assert_snapshot!(serde_json::to_string(&valid).unwrap(), @r#"{"pipeline":"readings","lanes":4,"dead_letters":{"topic":"hems.readings.dlt","max_per_minute":600,"max_in_a_row":100},"brokers":"localhost:9092","topic":"hems.readings","group":"readings","plugin":"readings","version":"1.0.0","digest":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","database":"db:5432/energy","outputs":[{"output":"readings","table":"public.readings","mode":"upsert","key":["device_id"],"newer_than":"seq","fields":[{"name":"device_id","kind":"text","column_type":"text","exact":false,"from":"/device_id"},{"name":"seq","kind":"int64","column_type":"bigint","exact":false,"from":null},{"name":"power_w","kind":"float64","column_type":"numeric(20,6)","exact":true,"from":"/power_w"}]}]}"#);
    }
}
