//! Sends generated messages to a topic and keeps a ledger of what the brokers acknowledged. Does not
//! know what is in a message.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

pub use ledger::Ledger;

use crate::fault::Fault;
use crate::source::handshake;

mod ledger;

/// How long brokers may take to answer before they count as not reachable.
const REACH: Duration = Duration::from_secs(10);
/// Messages between two looks at the delivery reports.
const SERVE_EVERY: u64 = 256;
/// Messages that are sent at a rate are handed over at most so often, all that are due together: librdkafka's threads wake
/// up for each handover.
const BURST_EVERY: Duration = Duration::from_millis(10);
/// After so long without an answer messages are handed over all the same.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Where messages go, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The topic; it must exist (see [`create_topic`]).
    pub topic: String,
    /// Which partition a message goes to.
    pub partitioner: Partitioner,
    /// How batches are compressed.
    pub compression: Compression,
    /// Handed to librdkafka as they are, and win over our own.
    pub properties: BTreeMap<String, String>,
}

/// Which partition a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// By the murmur2 hash of its key, as Java clients do.
    Key,
    /// Message `i` to partition `i % partitions`.
    RoundRobin,
    /// Messages without keys, a whole batch to one partition, as librdkafka and Java clients do.
    Sticky,
    /// All to this one.
    Fixed(i32),
}

impl FromStr for Partitioner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "key" => Ok(Self::Key),
            "round-robin" => Ok(Self::RoundRobin),
            "sticky" => Ok(Self::Sticky),
            number => match number.parse() {
                Ok(partition) if partition >= 0 => Ok(Self::Fixed(partition)),
                _ => {
                    Err("one of key, round-robin, sticky, or the number of a partition".to_owned())
                }
            },
        }
    }
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A connection to the brokers that sends messages in order, each exactly once.
pub struct Producer {
    inner: BaseProducer<Reports>,
    ledger: Arc<Ledger>,
    topic: String,
    partitions: u64,
    partitioner: Partitioner,
    sent: u64,
    /// Messages that are due by then may be sent.
    due: Instant,
}

/// Hands librdkafka's delivery reports to the ledger.
struct Reports(Arc<Ledger>);

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
    }
}

impl ProducerContext for Reports {
    /// When the message was handed over, on the ledger's clock. Its own timestamp would not do: brokers
    /// may answer with theirs.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_at_ms: usize) {
        self.0.enter(result, sent_at_ms as u64);
    }
}

impl Producer {
    /// Connects and looks up the topic's partitions.
    ///
    /// # Errors
    /// `SL-S001` when no broker responds, `SL-K020` when they refuse the connection, `SL-S002` when there is no such topic
    /// or partition.
    pub fn connect(target: &Target) -> Result<Self, Fault> {
        let ledger = Arc::new(Ledger::default());
        let inner: BaseProducer<Reports> = config(target)
            .create_with_context(Reports(Arc::clone(&ledger)))
            .map_err(|error| Fault::block("SL-S004", "settings of the producer").because(error))?;
        let partitions = partitions(&inner, target)?;
        ledger.open(partitions);
        Ok(Self {
            inner,
            ledger,
            topic: target.topic.clone(),
            partitions: partitions as u64,
            partitioner: target.partitioner,
            sent: 0,
            due: Instant::now(),
        })
    }

