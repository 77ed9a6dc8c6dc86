//! This host as a member of the consumer group: polls for rebalances and for nothing else, so
//! that neither a slow database nor a slow plugin makes the group expel it. It reads no messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::bell::Bell;
use crate::fault::{Fault, broker};
use crate::settings::{SourceSettings, Start};
use crate::source::log::{log_line, refused};
use crate::source::native::{self, End};
use crate::source::properties::{self, ANSWER_WAIT};
use crate::source::reasons::Reasons;
use crate::source::rebalance::Ownership;
use crate::threads::{self, Job, Turn, Work};

/// How often to poll although there is nothing to poll for.
const POLL_PERIOD: Duration = Duration::from_secs(3);

/// The client of the group's member.
pub struct Member {
    consumer: BaseConsumer<Rebalances>,
    topic: String,
    /// Where it began.
    brokers: String,
    bell: Arc<Bell>,
    joined: AtomicBool,
}

impl Member {
    /// Creates the client; it joins the group with [`Member::join`].
    pub fn new(settings: &SourceSettings, ownership: Arc<Ownership>) -> Result<Arc<Self>, Fault> {
        let config = properties::member(settings);
        let (brokers_down, reasons) = (AtomicBool::new(false), Reasons::of(&config));
        let context = Rebalances { ownership, brokers_down, reasons };
        let mut consumer: BaseConsumer<Rebalances> =
            config.create_with_context(context).map_err(|error| refused(&error))?;
        let bell = Arc::<Bell>::default();
        let rung = bell.clone();
        consumer.set_nonempty_callback(move || rung.ring());
        let (topic, brokers) = (settings.topic.clone(), settings.brokers.clone());
        let joined = AtomicBool::new(false);
        Ok(Arc::new(Self { consumer, topic, brokers, bell, joined }))
    }

    /// Joins the group, and polls whenever there is something to poll for, until `stop` is set and the bell of
    /// [`Member::bell`] rung. A fatal error of the client is handed to `failed`.
    pub fn join(
        self: &Arc<Self>,
        runtime: &Handle,
        stop: Arc<AtomicBool>,
        failed: impl Fn(Fault) + Send + 'static,
    ) -> Result<Job<()>, Fault> {
        self.consumer.subscribe(&[&self.topic]).map_err(|error| {
            Fault::exit(broker::SETTINGS, format!("cannot subscribe to topic {}", self.topic))
                .because(error)
        })?;
        self.joined.store(true, Ordering::Release);
        let polling = Polling { member: self.clone(), stop, failed };
        Ok(threads::spawn(runtime, self.bell.clone(), polling))
    }

    /// Rung when there is something to poll for.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Kafka's id of the topic.
    ///
    /// # Errors
    /// `SL-K011` when there is no such topic, `SL-K002` when no broker responds, `SL-K013` when it must not
    /// be read.
    pub fn topic_id(&self) -> Result<Uuid, Fault> {
        let doing = format!("describe topic {}", self.topic);
        let answer = native::topic_id(&self.consumer, &self.topic, ANSWER_WAIT);
        if answer.is_ok() {
            self.consumer.context().brokers_answer();
        }
        answer.map_err(|(code, text)| match broker::remedy(code) {
            (broker::UNKNOWN_TOPIC | broker::NOT_AUTHORIZED, _) => {
                broker::fault(&doing, code, &text)
            }
            _ => {
                native::begin_again(self.consumer.client(), &self.brokers);
                self.away(&text)
            }
        })
    }

    /// Numbers of the topic's partitions.
    pub fn partitions(&self) -> Result<Vec<i32>, Fault> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), ANSWER_WAIT)
            .map_err(|error| self.away(&error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        Ok(topic
            .map(|it| it.partitions().iter().map(MetadataPartition::id).collect())
            .unwrap_or_default())
    }

    /// Offsets of the oldest message of `partition` and behind the newest one.
    pub fn watermarks(&self, partition: i32) -> Result<(i64, i64), Fault> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, ANSWER_WAIT)
            .map_err(|error| self.away(&error))
    }

    /// Offsets of the ends of `partitions`. Without those that gave no answer.
    pub fn ends(&self, partitions: &[i32], end: End) -> Result<BTreeMap<i32, i64>, Fault> {
        native::ends(&self.consumer, &self.topic, partitions, end, ANSWER_WAIT)
            .map_err(|(_, text)| self.away(&text))
    }

    /// Where `partition` begins for a pipeline that has no position in it.
    pub fn start_of(&self, partition: i32, start: Start) -> Result<i64, Fault> {
        let (low, high) = self.watermarks(partition)?;
        Ok(match start {
            Start::Earliest => low,
            Start::Latest => high,
        })
    }

    /// Tells the group where its partitions stand, for lag tools. Informational only: a failure is a debug line.
    ///
    /// # Panics
    /// When an offset is negative.
    pub fn inform(&self, next_offsets: impl Iterator<Item = (i32, i64)>, mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next_offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
                .expect("a position is never negative");
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            tracing::debug!(
                "failed to commit informational offsets, lag tools may show old ones: {error}"
            );
        }
    }

    fn away(&self, error: &impl std::fmt::Display) -> Fault {
        // Until it has joined, nobody else polls, and there are no rebalances to be met by that.
        while !self.joined.load(Ordering::Acquire) && native::has_events(&self.consumer) {
            self.consumer.poll(Duration::ZERO);
        }
        self.consumer.context().reasons.away(&self.topic, error)
    }
}

