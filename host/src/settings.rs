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
    /// `name`: ASCII letters, digits, `-`, `_` and `.`. The key of the pipeline's positions in Postgres. Required.
    pub name: String,
    /// `lanes`: how many batches are decoded, transformed and written side by side. While there is little to do, as few
    /// lanes as are enough own all partitions. Default: one per core.
    pub lanes: usize,
}

/// `[source]`
#[derive(Clone)]
pub struct SourceSettings {
    /// `brokers`: `host:port`, comma-separated. Required.
    pub brokers: String,
    /// `topic`: the topic to read. Required.
    pub topic: String,
    /// `group`: the consumer group. All hosts of a pipeline use the same group, topic and `[retry] order` (`SL-P024`).
    /// Default: the pipeline's name.
    pub group: String,
    /// `start`: where to start without a stored position: `"earliest"` or `"latest"`. Default: `"earliest"`.
    pub start: Start,
    /// `queue_bytes`: the prefetch buffer of each lane, divided among its partitions, with at least 256 KiB for each.
    /// Default: `"16MiB"`.
    pub queue_bytes: usize,
    /// `properties`: a table of librdkafka's properties: TLS, SASL, assignor, compression limits. Certificates and keys
    /// that are renewed on disk, and passwords in `${file:/path}` that change there, are used within seconds.
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
    /// `max_messages`: most messages of a batch, which is what has come while the previous one was written.
    /// Default: `50000`.
    pub max_messages: usize,
    /// `max_bytes`: most bytes of a batch. Default: `"32MiB"`.
    pub max_bytes: usize,
    /// `pace`: a message after silence is written at once; then a lane begins its next write after this time, or when a
    /// batch is full: fewer, larger transactions. With `"0ms"` it writes as soon as the previous write has ended.
    /// Default: `"100ms"`.
    pub pace: Duration,
}

/// `[plugin]`
#[derive(Clone)]
pub struct PluginSettings {
    /// `path`: the component, relative to the folder `sluice` was started in. The file is watched: a new version is used
    /// from the next batch on. Required.
    pub path: PathBuf,
    /// `settings`: a table for the plugin, which it gets as JSON.
    pub settings: serde_json::Value,
    /// `memory_bytes`: most memory of one instance. Default: `"256MiB"`.
    pub memory_bytes: usize,
    /// `timeout`: most CPU time for one batch. Default: `"10s"`.
    pub timeout: Duration,
    /// `isolation`: `"lane"` keeps an instance for each lane, `"batch"` makes a new one for each batch.
    /// Default: `"lane"`.
    pub isolation: Isolation,
    /// `poison_limit`: messages in a row on which the plugin may fail before the pipeline is blocked. Default: `100`.
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
    /// `url`: `postgres://user:password@host:port/database` or libpq's `key=value`. `sslmode`, `sslrootcert` (a file, or
    /// `system`), `sslcert`, `sslkey` and `sslpassword` mean what they mean to libpq, and so do PGHOST, PGPORT, PGUSER,
    /// PGPASSWORD, PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY, PGPASSFILE and `~/.pgpass` for what it does
    /// not say. When Postgres refuses the login or TLS fails, passwords and certificates in files are read again: renew
    /// them without a restart. Among several servers (`host=a,b`) the one that takes writes is chosen;
    /// `target_session_attrs` and PGTARGETSESSIONATTRS may be `any` (the first that responds), `read-write` or `primary`,
    /// which means the same here, and no others. Names of tables without a schema are looked up in the role's
    /// `search_path`. A pooler in transaction mode is refused. Required.
    pub url: String,
    /// The same before `${...}` was filled in, when parts of it are in files: these are read again when Postgres refuses a
    /// login.
    pub url_raw: Option<String>,
    /// `connections_max`: most connections that all pipelines of one process have to themselves in one database; lanes
    /// take turns beyond it. Six more are shared: one is the heartbeat, two are for small statements, three for claims. A
    /// lane opens its connection with its first batch and closes it after a minute without one. Default: `32`.
    pub connections_max: usize,
    /// `tables`: for plugins with several outputs: for each output a table, or `{ table, mode, key, newer_than }`, in the
    /// place of `table`.
    pub tables: BTreeMap<String, TableSettings>,
}

/// `[retry]`: messages that are tried again later.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrySettings {
    /// `attempts`: how often a message is tried that the plugin rejects for a retry, the first time included. With `1`
    /// there are no retries. Default: `5`.
    pub attempts: u32,
    /// `delay`: the pause after the first attempt. Default: `"1s"`.
    pub delay: Duration,
    /// `multiplier`: each pause is so many times as long as the one before. Default: `2`.
    pub multiplier: f64,
    /// `max_delay`: the longest pause. Default: `"5m"`.
    pub max_delay: Duration,
    /// `order`: with `"key"`, later messages of the same key wait until the message has passed or became a dead letter;
    /// with `"none"` they pass it. Default: `"none"`.
    pub order: RetryOrder,
    /// `sqlstates`: retryable SQLSTATEs: rows that Postgres rejects with one of these are retried, too: `["23503"]`.
    pub sqlstates: Vec<String>,
    /// `constraints`: retryable constraints, by name: rows that violate one of these are retried, too.
    pub constraints: Vec<String>,
    /// `max_parked`: about so many messages are parked at most; then the pipeline pauses until there are fewer.
    /// Default: `10000000`.
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

/// `[sink]`: where and how the rows of one output are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSettings {
    /// `table`: `readings` or `telemetry.readings`; with quotes as in SQL where a name has a dot or a quote in it:
    /// `'app."My.Table"'`. Without quotes capitals stay capitals. Required for plugins with one output.
    pub table: String,
    /// `mode`: `"append"` inserts rows, `"upsert"` replaces rows with the same conflict key, `"ignore"` keeps them.
    /// Default: `"append"`.
    pub mode: Mode,
    /// `key`: the conflict key of `upsert` and `ignore`, a list of columns. Default: the primary key.
    pub key: Vec<String>,
    /// `newer_than`: with `upsert`, last write wins by this column: a row never replaces or deletes one with a greater value
    /// in it. A deleted row leaves nothing to compare with: an older one that comes later inserts its key again.
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
    /// `topic`: dead letters are sent to this topic as well, which must exist, with the headers of Spring's dead letter
    /// publisher.
    pub topic: Option<String>,
    /// `max_per_minute`: most dead letters per minute and host; the pipeline pauses rather than make more.
    /// Default: no limit.
    pub max_per_minute: Option<u64>,
    /// `max_in_a_row`: messages in a row whose rows Postgres rejects, all for one cause, before the pipeline is blocked
    /// instead. With `0` it never is. Default: `100`.
    pub max_in_a_row: u64,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { topic: None, max_per_minute: None, max_in_a_row: 100 }
    }
}
