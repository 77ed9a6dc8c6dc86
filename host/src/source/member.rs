//! This host as a member of the consumer group: a thread that polls for rebalances and nothing else, so
//! that neither a slow database nor a slow plugin makes the group expel it. It reads no messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::fault::{Fault, broker};
use crate::settings::{SourceSettings, Start};
use crate::source::kafka::{log_line, refused};
use crate::source::native;
use crate::source::properties::{self, ANSWER_WAIT};
use crate::source::rebalance::Ownership;

/// The client of the group's member.
pub struct Member {
    consumer: BaseConsumer<Rebalances>,
    topic: String,
}

impl Member {
    /// Creates the client; it joins the group with [`Member::join`].
    pub fn new(settings: &SourceSettings, ownership: Arc<Ownership>) -> Result<Arc<Self>, Fault> {
        let context = Rebalances { ownership, brokers_down: AtomicBool::new(false) };
        let consumer = properties::member(settings)
            .create_with_context(context)
            .map_err(|error| refused(&error))?;
        Ok(Arc::new(Self { consumer, topic: settings.topic.clone() }))
    }

    /// Joins the group and polls on a thread of its own until `stop`.
    /// A fatal error of the client is handed to `failed`.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub fn join(
        self: &Arc<Self>,
        stop: Arc<AtomicBool>,
        failed: impl Fn(Fault) + Send + 'static,
    ) -> Result<JoinHandle<()>, Fault> {
        self.consumer.subscribe(&[&self.topic]).map_err(|error| {
            Fault::stop(broker::SETTINGS, format!("cannot subscribe to topic {}", self.topic))
                .because(error)
        })?;
        let member = self.clone();
        let poll = move || {
            while !stop.load(Ordering::Acquire) {
                let polled = member.consumer.poll(Duration::from_millis(100));
                if let Some(fault) = polled.and_then(Result::err).and_then(|it| expelled(&it)) {
                    failed(fault);
                    return;
                }
            }
            // Leaves the group, so that others need not wait for the session to expire.
            member.consumer.unsubscribe();
        };
        Ok(std::thread::Builder::new()
            .name("sluice-member".into())
            .spawn(poll)
            .expect("the system gives a thread"))
    }

    /// Kafka's id of the topic.
    ///
    /// # Errors
    /// `SL-K011` when there is no such topic, `SL-K002` when no broker answers, `SL-K013` when it must not
    /// be read.
    pub fn topic_id(&self) -> Result<Uuid, Fault> {
        let doing = format!("describe topic {}", self.topic);
        let answer = native::topic_id(&self.consumer, &self.topic, ANSWER_WAIT);
        if answer.is_ok() {
            self.consumer.context().brokers_answer();
        }
        answer.map_err(|(code, text)| match broker::remedy(code) {
            (broker::UNKNOWN_TOPIC | broker::RIGHTS, _) => broker::fault(&doing, code, &text),
            _ => self.away(&text),
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

    /// Where `partition` begins for a pipeline that has no position in it.
    pub fn start_of(&self, partition: i32, start: Start) -> Result<i64, Fault> {
        let (low, high) = self.watermarks(partition)?;
        Ok(match start {
            Start::Earliest => low,
            Start::Latest => high,
        })
    }

    /// Tells the group where its partitions stand, for lag tools. Only advice: a failure is a debug line.
    ///
    /// # Panics
    /// When an offset is negative.
    pub fn advise(&self, next_offsets: impl Iterator<Item = (i32, i64)>, mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next_offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
                .expect("a position is never negative");
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, mode)
        {
            tracing::debug!(
                "the group did not take our offsets, lag tools may show old ones: {error}"
            );
        }
    }

    fn away(&self, error: &impl std::fmt::Display) -> Fault {
        Fault::retry(broker::AWAY, format!("no broker answers for topic {}: {error}", self.topic))
    }
}

/// Errors that come in place of messages, and after which this client gets no partitions any more. What concerns
/// messages and topics is met, and told, where they are read.
fn expelled(error: &KafkaError) -> Option<Fault> {
    if let KafkaError::MessageConsumptionFatal(code) = error {
        return Some(Fault::stop(broker::EXPELLED, format!("the group refused this host: {code}")));
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
}

impl Rebalances {
    fn brokers_answer(&self) {
        if self.brokers_down.swap(false, Ordering::Relaxed) {
            tracing::info!("brokers answer again");
        }
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if all_down && !self.brokers_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(code = broker::AWAY, "brokers unreachable, waiting for them: {reason}");
        }
    }
}

impl ConsumerContext for Rebalances {
    /// Runs on the member's thread, inside `poll`. librdkafka goes on with the rebalance only when we
    /// have called (un)assign, and sends heartbeats meanwhile.
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
            tracing::warn!("librdkafka refused to rebalance, it will join again: {error}");
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