/// The member's turns: they serve rebalances.
struct Polling<F> {
    member: Arc<Member>,
    stop: Arc<AtomicBool>,
    failed: F,
}

impl<F: Fn(Fault) + Send + 'static> Work for Polling<F> {
    type End = ();

    fn turn(&mut self) -> Turn<()> {
        let consumer = &self.member.consumer;
        // Once more than needed: librdkafka expels whoever does not poll for `max.poll.interval.ms`.
        loop {
            if self.stop.load(Ordering::Acquire) {
                // Leaves the group, so that others need not wait for the session to expire.
                consumer.unsubscribe();
                return Turn::End(());
            }
            let polled = consumer.poll(Duration::ZERO);
            if let Some(fault) = polled.and_then(Result::err).and_then(|it| expelled(&it)) {
                (self.failed)(fault);
                return Turn::End(());
            }
            if !native::has_events(consumer) {
                return Turn::Sleep(POLL_PERIOD);
            }
        }
    }
}

/// Errors that come in place of messages, and after which this client gets no partitions any more. What concerns
/// messages and topics is met, and told, where they are read.
fn expelled(error: &KafkaError) -> Option<Fault> {
    if let KafkaError::MessageConsumptionFatal(code) = error {
        return Some(Fault::exit(broker::EXPELLED, format!("the group refused this host: {code}")));
    }
    let code = error.rdkafka_error_code()?;
    let refused = matches!(code, RDKafkaErrorCode::GroupAuthorizationFailed)
        || broker::remedy(code).0 == broker::NOT_ADMITTED;
    refused.then(|| broker::fault("stay in the group", code, &code.to_string()))
}

/// Turns librdkafka's callbacks into claims and releases.
pub struct Rebalances {
    ownership: Arc<Ownership>,
    brokers_down: AtomicBool,
    reasons: Reasons,
}

impl Rebalances {
    fn brokers_answer(&self) {
        self.reasons.forget();
        if self.brokers_down.swap(false, Ordering::Relaxed) {
            tracing::info!("brokers reachable again");
        }
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reasons.note(&error, reason);
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if all_down && !self.brokers_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(code = broker::AWAY, "brokers unreachable, retrying: {reason}");
        }
    }
}

impl ConsumerContext for Rebalances {
    /// Runs inside `poll`. librdkafka goes on with the rebalance only when we
    /// have called (un)assign, and sends heartbeats in the meantime.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers: Vec<i32> =
            partitions.elements().iter().map(TopicPartitionListElem::partition).collect();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let answered = if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = ?numbers, "partitions assigned");
            let answered = assign(consumer, partitions, cooperative);
            self.ownership.assigned(numbers);
            answered
        } else {
            let lost = consumer.assignment_lost();
            tracing::info!(partitions = ?numbers, lost, "partitions released");
            self.ownership.revoked(&numbers, lost);
            if cooperative {
                consumer.incremental_unassign(partitions)
            } else {
                consumer.unassign()
            }
        };
        if let Err(error) = answered {
            tracing::warn!("librdkafka refused to rebalance, joining the group again: {error}");
        }
    }
}

/// Tells librdkafka that the partitions are taken, and keeps it from reading them: lanes do that.
fn assign(
    consumer: &BaseConsumer<Rebalances>,
    partitions: &mut TopicPartitionList,
    cooperative: bool,
) -> KafkaResult<()> {
    partitions.set_all_offsets(Offset::End)?;
    if cooperative {
        consumer.incremental_assign(partitions)?;
    } else {
        consumer.assign(partitions)?;
    }
    consumer.pause(partitions)
}
