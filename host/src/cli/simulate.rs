//! `sluice simulate`: fills a topic with messages that look like the real ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;

use super::{Format, filled, output};
use crate::fault::Fault;
use crate::progress::{Progress, Stream, count, per_second};
use crate::shutdown::interrupted;
use crate::simulate::producer::{Compression, Partitioner, Producer, Target, create_topic};
use crate::simulate::{Devices, Generator, Orders, Shape};

/// How long the brokers may take to acknowledge the last messages.
const FLUSH: Duration = Duration::from_mins(1);

/// Sends messages that look like the real ones.
///
/// The same seed and start give the same messages. Message i of the devices is reading i / devices of
/// device i % devices; an order is created, paid and shipped, in this order.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What sends the messages.
    pub what: What,
    /// Brokers, as host:port, comma-separated.
    #[arg(long, default_value = "localhost:9092")]
    pub brokers: String,
    /// Topic to send to.
    #[arg(long)]
    pub topic: String,
    /// Number of devices.
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub devices: u64,
    /// Messages to send [default: one for each device, or 100,000 order events].
    #[arg(long, conflicts_with = "minutes")]
    pub messages: Option<u64>,
    /// Messages a second [default: as fast as possible; with --minutes, one a minute for each device, or
    /// 1,000 order events a second].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Send for so many minutes.
    #[arg(long)]
    pub minutes: Option<f64>,
    /// Short readings of about 190 bytes, or long ones of 2,000.
    #[arg(long, value_enum, default_value_t = Shape::Short)]
    pub shape: Shape,
    /// Which partition a message goes to: key, round-robin, sticky (no keys), or its number.
    #[arg(long, default_value = "key")]
    pub partitioner: Partitioner,
    /// Bad messages among a thousand: half of them cut, the others out of range or incomplete.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub bad_per_mille: u32,
    /// Seed of all that is left to chance.
    #[arg(long, default_value_t = 22)]
    pub seed: u64,
    /// Time of the first message [default: now].
    #[arg(long)]
    pub start: Option<Timestamp>,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Create the topic with so many partitions, unless it is there.
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(i32).range(1..))]
    pub create_partitions: Option<i32>,
    /// Property for librdkafka, such as `security.protocol=SASL_SSL`; may be given several times. With `${VARIABLE}` or
    /// `${file:/path}` in single quotes, a password is in no list of processes.
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  sluice simulate devices --topic hems.readings --create-partitions 12
  sluice simulate devices --topic hems.readings --minutes 5
  sluice simulate orders --topic shop.orders --messages 1000000 --compression lz4";

/// What sends the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Home-energy devices: one reading a minute each.
    Devices,
    /// A shop: orders are created, paid and shipped.
    Orders,
}

/// What was sent.
#[derive(Debug, Serialize)]
struct Sent {
    messages: u64,
    bad: u64,
    seconds: f64,
    per_second: u64,
}

/// Sends the messages; ends early, but in good order, on Ctrl-C.
///
/// # Errors
/// `SL-S001` to `SL-S004`.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let target = arguments.target()?;
    if let Some(partitions) = arguments.create_partitions {
        create_topic(&target, partitions)?;
    }
    let producer = Producer::connect(&target)?;
    let sent = send(arguments, producer, &interrupted())?;
    output::print(format, &sent, || sent.sentence(&arguments.topic))
}

fn send(arguments: &Arguments, mut producer: Producer, stop: &AtomicBool) -> Result<Sent, Fault> {
    let (messages, rate) = arguments.messages_and_rate();
    let mut generator = arguments.generator();
    let mut progress = Progress::new(Stream::Stderr, messages);
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    let (start, mut bad) = (Instant::now(), 0);
    for index in 0..messages {
        if let Some(rate) = rate {
            producer.wait_for(start + Duration::from_secs_f64(index as f64 / rate));
        }
        // Not for each message: looking at the clock costs as much as writing one.
        if (index % 1024 == 0 || rate.is_some()) && stop.load(Ordering::Relaxed) {
            break;
        }
        if (index % 1024 == 0 || rate.is_some()) && progress.is_due() {
            let speed = per_second(index, start.elapsed());
            let (sent, all) = (count(index), count(messages));
            progress.show(index, &format!("{sent} of {all} messages, {} a second", count(speed)));
        }
        bad += u64::from(!generator.write(index, &mut key, &mut payload).is_good());
        producer.send(&key, &payload)?;
    }
    producer.flush(FLUSH)?;
    progress.finish();
    Ok(Sent::new(producer.sent(), bad, start.elapsed()))
}

impl Arguments {
    /// `SL-C008` when a property names a variable or a file that is not there.
    fn target(&self) -> Result<Target, Fault> {
        let filled = |(name, value): &(String, String)| Ok((name.clone(), filled(value)?));
        let mut properties =
            self.properties.iter().map(filled).collect::<Result<BTreeMap<_, _>, Fault>>()?;
        if self.messages_and_rate().1.is_some() {
            // What is due is handed over together: nothing more is worth waiting for.
            properties.entry("linger.ms".to_owned()).or_insert_with(|| "1".to_owned());
        }
        Ok(Target {
            brokers: self.brokers.clone(),
            topic: self.topic.clone(),
            partitioner: self.partitioner,
            compression: self.compression,
            properties,
        })
    }

