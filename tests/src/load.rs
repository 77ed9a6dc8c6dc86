//! A load that knows the truth: messages of a known disposition with ids of their own, sent with `acks=all`.
//! The disposition stands in a header, so that whoever re-reads the topic knows it without asking the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

pub use message::{Made, Mix, TRUTH};

use crate::kafka::Topic;

pub mod bomb;
pub mod message;

const FLUSH_MAX: Duration = Duration::from_secs(60);

/// Payloads of 4 MiB fit; the brokers of the tests take as much.
const MESSAGE_BYTES_MAX: &str = "8000000";

/// Sends messages to one topic, each partition with its own count.
pub struct Load {
    producer: ThreadedProducer<Acknowledged>,
    acknowledged: Arc<Counts>,
    topic: Topic,
    mix: Mix,
    make: Make,
    next: Vec<u64>,
    turn: usize,
}

/// Makes message `number` of a partition; always the same.
pub type Make = fn(Mix, i32, u64) -> Made;

/// What the broker has acknowledged and refused.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    refused: AtomicU64,
}

struct Acknowledged(Arc<Counts>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.0.acknowledged } else { &self.0.refused };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Load {
    /// A load of `mix` for `topic`.
    pub fn new(topic: &Topic, mix: Mix) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let partitions = usize::try_from(topic.partitions)?;
        let producer = producer(topic, &counts, &[])?;
        Ok(Self {
            producer,
            acknowledged: counts,
            topic: topic.clone(),
            mix,
            make: message::make,
            next: vec![0; partitions],
            turn: 0,
        })
    }

    /// Compresses what is sent from now on with `codec`.
    pub fn compress(&mut self, codec: &str) -> Result<()> {
        let codec = [("compression.type", codec)];
        self.producer = producer(&self.topic, &self.acknowledged, &codec)?;
        Ok(())
    }

    /// Sends in transactions from now on, under `id`: between [`begin`](Self::begin) and [`commit`](Self::commit) or
    /// [`abort`](Self::abort).
    pub fn in_transactions(mut self, id: &str) -> Result<Self> {
        // A transaction that its producer leaves open is aborted by the broker after its time.
        let properties = [("transactional.id", id), ("transaction.timeout.ms", "120000")];
        self.producer = producer(&self.topic, &self.acknowledged, &properties)?;
        self.producer.init_transactions(FLUSH_MAX)?;
        Ok(self)
    }

    /// Where it goes.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<()> {
        self.producer.begin_transaction().context("begin a transaction")
    }

    /// Commits the transaction.
    pub fn commit(&self) -> Result<()> {
        self.producer.commit_transaction(FLUSH_MAX).context("commit a transaction")
    }

    /// Aborts the transaction: nobody reads what was sent in it.
    pub fn abort(&self) -> Result<()> {
        self.producer.abort_transaction(FLUSH_MAX).context("abort a transaction")
    }

    /// Sends to all partitions that `topic` has now.
    pub fn follow(&mut self, topic: &Topic) -> Result<()> {
        self.topic = topic.clone();
        self.next.resize(usize::try_from(topic.partitions)?, 0);
        // A producer learns of new partitions minutes later; a new one knows them.
        self.producer = producer(&self.topic, &self.acknowledged, &[])?;
        Ok(())
    }

    /// Sends `count` messages, partition by partition in turn, and waits until all are acknowledged.
    pub fn send(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.send_one()?;
        }
        self.flush()
    }

    /// Sends `count` messages to one partition and waits until all are acknowledged.
    pub fn send_to(&mut self, partition: usize, count: usize) -> Result<()> {
        for _ in 0..count {
            self.send_to_partition(partition)?;
        }
        self.flush()
    }

    /// Sends messages as they are, each to its partition, and waits until all are acknowledged.
    pub fn send_made(&mut self, messages: &[(i32, Made)]) -> Result<()> {
        messages.iter().try_for_each(|(partition, made)| self.enqueue(*partition, made))?;
        self.flush()
    }

    /// Counts on from `number` in all partitions: for a topic that was created again, whose rows must differ from
    /// those of the old one.
    #[must_use]
    pub fn counting_from(mut self, number: u64) -> Self {
        self.next.fill(number);
        self
    }

    /// Sends messages that `make` makes.
    #[must_use]
    pub fn making(mut self, make: Make) -> Self {
        self.make = make;
        self
    }

    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.acknowledged.load(Ordering::Relaxed)
    }

    /// Goes on sending about `per_second` in the background until stopped.
    pub fn stream(self, per_second: u32) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::clone(&self.acknowledged);
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || self.run(per_second, &stop)
        });
        Stream { stop, counts, thread: Some(thread) }
    }

    fn run(mut self, per_second: u32, stop: &AtomicBool) -> Result<Self> {
        let start = Instant::now();
        let mut sent = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let due = start.elapsed().as_secs_f64() * f64::from(per_second);
            while (sent as f64) < due {
                self.send_one()?;
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.flush()?;
        Ok(self)
    }

    fn send_one(&mut self) -> Result<()> {
        let partition = self.turn % self.next.len();
        self.turn += 1;
        self.send_to_partition(partition)
    }

    fn send_to_partition(&mut self, partition: usize) -> Result<()> {
        let number = self.next[partition];
        self.next[partition] += 1;
        let partition = i32::try_from(partition)?;
        let made = (self.make)(self.mix, partition, number);
        self.enqueue(partition, &made)
    }

    fn enqueue(&self, partition: i32, made: &Made) -> Result<()> {
        loop {
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic.name)
                .partition(partition)
                .timestamp(made.timestamp_ms)
                .headers(made.owned_headers());
            if let Some(key) = &made.key {
                record = record.key(key);
            }
            if let Some(payload) = &made.payload {
                record = record.payload(payload);
            }
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error).context("send a message"),
            }
        }
    }

    fn flush(&self) -> Result<()> {
        self.producer.flush(FLUSH_MAX).context("flush the producer")?;
        match self.acknowledged.refused.load(Ordering::Relaxed) {
            0 => Ok(()),
            refused => bail!("the broker refused {refused} messages"),
        }
    }
}

fn producer(
    topic: &Topic,
    counts: &Arc<Counts>,
    properties: &[(&str, &str)],
) -> Result<ThreadedProducer<Acknowledged>> {
    let mut config = topic.client();
    // A thread of an idempotent producer spins for as long as more is to be sent to a partition that five messages are
    // in flight to (`rd_kafka_toppar_producer_serve`; librdkafka's issues 2565 and 3692), and a broker that shares the
    // machine with it answers all the later. One request at a time keeps the order, too; the checker knows that it may
    // send a message twice.
    config
        .set("acks", "all")
        .set("max.in.flight", "1")
        .set("linger.ms", "5")
        .set("message.max.bytes", MESSAGE_BYTES_MAX);
    for (name, value) in properties {
        config.set(*name, *value);
    }
    Ok(config.create_with_context(Acknowledged(Arc::clone(counts)))?)
}

impl std::fmt::Debug for Load {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Load")
            .field("topic", &self.topic)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// A load that runs in the background. Dropping it stops it without looking at its result.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<Result<Load>>>,
}

impl Stream {
    /// Messages acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops; all that was sent is acknowledged when this returns.
    pub fn stop(mut self) -> Result<Load> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped before")?;
        thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
