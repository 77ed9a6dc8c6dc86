//! Topics full of readings.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use sluice::simulate::producer::{Compression, create_topic, unique};
use sluice::simulate::{
    Defect, Devices, Generator as _, Partitioner, Producer, Quality, Shape, Target,
};
use sluice_tests::wait::{SOON, until};

/// Devices that send; each has its own key.
const DEVICES: u64 = 500_000;
const SEED: u64 = 22;
/// 2026-11-26, so that every call fills in the same messages.
const START_MS: i64 = 1_795_651_200_000;
const FLUSH_MAX: Duration = Duration::from_secs(60);

/// What a topic is full of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Short or long readings.
    pub shape: Shape,
    /// How many.
    pub messages: u64,
    /// On how many partitions, by key.
    pub partitions: i32,
    /// How many of a thousand become dead letters.
    pub bad_per_mille: u32,
}

/// A topic that was filled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Filled {
    /// Name of the topic.
    pub topic: String,
    /// Messages that become dead letters.
    pub bad: u64,
}

impl Load {
    /// `short`, `long`
    pub fn shape_name(&self) -> String {
        self.shape.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What tells it from other loads; fit for names of topics and tables.
    pub fn name(&self) -> String {
        let Self { messages, partitions, bad_per_mille, .. } = self;
        format!("{}_{messages}_{partitions}_{bad_per_mille}", self.shape_name())
    }

    /// Fills a new topic. However many partitions share the load, as many messages stand in each of Kafka's record
    /// batches, about as many as a producer gathers for one of twelve: topics differ in one thing only.
    pub fn fill(&self, brokers: &str) -> Result<Filled> {
        let batches = [("linger.ms", "2000"), ("batch.num.messages", "800")];
        let properties = batches.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let target = Target { properties, ..target(brokers, &unique(&self.name())) };
        create_topic(&target, self.partitions)?;
        let mut producer = connect(&target)?;
        let mut bad = 0;
        self.each(|key, payload, quality| {
            bad += u64::from(!quality.is_good());
            producer.send(key, payload)
        })?;
        producer.flush(FLUSH_MAX)?;
        Ok(Filled { topic: target.topic, bad })
    }

    /// Key, payload and quality of each message.
    pub fn each<E>(
        &self,
        mut take: impl FnMut(&[u8], &[u8], Quality) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut generator = self.generator();
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        (0..self.messages).try_for_each(|index| {
            let quality = self.write(&mut generator, index, &mut key, &mut payload);
            take(&key, &payload, quality)
        })
    }

    /// Writes message `index`. In place of one that is bad by rules which a program beside need not know comes
    /// one that is broken for everybody.
    fn write(
        &self,
        generator: &mut Devices,
        index: u64,
        key: &mut Vec<u8>,
        payload: &mut Vec<u8>,
    ) -> Quality {
        let known = [Defect::Truncated, Defect::PowerOutOfRange, Defect::UnknownStatus];
        let mut quality = generator.write(index, key, payload);
        let wanted = quality.is_good();
        // Messages behind the last one are as random as any, and nobody else sends them.
        let mut others = (index + self.messages..).step_by(self.messages as usize);
        while !wanted && !known.map(Quality::Bad).contains(&quality) {
            let Some(other) = others.next() else { break };
            quality = generator.write(other, key, payload);
        }
        quality
    }

    fn generator(&self) -> Devices {
        Devices::new(DEVICES, self.shape, self.bad_per_mille, SEED, START_MS)
    }
}

/// How a topic is created and filled.
pub fn target(brokers: &str, topic: &str) -> Target {
    Target {
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        partitioner: Partitioner::Key,
        compression: Compression::None,
        properties: BTreeMap::new(),
    }
}

/// A topic that was just created may have no leaders yet.
fn connect(target: &Target) -> Result<Producer> {
    until("the topic can be written", SOON, || Ok(Producer::connect(target).ok()))
        .with_context(|| target.topic.clone())
}
