//! What happens to hosts, to the topic and to the servers. Each event is over, and undone, when it returns; that it had
//! the effect it is meant to have is part of it.

use anyhow::{Context, Result, ensure};
use sluice_tests::certificates::Valid;
use sluice_tests::postgres::Database;
use sluice_tests::wait::{SOON, until_true};

use super::changes::{
    add_and_drop_a_column, build_and_drop_an_index, change_a_type_and_back,
    end_writers_by_a_trigger, rename_and_back, revoke_and_grant,
};
use super::{RATE, TRANSACTION, Worlds, producer};

/// An event.
pub type Event = fn(&mut Worlds) -> Result<()>;

const PARTITIONS_MAX: i32 = 9;

/// Added each time.
const PARTITIONS_MORE: i32 = 3;

/// How long a transaction stays open.
const OPEN_S: u32 = 5;

/// More than a server keeps.
const LOG_MIB_MAX: usize = 300;

const LOG_A_MEGABYTE: &str = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))";

/// One round.
pub const EVENTS: [(&str, Event); 15] = [
    ("a host is killed", kill_a_host),
    ("a standby that lacks commits takes over", fail_over),
    ("the certificate has expired", let_the_certificate_expire),
    ("the disk is full", fill_the_disk),
    ("partitions are added", add_partitions),
    ("partitions are added again", add_partitions),
    ("a transaction is aborted", abort_a_transaction),
    ("a transaction stays open", leave_a_transaction_open),
    ("the password is rotated", rotate_the_password),
    ("a column is added and dropped", add_and_drop_a_column),
    ("a column's type is changed", change_a_type_and_back),
    ("an index is built and dropped", build_and_drop_an_index),
    ("the table is renamed", rename_and_back),
    ("a privilege is revoked", revoke_and_grant),
    ("a trigger ends whoever writes", end_writers_by_a_trigger),
];

/// All partitions were written to since the last time, so no message is taken for one that crashes hosts.
fn kill_a_host(worlds: &mut Worlds) -> Result<()> {
    let number = worlds.random.usize(..worlds.hosts.len());
    worlds.hosts.swap_remove(number).kill()?;
    worlds.start_host()
}

/// Rows and positions are lost together, so the messages are read again.
fn fail_over(worlds: &mut Worlds) -> Result<()> {
    worlds.servers.pair.wait_until_caught_up()?;
    worlds.servers.pair.cut_off()?;
    worlds.goes_on()?;
    let moved = "SELECT sum(next_offset) FROM sluice.positions";
    let before = worlds.scene.database.number(moved)?;
    worlds.servers.pair.lose_primary()?;
    let after =
        Database::open(worlds.servers.pair.standby()?.url_of(&worlds.scene.name))?.number(moved)?;
    ensure!(after < before, "no commit is lost: {after}, {before}");
    worlds.servers.pair.promote()?;
    worlds.scene.database = worlds.servers.open()?;
    worlds.servers.set_password(&worlds.scene.database)?;
    worlds.servers.pair.follow()
}

fn let_the_certificate_expire(worlds: &mut Worlds) -> Result<()> {
    let logged = worlds.logged();
    worlds.servers.present(Valid::Before)?;
    worlds.servers.end_sessions(&worlds.scene.database)?;
    worlds.wait_until_told("SL-P017", &logged)?;
    worlds.servers.present(Valid::Now)
}

/// Tables find no room, and now and then the server's log does not either: then the server ends.
fn fill_the_disk(worlds: &mut Worlds) -> Result<()> {
    let Some(disk) = &worlds.servers.disk else { return Ok(()) };
    let logged = worlds.logged();
    disk.fill()?;
    until_true("a host tells of the full disk, or the server has ended", 2 * SOON, || {
        Ok(worlds.has_told("SL-P005", &logged) || worlds.servers.open().is_err())
    })?;
    if worlds.random.bool() {
        // Its oldest parts may be written over instead; then the server lives.
        let mut megabytes = 0..LOG_MIB_MAX;
        while megabytes.next().is_some() && worlds.scene.database.execute(LOG_A_MEGABYTE).is_ok() {}
    }
    disk.free()?;
    worlds.servers.recover()?;
    worlds.scene.database = worlds.servers.open()?;
    Ok(())
}

/// Both producers send to them as soon as they are there.
fn add_partitions(worlds: &mut Worlds) -> Result<()> {
    let topic = &mut worlds.scene.topic;
    if topic.partitions == PARTITIONS_MAX {
        return Ok(());
    }
    let mut load = worlds.stream.take().context("there is a stream")?.stop()?;
    topic.grow(topic.partitions + PARTITIONS_MORE)?;
    load.follow(topic)?;
    worlds.stream = Some(load.stream(RATE));
    worlds.producers += 1;
    worlds.transactions = producer(&worlds.scene, worlds.producers)?;
    Ok(())
}

fn abort_a_transaction(worlds: &mut Worlds) -> Result<()> {
    worlds.transactions.begin()?;
    worlds.transactions.send(TRANSACTION)?;
    worlds.transactions.abort()
}

/// Nothing behind its first message is read as long as it is open.
fn leave_a_transaction_open(worlds: &mut Worlds) -> Result<()> {
    worlds.transactions.begin()?;
    worlds.transactions.send(TRANSACTION)?;
    let stream = worlds.stream.as_ref().context("there is a stream")?;
    let later = stream.acknowledged() + u64::from(RATE * OPEN_S);
    until_true("messages wait behind an open transaction", 2 * SOON, || {
        Ok(stream.acknowledged() > later)
    })?;
    let stable = worlds.scene.topic.log_ends()?;
    let positions = worlds.scene.positions(&worlds.scene.name)?;
    let is_within =
        |(position, stable): (&Option<i64>, &i64)| position.is_some_and(|it| it <= *stable);
    ensure!(positions.iter().zip(&stable).all(is_within), "{positions:?}, readable: {stable:?}");
    worlds.transactions.abort()
}

/// First in Postgres; in the file when hosts have been refused.
fn rotate_the_password(worlds: &mut Worlds) -> Result<()> {
    let logged = worlds.logged();
    worlds.servers.change_password(&worlds.scene.database)?;
    worlds.servers.end_sessions(&worlds.scene.database)?;
    worlds.wait_until_told("SL-P002", &logged)?;
    worlds.servers.write_password()
}
