//! Sends dead letters to their topic and hands back what the brokers say of each. Knows no SQL.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::headers::{self, Origin};
use crate::fault::Fault;
use crate::settings::SourceSettings;
use crate::sink::dead_letters::read::DeadLetter;
use crate::source::log::{log_line, refused};
use crate::source::reasons::Reasons;
use crate::source::{native, properties};

/// How long brokers may take to say how many partitions the topic has.
const REACH: Duration = Duration::from_secs(5);

/// What became of a dead letter.
#[derive(Debug)]
pub(super) enum Answer {
    /// The topic has it, on all replicas in sync.
    Acknowledged,
    /// The topic does not take it, or a request it was part of.
    Refused(String),
    /// It was not sent, and it is not to blame.
    Failed(Fault),
}

/// A producer for one topic.
pub(super) struct Sender {
    producer: ThreadedProducer<Reports>,
    answered: UnboundedReceiver<(usize, Option<RDKafkaErrorCode>)>,
    topic: String,
    partitions: i32,
    /// Where it began.
    brokers: String,
}

impl Sender {
    /// Connects and looks the topic up. Blocks for a few seconds while brokers are away.
    ///
    /// # Errors
    /// `SL-K002` when no broker responds, `SL-D301` when there is no such topic, `SL-D302` without the privilege to write.
    pub fn connect(source: &SourceSettings, topic: &str) -> Result<Self, Fault> {
        let (answers, answered) = unbounded_channel();
        let config = properties::relay(source);
        let context = Reports { answers, reasons: Reasons::of(&config) };
        let producer: ThreadedProducer<Reports> =
            config.create_with_context(context).map_err(|error| refused(&error))?;
        let metadata = producer
            .client()
            .fetch_metadata(Some(topic), REACH)
            .map_err(|error| producer.context().reasons.away(topic, &error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if let Some(code) = found.and_then(rdkafka::metadata::MetadataTopic::error) {
            return Err(failed(code.into(), topic));
        }
        match found.map_or(0, |found| found.partitions().len()) as i32 {
            0 => Err(failed(RDKafkaErrorCode::UnknownTopicOrPartition, topic)),
            partitions => Ok(Self {
                producer,
                answered,
                topic: topic.to_owned(),
                partitions,
                brokers: source.brokers.clone(),
            }),
        }
    }

    /// The partition that `dead_letter` goes to: the one of the same number, if there is one. Dead letters of one partition go to
    /// one, so that their order is kept.
    pub fn partition(&self, dead_letter: &DeadLetter) -> i32 {
        dead_letter.partition.rem_euclid(self.partitions)
    }

    /// Hands a dead letter over; [`Sender::answer`] tells what became of it, under `number`. An answer comes at once
    /// where it is known at once.
    pub fn send(&self, number: usize, dead_letter: &DeadLetter, origin: &Origin) -> Option<Answer> {
        let headers = match owned_headers(dead_letter, origin) {
            Ok(headers) => headers,
            Err(reason) => return Some(Answer::Refused(reason)),
        };
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&self.topic, number)
            .partition(self.partition(dead_letter))
            .headers(headers);
        record.key = dead_letter.key.as_deref();
        record.payload = dead_letter.payload.as_deref();
        let (error, _) = self.producer.send(record).err()?;
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        Some(classify(Some(code), &self.topic))
    }

    /// No broker has answered for a while: makes sure that somebody is asked.
    pub fn begin_again(&self) {
        native::begin_again(self.producer.client(), &self.brokers);
    }

    /// What became of one of the dead letters sent; waits for it. Dropping the future loses nothing.
    pub async fn answer(&mut self) -> (usize, Answer) {
        match self.answered.recv().await {
            Some((number, code)) => (number, classify(code, &self.topic)),
            // The other end lives as long as the producer.
            None => std::future::pending().await,
        }
    }
}

/// librdkafka's wrapper takes names as text alone.
fn owned_headers(dead_letter: &DeadLetter, origin: &Origin) -> Result<OwnedHeaders, String> {
    let mut owned = OwnedHeaders::new_with_capacity(dead_letter.headers.len() + 16);
    for (name, value) in headers::of(dead_letter, origin) {
        let key = std::str::from_utf8(&name)
            .map_err(|_| format!("the name of header \"{}\" is not UTF-8", name.escape_ascii()))?;
        owned = owned.insert(Header { key, value: value.as_deref() });
    }
    Ok(owned)
}

fn classify(code: Option<RDKafkaErrorCode>, topic: &str) -> Answer {
    use RDKafkaErrorCode as Code;
    let Some(code) = code else { return Answer::Acknowledged };
    match code {
        // A record that a compacted topic does not take for want of a key is invalid, too.
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord => Answer::Refused(code.to_string()),
        _ => Answer::Failed(failed(code, topic)),
    }
}

fn failed(code: RDKafkaErrorCode, topic: &str) -> Fault {
    use RDKafkaErrorCode as Code;
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Fault::retry("SL-D301", format!("there is no topic {topic} for dead letters"))
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Fault::retry("SL-D302", format!("not allowed to write to topic {topic}: {code}"))
        }
        _ => Fault::retry("SL-D304", format!("cannot write to topic {topic}: {code}")),
    }
}

