//! The configuration file as plain data; unknown keys are refused, errors name line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::fault::Fault;

mod finding;
mod properties;
mod read;
mod redact;
mod secret;
mod section;
mod table_name;
#[cfg(test)]
mod tests;
mod units;
mod variables;

pub use finding::{Finding, Place, SettingsError};
pub use table_name::TableName;

/// One pipeline: the whole file.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[pipeline]`
    pub pipeline: PipelineSettings,
    /// `[source]`
    pub source: SourceSettings,
    /// `[batch]`
    pub batch: BatchSettings,
    /// `[plugin]`
    pub plugin: PluginSettings,
    /// `[sink]`
    pub sink: SinkSettings,
    /// `[retry]`
    pub retry: RetrySettings,
    /// `[dead_letters]`
    pub dead_letters: DeadLetterSettings,
}

impl Settings {
    /// Reads a file, with variables from the environment.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let file = path.display().to_string();
        let lookup = |name: &str| std::env::var(name).ok();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text, &lookup),
            Err(cause) => Err(unreadable(file, &cause)),
        }
    }

    /// Reads the files of one command; says everything that is wrong with any of them, and that two
    /// are the same pipeline.
    pub fn load_all(paths: &[PathBuf]) -> Result<Vec<Self>, SettingsError> {
        let mut all: Vec<(&Path, Self)> = Vec::new();
        let mut findings = Vec::new();
        for path in paths {
            match Self::load(path) {
                Ok(settings) => {
                    let name = &settings.pipeline.name;
                    if let Some((other, _)) =
                        all.iter().find(|(_, other)| other.pipeline.name == *name)
                    {
                        findings.push(same_name(name, path, other));
                    }
                    all.push((path, settings));
                }
                Err(error) => findings.extend(error.findings),
            }
        }
        let all = all.into_iter().map(|(_, settings)| settings).collect();
        if findings.is_empty() { Ok(all) } else { Err(SettingsError { findings }) }
    }

    /// What is allowed and had better be otherwise.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut warnings = properties::unchecked(&self.source.properties);
        for fault in &mut warnings {
            fault.message.insert_str(0, &format!("pipeline {}: ", self.pipeline.name));
        }
        warnings
    }

    /// Reads `text`; `file` is its name in messages, `lookup` finds variables.
    pub fn parse(
        file: &str,
        text: &str,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let (table, errors) = toml::de::DeTable::parse_recoverable(text);
        let report = section::Report::new(file, text, secret::spans(table.get_ref()), lookup);
        // What stands behind a slip of syntax would be misread: nothing more is said then.
        if !errors.is_empty() {
            return Err(SettingsError { findings: syntax(report, &errors) });
        }
        let settings = read::settings(&report, table.get_ref());
        let findings = report.into_findings();
        if findings.is_empty() { Ok(settings) } else { Err(SettingsError { findings }) }
    }
}

/// `text` with its variables from the environment and its files, as they are now.
///
/// # Errors
/// What cannot be filled in.
pub(crate) fn filled(text: &str) -> Result<String, String> {
    variables::fill(text, &|name| std::env::var(name).ok()).map_err(|unfilled| unfilled.message)
}

fn syntax(mut report: section::Report<'_>, errors: &[toml::de::Error]) -> Vec<Finding> {
    let spans: Vec<_> = errors.iter().map(|error| error.span().unwrap_or(0..0)).collect();
    let hidden = spans.iter().filter_map(|span| secret::unparsed_span(report.text, span.start));
    let hidden: Vec<_> = hidden.collect();
    report.secrets.splice(0..0, hidden);
    for (error, span) in errors.iter().zip(spans) {
        let end = span.end.max(span.start + 1);
        report.note(
            "SL-C002",
            &(span.start..end),
            format!("not TOML: {}", error.message().replace('\n', ", ")),
            None,
        );
    }
    report.into_findings()
}

fn unreadable(file: String, cause: &std::io::Error) -> SettingsError {
    let hint = Some("name a settings file that exists and may be read".to_owned());
    let finding = Finding {
        code: "SL-C001",
        message: format!("cannot read settings: {cause}"),
        hint,
        file,
        place: None,
    };
    SettingsError { findings: vec![finding] }
}

fn same_name(name: &str, path: &Path, other: &Path) -> Finding {
    Finding {
        code: "SL-C013",
        message: format!("the pipeline `{name}` is also in {}", other.display()),
        hint: Some(
            "two pipelines of one name would share their positions: give each its own `name`"
                .to_owned(),
        ),
        file: path.display().to_string(),
        place: None,
    }
}

/// `[pipeline]`
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// `name`: ASCII letters, digits, `-`, `_` and `.`; the key of its positions in Postgres.
    pub name: String,
    /// `lanes`: threads that decode, transform and write; default: one per core.
    pub lanes: usize,
}

/// `[source]`
#[derive(Clone)]
pub struct SourceSettings {
    /// `brokers`: `host:port`, comma-separated.
    pub brokers: String,
    /// `topic`
    pub topic: String,
    /// `group`; default: the pipeline's name.
    pub group: String,
    /// `start`: where a partition without a stored position begins.
    pub start: Start,
    /// `queue_bytes`: messages fetched ahead, per lane; shared by its
    /// partitions, at least 256 KiB for each; default 16 MiB.
    pub queue_bytes: usize,
    /// `properties`: handed to librdkafka as they are, and win over our own.
    pub properties: BTreeMap<String, String>,
    /// Those before `${...}` was filled in, whose values are in files in part: these are read again while a pipeline runs.
    pub properties_raw: BTreeMap<String, String>,
}

