//! librdkafka's settings: what Sluice needs, what it tunes, and what the operator's properties change.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::settings::SourceSettings;

/// How long a broker may take to answer what is asked at start and on claims.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Properties that carry the promise of exactly once; settings that change them are refused.
pub const OWNED: &[(&str, &str)] = &[
    // Postgres alone says where to go on.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // A position that the topic no longer has must stop the partition, not skip or repeat messages.
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    ("allow.auto.create.topics", "false"),
];

/// A broker that hangs is left after this time, and not after a minute.
const SILENCE_MAX_MS: &str = "10000";
/// Most bytes of a fetch.
const FETCH_BYTES: usize = 1 << 20;
/// A response has one batch of a producer at least, whatever is asked for: as large as topics allow. librdkafka would end
/// the connection over 100 MB, and ask again indefinitely.
const RESPONSE_BYTES_MAX: &str = "2000000000";
/// librdkafka counts payloads alone. A message costs 320 bytes beside, so there are no more than have these on average.
const MESSAGE_BYTES: usize = 128;
/// What a partition may have at least in its queue, in one of very many.
const PARTITION_BYTES_MIN: usize = 256 << 10;

/// Bytes of payloads that a lane's queue of one partition may contain, where it has as many as `partitions`.
pub fn queue_bytes(source: &SourceSettings, partitions: usize) -> usize {
    (source.queue_bytes / partitions).max(PARTITION_BYTES_MIN)
}

/// The client that reads messages for a lane, which may have as many as `partitions`, each with a queue of
/// its own. It is in no group, which would cost a thread and a connection: partitions are assigned by hand.
pub fn fetcher(source: &SourceSettings, partitions: usize) -> ClientConfig {
    let mut config = base(source);
    config.remove("group.id");
    let queue_bytes = queue_bytes(source, partitions);
    let messages_max = (queue_bytes / MESSAGE_BYTES).clamp(1_000, 100_000);
    // Fetches of 1 MiB and bounded queues take a third of the CPU and a fraction of the memory of the
    // defaults; a short back-off keeps a full queue from costing a second.
    config
        .set("fetch.message.max.bytes", queue_bytes.min(FETCH_BYTES).to_string())
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        .set("receive.message.max.bytes", RESPONSE_BYTES_MAX)
        .set("queued.max.messages.kbytes", (queue_bytes / 1024).to_string())
        .set("queued.min.messages", messages_max.to_string())
        .set("fetch.queue.backoff.ms", "10")
        // Idle partitions cost a fetch each time. A partition that is started waits for the one under way, at most.
        .set("fetch.wait.max.ms", "500")
        .set("socket.timeout.ms", SILENCE_MAX_MS);
    apply(&mut config, source, |key| !MEMBER_ONLY.contains(&key));
    // Positions go over what is no message, as far as there is nothing to come.
    config.set("enable.partition.eof", "true");
    config
}

/// The client that is the host's member of the consumer group. It reads no messages.
pub fn member(source: &SourceSettings) -> ClientConfig {
    let mut config = base(source);
    config
        .set("partition.assignment.strategy", "cooperative-sticky")
        // The member does nothing but poll and nothing collects garbage, so silence means that
        // the host is gone: its partitions need not wait 45 s, as they would by default.
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "2000")
        // The coordinator answers one request of a client after the other, and the one to join waits for members
        // that still write: whatever is asked behind it must not end the connection in the meantime.
        .set("socket.timeout.ms", "30000")
        // Its partitions are paused; what little is fetched before that is thrown away.
        .set("queued.min.messages", "1")
        .set("queued.max.messages.kbytes", "1");
    apply(&mut config, source, |key| !FETCHER_ONLY.contains(&key));
    config
}

/// The client that relays dead letters: nothing is sent twice by its retries or changes its order, and it waits for
/// brokers as long as it takes. It is handed one request's worth of a partition at a time: a thread of it spins while more
/// waits and the first is not answered (librdkafka's issues 2565 and 3692, open since version 1.2).
pub fn relay(source: &SourceSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &source.brokers)
        .set("client.id", "sluice")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.timeout.ms", SILENCE_MAX_MS)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        // The topic itself says what is too large for it. It says so of whole requests: small ones keep a dead letter
        // from being refused for its neighbours.
        .set("message.max.bytes", "1000000000")
        .set("batch.size", "65536")
        .set("linger.ms", "2")
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("allow.auto.create.topics", "false");
    for (key, value) in source.properties.iter().filter(|(key, _)| reaches(key)) {
        config.set(key, value);
    }
    config
}

/// What any client needs to reach the brokers of one with `config`.
pub fn reaching(config: &ClientConfig) -> ClientConfig {
    let mut reaching = ClientConfig::new();
    for (key, value) in entries(config) {
        if key == "bootstrap.servers" || reaches(key) {
            reaching.set(key, value);
        }
    }
    reaching
}

