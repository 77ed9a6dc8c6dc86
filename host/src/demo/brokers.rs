//! The demo's topic: on an embedded broker, or on real ones, where it goes again when the demo ends.

use std::collections::BTreeMap;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::PARTITIONS;
use crate::fault::Fault;
use crate::simulate::producer::{self, Compression, Partitioner, Target};

/// The embedded broker keeps 5 MiB a partition; beyond this much unread, the next batch could push out
/// messages that nobody has read. The rest is room for what is on its way to the broker.
const UNREAD_BYTES_MAX: u64 = 3 << 20;

/// Brokers with a topic of the demo's own.
pub struct Brokers {
    target: Target,
    embedded: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Brokers {
    /// Starts an embedded broker, or creates a topic on the real ones at `brokers`.
    pub fn open(brokers: Option<&str>) -> Result<Self, Fault> {
        match brokers {
            Some(brokers) => {
                let target = target(brokers.to_owned(), producer::unique("sluice-demo"));
                producer::create_topic(&target, PARTITIONS)?;
                Ok(Self { target, embedded: None })
            }
            None => Self::embedded(),
        }
    }

    fn embedded() -> Result<Self, Fault> {
        let topic = "hems.readings".to_owned();
        let failed = |error| Fault::block("SL-S005", "failed to start the broker").because(error);
        let cluster = MockCluster::new(1).map_err(failed)?;
        cluster.create_topic(&topic, PARTITIONS, 1).map_err(failed)?;
        Ok(Self { target: target(cluster.bootstrap_servers(), topic), embedded: Some(cluster) })
    }

    /// Where the demo sends to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Properties that the pipeline's consumers need here.
    pub fn properties(&self) -> BTreeMap<&'static str, &'static str> {
        // A real broker answers a waiting fetch as soon as a message arrives; the embedded one lets it
        // wait for the whole time.
        self.embedded.iter().map(|_| ("fetch.wait.max.ms", "10")).collect()
    }

    /// How many bytes of a partition may be unread before the producer has to wait.
    pub fn unread_bytes_max(&self) -> u64 {
        if self.embedded.is_some() { UNREAD_BYTES_MAX } else { u64::MAX }
    }

    /// What the demo says of them.
    pub fn describe(&self) -> String {
        let kind = if self.embedded.is_some() { "embedded broker" } else { "brokers" };
        let Target { brokers, topic, .. } = &self.target;
        format!("{kind} at {brokers}, topic {topic} with {PARTITIONS} partitions")
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        if self.embedded.is_none()
            && let Err(error) = producer::delete_topic(&self.target)
        {
            eprintln!("the topic {} is still there: {error}", self.target.topic);
        }
    }
}

fn target(brokers: String, topic: String) -> Target {
    Target {
        brokers,
        topic,
        partitioner: Partitioner::Key,
        compression: Compression::None,
        properties: BTreeMap::new(),
    }
}
