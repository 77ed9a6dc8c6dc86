//! Two servers, of which one follows the other, behind an address that leads to the one that takes writes.

use anyhow::{Context, Result};
use sluice::demo::postgres::Throwaway;

use crate::postgres::{Database, standby_of};
use crate::proxy::Proxy;
use crate::wait::{SOON, until_true};

/// A primary, its standby, and their address.
#[derive(Debug)]
pub struct Pair {
    /// The server that takes writes.
    pub primary: Throwaway,
    /// The one that follows it; none from a promotion on until [`Pair::follow`].
    standby: Option<Throwaway>,
    /// Leads to the primary.
    pub proxy: Proxy,
}

impl Pair {
    /// Starts a standby of `primary`, to which `proxy` leads.
    pub fn new(primary: Throwaway, proxy: Proxy) -> Result<Self> {
        let standby = Some(standby_of(&primary)?);
        Ok(Self { primary, standby, proxy })
    }

    /// The standby.
    pub fn standby(&self) -> Result<&Throwaway> {
        self.standby.as_ref().context("there is a standby")
    }

    /// From now on nothing is committed that the standby has not.
    pub fn synchronise(&self) -> Result<()> {
        let primary = Database::open(self.primary.url())?;
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        primary.execute("SELECT pg_reload_conf()")?;
        until_true("the standby is synchronous", SOON, || {
            primary
                .is_true("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        })
    }

    /// Waits until the standby has all that is committed now.
    pub fn wait_until_caught_up(&self) -> Result<()> {
        let primary = Database::open(self.primary.url())?;
        let now = primary.text("SELECT pg_current_wal_lsn()")?.context("a place in the log")?;
        let sql = format!("SELECT bool_or(replay_lsn >= '{now}') FROM pg_stat_replication");
        until_true("the standby has caught up", 2 * SOON, || primary.is_true(&sql))
            .with_context(|| format!("{:?}", self.standby.as_ref().map(Throwaway::log)))
    }

    /// From now on the standby gets nothing.
    pub fn cut_off(&self) -> Result<()> {
        let standby = Database::open(self.standby()?.url())?;
        standby.execute("ALTER SYSTEM SET primary_conninfo = ''")?;
        standby.execute("SELECT pg_reload_conf()")?;
        until_true("the standby gets nothing", SOON, || {
            standby.is_true("SELECT count(*) = 0 FROM pg_stat_wal_receiver")
        })
    }

    /// The primary is lost; the address leads to a server that takes no writes yet.
    pub fn lose_primary(&mut self) -> Result<()> {
        self.primary.stop_immediate()?;
        self.proxy.redirect(self.standby()?.port());
        Ok(())
    }

    /// The standby becomes the primary; what is left of the former one goes.
    pub fn promote(&mut self) -> Result<()> {
        let standby = Database::open(self.standby()?.url())?;
        standby.execute("SELECT pg_promote()")?;
        // Settings of a standby, which the next one would take over.
        standby.execute("ALTER SYSTEM RESET primary_conninfo")?;
        standby.execute("ALTER SYSTEM RESET synchronous_standby_names")?;
        self.primary = self.standby.take().context("there is a standby")?;
        Ok(())
    }

    /// A new standby follows the primary; a former one goes first, for both may not find room.
    pub fn follow(&mut self) -> Result<()> {
        self.standby = None;
        self.standby = Some(standby_of(&self.primary)?);
        Ok(())
    }
}
