//! The configuration file as plain data; unknown keys are refused, errors name line and column.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

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
}

/// `[pipeline]`
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// `name`: letters, digits, `-`, `_` and `.`; the key of its positions in Postgres.
    pub name: String,
    /// `lanes`: threads that decode, transform and write; default: one per core.
    pub lanes: usize,
}

/// `[source]`
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// `brokers`: `host:port`, comma-separated.
    pub brokers: String,
    /// `topic`
    pub topic: String,
    /// `group`; default: the pipeline's name.
    pub group: String,
    /// `start`: where a partition without a stored position begins.
    pub start: Start,
    /// `queue_bytes`: messages fetched ahead, per lane; default 32 MiB.
    pub queue_bytes: usize,
    /// `properties`: handed to librdkafka as they are, and win over our own.
    pub properties: BTreeMap<String, String>,
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
}

/// `[plugin]`
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// `url`: `postgres://user:password@host:port/database` or libpq's key-value form. Never printed.
    pub url: String,
    /// `table` (one output) or `[sink.tables] output = "table"`; keyed by output, with `""` for `table`.
    pub tables: BTreeMap<String, TableSettings>,
}

/// Where and how the rows of one output are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSettings {
    /// `table`, with or without schema: `readings` or `telemetry.readings`.
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
