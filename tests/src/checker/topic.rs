//! The topic as it is, read from its first message to its last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::Topic;
use crate::load::TRUTH;

const READ_MAX: Duration = Duration::from_secs(120);
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// A message as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Time of the message.
    pub timestamp_ms: i64,
}

impl Message {
    /// What the load says must become of the message.
    pub fn truth(&self) -> &str {
        let value = self
            .headers
            .iter()
            .find(|(name, _)| name == TRUTH.as_bytes())
            .and_then(|(_, value)| value.as_deref());
        std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
    }

    /// The payload as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.payload.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionLog {
    /// First offset that must be accounted for.
    pub start: i64,
    /// The offset behind the last message, and behind what is none: markers of transactions, messages of aborted ones.
    pub end: i64,
    /// The messages in between, in order.
    pub messages: Vec<Message>,
}

/// The topic, partition by partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// By partition.
    pub partitions: BTreeMap<i32, PartitionLog>,
}

impl Log {
    /// Reads all of `topic` that is there now.
    pub fn read(topic: &Topic) -> Result<Self> {
        let consumer: BaseConsumer = topic
            .client()
            .set("group.id", "checker-without-group")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("enable.partition.eof", "true")
            .create()?;
        let mut log = Self::default();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..topic.partitions {
            let (start, end) = consumer.fetch_watermarks(&topic.name, partition, REQUEST_MAX)?;
            log.partitions.insert(partition, PartitionLog { start, end, messages: Vec::new() });
            if start < end {
                assignment.add_partition_offset(&topic.name, partition, Offset::Offset(start))?;
            }
        }
        consumer.assign(&assignment)?;
        log.fill(&consumer)?;
        Ok(log)
    }

    /// Adds what `later`, read after messages at the front were deleted, has behind the end of this.
    #[must_use]
    pub fn extended_by(mut self, later: Self) -> Self {
        for (partition, later) in later.partitions {
            let known = self.partitions.entry(partition).or_insert_with(|| PartitionLog {
                start: later.start,
                end: later.start,
                messages: Vec::new(),
            });
            let end = known.end;
            known
                .messages
                .extend(later.messages.into_iter().filter(|message| message.offset >= end));
            known.end = later.end;
        }
        self
    }

    /// Without what lies before `starts`, by partition: nobody accounts for that.
    #[must_use]
    pub fn starting_at(mut self, starts: &[i64]) -> Self {
        for (partition, &start) in self.partitions.values_mut().zip(starts) {
            partition.messages.retain(|message| message.offset >= start);
            partition.start = start;
        }
        self
    }

    fn fill(&mut self, consumer: &BaseConsumer) -> Result<()> {
        let deadline = Instant::now() + READ_MAX;
        let has_messages = |(_, it): &(&i32, &PartitionLog)| it.start < it.end;
        let mut left: BTreeSet<i32> =
            self.partitions.iter().filter(has_messages).map(|(&partition, _)| partition).collect();
        while !left.is_empty() {
            if Instant::now() > deadline {
                bail!("could not read the topic to its end in {READ_MAX:?}");
            }
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = match message {
                // While others write, that is beyond the end of then.
                Err(KafkaError::PartitionEOF(partition)) => {
                    left.remove(&partition);
                    continue;
                }
                message => owned(&message?),
            };
            let Some(partition) = self.partitions.get_mut(&message.partition) else { continue };
            if message.offset + 1 >= partition.end {
                left.remove(&message.partition);
            }
            if message.offset < partition.end {
                partition.messages.push(message);
            }
        }
        Ok(())
    }
}

fn owned(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.as_bytes().to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    Message {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
    }
}
