//! Settings files of pipelines that go on until they are stopped.

use std::path::{Path, PathBuf};

use anyhow::Result;
use sluice_tests::host::Pipeline;

use crate::arguments::Arguments;
use crate::scene::DATABASE;
use crate::servers::Servers;
use crate::way::Way;

/// Writes the settings of the pipeline `name`, which appends the readings of `topic`.
pub fn write(
    arguments: &Arguments,
    servers: &Servers,
    name: &str,
    topic: &str,
    plugin: &Path,
) -> Result<PathBuf> {
    let pipeline = Pipeline {
        name: name.to_owned(),
        brokers: servers.brokers.clone(),
        topic: topic.to_owned(),
        url: servers.url_of(DATABASE),
        plugin: plugin.to_path_buf(),
        plugin_lines: String::new(),
        batch_lines: format!("max_messages = {}\n", arguments.batch),
        source_lines: String::new(),
        properties: arguments.properties.iter().cloned().collect(),
        lanes: arguments.lanes,
        sink_lines: Way::Road.sink().to_owned(),
    };
    pipeline.write(&servers.folder)
}
