//! The relay between a real Postgres and brokers that go away, refuse and come back when they are told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};

use super::{END_WAIT, Figures, RelayTask};
use crate::settings::Settings;
use crate::sink::tests::lab::{Database, runtime, until};

const PARTITIONS: i32 = 3;

struct Scene {
    cluster: MockCluster<'static, DefaultProducerContext>,
    database: Database,
    settings: Settings,
    figures: Arc<Figures>,
}

impl Scene {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("orders.dlt", PARTITIONS, 1).unwrap();
        let text = format!(
            "[pipeline]\nname = \"p\"\n[source]\nbrokers = \"{}\"\ntopic = \"orders\"\n[plugin]\npath = \"p\"\n\
            [sink]\nurl = \"postgres://d\"\ntable = \"t\"\n[dead_letters]\ntopic = \"orders.dlt\"\n",
            cluster.bootstrap_servers()
        );
        let settings = Settings::parse("p.toml", &text, &|_| None).unwrap();
        Self { cluster, database: Database::new(), settings, figures: Arc::default() }
    }

    fn start(&self) -> RelayTask {
        self.start_with(&self.settings, "host")
    }

    fn start_with(&self, settings: &Settings, owner: &str) -> RelayTask {
        let (options, figures) = (&self.database.options, self.figures.clone());
        RelayTask::start(settings, options, owner, figures, &runtime()).expect("there is a topic")
    }

    /// The broker goes away, and dead letters are written that nobody takes.
    fn lose_broker(&self, dead_letters: u32) {
        self.cluster.broker_down(1).unwrap();
        self.write(dead_letters);
        self.wait_for_fault("SL-K002");
    }

    /// Writes `count` dead letters more, spread over the partitions.
    fn write(&self, count: u32) {
        self.database.run(&format!(
            "INSERT INTO sluice.dead_letters (pipeline, topic, topic_id, partition, \"offset\", payload, header_names, \
                header_values, stage, code, reason, digest, relay) \
             SELECT 'p', 'orders', gen_random_uuid(), n % {PARTITIONS}, n, 'x', '{{}}', '{{}}', 's', 'c', 'r', 'd', true \
             FROM generate_series(1, {count}) AS n"
        ));
    }

    fn wait_until_relayed(&self) {
        until(|| self.database.ask("SELECT count(*) FROM sluice.dead_letters WHERE relay") == "0");
    }

    fn wait_for_fault(&self, code: &str) {
        let query = "SELECT split_part(fault, ': ', 1) FROM sluice.relays";
        until(|| self.database.ask(query) == code);
    }

    fn fail_next(&self, errors: &[RDKafkaRespErr]) {
        self.cluster.request_errors(RDKafkaApiKey::Produce, errors);
    }

    /// Ids of the dead letters in the topic, by partition.
    fn arrived(&self) -> BTreeMap<i32, Vec<i64>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        let (mut start, mut left) = (TopicPartitionList::new(), 0);
        for partition in 0..PARTITIONS {
            start.add_partition_offset("orders.dlt", partition, Offset::Beginning).unwrap();
            left += consumer.fetch_watermarks("orders.dlt", partition, END_WAIT).unwrap().1;
        }
        consumer.assign(&start).unwrap();
        let mut ids: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for _ in 0..left {
            let message = consumer.poll(Duration::from_secs(10)).expect("a message").unwrap();
            let headers = message.headers().expect("dead letters have headers");
            let dead_letter =
                headers.iter().find(|header| header.key == "sluice-dead-letter").unwrap();
            let id = std::str::from_utf8(dead_letter.value.unwrap()).unwrap().parse().unwrap();
            ids.entry(message.partition()).or_default().push(id);
        }
        ids
    }

    /// All dead letters came once, in the order of each partition.
    fn check(&self) {
        let written = self.database.ask(
            "SELECT partition, string_agg(id::text, ' ' ORDER BY id) FROM sluice.dead_letters GROUP BY 1 ORDER BY 1",
        );
        let arrived = self.arrived().into_iter().map(|(partition, ids)| {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            format!("{partition}|{}", ids.join(" "))
        });
        assert_eq!(arrived.collect::<Vec<_>>().join("\n"), written);
    }
}

