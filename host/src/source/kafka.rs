//! librdkafka as a source: a lane reads the partitions assigned to it by hand, by a client that lanes of
//! other topics may share, and messages are copied once, into the batch's arena.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::bell::Bell;
use crate::fault::{Fault, Remedy, broker};
use crate::settings::SourceSettings;
use crate::sink::LastRead;
use crate::source::clients::Lease;
use crate::source::log::{level_of, log_line};
use crate::source::native::{FetchError, FetchedQueues, Need, Taken, Topic};
use crate::source::position::{Doubt, Positions};
use crate::source::{Ease, PartitionFault, Room, Source, properties};

/// Most messages taken from librdkafka in one call.
const TAKEN_MAX: usize = 4096;

/// So often it is looked how much was fetched ahead while nothing is taken.
const FULL_WAIT: Duration = Duration::from_millis(50);
/// So many times what all queues may contain may have come before fetching is suspended. Twice as much comes in good order: a
/// queue that is almost full takes one response more; and payloads are not all that comes.
const AHEAD_SHARE_MAX: usize = 3;

/// As long as it would take librdkafka to ask by itself.
const LEADERS_WAIT: Duration = Duration::from_secs(1);

/// What comes while nothing is needed is asked for so long before it is: time for two answers of a broker, because the
/// first one, which was kept back, has only what came soon after the fetch before. The longer the rest, the larger the
/// second one.
const AHEAD_MIN: Duration = Duration::from_millis(3);
const AHEAD_MAX: Duration = Duration::from_millis(40);
const AHEAD_SHARE: u32 = 25;
/// Longest time without asking, because a broker that gets no word for `socket.timeout.ms` counts as gone.
const REST_MAX: Duration = Duration::from_secs(1);
/// The same while others read by the same client for whom any message may be the first after silence.
const REST_MAX_BESIDE_IDLE: Duration = Duration::from_millis(20);

/// Reads messages of some partitions of one topic.
pub struct KafkaSource {
    reader: Reader,
    settings: SourceSettings,
    lanes: usize,
    /// Rung when messages have come, among others.
    bell: Arc<Bell>,
    started: BTreeSet<i32>,
    /// True when the client knows who leads the topic's partitions.
    acquainted: bool,
    /// Those among them that are not read for now, because what was fetched ahead takes too much memory.
    suspended: BTreeSet<i32>,
    ahead: Ahead,
    rest: Rest,
}

/// What was fetched and not taken yet, as far as can be told. librdkafka bounds payloads and the number of messages, but
/// neither keys nor headers.
#[derive(Debug, Default)]
struct Ahead {
    /// Bytes that had come over the client's connections when this was reckoned last.
    received: u64,
    bytes: u64,
}

impl Ahead {
    /// `taken` were put into a batch since the last time.
    fn reckon(&mut self, received: u64, taken: usize) {
        let came = received.saturating_sub(std::mem::replace(&mut self.received, received));
        // What was compressed on its way is more when it is taken.
        self.bytes = (self.bytes + came).saturating_sub(taken as u64);
    }
}

/// When the source does without messages.
struct Rest {
    /// Until when.
    until: Option<Instant>,
    /// When it last ended.
    over: Option<Instant>,
    /// How long it is asked from then on before the next rest.
    ahead: Duration,
}

/// A client and what it reads for one lane.
struct Reader {
    // Dropped before the client they belong to.
    fetched: FetchedQueues,
    topic: Topic,
    lease: Lease,
    bell: Arc<Bell>,
    need: Need,
    errors_seen: u64,
    /// Most partitions that one lane may have, as far as was known.
    partitions: usize,
}

impl Reader {
    fn new(settings: &SourceSettings, partitions: usize, bell: &Arc<Bell>) -> Result<Self, Fault> {
        let lease = Lease::take(&properties::fetcher(settings, partitions), &settings.topic)?;
        let topic = Topic::new(lease.client(), &settings.topic);
        let fetched = FetchedQueues::new(TAKEN_MAX, bell.clone());
        lease.client().join(bell);
        let (bell, need) = (bell.clone(), Need::default());
        Ok(Self { fetched, topic, lease, bell, need, errors_seen: 0, partitions })
    }

