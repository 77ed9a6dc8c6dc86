//! Thirty pipelines with topics of their own in one process: what they take of it together, and that hosts of so many
//! replace each other as hosts of one do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_tests::checker::Readings;
use sluice_tests::counts::long;
use sluice_tests::crimes;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::kafka::Topic;
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

use crate::pace::sent_now;

const PIPELINES: usize = 30;
const PARTITIONS: i32 = 3;
const ENDLESS: &str = "thirty-endless";
const AWAY: &str = "thirty-away";
/// With those that begin and end just now.
const SESSIONS_MAX: i64 = 40;
const THREADS_MAX: usize = 5 * (PIPELINES + 2);
/// On a machine that does nothing else, where it takes 3 s.
const AT_WORK_MAX: Duration = Duration::from_secs(5);

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name LIKE 'sluice/%'";

/// One pipeline, its messages and its table.
struct One {
    pipeline: Pipeline,
    topic: Topic,
    table: String,
    load: Load,
    sent: i64,
}

fn all(scene: &Scene) -> Result<Vec<One>> {
    (0..PIPELINES)
        .map(|number| {
            let (name, table) = (format!("thirty-{number}"), format!("readings_{number}"));
            let copy = format!("CREATE TABLE {table} (LIKE readings INCLUDING ALL)");
            scene.database.execute(&copy)?;
            let topic = Topic::create(&name, PARTITIONS)?;
            let url = scene.database.url();
            let mut pipeline =
                Pipeline::new(&name, &topic.name, url, &plugin("readings")?)?.impatient();
            pipeline.sink_lines = format!("table = \"{table}\"\n");
            let load = Load::new(&topic, Mix::default())?.making(sent_now);
            Ok(One { pipeline, topic, table, load, sent: 0 })
        })
        .collect()
}

/// One whose plugin never ends, however often it is begun again, and one whose database takes connections and says
/// nothing.
fn broken(scene: &Scene, away: &TcpListener) -> Result<Vec<PathBuf>> {
    scene.database.execute(crimes::TABLE)?;
    let topic = Topic::create(ENDLESS, PARTITIONS)?;
    Load::new(&topic, Mix::default())?.send(300)?;
    let url = scene.database.url();
    let mut endless = Pipeline::new(ENDLESS, &topic.name, url, &plugin("hostile")?)?.impatient();
    "timeout = \"500ms\"\npoison_limit = 20\nsettings = { crime = \"endless-loop\" }\n"
        .clone_into(&mut endless.plugin_lines);
    "table = \"hostile\"\n".clone_into(&mut endless.sink_lines);
    let topic = Topic::create(AWAY, PARTITIONS)?;
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/nowhere", away.local_addr()?.port());
    let away = Pipeline::new(AWAY, &topic.name, &nowhere, &plugin("readings")?)?.impatient();
    [endless, away].iter().map(|it| it.write(&scene.folder)).collect()
}

fn send(all: &mut [One], count: usize) -> Result<()> {
    for one in all {
        one.load.send(count)?;
        one.sent += count as i64;
    }
    Ok(())
}

