//! A producer that sends as evenly as devices do. Each reading says when it was sent; when it became visible, only
//! Postgres knows.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use serde::{Deserialize, Serialize};
use sluice::simulate::Shape;
use sluice_tests::wait::{SOON, until_true};

use super::say;
use crate::load::Load;
use stamp::Stamp;

mod stamp;

/// Least time between two looks at what is due: some two messages at the devices' pace.
const TICK: Duration = Duration::from_micros(250);

/// What to send.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evenly {
    /// Where to send it.
    pub brokers: String,
    /// To which topic, which is empty.
    pub topic: String,
    /// Its partitions; they are served in turn.
    pub partitions: i32,
    /// Bad messages among a thousand.
    pub bad_per_mille: u32,
    /// Messages a second.
    pub per_second: u64,
    /// At first, so long, nothing counts.
    pub warm_up: Duration,
    /// Then everything that is sent.
    pub counted: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// True when the first message is about to be sent; all else is known in the end.
    pub begun: bool,
    /// Messages sent.
    pub sent: u64,
    /// Those of them that become dead letters.
    pub bad: u64,
    /// From the call that hands a message to librdkafka to the broker's acknowledgement.
    pub acknowledged: Quantiles,
    /// How much later than it was due a message was sent at most.
    pub late_ms: f64,
}

/// How a duration is distributed, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Quantiles {
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let at = |share: f64| {
            let rank = (durations.len() as f64 * share).ceil() as usize;
            let duration = durations.get(rank.saturating_sub(1)).copied().unwrap_or_default();
            duration.as_secs_f64() * 1e3
        };
        Self { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1.0) }
    }
}

/// Sends, and says what came of it.
pub fn run(order: &Evenly) -> Result<()> {
    let (mut messages, bad) = prepare(order);
    let origin = Instant::now();
    let acknowledged = Arc::new(Mutex::new(Vec::with_capacity(messages.len())));
    let producer = connect(order, Reports { origin, acknowledged: acknowledged.clone() })?;
    say(&Seen { begun: true, ..Seen::default() })?;
    let sent = send(order, &producer, &mut messages, origin)?;
    let counts_from = sent.begun + order.warm_up;
    let acknowledged = std::mem::take(&mut *lock(&acknowledged));
    ensure!(acknowledged.len() == messages.len(), "the broker refused messages");
    let counted = acknowledged.into_iter().filter(|(at, _)| *at >= counts_from);
    say(&Seen {
        begun: true,
        sent: messages.len() as u64,
        bad,
        acknowledged: Quantiles::of(counted.map(|(_, took)| took).collect()),
        late_ms: sent.late.as_secs_f64() * 1e3,
    })
}

type KeyAndPayload = (Vec<u8>, Vec<u8>);

/// All messages, and how many of them are bad: while it sends, the producer has little else to do.
fn prepare(order: &Evenly) -> (Vec<KeyAndPayload>, u64) {
    let seconds = (order.warm_up + order.counted).as_secs();
    let load = Load {
        shape: Shape::Short,
        messages: seconds * order.per_second,
        partitions: order.partitions,
        bad_per_mille: order.bad_per_mille,
    };
    let (mut messages, mut bad) = (Vec::new(), 0);
    let Ok(()) = load.each::<Infallible>(|key, payload, quality| {
        messages.push((key.to_vec(), payload.to_vec()));
        bad += u64::from(!quality.is_good());
        Ok(())
    });
    (messages, bad)
}

/// As librdkafka is by default, which gathers messages for 5 ms. What that takes is part of all figures.
fn connect(order: &Evenly, reports: Reports) -> Result<ThreadedProducer<Reports>> {
    let mut config = ClientConfig::new();
    // Offsets are as messages were sent, without gaps.
    config.set("bootstrap.servers", &order.brokers).set("enable.idempotence", "true");
    Ok(config.create_with_context(reports)?)
}

/// When it began, and how much later than it was due a message was sent at most; both since the origin.
struct Sent {
    begun: Duration,
    late: Duration,
}

fn send(
    order: &Evenly,
    producer: &ThreadedProducer<Reports>,
    messages: &mut [KeyAndPayload],
    origin: Instant,
) -> Result<Sent> {
    let partitions = order.partitions as usize;
    let mut stamp = Stamp::new();
    let mut sent = Sent { begun: origin.elapsed(), late: Duration::ZERO };
    for (index, (key, payload)) in messages.iter_mut().enumerate() {
        let due = Duration::from_secs_f64(index as f64 / order.per_second as f64) + sent.begun;
        while let Some(early) = due.checked_sub(origin.elapsed()).filter(|early| !early.is_zero()) {
            sleep(early.max(TICK));
        }
        let now = origin.elapsed();
        sent.late = sent.late.max(now.saturating_sub(due));
        stamp.put(payload);
        let record = BaseRecord::with_opaque_to(&order.topic, now.as_micros() as usize)
            .partition((index % partitions) as i32)
            .key(&*key)
            .payload(&*payload);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    until_true("everything is acknowledged", SOON, || Ok(producer.in_flight_count() == 0))?;
    Ok(sent)
}

/// Notes when a message was sent and how long its acknowledgement took.
struct Reports {
    origin: Instant,
    acknowledged: Arc<Mutex<Vec<(Duration, Duration)>>>,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        eprintln!("{error}: {reason}");
    }
}

impl ProducerContext for Reports {
    /// Microseconds from the origin to the call that sent it.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_us: usize) {
        let sent = Duration::from_micros(sent_us as u64);
        if result.is_ok() {
            lock(&self.acknowledged).push((sent, self.origin.elapsed().saturating_sub(sent)));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
