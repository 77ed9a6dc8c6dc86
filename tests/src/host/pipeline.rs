//! A pipeline's settings file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Settings of a pipeline, as a test wants them.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// Where the broker is.
    pub brokers: String,
    /// Topic.
    pub topic: String,
    /// Where the database is.
    pub url: String,
    /// The component.
    pub plugin: PathBuf,
    /// More lines for `[plugin]`.
    pub plugin_lines: String,
    /// Lines for `[batch]`.
    pub batch_lines: String,
    /// More lines for `[source]`.
    pub source_lines: String,
    /// Handed to librdkafka.
    pub properties: BTreeMap<String, String>,
    /// Number of lanes.
    pub lanes: usize,
    /// Lines of `[sink]` behind the URL.
    pub sink_lines: String,
    /// Lines for `[dead_letters]`.
    pub dead_letter_lines: String,
}

impl Pipeline {
    /// A pipeline that notices changes of its topic fast, and is not expelled from its group on a busy machine.
    pub fn new(name: &str, topic: &str, url: &str, plugin: &Path) -> Result<Self> {
        Ok(Self::at(crate::kafka::broker()?.address(), name, topic, url, plugin))
    }

    /// The same with a topic of the cluster at `brokers`.
    pub fn at(brokers: &str, name: &str, topic: &str, url: &str, plugin: &Path) -> Self {
        let properties = [
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "300"),
            ("topic.metadata.refresh.interval.ms", "1000"),
        ];
        Self {
            name: name.to_owned(),
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            url: url.to_owned(),
            plugin: plugin.to_path_buf(),
            plugin_lines: String::new(),
            batch_lines: String::new(),
            source_lines: String::new(),
            properties: properties
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            lanes: 2,
            sink_lines: "table = \"readings\"\n".to_owned(),
            dead_letter_lines: String::new(),
        }
    }

    /// The same with so short a session that a successor of a dead host comes soon.
    #[must_use]
    pub fn impatient(self) -> Self {
        self.property("session.timeout.ms", "1500")
    }

    /// The same with another pace for each `number`: none, the default, and a second.
    #[must_use]
    pub fn paced(mut self, number: usize) -> Self {
        let pace = ["pace = \"0ms\"\n", "", "pace = \"1s\"\n"][number % 3];
        self.batch_lines.push_str(pace);
        self
    }

    /// The same with a property for librdkafka.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The settings file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let properties: Vec<String> = self
            .properties
            .iter()
            .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
            .collect();
        _ = writeln!(text, "[pipeline]\nname = {}\nlanes = {}\n", quoted(&self.name), self.lanes);
        _ = writeln!(
            text,
            "[source]\nbrokers = {}\ntopic = {}",
            quoted(&self.brokers),
            quoted(&self.topic)
        );
        _ = writeln!(text, "{}properties = {{ {} }}\n", self.source_lines, properties.join(", "));
        _ = writeln!(text, "[batch]\n{}", self.batch_lines);
        _ = writeln!(
            text,
            "[plugin]\npath = {}\n{}",
            quoted(&self.plugin.to_string_lossy()),
            self.plugin_lines
        );
        _ = writeln!(text, "[sink]\nurl = {}\n{}", quoted(&self.url), self.sink_lines);
        _ = writeln!(text, "[dead_letters]\n{}", self.dead_letter_lines);
        text
    }

    /// Writes the settings file into `folder`, at once: another host may be reading it.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}.toml", self.name));
        let new = path.with_extension("new");
        std::fs::write(&new, self.text())?;
        std::fs::rename(new, &path)?;
        Ok(path)
    }
}

/// A TOML string. JSON's escapes are TOML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