    /// Hands a message to librdkafka; waits while its queue is full.
    ///
    /// # Errors
    /// `SL-S003` when the message is refused, or an earlier one was not acknowledged.
    pub fn send(&mut self, key: &[u8], payload: &[u8]) -> Result<(), Fault> {
        let sent_at_ms = self.ledger.now_ms() as usize;
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, sent_at_ms)
            .payload(payload);
        match self.partitioner {
            Partitioner::Key => record = record.key(key),
            Partitioner::RoundRobin => {
                record = record.key(key).partition((self.sent % self.partitions) as i32);
            }
            Partitioner::Sticky => {}
            Partitioner::Fixed(partition) => record = record.key(key).partition(partition),
        }
        while let Err((error, refused)) = self.inner.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(Fault::block("SL-S003", format!("failed to send to {}", self.topic))
                    .because(error));
            }
            self.inner.poll(Duration::from_millis(5));
            record = refused;
        }
        self.sent += 1;
        if self.sent.is_multiple_of(SERVE_EVERY) {
            self.inner.poll(Duration::ZERO);
            self.ledger.check(&self.topic)?;
        }
        Ok(())
    }

    /// Waits until a message that is due at `due` may be sent. Before each burst brokers have answered what was sent before:
    /// one of librdkafka's threads spins while messages wait for a partition that already has its share of requests under
    /// way (its issues 2565 and 3692).
    pub fn wait_for(&mut self, due: Instant) {
        if due <= self.due {
            return;
        }
        self.serve_until(due.max(self.due + BURST_EVERY));
        let answered_by = Instant::now() + ANSWER_MAX;
        while self.inner.in_flight_count() > 0 && Instant::now() < answered_by {
            self.inner.poll(BURST_EVERY);
        }
        self.due = Instant::now();
    }

    /// Takes in delivery reports until `until`.
    pub fn serve_until(&self, until: Instant) {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            // librdkafka counts milliseconds, and would not wait at all for a part of one.
            if left < Duration::from_millis(1) {
                std::thread::sleep(left);
                self.inner.poll(Duration::ZERO);
                return;
            }
            self.inner.poll(left);
        }
    }

    /// Takes in what delivery reports there are.
    pub fn serve(&self) {
        self.inner.poll(Duration::ZERO);
    }

    /// Waits until the brokers have acknowledged everything.
    ///
    /// # Errors
    /// `SL-S003` when they did not within `deadline`.
    pub fn flush(&self, deadline: Duration) -> Result<(), Fault> {
        let until = Instant::now() + deadline;
        while self.inner.in_flight_count() > 0 && Instant::now() < until {
            self.inner.poll(Duration::from_millis(20));
            self.ledger.check(&self.topic)?;
        }
        self.inner.flush(Duration::from_millis(1)).map_err(|error| {
            Fault::block("SL-S003", format!("failed to send to {}", self.topic)).because(error)
        })?;
        self.ledger.check(&self.topic)
    }

    /// Messages handed to librdkafka so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Number of partitions of the topic.
    pub fn partitions(&self) -> usize {
        self.partitions as usize
    }

    /// What the brokers acknowledged; may be read from other threads.
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }
}

/// Creates `topic` unless it is there, with the replication that the brokers default to.
///
/// # Errors
/// `SL-S001` when no broker responds, `SL-K020` when they refuse the connection, `SL-S002` when they refuse the request.
pub fn create_topic(target: &Target, partitions: i32) -> Result<(), Fault> {
    let admin: AdminClient<DefaultClientContext> = config(target)
        .create()
        .map_err(|error| Fault::block("SL-S004", "settings of the producer").because(error))?;
    let topic = NewTopic::new(&target.topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().request_timeout(Some(REACH));
    let answer = block_on(admin.create_topics([&topic], &options));
    match answer.map_err(|error| unreachable_brokers(target, error))?.pop() {
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
        Some(Err((_, code))) => {
            Err(Fault::block("SL-S002", format!("failed to create topic {}", target.topic))
                .because(KafkaError::AdminOp(code)))
        }
    }
}

/// Deletes `topic` with all its messages.
///
/// # Errors
/// `SL-S001` when no broker responds, `SL-K020` when they refuse the connection, `SL-S002` when they refuse the request.
pub fn delete_topic(target: &Target) -> Result<(), Fault> {
    let admin: AdminClient<DefaultClientContext> = config(target)
        .create()
        .map_err(|error| Fault::block("SL-S004", "settings of the producer").because(error))?;
    let options = AdminOptions::new().request_timeout(Some(REACH));
    let answer = block_on(admin.delete_topics(&[&target.topic], &options));
    match answer.map_err(|error| unreachable_brokers(target, error))?.pop() {
        Some(Err((_, code))) => {
            Err(Fault::block("SL-S002", format!("failed to delete topic {}", target.topic))
                .because(KafkaError::AdminOp(code)))
        }
        Some(Ok(_)) | None => Ok(()),
    }
}

fn config(target: &Target) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &target.brokers)
        .set("client.id", "sluice-simulate")
        // A checker counts what is in the topic: no duplicates by retries, no change of order.
        .set("enable.idempotence", "true")
        .set("linger.ms", "10")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "500000")
        .set("compression.type", target.compression.name())
        .set("partitioner", "murmur2_random");
    for (name, value) in &target.properties {
        config.set(name, value);
    }
    config
}

fn partitions(producer: &BaseProducer<Reports>, target: &Target) -> Result<usize, Fault> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(&target.topic), REACH)
        .map_err(|error| unreachable_brokers(target, error))?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if count == 0 {
        return Err(Fault::block("SL-S002", format!("there is no topic {}", target.topic)));
    }
    match target.partitioner {
        Partitioner::Fixed(partition) if partition as usize >= count => Err(Fault::block(
            "SL-S002",
            format!("topic {} has no partition {partition}, only {count}", target.topic),
        )),
        _ => Ok(count),
    }
}

/// That they refuse us says more than that nobody answered.
fn unreachable_brokers(target: &Target, error: KafkaError) -> Fault {
    handshake::refusal(&config(target), &target.topic).unwrap_or_else(|| {
        let message = format!("no answer from the brokers {}", target.brokers);
        Fault::retry("SL-S001", message).because(error)
    })
}

