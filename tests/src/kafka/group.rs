//! A consumer group as its coordinator sees it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::{REQUEST_MAX, Topic};

/// Who is in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `Stable` between two rebalances.
    pub state: String,
    /// Ids that the coordinator gave to the members, sorted.
    pub members: Vec<String>,
}

impl Group {
    /// The group `name` on the cluster of `topic`.
    pub fn read(topic: &Topic, name: &str) -> Result<Self> {
        let consumer: BaseConsumer = topic.client().create()?;
        let groups = consumer.fetch_group_list(Some(name), REQUEST_MAX)?;
        let group = groups.groups().iter().find(|group| group.name() == name);
        let group = group.with_context(|| format!("there is no group {name}"))?;
        let mut members: Vec<String> =
            group.members().iter().map(|member| member.id().to_owned()).collect();
        members.sort();
        Ok(Self { state: group.state().to_owned(), members })
    }
}

/// How often `group` was rebalanced so far, after the `log` of a broker.
pub fn rebalances(log: &Path, group: &str) -> Result<usize> {
    let line = format!("Preparing to rebalance group {group} in state");
    Ok(fs::read_to_string(log)?.matches(&line).count())
}
