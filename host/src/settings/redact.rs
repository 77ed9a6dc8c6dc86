//! `Debug` for settings that contain secrets.

use std::fmt;

use super::secret::is_secret_key;
use super::{PluginSettings, SinkSettings, SourceSettings};

/// Stands for what is not shown.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Debug for SourceSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, group, start, queue_bytes, properties, properties_raw: _ } =
            self;
        let shown = |name: &str, value: &str| {
            if is_secret_key(name) { "***".to_owned() } else { value.to_owned() }
        };
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| (name, shown(name, value))).collect();
        formatter
            .debug_struct("SourceSettings")
            .field("brokers", brokers)
            .field("topic", topic)
            .field("group", group)
            .field("start", start)
            .field("queue_bytes", queue_bytes)
            .field("properties", &properties)
            .finish()
    }
}

impl fmt::Debug for PluginSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, settings: _, memory_bytes, timeout, isolation, poison_limit } = self;
        formatter
            .debug_struct("PluginSettings")
            .field("path", path)
            // What the plugin's author calls a secret is not known here.
            .field("settings", &Hidden)
            .field("memory_bytes", memory_bytes)
            .field("timeout", timeout)
            .field("isolation", isolation)
            .field("poison_limit", poison_limit)
            .finish()
    }
}

impl fmt::Debug for SinkSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, url_raw: _, connections_max, tables } = self;
        formatter
            .debug_struct("SinkSettings")
            .field("url", &Hidden)
            .field("connections_max", connections_max)
            .field("tables", tables)
            .finish()
    }
}
