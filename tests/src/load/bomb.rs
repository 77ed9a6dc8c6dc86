//! A message that is small on the way and huge when it arrives.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::kafka::{Topic, broker};

/// A gigabyte is all that librdkafka takes at once.
const MESSAGE_BYTES_MAX: &str = "1000000000";

/// Sends `bytes` zeros in one message to `partition`, compressed to about a thousandth.
pub fn send(topic: &Topic, partition: i32, bytes: usize) -> Result<()> {
    let mut config = broker()?.client();
    config
        .set("compression.type", "gzip")
        .set("message.max.bytes", MESSAGE_BYTES_MAX)
        .set("queue.buffering.max.kbytes", "2000000");
    let producer: BaseProducer = config.create()?;
    let zeros = vec![0; bytes];
    let record = BaseRecord::<[u8], [u8]>::to(&topic.name).partition(partition).payload(&zeros);
    producer.send(record).map_err(|(error, _)| anyhow!(error)).context("send the bomb")?;
    producer.flush(Duration::from_secs(120)).context("the broker takes the bomb")
}
