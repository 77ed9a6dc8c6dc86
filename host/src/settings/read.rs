//! The file's sections, one function each, with every default and every bound.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::properties;
use super::secret::quote;
use super::section::{Report, Section, Text};
use super::{
    BatchSettings, DeadLetterSettings, Isolation, Mode, PipelineSettings, PluginSettings,
    RetryOrder, RetrySettings, Settings, SinkSettings, SourceSettings, Start, TableName,
    TableSettings,
};
use crate::sink::postgres::Options;

const MIB: u64 = 1 << 20;
const MODES: [(&str, Mode); 3] =
    [("append", Mode::Append), ("upsert", Mode::Upsert), ("ignore", Mode::Ignore)];

/// All sections. What is wrong goes into the report; the result is then of no use.
pub(super) fn settings<'f>(report: &'f Report<'f>, table: &'f DeTable<'f>) -> Settings {
    let root = Section::root(report, table);
    let [pipeline, source, batch, plugin, sink, retry, dead_letters] =
        ["pipeline", "source", "batch", "plugin", "sink", "retry", "dead_letters"]
            .map(|key| root.section(key));
    for (section, example) in [
        (&pipeline, "[pipeline] with `name`"),
        (&source, "[source] with `brokers` and `topic`"),
        (&plugin, "[plugin] with `path`"),
        (&sink, "[sink] with `url` and `table`"),
    ] {
        let name = section.title.trim_matches(['[', ']']);
        if !table.contains_key(name) && !root.has_near(name) {
            let message = format!("the section {} is missing", section.title);
            report.note("SL-C004", &(0..0), message, Some(format!("add {example}")));
        }
    }
    root.finish();
    let pipeline = pipeline_settings(pipeline);
    let source = source_settings(source, &pipeline.name);
    Settings {
        dead_letters: dead_letter_settings(dead_letters, &source.topic),
        source,
        batch: batch_settings(batch),
        plugin: plugin_settings(plugin),
        sink: sink_settings(sink),
        retry: retry_settings(retry),
        pipeline,
    }
}

fn pipeline_settings(section: Section<'_>) -> PipelineSettings {
    let name = section.required("name", "name = \"readings\"");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let settings = PipelineSettings {
        name: checked_name(&section, "name", name, 100),
        lanes: section.integer("lanes", 1..=256, cores as u64) as usize,
    };
    section.finish();
    settings
}

fn source_settings(section: Section<'_>, pipeline: &str) -> SourceSettings {
    let brokers = section.required("brokers", "brokers = \"localhost:9092\"");
    if let Some(brokers) = &brokers {
        properties::check_brokers(&section, brokers);
    }
    // Kafka's own rule for the names of topics.
    let topic = section.required("topic", "topic = \"hems.readings\"");
    let topic = checked_name(&section, "topic", topic, 249);
    let group = section
        .value("group")
        .and_then(|_| section.required("group", "leave it out for the pipeline's name"));
    let own = section.section("properties");
    let (properties, properties_raw) = properties::read(&own);
    let settings = SourceSettings {
        brokers: brokers.map(|brokers| brokers.value).unwrap_or_default(),
        topic,
        group: group.map_or_else(|| pipeline.to_owned(), |group| group.value),
        start: section.choice(
            "start",
            &[("earliest", Start::Earliest), ("latest", Start::Latest)],
            Start::Earliest,
        ),
        // The upper end is librdkafka's own (`queued.max.messages.kbytes`).
        queue_bytes: section.bytes("queue_bytes", 64 << 10..=2047 * MIB, 16 * MIB),
        properties,
        properties_raw,
    };
    section.finish();
    settings
}

fn batch_settings(section: Section<'_>) -> BatchSettings {
    let settings = BatchSettings {
        max_messages: section.integer("max_messages", 1..=1_000_000, 50_000) as usize,
        // Ends in columns are 32 bits wide, and what is made of a batch is larger than the batch.
        max_bytes: section.bytes("max_bytes", 1 << 10..=1024 * MIB, 32 * MIB),
        pace: section.duration(
            "pace",
            Duration::ZERO..=Duration::from_secs(60),
            Duration::from_millis(100),
        ),
    };
    section.finish();
    settings
}

