//! A topic as the brokers have it now, for the commands that compare positions with it. Joins no group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::fault::{Fault, broker};
use crate::settings::SourceSettings;
use crate::source::log::{Logged, refused};
use crate::source::native::{self, End};
use crate::source::properties::{self, ANSWER_WAIT};

/// Longest time to ask for when transactions began.
const TIMES_WAIT: Duration = Duration::from_secs(3);
const POLL_WAIT: Duration = Duration::from_millis(50);

/// The oldest offset of a partition and the one behind its newest message.
pub type Ends = (i64, i64);

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Kafka's id of it: another one after it was deleted and created again.
    pub id: Uuid,
    /// By partition.
    pub ends: BTreeMap<i32, Ends>,
    /// Transactions that are open, by partition.
    pub open: BTreeMap<i32, Open>,
}

/// An open transaction, behind whose first message nothing can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Messages that cannot be read, those of other transactions included.
    pub messages: i64,
    /// When its first message was sent, as that says.
    pub since: Option<Timestamp>,
}

/// Asks the brokers. To be called after positions were read: those of a pipeline at work move on, and one that is read
/// later may lie beyond the end of its partition as it was before.
pub fn read(source: &SourceSettings) -> Result<Topic, Fault> {
    let topic = &source.topic;
    let config = properties::fetcher(source, 1);
    let client: BaseConsumer<Logged> =
        config.create_with_context(Logged::of(&config)).map_err(|error| refused(&error))?;
    let away = |error: KafkaError| {
        // What it was told of until then. It reads nothing, so there is an end to that.
        while native::has_events(&client) {
            client.poll(Duration::ZERO);
        }
        client.context().reasons.away(topic, &error)
    };
    let metadata = client.fetch_metadata(Some(topic), ANSWER_WAIT).map_err(away)?;
    let partitions =
        metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
    let ends: BTreeMap<i32, Ends> = partitions
        .map(|partition| {
            let ends = client.fetch_watermarks(topic, partition.id(), ANSWER_WAIT).map_err(away)?;
            Ok((partition.id(), ends))
        })
        .collect::<Result<_, Fault>>()?;
    if ends.is_empty() {
        return Err(Fault::block(broker::UNKNOWN_TOPIC, format!("there is no topic {topic}")));
    }
    let open = open_transactions(source, &client, &ends)?;
    let id = native::topic_id(&client, topic, ANSWER_WAIT)
        .map_err(|(code, text)| broker::fault(&format!("describe topic {topic}"), code, &text))?;
    Ok(Topic { id, ends, open })
}

fn open_transactions(
    source: &SourceSettings,
    client: &BaseConsumer<Logged>,
    readable: &BTreeMap<i32, Ends>,
) -> Result<BTreeMap<i32, Open>, Fault> {
    let topic = &source.topic;
    let partitions: Vec<i32> = readable.keys().copied().collect();
    let written = native::ends(client, topic, &partitions, End::Written, ANSWER_WAIT)
        .map_err(|(code, text)| broker::fault(&format!("list ends of {topic}"), code, &text))?;
    let not_readable = written.into_iter().filter_map(|(partition, written)| {
        let (_, end) = *readable.get(&partition)?;
        (written > end).then_some((partition, end, written - end))
    });
    let not_readable: Vec<_> = not_readable.collect();
    if not_readable.is_empty() {
        return Ok(BTreeMap::new());
    }
    let times =
        times_of(source, not_readable.iter().map(|&(partition, first, _)| (partition, first)));
    let open = not_readable.into_iter().map(|(partition, _, messages)| {
        (partition, Open { messages, since: times.get(&partition).copied() })
    });
    Ok(open.collect())
}

/// Times of the messages at these offsets, as far as they can be had, although they are not committed.
fn times_of(
    source: &SourceSettings,
    places: impl Iterator<Item = (i32, i64)>,
) -> BTreeMap<i32, Timestamp> {
    let mut config = properties::member(source);
    config.set("isolation.level", "read_uncommitted");
    let logged = Logged::of(&config);
    let Ok(client) = config.create_with_context::<_, BaseConsumer<Logged>>(logged) else {
        return BTreeMap::new();
    };
    let mut list = TopicPartitionList::new();
    for (partition, offset) in places {
        list.add_partition_offset(&source.topic, partition, Offset::Offset(offset)).ok();
    }
    let mut times: BTreeMap<i32, Option<Timestamp>> = BTreeMap::new();
    let deadline = Instant::now() + TIMES_WAIT;
    if client.assign(&list).is_err() {
        return BTreeMap::new();
    }
    while times.len() < list.count() && Instant::now() < deadline {
        let Some(Ok(message)) = client.poll(POLL_WAIT) else { continue };
        let time = message.timestamp().to_millis();
        let time = time.and_then(|it| Timestamp::from_millisecond(it).ok());
        times.entry(message.partition()).or_insert(time);
    }
    times.into_iter().filter_map(|(partition, time)| Some((partition, time?))).collect()
}