    /// Asks how many partitions the topic has and who leads them. librdkafka would find out by itself that it
    /// does not know the leaders, but looks only once a second, and fetches nothing until then.
    fn count_partitions(&self, topic: &str) -> Option<usize> {
        let client = self.lease.client().client();
        let metadata = client.fetch_metadata(Some(topic), LEADERS_WAIT).ok()?;
        metadata.topics().first().map(|topic| topic.partitions().len())
    }

    fn needs(&mut self, need: Need) {
        self.lease.client().change_need(self.need, need);
        self.need = need;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.lease.client().leave(&self.bell, self.need);
    }
}

impl KafkaSource {
    /// The source of one of `lanes`, for a topic of `partitions`; connects in the background. `bell` is rung when messages
    /// have come.
    ///
    /// # Errors
    /// `SL-K001` when librdkafka refuses a property.
    pub fn new(
        settings: &SourceSettings,
        lanes: usize,
        partitions: usize,
        bell: Arc<Bell>,
    ) -> Result<Self, Fault> {
        Ok(Self {
            reader: Reader::new(settings, partitions.div_ceil(lanes).max(1), &bell)?,
            settings: settings.clone(),
            lanes,
            bell,
            started: BTreeSet::new(),
            suspended: BTreeSet::new(),
            ahead: Ahead::default(),
            acquainted: false,
            rest: Rest { until: None, over: None, ahead: AHEAD_MIN },
        })
    }

    /// Makes the client known to the brokers, and takes another one if the topic has more or fewer partitions than
    /// this one was made for. No answer is no harm.
    fn get_acquainted(&mut self) -> Result<(), Fault> {
        if self.acquainted {
            return Ok(());
        }
        let Some(partitions) = self.reader.count_partitions(&self.settings.topic) else {
            return Ok(());
        };
        let partitions = partitions.div_ceil(self.lanes).max(1);
        if partitions != self.reader.partitions && self.started.is_empty() {
            self.reader = Reader::new(&self.settings, partitions, &self.bell)?;
            self.reader.count_partitions(&self.settings.topic);
        }
        self.acquainted = true;
        Ok(())
    }

    fn end_rest(&mut self, need: Need) {
        if self.rest.until.take().is_some() {
            self.rest.over = Some(Instant::now());
        }
        self.reader.needs(need);
    }

    /// What was fetched ahead is thrown away, and fetched again when there is room.
    fn suspend(&mut self) {
        let Reader { fetched, topic, .. } = &mut self.reader;
        for &partition in self.started.difference(&self.suspended) {
            if let Err(text) = topic.stop(fetched, partition) {
                tracing::debug!(partition, "librdkafka did not stop: {text}");
            }
        }
        self.suspended.clone_from(&self.started);
        tracing::debug!(
            topic = self.settings.topic,
            bytes = self.ahead.bytes,
            "prefetch buffer full; dropped what was fetched until there is room"
        );
        self.ahead.bytes = 0;
    }

    /// Reads all partitions again from where they were taken up to.
    fn resume(&mut self, positions: &mut Positions) -> Vec<PartitionFault> {
        let mut faults = Vec::new();
        for partition in std::mem::take(&mut self.suspended) {
            let Some(begin) = positions.begin(partition) else {
                self.suspended.insert(partition);
                continue;
            };
            faults.extend(self.begin(partition, begin).err().map(|fault| of(partition, fault)));
        }
        faults
    }

    fn begin(&mut self, partition: i32, offset: i64) -> Result<(), Fault> {
        let Reader { fetched, topic, .. } = &mut self.reader;
        topic.start(fetched, partition, offset).map_err(|text| unreadable(partition, &text))
    }

    /// Sees whether the log of `partition` is still the one that was read.
    fn settle(&mut self, partition: i32, doubt: Doubt) -> Result<(), Fault> {
        match doubt {
            Doubt::Other(last) => {
                let LastRead { offset, leader_epoch } = last;
                tracing::debug!(
                    topic = self.settings.topic,
                    partition,
                    offset,
                    leader_epoch,
                    "the last message read has changed: asking brokers whether the log was truncated"
                );
                let topic = &self.reader.topic;
                topic.go_on_behind(partition, last).map_err(|text| unreadable(partition, &text))
            }
            Doubt::Gone(next) => {
                self.stop(partition)?;
                self.started.insert(partition);
                self.begin(partition, next)
            }
            Doubt::Appeared { offset, last } => {
                let topic = &self.settings.topic;
                let message = format!(
                    "read topic {topic} partition {partition}: the log was cut behind offset {} and has grown again: \
                     there is a message at offset {offset} where there was none",
                    last.offset
                );
                Err(Fault::block(broker::TRUNCATED, message))
            }
        }
    }