/// librdkafka answers on a thread of its own; all there is to do here is wait.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O needs nothing from the system")
        .block_on(future)
}

/// A name that no other run has taken.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{:08x}", RandomState::new().hash_one(0) as u32)
}

#[cfg(test)]
mod tests {
    use rdkafka::Message as _;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::MockCluster;
    use rdkafka::{Offset, TopicPartitionList};

    use super::*;

    fn target(cluster: &MockCluster<'_, impl ClientContext>, partitioner: Partitioner) -> Target {
        Target {
            brokers: cluster.bootstrap_servers(),
            topic: "readings".to_owned(),
            partitioner,
            compression: Compression::None,
            properties: BTreeMap::new(),
        }
    }

    /// Sends `count` messages and reads the topic back: partition, key and payload of each.
    fn round_trip(partitioner: Partitioner, count: usize) -> Vec<(i32, Option<String>, String)> {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 12, 1).unwrap();
        let target = target(&cluster, partitioner);
        let mut producer = Producer::connect(&target).unwrap();
        for number in 0..count {
            let key = format!("hems-{:08}", number % 10);
            producer.send(key.as_bytes(), number.to_string().as_bytes()).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
        let ledger = producer.ledger();
        assert_eq!(ledger.acknowledged(), count as u64);
        let read = read_back(&target, count);
        for partition in 0..12 {
            let there = read.iter().filter(|(of, ..)| *of == partition).count();
            assert_eq!(ledger.end(partition), there as i64, "partition {partition}");
        }
        read
    }

    fn read_back(target: &Target, count: usize) -> Vec<(i32, Option<String>, String)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &target.brokers)
            .set("group.id", "reader")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        let mut start = TopicPartitionList::new();
        for partition in 0..12 {
            start.add_partition_offset(&target.topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&start).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut messages = Vec::new();
        while messages.len() < count {
            let message = consumer.poll(Duration::from_secs(10)).expect("a message").unwrap();
            messages.push((
                message.partition(),
                message.key().map(text),
                text(message.payload().unwrap()),
            ));
        }
        messages
    }

    /// Murmur2 of the keys as Java computes it, modulo 12.
    #[test]
    fn by_key_a_message_goes_where_a_java_client_sends_it() {
        let expected: Vec<i32> = (0..10).map(|n| java_partition(&format!("hems-{n:08}"))).collect();
        for (partition, key, payload) in round_trip(Partitioner::Key, 100) {
            let number: usize = payload.parse().unwrap();
            assert_eq!(partition, expected[number % 10], "{key:?}");
        }
    }

    /// `Utils.toPositive(Utils.murmur2(key)) % 12`, transcribed from Kafka's clients.
    fn java_partition(key: &str) -> i32 {
        const M: u32 = 0x5bd1_e995;
        let data = key.as_bytes();
        let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
        let mut words = data.chunks_exact(4);
        for word in &mut words {
            let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
            k ^= k >> 24;
            hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
        }
        let rest = words.remainder();
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        if !rest.is_empty() {
            hash = hash.wrapping_mul(M);
        }
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(M);
        hash ^= hash >> 15;
        (hash & 0x7fff_ffff) as i32 % 12
    }

    #[test]
    fn round_robin_sends_message_i_to_partition_i_modulo_their_number() {
        for (partition, _, payload) in round_trip(Partitioner::RoundRobin, 100) {
            assert_eq!(partition, payload.parse::<i32>().unwrap() % 12);
        }
    }

    #[test]
    fn sticky_messages_have_no_key() {
        assert!(round_trip(Partitioner::Sticky, 100).iter().all(|(_, key, _)| key.is_none()));
    }

    #[test]
    fn a_fixed_partition_gets_everything_in_order() {
        let read = round_trip(Partitioner::Fixed(7), 1000);
        for (number, (partition, key, payload)) in read.iter().enumerate() {
            assert_eq!((*partition, payload.as_str()), (7, number.to_string().as_str()));
            assert!(key.is_some());
        }
    }

    #[test]
    fn a_missing_partition_and_silent_brokers_are_told_apart() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 12, 1).unwrap();
        let error = Producer::connect(&target(&cluster, Partitioner::Fixed(12))).err().unwrap();
        assert_eq!(error.to_string(), "SL-S002: topic readings has no partition 12, only 12");
    }

    #[test]
    fn partitioners_are_read_from_the_command_line() {
        let check = |text: &str, expected| assert_eq!(text.parse::<Partitioner>().ok(), expected);
        check("key", Some(Partitioner::Key));
        check("round-robin", Some(Partitioner::RoundRobin));
        check("sticky", Some(Partitioner::Sticky));
        check("11", Some(Partitioner::Fixed(11)));
        check("-1", None);
        check("keys", None);
    }
}
