//! Another server takes over.

use super::*;

use sluice_tests::counts::scaled;
use sluice_tests::load::{Load, Mix};
use sluice_tests::pair::Pair;
use sluice_tests::postgres::own_server;
use sluice_tests::proxy::Proxy;

fn start(work: &str) -> Result<(Pair, Scene)> {
    let primary = own_server()?;
    let scene = Scene::on_server(work, 6, &primary)?;
    let proxy = Proxy::start(primary.port())?;
    Ok((Pair::new(primary, proxy)?, scene))
}

fn begin(pair: &Pair, mut scene: Scene) -> Result<Work> {
    let through = pair.proxy.url(scene.database.url(), pair.primary.port());
    scene.database = Database::open(through)?;
    Work::begin(scene)
}

/// The standby takes over, and a new one follows it.
fn fail_over(pair: &mut Pair, work: &mut Work, limit: Duration) -> Result<()> {
    pair.lose_primary()?;
    work.pile_up(2000)?;
    pair.promote()?;
    work.direct = Database::open(pair.primary.url_of(&work.scene.name))?;
    work.resumes_within(limit)?;
    pair.follow()
}

#[test]
fn a_standby_that_has_everything_takes_over() -> Result<()> {
    let (mut pair, scene) = start("failover")?;
    let mut work = begin(&pair, scene)?;
    for _ in 0..scaled(20) {
        pair.synchronise()?;
        work.goes_on()?;
        let vigil = work.vigil()?;
        fail_over(&mut pair, &mut work, RESUME_MAX)?;
        vigil.end(&work.host, LANES)?;
    }
    work.end()
}

/// Rows and positions were lost together, so the messages are read again.
#[test]
fn a_standby_that_lacks_the_last_commits_takes_over() -> Result<()> {
    let (mut pair, scene) = start("failover_behind")?;
    let mut work = begin(&pair, scene)?;
    for _ in 0..scaled(20) {
        pair.cut_off()?;
        work.goes_on()?;
        work.pile_up(2000)?;
        let vigil = work.vigil()?;
        // Each partition is found out about with the first batch in which it is, and claimed again 5 s later.
        fail_over(&mut pair, &mut work, 2 * RESUME_MAX)?;
        vigil.end(&work.host, usize::try_from(work.scene.topic.partitions)?)?;
    }
    work.end()
}

/// Nothing is sent afterwards, so no write finds out what was lost.
#[test]
fn what_a_standby_lacks_is_read_again_although_nothing_more_is_sent() -> Result<()> {
    let (mut pair, mut scene) = start("failover_idle")?;
    scene.database = Database::open(pair.proxy.url(scene.database.url(), pair.primary.port()))?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    let host = scene.start("host", &scene.pipeline()?)?;
    load.send(600)?;
    scene.wait_until_drained()?;
    pair.synchronise()?;
    Database::open(pair.primary.url())?.execute("ALTER SYSTEM RESET synchronous_standby_names")?;
    Database::open(pair.primary.url())?.execute("SELECT pg_reload_conf()")?;
    pair.cut_off()?;
    load.send(600)?;
    scene.wait_until_drained()?;
    pair.lose_primary()?;
    pair.promote()?;
    host.wait_for("Postgres has lost commits; reading again from the positions it has", SOON)?;
    scene.database = scene.database.again()?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}