    fn fault(&self, error: &FetchError) -> PartitionFault {
        let place = match error.partition {
            Some(partition) => format!("topic {} partition {partition}", self.settings.topic),
            None => format!("topic {}", self.settings.topic),
        };
        let fault = broker::fault(&format!("read {place}"), error.code, &error.text);
        if fault.remedy == Remedy::Retry {
            let partition = error.partition;
            tracing::warn!(partition, "broker error, retrying: {}", fault.message);
        }
        PartitionFault { partition: error.partition, fault }
    }
}

fn of(partition: i32, fault: Fault) -> PartitionFault {
    PartitionFault { partition: Some(partition), fault }
}

fn unreadable(partition: i32, text: &str) -> Fault {
    Fault::block(broker::UNEXPECTED, format!("failed to read partition {partition}: {text}"))
}

/// Others may go on reading by the same client.
impl Drop for KafkaSource {
    fn drop(&mut self) {
        let Reader { fetched, topic, .. } = &mut self.reader;
        for &partition in self.started.difference(&self.suspended) {
            if let Err(text) = topic.stop(fetched, partition) {
                tracing::debug!(partition, "librdkafka did not stop: {text}");
            }
        }
    }
}

impl Source for KafkaSource {
    fn start(&mut self, partition: i32, offset: i64) -> Result<(), Fault> {
        self.stop(partition)?;
        self.get_acquainted()?;
        self.started.insert(partition);
        self.begin(partition, offset)
    }

    fn stop(&mut self, partition: i32) -> Result<(), Fault> {
        if !self.started.remove(&partition) || self.suspended.remove(&partition) {
            return Ok(());
        }
        let Reader { fetched, topic, .. } = &mut self.reader;
        topic.stop(fetched, partition).map_err(|text| {
            let message = format!("failed to leave partition {partition}: {text}");
            Fault::block(broker::UNEXPECTED, message)
        })
    }

    fn fill(
        &mut self,
        batch: &mut Batch,
        room: Room,
        positions: &mut Positions,
    ) -> Vec<PartitionFault> {
        let tell = |level, facility: &str, text: &str| log_line(level_of(level), facility, text);
        let errors = self.reader.lease.client().news(&mut self.reader.errors_seen, tell);
        let mut faults: Vec<_> = errors.iter().map(|error| self.fault(error)).collect();
        faults.extend(self.resume(positions));
        let (before, mut drained) = (batch.bytes(), false);
        while faults.is_empty() && !room.is_full(batch) {
            let Taken { count, errors, doubt } = self.reader.fetched.take(batch, room, positions);
            faults.extend(errors.iter().map(|error| self.fault(error)));
            if let Some((partition, doubt)) = doubt
                && let Err(fault) = self.settle(partition, doubt)
            {
                positions.fail(partition);
                faults.push(of(partition, fault));
            }
            if count == 0 {
                drained = true;
                break;
            }
        }
        self.ahead.reckon(self.reader.lease.client().received().0, batch.bytes() - before);
        if drained {
            self.ahead.bytes = 0;
        }
        faults
    }

    fn rest_while_full(&mut self) -> Duration {
        self.end_rest(Need::Everything);
        let (received, readers) = self.reader.lease.client().received();
        self.ahead.reckon(received, 0);
        let partitions = self.reader.partitions;
        let queues = partitions * properties::queue_bytes(&self.settings, partitions);
        let allowed = AHEAD_SHARE_MAX * queues * readers.max(1);
        if self.ahead.bytes > allowed as u64 && self.suspended.len() < self.started.len() {
            self.suspend();
        }
        FULL_WAIT
    }

