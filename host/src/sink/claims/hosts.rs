//! Hosts that work on a pipeline. Those that do so at the same time must mean the same by it: of two groups, each would
//! claim all partitions from the other again and again; of two topics, one would retry what the other has parked; of
//! two orders, one would pass what the other makes wait.

use super::blocks::host_name;
use super::{Claims, schema_fault};
use crate::fault::{Fault, sqlstate};
use crate::sink::postgres::connection::Session;

const JOIN: &str = "SELECT host, topic, consumer_group, retry_order FROM sluice.join_hosts($1, $2, $3, $4, $5, $6)";

/// What hosts of one pipeline must agree on, beside its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The consumer group.
    pub group: String,
    /// `[retry] order`.
    pub order: &'static str,
}

impl Claims {
    /// Joins the hosts of the pipeline. This owner's heartbeat must be there already, or others take it for gone.
    ///
    /// # Errors
    /// `SL-P024` when another host that lives means something else by the pipeline.
    pub async fn join(&self, session: &Session, agreement: &Agreement) -> Result<(), Fault> {
        let Self { pipeline, topic, owner, .. } = self;
        let Agreement { group, order } = agreement;
        let host = host_name();
        let others = session
            .query_opt(JOIN, &[pipeline, owner, &host, topic, group, order])
            .await
            .map_err(|error| schema_fault("join the hosts of the pipeline", &error))?;
        let Some(other) = others else { return Ok(()) };
        let theirs = |column: &str| other.get::<_, String>(column);
        let differences: Vec<String> = [
            ("topic", theirs("topic"), topic.as_str()),
            ("group", theirs("consumer_group"), group),
            ("[retry] order", theirs("retry_order"), order),
        ]
        .into_iter()
        .filter(|(_, theirs, ours)| theirs != ours)
        .map(|(name, theirs, ours)| format!("{name} is {theirs:?} there and {ours:?} here"))
        .collect();
        let message = format!(
            "host {} works on pipeline {pipeline:?} with other settings: {}",
            theirs("host"),
            differences.join(", ")
        );
        Err(Fault::block(sqlstate::DISAGREEMENT, message))
    }
}
