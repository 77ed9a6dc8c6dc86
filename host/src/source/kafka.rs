//! librdkafka as a source: one client per lane reads the partitions assigned to it by hand, and
//! messages are copied once, into the batch's arena.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::batch::Batch;
use crate::bell::Bell;
use crate::fault::{Fault, Remedy, broker};
use crate::settings::SourceSettings;
use crate::source::native::{FetchError, FetchedQueues, LogQueue};
use crate::source::position::Positions;
use crate::source::{PartitionFault, Room, Source, properties};

/// Most messages taken from librdkafka in one call.
const TAKEN_MAX: usize = 4096;

/// As long as it would take librdkafka to ask by itself.
const LEADERS_WAIT: Duration = Duration::from_secs(1);

/// For as many partitions the client is made until it is known how many the topic has.
const PARTITIONS_EXPECTED: usize = 12;

/// Reads messages of some partitions of one topic.
pub struct KafkaSource {
    client: Client,
    settings: SourceSettings,
    lanes: usize,
    /// Rung when messages have come, among others.
    bell: Arc<Bell>,
    started: BTreeSet<i32>,
    /// True when the client knows who leads the topic's partitions.
    acquainted: bool,
}

struct Client {
    // Dropped before the consumer they belong to.
    fetched: FetchedQueues,
    log: LogQueue,
    consumer: BaseConsumer<Logged>,
    /// Most partitions that one lane may have, as far as was known.
    partitions: usize,
}

impl Client {
    fn new(settings: &SourceSettings, partitions: usize, bell: &Arc<Bell>) -> Result<Self, Fault> {
        let consumer: BaseConsumer<Logged> = properties::fetcher(settings, partitions)
            .create_with_context(Logged)
            .map_err(|error| refused(&error))?;
        let log = LogQueue::of(&consumer);
        let fetched = FetchedQueues::of(&consumer, TAKEN_MAX, bell.clone());
        Ok(Self { fetched, log, consumer, partitions })
    }

    /// Asks how many partitions the topic has and who leads them. librdkafka would find out by itself that it
    /// does not know the leaders, but looks only once a second, and meanwhile fetches nothing.
    fn count_partitions(&self, topic: &str) -> Option<usize> {
        let metadata = self.consumer.fetch_metadata(Some(topic), LEADERS_WAIT).ok()?;
        metadata.topics().first().map(|topic| topic.partitions().len())
    }
}

impl KafkaSource {
    /// Creates the client of one of `lanes`; connects in the background. `bell` is rung when messages have come, and ends
    /// the wait of [`Source::fill`] whoever rings it.
    ///
    /// # Errors
    /// `SL-K001` when librdkafka refuses a property.
    pub fn new(settings: &SourceSettings, lanes: usize, bell: Arc<Bell>) -> Result<Self, Fault> {
        Ok(Self {
            client: Client::new(settings, PARTITIONS_EXPECTED.div_ceil(lanes), &bell)?,
            settings: settings.clone(),
            lanes,
            bell,
            started: BTreeSet::new(),
            acquainted: false,
        })
    }

    fn one(&self, partition: i32, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.settings.topic, partition, offset)
            .expect("a position is never negative");
        list
    }

    /// Makes the client known to the brokers, and another one if the topic has more or fewer partitions than
    /// this one was made for. No answer is no harm.
    fn get_acquainted(&mut self) -> Result<(), Fault> {
        if self.acquainted {
            return Ok(());
        }
        let Some(partitions) = self.client.count_partitions(&self.settings.topic) else {
            return Ok(());
        };
        let partitions = partitions.div_ceil(self.lanes).max(1);
        if partitions != self.client.partitions && self.started.is_empty() {
            self.client = Client::new(&self.settings, partitions, &self.bell)?;
            self.client.count_partitions(&self.settings.topic);
        }
        self.acquainted = true;
        Ok(())
    }

    fn fault(&self, error: &FetchError) -> Option<PartitionFault> {
        let place = match error.partition {
            Some(partition) => format!("topic {} partition {partition}", self.settings.topic),
            None => format!("topic {}", self.settings.topic),
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
        self.get_acquainted()?;
        self.started.insert(partition);
        let list = self.one(partition, Offset::Offset(offset));
        let Client { fetched, consumer, .. } = &mut self.client;
        fetched.add(consumer, &self.settings.topic, partition);
        consumer.incremental_assign(&list).map_err(|error| {
            Fault::stop(broker::UNEXPECTED, format!("failed to read partition {partition}"))
                .because(error)
        })
    }

    fn stop(&mut self, partition: i32) -> Result<(), Fault> {
        if !self.started.remove(&partition) {
            return Ok(());
        }
        let list = self.one(partition, Offset::Invalid);
        self.client.fetched.remove(partition);
        self.client.consumer.incremental_unassign(&list).map_err(|error| {
            Fault::stop(broker::UNEXPECTED, format!("failed to leave partition {partition}"))
                .because(error)
        })
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        room: Room,
        positions: &mut Positions,
        wait: Duration,
    ) -> Vec<PartitionFault> {
        self.client.log.drain(|level, facility, text| log_line(level_of(level), facility, text));
        let mut waited = wait.is_zero();
        while !room.is_full(batch) {
            let messages_max = (room.messages_max - batch.len()).min(TAKEN_MAX);
            let accept = |partition, offset| positions.accept(partition, offset);
            let (count, errors) = self.client.fetched.take(batch, messages_max, accept);
            let faults: Vec<_> = errors.iter().filter_map(|error| self.fault(error)).collect();
            if !faults.is_empty() || (count == 0 && waited) {
                return faults;
            }
            if count == 0 {
                self.bell.wait(wait);
            }
            // What was taken is not kept back for more.
            waited = true;
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

/// Of syslog's levels.
fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// One line of librdkafka's log. Its connection errors (`FAIL`, and `ERROR` where it says them again) repeat each
/// second while a broker is away; the host tells outages itself, once, so they are debug lines here. So are refused
/// commits (`COMMITFAIL`): what the group is told is advice for lag tools, and told again.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning
            if !matches!(facility, "FAIL" | "ERROR" | "COMMITFAIL") =>
        {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}
