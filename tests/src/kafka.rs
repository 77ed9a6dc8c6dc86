//! Real brokers from Kafka's published jars: `KRaft`. All tests of a process share one that is quick about
//! everything that a test would otherwise wait for. Knows nothing of Sluice.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;

pub use admin::Topic;
pub use cluster::Cluster;
pub use group::{Group, rebalances};
pub use jars::class_path;
pub use raw::RawHeader;
pub use secure::{PASSWORD, USER};

mod admin;
mod cluster;
mod group;
mod jars;
mod raw;
mod secure;

const START_MAX: Duration = Duration::from_secs(90);
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// What a broker is started for.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Options of the virtual machine.
    pub java: &'static [&'static str],
    /// Lines for `server.properties`, which win over those that all brokers have.
    pub properties: &'static str,
    /// The broker goes on when this process ends.
    pub outlives: bool,
}

/// Starts soon and needs little.
pub const QUICK: Tuning = Tuning {
    java: &["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
    properties: "",
    outlives: false,
};

/// A broker of this process.
#[derive(Debug)]
pub struct Broker {
    address: String,
    secure_address: String,
    certificate: PathBuf,
    log: PathBuf,
    process: Child,
    folder: PathBuf,
    tuning: Tuning,
}

/// The broker that all tests of this process share; started by the first that asks.
pub fn broker() -> Result<&'static Broker> {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    static START: Mutex<()> = Mutex::new(());
    let _one_at_a_time = START.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = BROKER.get() {
        return Ok(broker);
    }
    let broker = Broker::start(&QUICK, &crate::folders::scratch_for("kafka")?)?;
    Ok(BROKER.get_or_init(|| broker))
}

impl Broker {
    /// A broker of its own, with its files in `folder`.
    pub fn start(tuning: &Tuning, folder: &Path) -> Result<Self> {
        let class_path = class_path()?;
        let certificate = secure::make_keystore(folder)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let result = Self::start_once(tuning, &class_path, folder, &certificate);
            // Another process may have taken one of the free ports in the meantime.
            if result.is_ok() || attempt == 3 {
                return result;
            }
            drop(fs::remove_dir_all(folder.join("data")));
        }
    }

    fn start_once(
        tuning: &Tuning,
        class_path: &str,
        folder: &Path,
        certificate: &Path,
    ) -> Result<Self> {
        let [port, secure_port, controller_port] = free_ports()?;
        let properties = folder.join("server.properties");
        let lines = server_properties(folder, port, secure_port, controller_port);
        fs::write(&properties, lines + tuning.properties)?;
        format_storage(class_path, &properties)?;
        let log = folder.join("log");
        let mut process = launch(tuning.java, class_path, folder, tuning.outlives)?;
        wait_until_started(&mut process, &log)?;
        Ok(Self {
            address: format!("127.0.0.1:{port}"),
            secure_address: format!("localhost:{secure_port}"),
            certificate: certificate.to_path_buf(),
            log,
            process,
            folder: folder.to_path_buf(),
            tuning: *tuning,
        })
    }

    /// Kills the broker and starts it again with the files that are in its folder now.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        let Tuning { java, outlives, .. } = self.tuning;
        self.process = launch(java, &class_path()?, &self.folder, outlives)?;
        wait_until_started(&mut self.process, &self.log)
    }

    /// Gives [`USER`] another password, by the broker's own tool. Connections that are there stay.
    pub fn change_password(&self, password: &str) -> Result<()> {
        secure::change_password(&self.address, &self.folder, password)
    }

    /// Where to connect, in plain text.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where to connect with TLS and SCRAM-SHA-256, as [`USER`] with [`PASSWORD`].
    pub fn secure_address(&self) -> &str {
        &self.secure_address
    }

    /// The certificate of the secure listener, as PEM: signed by itself.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// What the broker has logged.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Process id of the broker.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Settings of a client of this broker.
    pub fn client(&self) -> ClientConfig {
        client_of(&self.address)
    }
}

fn wait_until_started(process: &mut Child, log: &Path) -> Result<()> {
    crate::wait::until("the broker has started", START_MAX, || {
        if let Some(status) = process.try_wait()? {
            bail!("it ended with {status}, see {}", log.display());
        }
        Ok(fs::read_to_string(log)?.contains("Kafka Server started").then_some(()))
    })
}

/// Settings of a client of the cluster at `brokers`.
fn client_of(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        // A frozen broker is left after this time, and not after a minute.
        .set("socket.timeout.ms", "10000");
    config
}

/// Starts the broker whose files are in `folder`. It answers when its log says so.
fn launch(options: &[&str], class_path: &str, folder: &Path, outlives: bool) -> Result<Child> {
    // In a session of its own: what is meant for ours, such as Ctrl-C, is not meant for the broker.
    let mut java = if outlives { Command::new("setsid") } else { crate::child::command("setsid") };
    java.arg("java")
        .args(options)
        .args(["-cp", class_path, "kafka.Kafka"])
        .arg(folder.join("server.properties"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(folder.join("log"))?);
    crate::child::spawn(java)
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut listeners = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn format_storage(class_path: &str, properties: &Path) -> Result<()> {
    let output = Command::new("java")
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path])
        .args([
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            "MkU3OEVBNTcwNTJENDM2Qk",
            "--config",
        ])
        .arg(properties)
        .args(["--add-scram", &format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]")])
        .output()
        .context("run java")?;
    if !output.status.success() {
        bail!(
            "formatting the broker's storage failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn server_properties(folder: &Path, port: u16, secure_port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://localhost:{secure_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=8000000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
log.segment.bytes=16777216
log.initial.task.delay.ms=200
log.retention.ms=-1
log.segment.delete.delay.ms=200
{secure}",
        data = folder.join("data").display(),
        secure = secure::properties(folder),
    )
}
