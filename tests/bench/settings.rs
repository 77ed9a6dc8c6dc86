//! The pipelines that are measured.

use std::path::Path;

use sluice_tests::host::Pipeline;

use crate::arguments::Arguments;
use crate::scene::DATABASE;
use crate::servers::Servers;
use crate::way::Way;

/// The pipeline `name`, which appends the readings of `topic` as `arguments` ask for.
pub fn of(
    arguments: &Arguments,
    servers: &Servers,
    name: &str,
    topic: &str,
    plugin: &Path,
) -> Pipeline {
    Pipeline {
        dead_letter_lines: String::new(),
        name: name.to_owned(),
        brokers: servers.brokers.clone(),
        topic: topic.to_owned(),
        url: servers.url_of(DATABASE),
        plugin: plugin.to_path_buf(),
        plugin_lines: String::new(),
        batch_lines: batch_lines(arguments.batch, arguments.pace.as_deref()),
        source_lines: String::new(),
        properties: arguments.properties.iter().cloned().collect(),
        lanes: arguments.lanes,
        sink_lines: Way::Road.sink().to_owned(),
    }
}

/// How large a batch may get, and how soon another may follow it.
pub fn batch_lines(messages_max: usize, pace: Option<&str>) -> String {
    let pace = pace.map(|pace| format!("pace = \"{pace}\"\n")).unwrap_or_default();
    format!("max_messages = {messages_max}\n{pace}")
}
