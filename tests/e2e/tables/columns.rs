//! Columns that no field fills, columns whose default steps in, and constraints that no row passes.

use anyhow::Result;
use serde_json::json;
use sluice_tests::checker::NO_CURRENT_A;
use sluice_tests::operator::call;

use super::case::{Case, good, table};

#[test]
fn a_column_that_must_have_a_value_and_gets_none_blocks_the_pipeline() -> Result<()> {
    let mut case = Case::begin("columns_unfilled", &table(""))?;
    case.send(5)?;
    case.drained()?;
    case.execute("ALTER TABLE readings ADD COLUMN site text NOT NULL DEFAULT 'x'")?;
    case.send(5)?;
    case.drained()?;
    case.execute("ALTER TABLE readings ALTER COLUMN site DROP DEFAULT")?;
    case.send(20)?;
    let reason = case.wait_until_blocked("SL-P010")?;
    assert!(reason.contains("site"), "{reason}");
    let file = case.file()?;
    assert_eq!(case.shown_by_lag()?, "SL-P010");
    let validated = call(&["validate"], &file)?;
    let said = String::from_utf8_lossy(&validated.stderr).into_owned();
    assert!(said.starts_with("error SL-P010") && said.contains("site"), "{said}");
    case.execute("ALTER TABLE readings ALTER COLUMN site SET DEFAULT 'y'")?;
    case.resumed()?;
    assert_eq!(case.dead_letters()?, []);
    let sites = "SELECT string_agg(site || ' ' || n, ', ' ORDER BY site) \
        FROM (SELECT site, count(*) AS n FROM readings GROUP BY site) AS s";
    assert_eq!(case.scene.database.text(sites)?.as_deref(), Some("x 10, y 20"));
    case.end()
}

#[test]
fn a_default_steps_in_where_a_field_is_missing() -> Result<()> {
    for mode in ["append", "upsert", "ignore"] {
        let columns = format!(
            "ALTER TABLE readings ADD PRIMARY KEY (device_id, seq), ALTER COLUMN current_a SET DEFAULT {NO_CURRENT_A}, \
             ALTER COLUMN current_a SET NOT NULL"
        );
        let mut case = Case::new(&format!("columns_default_{mode}"), &table(&columns))?;
        case.pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\n"));
        case.shape.in_order = mode == "append";
        let validated = call(&["validate"], &case.file()?)?;
        assert!(validated.status.success(), "{}", String::from_utf8_lossy(&validated.stderr));
        case.start()?;
        let missing = good(json!({ "current_a": null }));
        case.send_as_one_batch(&[
            good(json!({})),
            missing.clone(),
            good(json!({})),
            missing.clone(),
        ])?;
        case.send_as_one_batch(&[missing])?;
        let defaults = format!("SELECT count(*) FROM readings WHERE current_a = {NO_CURRENT_A}");
        assert!(case.scene.database.number(&defaults)? >= 3);
        assert_eq!(case.dead_letters()?, []);
        case.end()?;
    }
    Ok(())
}

/// Sent while no host runs, so that they are a batch.
#[test]
fn a_constraint_that_no_row_passes_blocks_the_pipeline() -> Result<()> {
    let mut case = Case::begin("columns_check", &table(""))?;
    case.send(5)?;
    case.drained()?;
    case.stop()?;
    case.execute("ALTER TABLE readings ADD CONSTRAINT impossible CHECK (seq < 0) NOT VALID")?;
    case.send(500)?;
    case.start()?;
    let reason = case.wait_until_blocked("SL-P020")?;
    assert!(reason.contains("impossible"), "{reason}");
    assert_eq!(case.dead_letters()?, []);
    case.execute("ALTER TABLE readings DROP CONSTRAINT impossible")?;
    case.resumed()?;
    case.end()
}

#[test]
fn without_a_limit_every_row_that_a_constraint_rejects_is_dead_lettered() -> Result<()> {
    let mut case = Case::new("columns_check_off", &table(""))?;
    case.pipeline.dead_letter_lines.push_str("max_in_a_row = 0\n");
    case.execute("ALTER TABLE readings ADD CONSTRAINT impossible CHECK (seq < 0)")?;
    let rejected = super::case::bad(json!({}));
    case.send_each(&vec![rejected; 500])?;
    case.start()?;
    case.drained()?;
    assert_eq!(case.dead_letters()?.len(), 500);
    case.end()
}
