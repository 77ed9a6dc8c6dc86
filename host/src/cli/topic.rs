//! A topic as the brokers have it now, for the commands that compare positions with it. Joins no group.

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use uuid::Uuid;

use crate::fault::{Fault, broker};
use crate::settings::SourceSettings;
use crate::source::kafka::{Logged, refused};
use crate::source::native;
use crate::source::properties::{self, ANSWER_WAIT};

/// The oldest offset of a partition and the one behind its newest message.
pub type Ends = (i64, i64);

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Kafka's id of it: another one after it was deleted and created again.
    pub id: Uuid,
    /// By partition.
    pub ends: BTreeMap<i32, Ends>,
}

/// Asks the brokers. To be called after positions were read: those of a pipeline at work move on, and one that is read
/// later may lie beyond the end of its partition as it was before.
pub fn read(source: &SourceSettings) -> Result<Topic, Fault> {
    let topic = &source.topic;
    let away = |error| {
        Fault::retry(broker::AWAY, format!("no broker answers for topic {topic}")).because(error)
    };
    let client: BaseConsumer<Logged> = properties::fetcher(source, 1)
        .create_with_context(Logged)
        .map_err(|error| refused(&error))?;
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
        return Err(Fault::stop(broker::UNKNOWN_TOPIC, format!("there is no topic {topic}")));
    }
    let id = native::topic_id(&client, topic, ANSWER_WAIT)
        .map_err(|(code, text)| broker::fault(&format!("describe topic {topic}"), code, &text))?;
    Ok(Topic { id, ends })
}
