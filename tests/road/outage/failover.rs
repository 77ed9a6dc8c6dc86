//! Another server takes over.

use super::*;

use sluice::demo::postgres::Throwaway;
use sluice_tests::counts::scaled;
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
        let standby = Database::open(self.standby.url())?;
        standby.execute("SELECT pg_promote()")?;
        // Settings of a standby, which the next one would take over.
        standby.execute("ALTER SYSTEM RESET ALL")?;
        work.direct = Database::open(self.standby.url_of(&work.scene.name))?;
        work.resumes_within(limit)?;
        let next = standby_of(&self.standby)?;
        self.primary = std::mem::replace(&mut self.standby, next);
        Ok(())
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
        let standby = Database::open(pair.standby.url())?;
        standby.execute("ALTER SYSTEM SET primary_conninfo = ''")?;
        standby.execute("SELECT pg_reload_conf()")?;
        work.goes_on()?;
        work.pile_up(2000)?;
        let vigil = work.vigil()?;
        // Each partition is found out about with the first batch in which it is, and claimed again 5 s later.
        pair.fail_over(&mut work, 2 * RESUME_MAX)?;
        vigil.end(&work.host, usize::try_from(work.scene.topic.partitions)?)?;
    }
    work.end()
}