fn plugin_settings(section: Section<'_>) -> PluginSettings {
    let path = section.required("path", "path = \"target/plugins/readings.wasm\"");
    let own = section.section("settings");
    let settings = PluginSettings {
        path: path.map(|path| PathBuf::from(path.value)).unwrap_or_default(),
        settings: serde_json::Value::Object(object(&own)),
        // The upper end is the address space of 32-bit WebAssembly.
        memory_bytes: section.bytes("memory_bytes", MIB..=4096 * MIB, 256 * MIB),
        // Time is measured in steps of 10 ms.
        timeout: section.duration(
            "timeout",
            Duration::from_millis(10)..=Duration::from_secs(3600),
            Duration::from_secs(10),
        ),
        isolation: section.choice(
            "isolation",
            &[("lane", Isolation::Lane), ("batch", Isolation::Batch)],
            Isolation::Lane,
        ),
        poison_limit: section.integer("poison_limit", 1..=1_000_000, 100) as u32,
    };
    section.finish();
    settings
}

fn object(section: &Section<'_>) -> serde_json::Map<String, serde_json::Value> {
    let entries = section.entries().into_iter();
    entries
        .filter_map(|(key, _, value)| Some((key.to_owned(), json(section, key, value)?)))
        .collect()
}

/// A value of the plugin's own settings as JSON.
fn json<'f>(
    section: &Section<'f>,
    key: &str,
    value: &'f Spanned<DeValue<'f>>,
) -> Option<serde_json::Value> {
    let report = section.report;
    let number = |number: Option<serde_json::Number>| {
        if number.is_none() {
            report.note("SL-C006", &value.span(), format!("`{key}` has no form in JSON"), None);
        }
        number.map(serde_json::Value::Number)
    };
    Some(match value.get_ref() {
        DeValue::String(_) => report.text(key, value)?.value.into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Integer(digits) => {
            number(i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(Into::into))?
        }
        DeValue::Float(digits) => {
            number(digits.as_str().parse().ok().and_then(serde_json::Number::from_f64))?
        }
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => {
            items.iter().map(|item| json(section, key, item)).collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Table(table) => object(&section.named(key, value.span(), table)).into(),
    })
}

fn sink_settings(section: Section<'_>) -> SinkSettings {
    let url = section.required("url", "url = \"${DATABASE_URL}\"");
    if let Some(url) = &url {
        check_url(&section, url);
    }
    let table = section.value("table").is_some();
    let tables = section.section("tables");
    let settings = SinkSettings {
        url_raw: url
            .as_ref()
            .filter(|url| url.raw.contains("${file:"))
            .map(|url| url.raw.to_owned()),
        url: url.map(|url| url.value).unwrap_or_default(),
        connections_max: section.integer("connections_max", 2..=1000, 32) as usize,
        tables: match (table, tables.is_there()) {
            (_, true) => several_tables(&section, &tables, table),
            (true, false) => BTreeMap::from([(String::new(), one_table(&section, Mode::Append))]),
            (false, false) => {
                if section.is_there() {
                    section.missing(
                        "table",
                        "table = \"readings\", or [sink.tables] for several outputs",
                    );
                }
                one_table(&section, Mode::Append);
                BTreeMap::new()
            }
        },
    };
    section.finish();
    settings
}

fn retry_settings(section: Section<'_>) -> RetrySettings {
    let default = RetrySettings::default();
    let day = Duration::from_hours(24);
    let settings = RetrySettings {
        attempts: section.integer("attempts", 1..=1000, default.attempts.into()) as u32,
        delay: section.duration("delay", Duration::from_millis(10)..=day, default.delay),
        multiplier: section.number("multiplier", 1.0..=100.0, default.multiplier),
        max_delay: section.duration(
            "max_delay",
            Duration::from_millis(10)..=30 * day,
            default.max_delay,
        ),
        order: section.choice(
            "order",
            &[("none", RetryOrder::None), ("key", RetryOrder::Key)],
            default.order,
        ),
        sqlstates: section.texts("sqlstates"),
        constraints: section.texts("constraints"),
        max_parked: section.integer("max_parked", 1..=1_000_000_000_000, default.max_parked),
    };
    section.finish();
    settings
}

/// `[sink.tables]`; `mode` in `[sink]` is then the default of all.
fn several_tables(
    sink: &Section<'_>,
    tables: &Section<'_>,
    table: bool,
) -> BTreeMap<String, TableSettings> {
    for key in ["table", "key", "newer_than"] {
        let Some(value) = sink.value(key) else { continue };
        let hint = format!("write it per output: `output = {{ table = \"...\", {key} = ... }}`");
        let hint = if table && key == "table" { "keep one of them".to_owned() } else { hint };
        let message = format!("`{key}` in [sink] and [sink.tables] do not go together");
        sink.report.note("SL-C012", &value.span(), message, Some(hint));
    }
    let default = sink.choice("mode", &MODES, Mode::Append);
    let mut result = BTreeMap::new();
    for (output, at, value) in tables.entries() {
        let settings = match value.get_ref() {
            DeValue::Table(own) => {
                let own = tables.named(output, at, own);
                let settings = one_table(&own, default);
                own.finish();
                settings
            }
            DeValue::String(_) => match tables.report.text(output, value) {
                Some(table) => plain_table(tables, &table, default),
                None => continue,
            },
            _ => match tables.report.wrong_type(
                output,
                value,
                "a table's name or `{ table = \"...\" }`",
            ) {
                Some(settings) => settings,
                None => continue,
            },
        };
        result.insert(output.to_owned(), settings);
    }
    if result.is_empty() {
        tables.missing("an output", "output = \"table\"");
    }
    result
}

fn plain_table(section: &Section<'_>, table: &Text<'_>, mode: Mode) -> TableSettings {
    check_table(section, table);
    TableSettings { table: table.value.clone(), mode, key: Vec::new(), newer_than: None }
}

/// `table`, `mode`, `key` and `newer_than` of one output.
fn one_table(section: &Section<'_>, default: Mode) -> TableSettings {
    let table =
        section.value("table").and_then(|_| section.required("table", "table = \"readings\""));
    if let Some(table) = &table {
        check_table(section, table);
    }
    let mode = section.choice("mode", &MODES, default);
    let settings = TableSettings {
        table: table.map(|table| table.value).unwrap_or_default(),
        mode,
        key: section.texts("key"),
        newer_than: section
            .value("newer_than")
            .and_then(|_| section.required("newer_than", "name a column"))
            .map(|column| column.value),
    };
    let together = |key: &'static str, fits: bool, modes: &str| {
        let Some(value) = section.value(key).filter(|_| !fits) else { return };
        let message = format!("`{key}` has no meaning with mode `{}`", mode_name(mode));
        section.report.note(
            "SL-C012",
            &value.span(),
            message,
            Some(format!("it belongs to {modes}")),
        );
    };
    together("key", mode != Mode::Append, "`upsert` and `ignore`");
    together("newer_than", mode == Mode::Upsert, "`upsert`");
    settings
}

