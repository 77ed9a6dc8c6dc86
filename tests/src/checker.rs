//! Accounts for every offset: re-reads the topic with a consumer of its own and the tables in one snapshot,
//! and says where they differ. Shares no code with the host.
//!
//! What must block, for the whole life of a pipeline: each good message has its rows exactly once, each bad one
//! has one dead letter with its bytes; positions stand at the end of the log; the ranges of `sluice.lineage`
//! tile each partition without gap or overlap and their counts are right; rows arrived in the order of offsets;
//! and each row was made by the version that lineage names. What was replayed counts as rejected in lineage; its rows
//! come late, of the version that `sluice.replayed_dead_letters` names. The same goes for what was parked and passed later,
//! by `sluice.retried`; lineage counts it as parked. Messages that `sluice.gaps` says were skipped
//! have become nothing, and where it says so lineage has its gap.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

pub use by_value::{ByValue, NO_CURRENT_A};
pub use difference::{Difference, differences_text};
pub use shape::{Disposition, Expected, Keep, Readings, Shape, Table};
pub use tables::{DeadLetter, Gap, Lineage, Position, Replayed, StoredRow, Tables};
pub use topic::{Log, Message, PartitionLog};

use crate::kafka::Topic;
use crate::postgres::Database;

mod by_value;
mod compare;
mod difference;
mod shape;
mod tables;
mod topic;

/// What to compare.
#[derive(Debug)]
pub struct Check<'a> {
    /// Name of the pipeline.
    pub pipeline: &'a str,
    /// What the messages become.
    pub shape: &'a dyn Shape,
    /// Text that the version with this digest writes in each row; empty where rows are not marked.
    pub markers: BTreeMap<String, String>,
}

impl<'a> Check<'a> {
    /// A check of `pipeline`, whose messages become what `shape` says.
    pub fn new(pipeline: &'a str, shape: &'a dyn Shape) -> Self {
        Self { pipeline, shape, markers: BTreeMap::new() }
    }

    /// All differences between the topic and the tables.
    pub fn differences(&self, topic: &Topic, database: &Database) -> Result<Vec<Difference>> {
        self.differences_to(&Log::read(topic)?, &topic.name, database)
    }

    /// The same with a log that was read before, because part of it is gone now.
    pub fn differences_to(
        &self,
        log: &Log,
        topic: &str,
        database: &Database,
    ) -> Result<Vec<Difference>> {
        let tables = Tables::read(database, self.pipeline, topic, &self.shape.tables())?;
        Ok(compare::compare(log, &tables, self.shape, &self.markers))
    }

    /// Fails with a readable list when there is any difference.
    pub fn passes(&self, topic: &Topic, database: &Database) -> Result<()> {
        fail_on(&self.differences(topic, database)?)
    }

    /// The same with a log that was read before.
    pub fn passes_with(&self, log: &Log, topic: &str, database: &Database) -> Result<()> {
        fail_on(&self.differences_to(log, topic, database)?)
    }
}

fn fail_on(differences: &[Difference]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    bail!("topic and tables differ:\n{}", differences_text(differences))
}
