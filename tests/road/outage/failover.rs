//! Another server takes over.

use super::*;

use sluice::demo::postgres::Throwaway;
use sluice_tests::counts::scaled;
use sluice_tests::load::{Load, Mix};
use sluice_tests::postgres::{own_server, standby_of};
use sluice_tests::proxy::Proxy;

/// A primary, a server that follows it, and the address that leads to the primary.
struct Pair {
    primary: Throwaway,
    standby: Throwaway,
    proxy: Proxy,
}

impl Pair {
    fn start(work: &str) -> Result<(Self, Scene)> {
        let primary = own_server()?;
        let scene = Scene::on_server(work, 6, &primary)?;
        let proxy = Proxy::start(primary.port())?;
        let standby = standby_of(&primary)?;
        Ok((Self { primary, standby, proxy }, scene))
    }

    /// From now on nothing is committed that the standby has not.
    fn synchronise(&self) -> Result<()> {
        let primary = Database::open(self.primary.url())?;
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        primary.execute("SELECT pg_reload_conf()")?;
        until_true("the standby is synchronous", SOON, || {
            primary.holds("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        })
    }

    /// The standby takes over, and a new one follows it.
    fn fail_over(&mut self, work: &mut Work, limit: Duration) -> Result<()> {
        self.primary.stop_immediate()?;
        // For a moment the address leads to a server that takes no writes yet.
        self.proxy.redirect(self.standby.port());
        work.pile_up(2000)?;
        self.promote()?;
        work.direct = Database::open(self.standby.url_of(&work.scene.name))?;
        work.resumes_within(limit)?;
        let next = standby_of(&self.standby)?;
        self.primary = std::mem::replace(&mut self.standby, next);
        Ok(())
    }

    fn promote(&self) -> Result<()> {
        let standby = Database::open(self.standby.url())?;
        standby.execute("SELECT pg_promote()")?;
        // Settings of a standby, which the next one would take over.
        standby.execute("ALTER SYSTEM RESET ALL")
    }

    /// From now on the standby gets nothing.
    fn cut_off(&self) -> Result<()> {
        let standby = Database::open(self.standby.url())?;
        standby.execute("ALTER SYSTEM SET primary_conninfo = ''")?;
        standby.execute("SELECT pg_reload_conf()")
    }
}

fn begin(pair: &Pair, mut scene: Scene) -> Result<Work> {
    let through = pair.proxy.url(scene.database.url(), pair.primary.port());
    scene.database = Database::open(through)?;
    Work::begin(scene)
}

#[test]
fn a_standby_that_has_everything_takes_over() -> Result<()> {
    let (mut pair, scene) = Pair::start("failover")?;
    let mut work = begin(&pair, scene)?;
    for _ in 0..scaled(20) {
        pair.synchronise()?;
        work.goes_on()?;
        let vigil = work.vigil()?;
        pair.fail_over(&mut work, RESUME_MAX)?;
        vigil.end(&work.host, LANES)?;
    }
    work.end()
}

/// Rows and positions were lost together, so the messages are read again.
#[test]
fn a_standby_that_lacks_the_last_commits_takes_over() -> Result<()> {
    let (mut pair, scene) = Pair::start("failover_behind")?;
    let mut work = begin(&pair, scene)?;
    for _ in 0..scaled(20) {
        pair.cut_off()?;
        work.goes_on()?;
        work.pile_up(2000)?;
        let vigil = work.vigil()?;
        // Each partition is found out about with the first batch in which it is, and claimed again 5 s later.
        pair.fail_over(&mut work, 2 * RESUME_MAX)?;
        vigil.end(&work.host, usize::try_from(work.scene.topic.partitions)?)?;
    }
    work.end()
}

/// Nothing is sent afterwards, so no write finds out what was lost.
#[test]
fn what_a_standby_lacks_is_read_again_although_nothing_more_is_sent() -> Result<()> {
    let (mut pair, mut scene) = Pair::start("failover_idle")?;
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
    pair.primary.stop_immediate()?;
    pair.proxy.redirect(pair.standby.port());
    pair.promote()?;
    host.wait_for("postgres has lost commits; reading again from where it stands", SOON)?;
    scene.database = scene.database.again()?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}