fn mode_name(mode: Mode) -> &'static str {
    MODES.iter().find(|(_, known)| *known == mode).map_or("?", |(name, _)| name)
}

fn check_table(section: &Section<'_>, table: &Text<'_>) {
    if TableName::parse(&table.value).is_none() {
        let message = format!("{} is not the name of a table", quote(table.raw));
        let hint = r#"write `table`, `schema.table`, or as in SQL `schema."Odd.Name"`"#.to_owned();
        section.report.note("SL-C009", &table.at, message, Some(hint));
    }
}

fn dead_letter_settings(section: Section<'_>, source: &str) -> DeadLetterSettings {
    let topic = section.value("topic").and_then(|value| {
        let topic = section.required("topic", "leave it out for no relay")?;
        let topic = checked_name(&section, "topic", Some(topic), 249);
        if topic == source {
            let message = "`topic` is the topic that the pipeline reads".to_owned();
            let hint =
                "every dead letter would come back as a message: name another one".to_owned();
            section.report.note("SL-C012", &value.span(), message, Some(hint));
        }
        Some(topic)
    });
    let max_per_minute = section
        .value("max_per_minute")
        .map(|_| section.integer("max_per_minute", 1..=1_000_000_000, 1));
    let max_in_a_row = section.integer("max_in_a_row", 0..=1_000_000_000, 100);
    let settings = DeadLetterSettings { topic, max_per_minute, max_in_a_row };
    section.finish();
    settings
}

/// A name of ASCII letters, digits, `-`, `_` and `.`.
fn checked_name(
    section: &Section<'_>,
    key: &str,
    name: Option<Text<'_>>,
    length_max: usize,
) -> String {
    let Some(name) = name else { return String::new() };
    let fits = |character: u8| character.is_ascii_alphanumeric() || b"-_.".contains(&character);
    if !name.value.bytes().all(fits)
        || name.value.len() > length_max
        || matches!(name.value.as_str(), "." | "..")
    {
        let message = format!("`{key}` cannot be {}", quote(name.raw));
        let hint = format!("ASCII letters, digits, `-`, `_` and `.`, at most {length_max}");
        section.report.note("SL-C009", &name.at, message, Some(hint));
    }
    name.value
}

/// What the driver's own parser says may contain the password; ours does not.
fn check_url(section: &Section<'_>, url: &Text<'_>) {
    if let Err(fault) = Options::parse(&url.value) {
        let reason = fault.message.trim_start_matches("sink.url: ");
        let message = format!("`url` is not the address of a Postgres database: {reason}");
        let hint = "postgres://user:password@host:5432/database".to_owned();
        section.report.note("SL-C014", &url.at, message, Some(hint));
    }
}