/// Hands librdkafka's delivery reports over.
struct Reports {
    answers: UnboundedSender<(usize, Option<RDKafkaErrorCode>)>,
    reasons: Reasons,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // It warns of the property that keeps a producer from creating topics, and obeys it all the same.
        if facility != "CONFWARN" {
            log_line(level, facility, text);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reasons.note(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let code = result
            .as_ref()
            .err()
            .map(|(error, _)| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
        // Fails only when nobody waits for answers any more.
        let _ = self.answers.send((number, code));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::mocking::MockCluster;

    use super::*;
    use crate::settings::Start;

    fn source(brokers: String) -> SourceSettings {
        SourceSettings {
            brokers,
            topic: "orders".into(),
            group: "orders".into(),
            start: Start::Earliest,
            queue_bytes: 1 << 20,
            properties: BTreeMap::new(),
            properties_raw: BTreeMap::new(),
        }
    }

    fn refusal(brokers: String) -> String {
        Sender::connect(&source(brokers), "orders.dlt").err().expect("refused").to_string()
    }

    #[test]
    fn a_missing_topic_is_told_and_not_created() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 1, 1).unwrap();
        for _ in 0..2 {
            let said = refusal(cluster.bootstrap_servers());
            assert_eq!(said, "SL-D301: there is no topic orders.dlt for dead letters");
        }
        cluster.create_topic("orders.dlt", 5, 1).unwrap();
        let sender = Sender::connect(&source(cluster.bootstrap_servers()), "orders.dlt").unwrap();
        assert_eq!(sender.partitions, 5);
    }

    #[test]
    fn brokers_that_are_away_are_told_apart() {
        let said = refusal("127.0.0.1:1".to_owned());
        assert!(said.starts_with("SL-K002: no broker responds for topic orders.dlt"), "{said}");
    }

    #[test]
    fn what_brokers_say_of_a_dead_letter_is_told_from_what_they_say_of_their_own() {
        use RDKafkaErrorCode as Code;
        assert!(matches!(classify(None, "t"), Answer::Acknowledged));
        for code in [Code::MessageSizeTooLarge, Code::InvalidRecord, Code::InvalidMessage] {
            assert!(matches!(classify(Some(code), "t"), Answer::Refused(_)), "{code:?}");
        }
        for (code, expected) in [
            (Code::UnknownTopicOrPartition, "SL-D301"),
            (Code::UnknownPartition, "SL-D301"),
            (Code::TopicAuthorizationFailed, "SL-D302"),
            (Code::NotEnoughReplicas, "SL-D304"),
            (Code::PurgeQueue, "SL-D304"),
            (Code::Fatal, "SL-D304"),
        ] {
            let Answer::Failed(fault) = classify(Some(code), "t") else { panic!("{code:?}") };
            assert_eq!(fault.code, expected);
        }
    }
}
