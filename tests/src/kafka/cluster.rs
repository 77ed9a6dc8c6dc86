//! Three brokers, each with a copy of everything, to be taken away one by one or all at once. Each is a
//! controller, too, so that whoever goes may be the one that the others obey.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;

use super::{
    REQUEST_MAX, START_MAX, Topic, class_path, client_of, format_storage, free_ports, launch,
};
use crate::child::{Signal, signal};
use crate::wait::{SOON, until, until_true};

const BROKERS: usize = 3;

/// Small, so that three of them fit beside everything else.
const JAVA: &[&str] = &["-Xms128m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/// Topic in which the groups are kept; it has one partition, whose leader coordinates all groups.
const GROUPS: &str = "__consumer_offsets";

/// The brokers of one test. Dropping it ends them.
#[derive(Debug)]
pub struct Cluster {
    class_path: String,
    addresses: Vec<String>,
    folders: Vec<PathBuf>,
    processes: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts all three, with their files in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let class_path = class_path()?;
        let ports = free_ports::<{ 2 * BROKERS }>()?;
        let (clients, controllers) = ports.split_at(BROKERS);
        let folders: Vec<PathBuf> =
            (0..BROKERS).map(|index| folder.join(format!("broker-{index}"))).collect();
        for (index, folder) in folders.iter().enumerate() {
            fs::create_dir_all(folder)?;
            let properties = folder.join("server.properties");
            fs::write(&properties, server_properties(index, folder, clients, controllers))?;
            format_storage(&class_path, &properties)?;
        }
        let mut cluster = Self {
            class_path,
            addresses: clients.iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            folders,
            processes: (0..BROKERS).map(|_| None).collect(),
        };
        cluster.start_missing()?;
        Ok(cluster)
    }

    /// Where to connect.
    pub fn address(&self) -> String {
        self.addresses.join(",")
    }

    /// Creates a topic that every broker has a copy of, and that takes messages as long as two of them are there.
    pub fn topic(&self, name: &str, partitions: i32) -> Result<Topic> {
        Topic::create_on(&self.address(), name, partitions, i32::try_from(BROKERS)?)
    }

    /// Number of brokers.
    pub fn size(&self) -> usize {
        BROKERS
    }

    /// Ends one as a crash would.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut process) = self.processes[index].take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Freezes one, or lets it go on.
    pub fn signal(&self, index: usize, what: Signal) -> Result<()> {
        let process = self.processes[index].as_ref().context("the broker is not there")?;
        signal(process.id(), what)
    }

    /// Starts those that were killed; they answer when this returns, but may still be catching up.
    pub fn start_missing(&mut self) -> Result<()> {
        let missing: Vec<usize> =
            (0..BROKERS).filter(|index| self.processes[*index].is_none()).collect();
        self.start_these(&missing)
    }

    /// The same for some of them.
    pub fn start_these(&mut self, missing: &[usize]) -> Result<()> {
        // All at once: less than two of them do not come to an agreement, and then none starts.
        for &index in missing {
            let folder = &self.folders[index];
            let java = launch(JAVA, &self.class_path, folder, false)?;
            self.processes[index] = Some(java);
        }
        for &index in missing {
            let log = self.folders[index].join("log");
            until_true("a broker of the cluster has started", START_MAX, || {
                Ok(fs::read_to_string(&log)?.contains("Kafka Server started"))
            })?;
        }
        Ok(())
    }

    /// Waits until every broker has all of every partition, so that any one of them may go.
    pub fn wait_until_whole(&self) -> Result<()> {
        until_true("all copies of all partitions are complete", 2 * SOON, || {
            let Ok(metadata) = self.metadata() else { return Ok(false) };
            let mut partitions =
                metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
            Ok(metadata.brokers().len() == BROKERS
                && partitions.all(|it| it.leader() >= 0 && it.isr().len() == it.replicas().len()))
        })
    }

    /// Indexes of the brokers that have a complete copy of the only partition of `topic`, its leader first; nothing as long
    /// as there is no leader.
    pub fn copies(&self, topic: &Topic) -> Result<Vec<usize>> {
        let metadata = self.metadata()?;
        let topic = metadata.topics().iter().find(|it| it.name() == topic.name);
        let partition = topic.and_then(|it| it.partitions().first()).context("no partition")?;
        let leader = partition.leader();
        let others = partition.isr().iter().copied().filter(|&it| it != leader);
        Ok(std::iter::once(leader)
            .chain(others)
            .filter_map(|it| usize::try_from(it).ok())
            .collect())
    }

    /// Index of the broker that coordinates the groups.
    pub fn coordinator(&self) -> Result<usize> {
        until("the groups have a coordinator", SOON, || {
            let Ok(metadata) = self.metadata() else { return Ok(None) };
            let groups = metadata.topics().iter().find(|topic| topic.name() == GROUPS);
            let leader = groups
                .and_then(|topic| topic.partitions().first())
                .map(rdkafka::metadata::MetadataPartition::leader);
            Ok(leader.and_then(|leader| usize::try_from(leader).ok()))
        })
    }

    fn metadata(&self) -> Result<Metadata> {
        let consumer: BaseConsumer = client_of(&self.address()).create()?;
        Ok(consumer.fetch_metadata(None, REQUEST_MAX)?)
    }
}

/// Quicker than by default to notice that a broker is gone, and no quicker than brokers answer that share two cores:
/// those that are taken for gone while they are only slow elect one another without end.
fn server_properties(index: usize, folder: &Path, clients: &[u16], controllers: &[u16]) -> String {
    let voters: Vec<String> = controllers
        .iter()
        .enumerate()
        .map(|(index, port)| format!("{index}@127.0.0.1:{port}"))
        .collect();
    format!(
        "process.roles=broker,controller
node.id={index}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
log.segment.bytes=16777216
log.retention.ms=-1
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
controller.quorum.fetch.timeout.ms=5000
controller.quorum.election.timeout.ms=3000
replica.lag.time.max.ms=6000
replica.socket.timeout.ms=6000
controlled.shutdown.enable=false
",
        voters = voters.join(","),
        port = clients[index],
        controller_port = controllers[index],
        data = folder.join("data").display(),
    )
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            // A frozen one can be killed, too; one that has ended needs no killing.
            drop(process.kill());
            drop(process.wait());
        }
    }
}
