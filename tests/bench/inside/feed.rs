//! A producer that stays a fixed number of messages ahead of those that are done. It sends the same messages
//! again and again: the less it has to do, the more is left to those that are measured.

use std::io::stdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use sluice_tests::wait::{SOON, until_true};

use super::{Fed, Feed, say};
use prepared::{Batches, Topic};

mod prepared;

/// Most messages that librdkafka has at a time.
const IN_FLIGHT_MAX: i32 = 500_000;
const PAUSE: Duration = Duration::from_millis(2);

/// Sends until the standard input ends, on which stands, line by line, how many messages are done.
pub fn run(order: &Feed) -> Result<()> {
    let failed = Arc::new(AtomicU64::new(0));
    let producer = connect(order, Failures(failed.clone()))?;
    let topic = Topic::of(&producer, &order.topic)?;
    let mut batches = Batches::prepare(order);
    let mut fed = Fed::default();
    for line in stdin().lines() {
        let done: u64 = line?.parse()?;
        while fed.sent < done + order.ahead {
            while producer.in_flight_count() > IN_FLIGHT_MAX {
                producer.poll(PAUSE);
            }
            let batch = batches.send_next(&topic)?;
            fed.sent += batch.messages;
            fed.bad += batch.bad;
        }
        producer.poll(Duration::ZERO);
        ensure!(failed.load(Ordering::Relaxed) == 0, "the broker refused messages");
        fed.acknowledged = fed.sent.saturating_sub(u64::try_from(producer.in_flight_count())?);
        say(&fed)?;
    }
    until_true("everything is acknowledged", SOON, || {
        producer.poll(PAUSE);
        Ok(producer.in_flight_count() == 0)
    })?;
    for partition in 0..order.partitions {
        let (_, end) = producer.client().fetch_watermarks(&order.topic, partition, SOON)?;
        fed.ends.push(end);
    }
    fed.acknowledged = u64::try_from(fed.ends.iter().sum::<i64>())?;
    say(&fed)
}

fn connect(order: &Feed, failures: Failures) -> Result<BaseProducer<Failures>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &order.brokers)
        // What is counted is in the topic once.
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "1048576")
        .set("delivery.report.only.error", "true");
    Ok(config.create_with_context(failures)?)
}

/// Counts messages that the broker did not take.
struct Failures(Arc<AtomicU64>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}
