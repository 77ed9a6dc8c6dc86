//! Blocks hosts inside of their transaction: their write waits behind its COPY as long as a test keeps the gate
//! closed.

use anyhow::Result;

use crate::postgres::Database;
use crate::wait::{SOON, until};

const WAITING: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Closed as long as it lives.
#[derive(Debug)]
pub struct Gate {
    keeper: Database,
}

impl Gate {
    /// Puts a gate, open for now, behind every write to `table`.
    pub fn build(database: &Database, table: &str) -> Result<()> {
        database.execute(&format!(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
             CREATE TRIGGER gate AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate()"
        ))
    }

    /// Closes the gate. Sessions of the host give up waiting for a lock after a few seconds and come again.
    pub fn close(database: &Database) -> Result<Self> {
        let keeper = database.again()?;
        keeper.execute("SELECT pg_advisory_lock(1)")?;
        Ok(Self { keeper })
    }

    /// Waits until a session waits inside of its transaction that is not one of `known`; returns all that do.
    pub fn wait_for_session(&self, known: &[i32]) -> Result<Vec<i32>> {
        until("a host waits inside of its transaction", SOON, || {
            let rows = self.keeper.query(WAITING, &[])?;
            let waiting: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
            Ok(waiting.iter().any(|pid| !known.contains(pid)).then_some(waiting))
        })
    }

    /// Opens the gate.
    pub fn open(self) -> Result<()> {
        self.keeper.execute("SELECT pg_advisory_unlock(1)")
    }
}