/// True when each table has a row for each message of its pipeline.
fn all_there(scene: &Scene, all: &[One]) -> Result<bool> {
    for One { table, sent, .. } in all {
        if scene.database.number(&format!("SELECT count(*) FROM {table}"))? < *sent {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How each pipeline stands whose table lacks rows.
fn lacking(scene: &Scene, all: &[One]) -> Result<String> {
    let mut lacking = String::new();
    for One { pipeline, topic, table, sent, .. } in all {
        let rows = scene.database.number(&format!("SELECT count(*) FROM {table}"))?;
        if rows < *sent {
            let (name, ends) = (&pipeline.name, topic.log_ends()?);
            let positions = format!(
                "SELECT string_agg(partition || ': ' || next_offset || ' by ' || owner, ', ' ORDER BY partition) \
                 FROM sluice.positions WHERE pipeline = '{name}'"
            );
            let positions = scene.database.text(&positions)?.unwrap_or_default();
            writeln!(
                lacking,
                "{name}: {rows} of {sent} rows; ends {ends:?}; positions {positions}"
            )?;
        }
    }
    Ok(lacking)
}

/// What the topic has is there once; a producer that sends again what was not acknowledged in time sends it twice.
fn check_rows(scene: &Scene, all: &[One]) -> Result<()> {
    for One { topic, table, sent, .. } in all {
        let messages: i64 = topic.log_ends()?.iter().sum();
        let rows = format!("SELECT count(*) FROM {table}");
        until_true("all is read", SOON, || Ok(scene.database.number(&rows)? >= messages))?;
        let rows = scene.database.number(&rows)?;
        let distinct = format!("SELECT count(DISTINCT device_id) FROM {table}");
        ensure!(rows == messages, "{table} has {rows} rows of {messages} messages");
        ensure!(scene.database.number(&distinct)? == *sent, "{table} lacks messages");
    }
    Ok(())
}

fn threads(host: &Host) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/task", host.pid()))?.count())
}

#[test]
fn thirty_pipelines_share_threads_and_connections_and_hosts_of_them_can_be_killed() -> Result<()> {
    let scene = Scene::alone("thirty", 1, Readings::TABLE)?;
    let mut all = all(&scene)?;
    let mut files: Vec<PathBuf> =
        all.iter().map(|it| it.pipeline.write(&scene.folder)).collect::<Result<_>>()?;
    let away = TcpListener::bind("127.0.0.1:0")?;
    files.extend(broken(&scene, &away)?);
    send(&mut all, 30)?;

    let begun = Instant::now();
    let first = Host::start("first", &scene.folder, &files)?;
    until_true("all pipelines are at work", SOON, || all_there(&scene, &all)).with_context(
        || format!("{}{}", lacking(&scene, &all).unwrap_or_default(), first.tail()),
    )?;
    let at_work = begun.elapsed();
    let mut most = 0;
    let quiet = || {
        most = most.max(scene.database.number(SESSIONS)?);
        Ok(threads(&first)? <= THREADS_MAX)
    };
    until_true("threads are given back", SOON, quiet)
        .with_context(|| format!("{} threads", threads(&first).unwrap_or_default()))?;
    let idle_threads = threads(&first)?;

    send(&mut all, 300)?;
    most = most.max(scene.database.number(SESSIONS)?);
    // A second host beside it, and the first one killed.
    let second = Host::start("second", &scene.folder, &files)?;
    send(&mut all, 300)?;
    second.wait_for_nth("partitions claimed", PIPELINES / 2, SOON)?;
    send(&mut all, 300)?;
    first.kill()?;
    send(&mut all, 300)?;
    until_true("all messages are rows", SOON, || all_there(&scene, &all)).with_context(|| {
        format!("{}{}", lacking(&scene, &all).unwrap_or_default(), second.tail())
    })?;
    check_rows(&scene, &all)?;
    eprintln!("at work after {at_work:?}, {idle_threads} threads, at most {most} sessions");
    ensure!(!long() || at_work <= AT_WORK_MAX, "{at_work:?} until all pipelines were at work");
    ensure!(most <= SESSIONS_MAX, "{most} sessions of one host");
    // It takes its time to find out that the plugin ends on no message.
    until_true("the endless plugin is found out", SOON * 2, || {
        let blocked = second.events("pipeline blocked");
        Ok(blocked.iter().any(|event| event.text("pipeline").as_deref() == Some(ENDLESS)))
    })?;
    let (code, events) = second.terminate()?;
    // That of the plugin, or that of the database where the search for messages at fault was ended.
    ensure!([1, 3].contains(&code), "{code}, although a pipeline is blocked");
    let blocked: BTreeSet<String> = events
        .iter()
        .filter(|event| event.is("pipeline blocked"))
        .filter_map(|event| event.text("pipeline"))
        .collect();
    let broken = BTreeSet::from([ENDLESS.to_owned(), AWAY.to_owned()]);
    ensure!(blocked.is_subset(&broken) && blocked.contains(ENDLESS), "blocked: {blocked:?}");
    Ok(())
}