    fn rest(&mut self, ease: Ease) -> Duration {
        let Ease::For(ease) = ease else {
            if !self.started.is_empty() {
                let (topic, brokers) = (&self.settings.topic, &self.settings.brokers);
                self.reader.lease.client().check(topic, brokers, LEADERS_WAIT);
            }
            self.end_rest(Need::Anything);
            return Duration::MAX;
        };
        let now = Instant::now();
        if let Some(left) = self.rest.until.and_then(|it| it.checked_duration_since(now))
            && !left.is_zero()
        {
            return left;
        }
        self.end_rest(Need::Everything);
        let since = self.rest.over.map_or(self.rest.ahead, |over| now - over);
        let awake = self.rest.ahead.saturating_sub(since);
        if !awake.is_zero() {
            return awake;
        }
        let rest_max =
            if self.reader.lease.client().has_idle() { REST_MAX_BESIDE_IDLE } else { REST_MAX };
        let ahead = (ease.min(rest_max) / AHEAD_SHARE).clamp(AHEAD_MIN, AHEAD_MAX);
        let rest = ease.saturating_sub(ahead).min(rest_max);
        if rest.is_zero() {
            return Duration::MAX;
        }
        self.rest.ahead = ahead;
        self.reader.needs(Need::Nothing);
        self.rest.until = Some(now + rest);
        rest
    }

    fn hurry(&mut self) {
        self.end_rest(Need::Everything);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Start;

    const PERIOD: Duration = Duration::from_secs(600);

    /// Of a broker that is not there.
    fn source(topic: &str, brokers: &str) -> KafkaSource {
        let settings = SourceSettings {
            brokers: brokers.into(),
            topic: topic.into(),
            group: "g".into(),
            start: Start::Earliest,
            queue_bytes: 1 << 20,
            properties: std::collections::BTreeMap::default(),
            properties_raw: std::collections::BTreeMap::default(),
        };
        KafkaSource::new(&settings, 1, 1, Arc::default()).unwrap()
    }

    #[test]
    fn fetches_rest_while_nothing_is_needed_and_end_a_little_before() {
        let mut source = source("rest", "127.0.0.1:1");
        assert_eq!(source.rest(Ease::Idle), Duration::MAX);
        assert_eq!(source.rest(Ease::For(Duration::ZERO)), Duration::MAX);
        let ease = Duration::from_millis(400);
        let rest = source.rest(Ease::For(ease));
        assert_eq!(rest + ease / AHEAD_SHARE, ease);
        assert!(source.rest(Ease::For(PERIOD)) <= rest, "it has begun, and is not prolonged");
        source.hurry();
        let awake = source.rest(Ease::For(PERIOD));
        assert!(awake <= ease / AHEAD_SHARE, "time to fetch, before the next rest");
        assert_eq!(source.reader.need, Need::Everything);
    }

    /// For how long it rests, when it has asked for long enough.
    fn begin_rest(source: &mut KafkaSource) -> Duration {
        loop {
            let left = source.rest(Ease::For(PERIOD));
            if source.reader.need == Need::Nothing {
                return left;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_rest_is_bounded_and_short_beside_who_waits_for_any_message() {
        let mut busy = source("busy", "127.0.0.1:2");
        assert_eq!(busy.rest(Ease::For(PERIOD)), REST_MAX);
        let mut other = source("idle", "127.0.0.1:2");
        assert!(Arc::ptr_eq(other.reader.lease.client(), busy.reader.lease.client()));
        busy.hurry();
        let left = begin_rest(&mut busy);
        assert!(left <= REST_MAX_BESIDE_IDLE, "{left:?}");
        busy.hurry();
        other.rest(Ease::For(PERIOD));
        let left = begin_rest(&mut busy);
        assert!(left > REST_MAX_BESIDE_IDLE, "both rest: {left:?}");
    }

    #[test]
    fn a_client_that_others_share_reads_no_more_for_who_is_gone() {
        let others = source("others", "127.0.0.1:3");
        let mut gone = source("gone", "127.0.0.1:3");
        gone.start(0, 0).unwrap();
        drop(gone);
        let topic = Topic::new(others.reader.lease.client(), "gone");
        let mut fetched = FetchedQueues::new(1, Arc::default());
        assert!(topic.stop(&mut fetched, 0).is_err(), "it was stopped before");
    }
}