    fn generator(&self) -> Box<dyn Generator> {
        let start_ms = self.start.unwrap_or_else(Timestamp::now).as_millisecond();
        match self.what {
            What::Devices => Box::new(Devices::new(
                self.devices,
                self.shape,
                self.bad_per_mille,
                self.seed,
                start_ms,
            )),
            What::Orders => Box::new(Orders::new(self.bad_per_mille, self.seed, start_ms)),
        }
    }

    /// How many messages to send, and how many a second (`None`: as fast as possible).
    fn messages_and_rate(&self) -> (u64, Option<f64>) {
        let (messages, natural) = match self.what {
            What::Devices => (self.devices, self.devices as f64 / 60.0),
            What::Orders => (100_000, 1000.0),
        };
        let rate = self.rate.map(|rate| rate as f64);
        match self.minutes {
            Some(minutes) => {
                let rate = rate.unwrap_or(natural);
                ((rate * minutes * 60.0).round() as u64, Some(rate))
            }
            None => (self.messages.unwrap_or(messages), rate),
        }
    }
}

impl Sent {
    fn new(messages: u64, bad: u64, time: Duration) -> Self {
        Self { messages, bad, seconds: time.as_secs_f64(), per_second: per_second(messages, time) }
    }

    fn sentence(&self, topic: &str) -> String {
        format!(
            "sent {} messages to {topic}, {} of them bad, in {:.1} s: {} a second",
            count(self.messages),
            count(self.bad),
            self.seconds,
            count(self.per_second),
        )
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rdkafka::mocking::MockCluster;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &str) -> Arguments {
        Whole::parse_from(std::iter::once("simulate").chain(line.split(' '))).arguments
    }

    #[test]
    fn messages_and_rate_follow_from_what_is_given() {
        let check = |line: &str, expected: (u64, Option<f64>)| {
            assert_eq!(parsed(line).messages_and_rate(), expected, "{line}");
        };
        check("devices --topic t", (500_000, None));
        check("devices --topic t --devices 600", (600, None));
        check("devices --topic t --messages 5 --rate 3", (5, Some(3.0)));
        check("devices --topic t --devices 600 --minutes 2", (1200, Some(10.0)));
        check("devices --topic t --minutes 0.5 --rate 100", (3000, Some(100.0)));
        check("orders --topic t", (100_000, None));
        check("orders --topic t --minutes 1", (60_000, Some(1000.0)));
    }

    #[test]
    fn usage_errors_name_the_argument() {
        let check = |line: &str, part: &str| {
            let whole = Whole::try_parse_from(std::iter::once("simulate").chain(line.split(' ')));
            let error = whole.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("devices", "--topic");
        check("meters --topic t", "[possible values: devices, orders]");
        check(
            "devices --topic t --partitioner hash",
            "one of key, round-robin, sticky, or the number",
        );
        check("devices --topic t --messages 1 --minutes 1", "cannot be used with");
        check("devices --topic t --property acks", "NAME=VALUE is needed");
        check("devices --topic t --bad-per-mille 1001", "0..=1000");
    }

    #[test]
    fn properties_may_be_in_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let line = format!(
            "devices --topic t --property sasl.password=a${{file:{}}}b --property linger.ms=5",
            file.path().display()
        );
        let properties = parsed(&line).target().unwrap().properties;
        let expected = [("linger.ms", "5"), ("sasl.password", "as3cretb")];
        assert_eq!(properties, expected.map(|(name, value)| (name.into(), value.into())).into());
        let missing =
            parsed("devices --topic t --property sasl.password=${file:/no/such}").target();
        insta::assert_snapshot!(missing.unwrap_err(), @"SL-C008: the file `/no/such` cannot be read: No such file or directory (os error 2)");
    }

    #[test]
    fn what_was_sent_is_told_in_a_sentence() {
        let sent = Sent::new(500_000, 5012, Duration::from_millis(1250));
        insta::assert_snapshot!(sent.sentence("hems.readings"), @"sent 500,000 messages to hems.readings, 5,012 of them bad, in 1.2 s: 400,000 a second");
    }

    #[test]
    fn a_rate_is_kept_and_every_codec_arrives() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 3, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let arguments = parsed(&format!(
                "devices --topic readings --brokers {brokers} --messages 200 --rate 1000 --compression {compression}"
            ));
            let producer = Producer::connect(&arguments.target().unwrap()).unwrap();
            let ledger = producer.ledger();
            let sent = send(&arguments, producer, &AtomicBool::new(false)).unwrap();
            assert_eq!((sent.messages, ledger.acknowledged()), (200, 200));
            assert!(
                sent.seconds >= 0.199,
                "200 messages at 1,000 a second took {} s",
                sent.seconds
            );
        }
    }

    #[test]
    fn an_interrupted_run_ends_in_good_order() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("readings", 3, 1).unwrap();
        let arguments =
            parsed(&format!("devices --topic readings --brokers {}", cluster.bootstrap_servers()));
        let producer = Producer::connect(&arguments.target().unwrap()).unwrap();
        let sent = send(&arguments, producer, &AtomicBool::new(true)).unwrap();
        assert_eq!(sent.messages, 0);
    }
}
