//! Changes after which rows do not fit the table: the pipeline is blocked until they are undone.

use super::harmless::{attach, detach, set_type};
use super::table::{Form, Table};

/// A change that blocks the pipeline.
#[derive(Debug)]
pub struct Blocking {
    /// A change before it that does not block, if it needs one.
    pub before: Option<String>,
    /// Statements that make it.
    pub change: String,
    /// Statements that undo it.
    pub mend: String,
}

/// Kinds of them that a table may meet.
pub fn kinds(form: Form) -> Vec<&'static str> {
    let mut kinds = vec![
        "integers to floats of the same width",
        "floats to integers of the same width",
        "short integers to floats of the same width",
        "a column is renamed",
        "the table is renamed",
        "the table gets another schema",
        "a column that no field fills must have a value",
        "a column must have a value that messages may lack",
        "the privilege is revoked",
    ];
    match form {
        Form::Plain | Form::Cast => kinds.push("the table is unlogged"),
        Form::Keyed => kinds.push("the key is dropped"),
        Form::Partitioned => kinds.push("a partition is detached"),
    }
    kinds
}

/// The change of kind `name`.
pub fn blocking(name: &'static str, table: &mut Table) -> Blocking {
    let (before, change, mend) = match name {
        "integers to floats of the same width" => {
            types(table, "energy_wh", "bigint", "double precision")
        }
        "floats to integers of the same width" => {
            types(table, "power_w", "double precision", "bigint")
        }
        "short integers to floats of the same width" => types(table, "seq", "integer", "real"),
        "a column is renamed" => (
            None,
            "ALTER TABLE readings RENAME temperature_c TO away".into(),
            "ALTER TABLE readings RENAME away TO temperature_c".into(),
        ),
        "the table is renamed" => (
            None,
            "ALTER TABLE readings RENAME TO readings_away".into(),
            "ALTER TABLE readings_away RENAME TO readings".into(),
        ),
        "the table gets another schema" => (
            Some("CREATE SCHEMA IF NOT EXISTS elsewhere".into()),
            "ALTER TABLE readings SET SCHEMA elsewhere".into(),
            "ALTER TABLE elsewhere.readings SET SCHEMA public".into(),
        ),
        "the table is unlogged" => (
            None,
            "ALTER TABLE readings SET UNLOGGED".into(),
            "ALTER TABLE readings SET LOGGED".into(),
        ),
        "a column that no field fills must have a value" => {
            let column = table.new_name("needed");
            (
                Some(format!(
                    "ALTER TABLE readings ADD COLUMN {column} integer NOT NULL DEFAULT 7"
                )),
                format!("ALTER TABLE readings ALTER COLUMN {column} DROP DEFAULT"),
                format!("ALTER TABLE readings DROP COLUMN {column}"),
            )
        }
        "a column must have a value that messages may lack" => {
            table.current_a_needed = false;
            (
                None,
                "LOCK TABLE readings IN ACCESS EXCLUSIVE MODE; \
                 UPDATE readings SET current_a = -1 WHERE current_a IS NULL; \
                 ALTER TABLE readings ALTER COLUMN current_a SET NOT NULL, ALTER COLUMN current_a DROP DEFAULT"
                    .into(),
                "ALTER TABLE readings ALTER COLUMN current_a DROP NOT NULL".into(),
            )
        }
        "the privilege is revoked" => {
            let role = &table.role;
            (None, format!("REVOKE INSERT ON readings FROM {role}"), table.grant("readings"))
        }
        "the key is dropped" => {
            (None, DROP_KEY.into(), "ALTER TABLE readings ADD PRIMARY KEY (device_id)".into())
        }
        _ => {
            let (partition, _) = &table.partitions["offline"];
            (None, detach(partition), attach(partition, "offline"))
        }
    };
    Blocking { before, change, mend }
}

const DROP_KEY: &str = "DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE readings DROP CONSTRAINT %I', conname) \
    FROM pg_constraint WHERE conrelid = 'readings'::regclass AND contype = 'p'); END $$";

/// First to `fit`, whose values look on the wire like those of `unfit`.
fn types(
    table: &mut Table,
    column: &'static str,
    fit: &'static str,
    unfit: &str,
) -> (Option<String>, String, String) {
    let before = set_type(table, column, fit);
    let to = |name: &str| {
        format!("ALTER TABLE readings ALTER COLUMN {column} TYPE {name} USING {column}::{name}")
    };
    (Some(before), to(unfit), to(fit))
}
