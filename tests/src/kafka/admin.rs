//! What the tests do to topics: create, delete, grow, truncate.

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{REQUEST_MAX, broker, client_of};
use crate::postgres::block_on;
use crate::wait::{SOON, until, until_true};

/// A topic of one test.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    brokers: String,
}

impl Topic {
    /// Creates the topic on the broker that all tests share; ready for use when this returns.
    pub fn create(name: &str, partitions: i32) -> Result<Self> {
        Self::create_on(broker()?.address(), name, partitions, 1)
    }

    /// The same on the cluster at `brokers`, with `copies` of each partition.
    pub fn create_on(brokers: &str, name: &str, partitions: i32, copies: i32) -> Result<Self> {
        let topic = Self { name: name.to_owned(), partitions, brokers: brokers.to_owned() };
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
        let answers = block_on(topic.admin()?.create_topics([&new], &options()))?;
        each_done(answers)?;
        topic.wait_for_leaders()?;
        Ok(topic)
    }

    /// Changes one of the topic's settings; all others go back to their defaults.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.set_all(&[(name, value)])
    }

    /// The same for several: (name, value).
    pub fn set_all(&self, all: &[(&str, &str)]) -> Result<()> {
        let settings = AlterConfig::new(ResourceSpecifier::Topic(&self.name));
        let settings = all.iter().fold(settings, |it, &(name, value)| it.set(name, value));
        for answer in block_on(self.admin()?.alter_configs([&settings], &options()))? {
            answer.map_err(|(_, error)| anyhow!("the broker refused: {error:?}"))?;
        }
        Ok(())
    }

    /// Where the cluster is.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Settings of a client of the topic's cluster.
    pub fn client(&self) -> ClientConfig {
        client_of(&self.brokers)
    }

    /// Deletes the topic; gone when this returns.
    pub fn delete(&self) -> Result<()> {
        each_done(block_on(self.admin()?.delete_topics(&[&self.name], &options()))?)?;
        let consumer = self.consumer()?;
        until_true("the topic is gone", SOON, || Ok(self.leaders(&consumer)? == 0))
    }

    /// Adds partitions, up to `partitions`.
    pub fn grow(&mut self, partitions: i32) -> Result<()> {
        let new = NewPartitions::new(&self.name, usize::try_from(partitions)?);
        each_done(block_on(self.admin()?.create_partitions([&new], &options()))?)?;
        self.partitions = partitions;
        self.wait_for_leaders()
    }

    /// Deletes the messages of `partition` before `offset`, as retention would.
    pub fn delete_records(&self, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset))?;
        block_on(self.admin()?.delete_records(&list, &options()))?;
        until_true("the log starts later", SOON, || Ok(self.ends(partition)?.0 >= offset))
    }

    /// First offset that is there, and the one behind the last.
    pub fn ends(&self, partition: i32) -> Result<(i64, i64)> {
        Ok(self.consumer()?.fetch_watermarks(&self.name, partition, REQUEST_MAX)?)
    }

    /// The offset behind the last message, by partition.
    pub fn log_ends(&self) -> Result<Vec<i64>> {
        let consumer = self.consumer()?;
        (0..self.partitions)
            .map(|partition| Ok(consumer.fetch_watermarks(&self.name, partition, REQUEST_MAX)?.1))
            .collect()
    }

    /// Waits until all transactions that were ended are over: a producer need not wait for their markers.
    pub fn wait_for_markers(&self) -> Result<()> {
        let all: BaseConsumer =
            self.client().set("isolation.level", "read_uncommitted").create()?;
        until_true("all transactions are over", SOON, || {
            let end = |partition| Ok(all.fetch_watermarks(&self.name, partition, REQUEST_MAX)?.1);
            let written: Vec<i64> = (0..self.partitions).map(end).collect::<Result<_>>()?;
            Ok(written == self.log_ends()?)
        })
    }

    /// Offsets that `group` has committed to the broker, by partition.
    pub fn committed(&self, group: &str) -> Result<Vec<Option<i64>>> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create()?;
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(&self.name, 0, self.partitions - 1);
        let committed = consumer.committed_offsets(wanted, REQUEST_MAX)?;
        Ok(committed
            .elements()
            .iter()
            .map(|element| element.offset().to_raw().filter(|offset| *offset >= 0))
            .collect())
    }

    fn wait_for_leaders(&self) -> Result<()> {
        let consumer = self.consumer()?;
        until("all partitions have a leader", SOON, || {
            Ok((self.leaders(&consumer)? == usize::try_from(self.partitions)?).then_some(()))
        })
    }

    fn leaders(&self, consumer: &BaseConsumer) -> Result<usize> {
        let metadata = consumer.fetch_metadata(Some(&self.name), REQUEST_MAX)?;
        let topic =
            metadata.topics().first().context("the broker does not answer for the topic")?;
        Ok(topic.partitions().iter().filter(|partition| partition.leader() >= 0).count())
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    fn consumer(&self) -> Result<BaseConsumer> {
        Ok(self.client().create()?)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST_MAX)).request_timeout(Some(REQUEST_MAX))
}

fn each_done<E: std::fmt::Debug>(answers: Vec<std::result::Result<String, E>>) -> Result<()> {
    if answers.is_empty() {
        bail!("the broker answered for no topic");
    }
    for answer in answers {
        answer.map_err(|error| anyhow!("the broker refused: {error:?}"))?;
    }
    Ok(())
}
