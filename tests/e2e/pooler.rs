//! A pooler, `PgBouncer`, between host and Postgres.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use sluice_tests::checker::Readings;
use sluice_tests::child;
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// A pooler that ends when this is dropped.
struct Pooler {
    process: Child,
    port: u16,
}

impl Pooler {
    fn start(folder: &Path, mode: &str, server: &Database) -> Result<Self> {
        let server: tokio_postgres::Config = server.url().parse()?;
        let server_port = server.get_ports().first().context("a port")?;
        let password = String::from_utf8_lossy(server.get_password().context("a password")?);
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = folder.join(format!("pgbouncer-{mode}.ini"));
        let log = folder.join(format!("pgbouncer-{mode}.log"));
        fs::write(
            &settings,
            format!(
                "[databases]\n* = host=127.0.0.1 port={server_port} user=postgres password={password}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = {mode}\ndefault_pool_size = 50\nmax_client_conn = 200\n"
            ),
        )?;
        // Like Postgres, it does not run as root.
        let is_root = Command::new("id").arg("-u").output()?.stdout.trim_ascii() == b"0";
        let mut command = child::command("pgbouncer");
        command.args(if is_root { &["-u", "nobody"][..] } else { &[] }).arg(&settings);
        let log = fs::File::create(log)?;
        command.stdout(log.try_clone()?).stderr(log);
        let process = child::spawn(command)?;
        let pooler = Self { process, port };
        until_true("the pooler listens", SOON, || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(pooler)
    }

    /// The way to a database through it.
    fn url(&self, url: &str) -> Result<String> {
        let server_port = port_of(url)?;
        Ok(url.replace(&format!(":{server_port}/"), &format!(":{}/", self.port)))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn port_of(url: &str) -> Result<u16> {
    let (_, behind) = url.rsplit_once(':').context("a port")?;
    Ok(behind.split('/').next().context("a port")?.parse()?)
}

#[test]
fn a_pooler_in_transaction_mode_is_refused_and_nothing_goes_through_it() -> Result<()> {
    let scene = Scene::new("pooled", 3, Readings::TABLE)?;
    Load::new(&scene.topic, Mix::default())?.send(300)?;
    let pooler = Pooler::start(&scene.folder, "transaction", &scene.database)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.url = pooler.url(scene.database.url())?;
    let file = pipeline.write(&scene.folder)?;
    let output = operator::call(&["validate"], &file)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(!output.status.success() && text.contains("SL-P023"), "{text}");
    let host = scene.start("host", &pipeline)?;
    let blocked = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-P023"), "{}", blocked.line);
    host.terminate()?;
    assert_eq!(scene.database.number("SELECT count(*) FROM readings")?, 0);
    assert!(scene.database.is_true("SELECT to_regnamespace('sluice') IS NULL")?, "a schema");
    Ok(())
}

#[test]
fn a_pooler_in_session_mode_is_no_trouble() -> Result<()> {
    let mut scene = Scene::new("pooled_sessions", 3, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(300)?;
    let pooler = Pooler::start(&scene.folder, "session", &scene.database)?;
    let direct = scene.database.url().to_owned();
    scene.database = Database::open(pooler.url(&direct)?)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    load.send(300)?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.database = Database::open(direct)?;
    scene.check(&Readings::all())
}