#[test]
fn brokers_that_go_away_are_waited_for_and_nothing_comes_twice() {
    let scene = Scene::new();
    scene.write(700);
    let relay = scene.start();
    scene.wait_until_relayed();
    scene.lose_broker(700);
    assert_eq!(scene.database.ask("SELECT count(*) FROM sluice.dead_letters WHERE relay"), "700");
    scene.cluster.broker_up(1).unwrap();
    scene.wait_until_relayed();
    until(|| scene.database.ask("SELECT fault FROM sluice.relays") == "NULL");
    relay.end();
    scene.check();
    assert_eq!(scene.figures.relayed.load(Ordering::Relaxed), 1400);
}

/// It keeps the lease only as long as it can do something with it.
#[test]
fn a_host_that_reaches_no_broker_leaves_the_relay_to_another() {
    let scene = Scene::new();
    let mut cut_off = scene.settings.clone();
    // Nobody listens there.
    cut_off.source.brokers = "127.0.0.1:1".to_owned();
    scene.write(90);
    let lonely = scene.start_with(&cut_off, "cut-off");
    scene.wait_for_fault("SL-K002");
    let relay = scene.start();
    scene.wait_until_relayed();
    relay.end();
    lonely.end();
    scene.check();
}

#[test]
fn a_refused_request_costs_its_dead_letters_nothing() {
    let scene = Scene::new();
    scene.fail_next(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    scene.write(90);
    let relay = scene.start();
    scene.wait_until_relayed();
    relay.end();
    scene.check();
    let figures = &scene.figures;
    assert_eq!(figures.relayed.load(Ordering::Relaxed), 90);
    assert_eq!(figures.refused.load(Ordering::Relaxed), 0);
}

#[test]
fn dead_letters_of_a_refused_request_arrive_before_later_ones_of_their_partition() {
    let scene = Scene::new();
    scene.write(600);
    // Some fifteen requests a partition.
    scene
        .database
        .run("UPDATE sluice.dead_letters SET payload = decode(repeat('ab', 2000), 'hex')");
    scene.fail_next(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    let relay = scene.start();
    scene.wait_until_relayed();
    relay.end();
    scene.check();
    assert_eq!(scene.figures.relayed.load(Ordering::Relaxed), 600);
}

#[test]
fn a_refusal_of_the_topic_is_told_and_outlasted() {
    let scene = Scene::new();
    let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 30];
    scene.fail_next(&refusals);
    scene.write(50);
    let relay = scene.start();
    scene.wait_for_fault("SL-D302");
    scene.cluster.clear_request_errors(RDKafkaApiKey::Produce);
    scene.wait_until_relayed();
    relay.end();
    let first: usize = scene.arrived().values().map(Vec::len).sum();
    assert!(first >= 50, "{first}");
}

#[test]
fn a_relay_that_waits_ends_when_it_is_told_and_another_goes_on() {
    let scene = Scene::new();
    scene.write(10);
    let relay = scene.start();
    scene.wait_until_relayed();
    scene.lose_broker(10);
    let begin = Instant::now();
    relay.end();
    assert!(begin.elapsed() < END_WAIT * 3, "it took {:?}", begin.elapsed());
    assert_eq!(scene.database.ask("SELECT until FROM sluice.relays"), "-infinity");
    scene.cluster.broker_up(1).unwrap();
    let relay = scene.start();
    scene.wait_until_relayed();
    relay.end();
    let ids: usize = scene.arrived().values().map(Vec::len).sum();
    assert!(ids >= 20, "{ids}");
}

#[test]
fn a_header_name_that_is_no_text_marks_its_dead_letter_alone() {
    let scene = Scene::new();
    scene.write(3);
    scene.database.run(
        "UPDATE sluice.dead_letters SET header_names = '{\"\\\\xff41\"}', header_values = '{NULL}' WHERE id = 2",
    );
    let relay = scene.start();
    scene.wait_until_relayed();
    relay.end();
    assert_eq!(
        scene.database.ask("SELECT id, relay_fault FROM sluice.dead_letters ORDER BY id"),
        "1|NULL\n2|SL-D303: the name of header \"\\xffA\" is not UTF-8\n3|NULL"
    );
}