/// All properties of `config`, as they are: the wrapper's own list has words in the place of passwords.
pub fn entries(config: &ClientConfig) -> impl Iterator<Item = (&str, &str)> + Clone {
    let keys: Vec<&str> = config.config_map().into_keys().collect();
    keys.into_iter().filter_map(|key| Some((key, config.get(key)?)))
}

fn reaches(key: &str) -> bool {
    REACHING.iter().any(|prefix| key.starts_with(prefix))
}

/// Prefixes of the properties that say how brokers are reached and who we are: those that concern a producer, too.
const REACHING: &[&str] = &[
    "api.version.",
    "broker.",
    "client.",
    "connections.",
    "debug",
    "enable.sasl.",
    "enable.ssl.",
    "https.",
    "reconnect.",
    "resolve_canonical",
    "sasl.",
    "security.",
    "socket.",
    "ssl.",
];

const MEMBER_ONLY: &[&str] = &[
    "partition.assignment.strategy",
    "group.instance.id",
    "group.protocol",
    "session.timeout.ms",
    "heartbeat.interval.ms",
];
const FETCHER_ONLY: &[&str] = &["queued.min.messages", "queued.max.messages.kbytes"];

fn base(source: &SourceSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &source.brokers)
        .set("group.id", &source.group)
        .set("client.id", "sluice")
        .set("reconnect.backoff.max.ms", "2000")
        // Brokers that collect metrics of their clients (KIP-714) have nothing to ask of these.
        .set("enable.metrics.push", "false")
        // Partitions that were added are found within this time, and those whose leader has changed while the
        // old one says nothing at all.
        .set("topic.metadata.refresh.interval.ms", "10000");
    config
}

fn apply(config: &mut ClientConfig, source: &SourceSettings, wanted: impl Fn(&str) -> bool) {
    for (key, value) in source.properties.iter().filter(|(key, _)| wanted(key)) {
        config.set(key, value);
    }
    for (key, value) in OWNED {
        config.set(*key, *value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::Start;

    fn source(properties: &[(&str, &str)]) -> SourceSettings {
        SourceSettings {
            brokers: "localhost:9092".into(),
            topic: "t".into(),
            group: "g".into(),
            start: Start::Earliest,
            queue_bytes: 16 << 20,
            properties: properties.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            properties_raw: BTreeMap::new(),
        }
    }

    #[test]
    fn the_operators_properties_win_over_the_tuning() {
        let config = fetcher(&source(&[("fetch.max.bytes", "5000000")]), 4);
        assert_eq!(config.get("fetch.max.bytes"), Some("5000000"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("4096"));
    }

    #[test]
    fn partitions_share_the_queue() {
        for (partitions, kib, fetch) in
            [(1, "16384", "1048576"), (32, "512", "524288"), (999, "256", "262144")]
        {
            let config = fetcher(&source(&[]), partitions);
            assert_eq!(config.get("queued.max.messages.kbytes"), Some(kib));
            assert_eq!(config.get("fetch.message.max.bytes"), Some(fetch));
        }
        let messages = |partitions| {
            fetcher(&source(&[]), partitions).get("queued.min.messages").map(str::to_owned)
        };
        assert_eq!(
            [1, 8, 999].map(messages),
            ["100000", "16384", "2048"].map(|it| Some(it.to_owned()))
        );
    }

    #[test]
    fn the_relay_reaches_the_brokers_as_the_source_does_and_keeps_its_own_promises() {
        let config = relay(&source(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.password", "secret"),
            ("fetch.max.bytes", "5000000"),
            ("group.instance.id", "host-1"),
            ("acks", "0"),
        ]));
        assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(config.get("sasl.password"), Some("secret"));
        assert_eq!(config.get("enable.idempotence"), Some("true"));
        for key in ["fetch.max.bytes", "group.instance.id", "group.id", "acks"] {
            assert_eq!(config.get(key), None, "{key}");
        }
        let probe = reaching(&config);
        assert_eq!(probe.get("bootstrap.servers"), Some("localhost:9092"));
        assert_eq!(probe.get("sasl.password"), Some("secret"));
        assert_eq!(probe.get("enable.idempotence"), None);
    }

    #[test]
    fn nothing_wins_over_what_exactly_once_needs() {
        let wanted: Vec<_> = OWNED.iter().map(|&(key, _)| (key, "other")).collect();
        for config in [fetcher(&source(&wanted), 1), member(&source(&wanted))] {
            for (key, value) in OWNED {
                assert_eq!(config.get(key), Some(*value), "{key}");
            }
        }
    }
}