impl SourceSettings {
    /// With what files contain now.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn now(&self) -> Result<Self, String> {
        let mut now = self.clone();
        for (name, raw) in &self.properties_raw {
            now.properties.insert(name.clone(), filled(raw)?);
        }
        Ok(now)
    }
}

/// Where a partition without a stored position begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message the topic still has.
    Earliest,
    /// Behind the newest message at the time of the first claim.
    Latest,
}

/// `[batch]`
#[derive(Debug, Clone, Copy)]
pub struct BatchSettings {
    /// `max_messages`; default 50,000.
    pub max_messages: usize,
    /// `max_bytes`; default 32 MiB.
    pub max_bytes: usize,
    /// `pace`: after a lane has begun a write it begins the next one no sooner than this, unless the batch is full;
    /// default 100 ms.
    pub pace: Duration,
}

/// `[plugin]`
#[derive(Clone)]
pub struct PluginSettings {
    /// `path` of the component; watched, a new version is taken over at a batch boundary.
    /// Relative to the folder `sluice` was started in.
    pub path: PathBuf,
    /// `settings`, as JSON for the plugin's `configure`.
    pub settings: serde_json::Value,
    /// `memory_bytes`: most memory one instance may have; default 256 MiB.
    pub memory_bytes: usize,
    /// `timeout`: most CPU time for one batch; default 10 s.
    pub timeout: Duration,
    /// `isolation`: whether instances are kept from batch to batch.
    pub isolation: Isolation,
    /// `poison_limit`: after so many messages in a row that the plugin fails on, the plugin is what is broken,
    /// and the pipeline stops; default 100.
    pub poison_limit: u32,
}

/// How long an instance of the plugin lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// One long-lived instance per lane, recycled now and then.
    Lane,
    /// A fresh instance for each batch.
    Batch,
}

/// `[sink]`
#[derive(Clone)]
pub struct SinkSettings {
    /// `url`: `postgres://user:password@host:port/database` or libpq's key-value form. Never printed.
    pub url: String,
    /// The same before `${...}` was filled in, when parts of it are in files: these are read again when Postgres refuses a
    /// login.
    pub url_raw: Option<String>,
    /// `connections_max`: most sessions that pipelines of one process have to themselves in one database; default 32.
    pub connections_max: usize,
    /// `table` (one output) or `[sink.tables] output = "table"`; keyed by output, with `""` for `table`.
    pub tables: BTreeMap<String, TableSettings>,
}

/// `[retry]`: messages that are tried again later.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrySettings {
    /// `attempts`: how often a message is tried, the first time included; default 5. With 1 there are no retries.
    pub attempts: u32,
    /// `delay`: the pause after the first attempt; default 1 s.
    pub delay: Duration,
    /// `multiplier`: how much longer each pause is than the one before; default 2.
    pub multiplier: f64,
    /// `max_delay`: the longest pause; default 5 min.
    pub max_delay: Duration,
    /// `order`
    pub order: RetryOrder,
    /// `sqlstates`: refusals of Postgres that may be gone later, such as `23503`.
    pub sqlstates: Vec<String>,
    /// `constraints`: names of constraints of which the same is true.
    pub constraints: Vec<String>,
    /// `max_parked`: about so many messages are parked at most before the pipeline is paused; default 10 million.
    pub max_parked: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 5,
            delay: Duration::from_secs(1),
            multiplier: 2.0,
            max_delay: Duration::from_mins(5),
            order: RetryOrder::None,
            sqlstates: Vec::new(),
            constraints: Vec::new(),
            max_parked: 10_000_000,
        }
    }
}

/// What becomes of messages behind one that is tried again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOrder {
    /// They pass it.
    None,
    /// Those with the same key wait behind it.
    Key,
}

impl RetryOrder {
    /// As it is written in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key => "key",
        }
    }
}

/// Where and how the rows of one output are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSettings {
    /// `table`, with or without schema, as [`TableName`] reads it: `readings` or `telemetry."My.Readings"`.
    pub table: String,
    /// `mode`
    pub mode: Mode,
    /// `key`: conflict columns of `upsert` and `ignore`; default: the table's primary key.
    pub key: Vec<String>,
    /// `newer_than`: with `upsert`, a row never replaces one whose value in this column is greater.
    pub newer_than: Option<String>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// COPY straight into the table.
    Append,
    /// Replace rows with the same key.
    Upsert,
    /// Keep the row that is there.
    Ignore,
}

/// `[dead_letters]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetterSettings {
    /// `topic`: where dead letters are relayed to as well; on the same brokers.
    pub topic: Option<String>,
    /// `max_per_minute`: most dead letters that one host makes within a minute.
    pub max_per_minute: Option<u64>,
    /// `max_in_a_row`: the pipeline is blocked when so many messages in a row would become dead letters because their
    /// tables take none of their rows, all for one cause. 0: never.
    pub max_in_a_row: u64,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { topic: None, max_per_minute: None, max_in_a_row: 100 }
    }
}
