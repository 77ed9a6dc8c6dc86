//! librdkafka as a source: one client per lane reads the partitions assigned to it by hand, and
//! messages are copied once, into the batch's arena.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::batch::Batch;
use crate::fault::{Fault, Remedy, broker};
use crate::settings::SourceSettings;
use crate::source::native::{FetchError, FetchedQueue};
use crate::source::position::Positions;
use crate::source::{PartitionFault, Room, Source, properties};

/// Most messages taken from librdkafka in one call.
const TAKEN_MAX: usize = 4096;

/// As long as it would take librdkafka to ask by itself.
const LEADERS_WAIT: Duration = Duration::from_secs(1);

/// Reads messages of some partitions of one topic.
pub struct KafkaSource {
    // Dropped before the consumer it belongs to.
    fetched: FetchedQueue,
    consumer: BaseConsumer<Logged>,
    topic: String,
    started: BTreeSet<i32>,
    /// True when the client has asked who leads the topic's partitions.
    acquainted: bool,
}

impl KafkaSource {
    /// Creates the client; connects in the background.
    ///
    /// # Errors
    /// `SL-K001` when librdkafka refuses a property.
    pub fn new(settings: &SourceSettings) -> Result<Self, Fault> {
        let consumer: BaseConsumer<Logged> = properties::fetcher(settings)
            .create_with_context(Logged)
            .map_err(|error| refused(&error))?;
        let fetched = FetchedQueue::of(&consumer, TAKEN_MAX);
        Ok(Self {
            fetched,
            consumer,
            topic: settings.topic.clone(),
            started: BTreeSet::new(),
            acquainted: false,
        })
    }

    fn one(&self, partition: i32, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, offset)
            .expect("a position is never negative");
        list
    }

    /// Asks for the leaders of the partitions once. librdkafka would find out by itself that it does not know
    /// them, but looks only once a second, and meanwhile fetches nothing. No answer is no harm.
    fn get_acquainted(&mut self) {
        if !self.acquainted {
            self.acquainted = self.consumer.fetch_metadata(Some(&self.topic), LEADERS_WAIT).is_ok();
        }
    }

    fn fault(&self, error: &FetchError) -> Option<PartitionFault> {
        let place = match error.partition {
            Some(partition) => format!("topic {} partition {partition}", self.topic),
            None => format!("topic {}", self.topic),
        };
        let fault = broker::fault(&format!("read {place}"), error.code, &error.text);
        if fault.remedy == Remedy::Retry {
            let partition = error.partition;
            tracing::warn!(partition, "broker error, trying again: {}", fault.message);
            return None;
        }
        Some(PartitionFault { partition: error.partition, fault })
    }
}

impl Source for KafkaSource {
    fn start(&mut self, partition: i32, offset: i64) -> Result<(), Fault> {
        self.stop(partition)?;
        self.get_acquainted();
        self.started.insert(partition);
        let list = self.one(partition, Offset::Offset(offset));
        self.consumer.incremental_assign(&list).map_err(|error| {
            Fault::stop(broker::UNEXPECTED, format!("failed to read partition {partition}"))
                .because(error)
        })
    }

    fn stop(&mut self, partition: i32) -> Result<(), Fault> {
        if !self.started.remove(&partition) {
            return Ok(());
        }
        let list = self.one(partition, Offset::Invalid);
        self.consumer.incremental_unassign(&list).map_err(|error| {
            Fault::stop(broker::UNEXPECTED, format!("failed to leave partition {partition}"))
                .because(error)
        })
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        room: Room,
        positions: &mut Positions,
        mut wait: Duration,
    ) -> Vec<PartitionFault> {
        while !room.is_full(batch) {
            let messages_max = (room.messages_max - batch.len()).min(TAKEN_MAX);
            let accept = |partition, offset| positions.accept(partition, offset);
            let (count, errors) = self.fetched.take(batch, messages_max, wait, accept);
            let faults: Vec<_> = errors.iter().filter_map(|error| self.fault(error)).collect();
            // A call that came back with less than asked for has emptied the queue.
            if count < messages_max || !faults.is_empty() {
                return faults;
            }
            wait = Duration::ZERO;
        }
        Vec::new()
    }
}

/// `SL-K001`: librdkafka does not take the properties.
pub fn refused(error: &KafkaError) -> Fault {
    Fault::stop(broker::SETTINGS, format!("librdkafka refuses the settings: {error}"))
}

/// Sends librdkafka's log lines to the host's log.
pub struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ConsumerContext for Logged {}

/// One line of librdkafka's log. Its connection errors repeat each second while a broker is away; the
/// host tells outages itself, once, so they are debug lines here.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning if facility != "FAIL" => {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}
