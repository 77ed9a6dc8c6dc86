//! What is done to the definition of the table. No change is seen in the text of a value.

use anyhow::Result;
use sluice_tests::operator::blocked;
use sluice_tests::wait::{SOON, until_true};

use super::Worlds;

impl Worlds {
    fn alter(&self, sql: &str) -> Result<()> {
        self.scene.database.execute(sql)
    }

    /// `change` leaves rows a place, as does what undoes it.
    fn change(&self, change: &str, undo: &str) -> Result<()> {
        self.alter(change)?;
        self.goes_on()?;
        self.alter(undo)
    }

    /// `change` blocks the pipeline until it is undone.
    fn block(&self, change: &str, undo: &str) -> Result<()> {
        self.alter(change)?;
        let is_blocked = || Ok(blocked(&self.scene.database, &self.scene.name)?.is_some());
        until_true("the pipeline is blocked", 2 * SOON, is_blocked)?;
        self.alter(undo)
    }
}

/// New rows have its default, which no message knows of.
pub fn add_and_drop_a_column(worlds: &mut Worlds) -> Result<()> {
    worlds.change(
        "ALTER TABLE readings ADD COLUMN note text NOT NULL DEFAULT 'none'",
        "ALTER TABLE readings DROP COLUMN note",
    )
}

/// All rows are written again each time.
pub fn change_a_type_and_back(worlds: &mut Worlds) -> Result<()> {
    let column = ["seq", "energy_wh"][worlds.random.usize(..2)];
    worlds.change(
        &format!("ALTER TABLE readings ALTER COLUMN {column} TYPE integer"),
        &format!("ALTER TABLE readings ALTER COLUMN {column} TYPE bigint"),
    )
}

pub fn build_and_drop_an_index(worlds: &mut Worlds) -> Result<()> {
    worlds.change(
        "CREATE INDEX by_device ON readings (device_id, measured_at)",
        "DROP INDEX by_device",
    )
}

pub fn rename_and_back(worlds: &mut Worlds) -> Result<()> {
    worlds.block(
        "ALTER TABLE readings RENAME TO readings_away",
        "ALTER TABLE readings_away RENAME TO readings",
    )
}

/// Of the owner, who may lose it as any other role.
pub fn revoke_and_grant(worlds: &mut Worlds) -> Result<()> {
    let role = &worlds.scene.name;
    worlds.block(
        &format!("REVOKE INSERT ON readings FROM {role}"),
        &format!("GRANT INSERT ON readings TO {role}"),
    )
}

/// A trigger that raises an error would reject rows, each of which becomes a dead letter. This one ends the session, as
/// a server does that shuts down: an outage, whatever the rows are.
pub fn end_writers_by_a_trigger(worlds: &mut Worlds) -> Result<()> {
    let logged = worlds.logged();
    worlds.alter(
        "CREATE OR REPLACE FUNCTION end_writer() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; \
         CREATE TRIGGER end_writer BEFORE INSERT ON readings FOR EACH STATEMENT EXECUTE FUNCTION end_writer()",
    )?;
    worlds.wait_until_told("SL-P004", &logged)?;
    worlds.alter("DROP TRIGGER end_writer ON readings")
}
