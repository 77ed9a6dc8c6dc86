//! Roles that may do no more than they must, and tables that show each role its own rows.

use anyhow::Result;
use serde_json::json;
use sluice_tests::operator::call;

use super::case::{Case, bad, table, ten_good_around};

#[test]
fn a_table_with_row_level_security_is_written_in_each_mode() -> Result<()> {
    for mode in ["append", "ignore", "upsert"] {
        let name = format!("privileges_security_{mode}");
        let mut case =
            Case::new(&name, &table("ALTER TABLE readings ADD PRIMARY KEY (device_id, seq)"))?;
        case.as_role(&name)?;
        case.execute(&format!(
            "ALTER TABLE readings ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY own ON readings FOR ALL TO {name} USING (true) WITH CHECK (energy_wh >= 0)"
        ))?;
        case.pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\n"));
        case.shape.in_order = mode == "append";
        let validated = call(&["validate"], &case.file()?)?;
        assert!(validated.status.success(), "{}", String::from_utf8_lossy(&validated.stderr));
        case.start()?;
        case.send(10)?;
        case.drained()?;
        assert_eq!(case.dead_letters()?, []);
        case.send_as_one_batch(&ten_good_around(&bad(json!({ "energy_wh": -1 }))))?;
        for (code, reason) in case.dead_letters()? {
            assert!(code == "42501" && reason.contains("row-level security"), "{code} {reason}");
        }
        case.end()?;
    }
    Ok(())
}

#[test]
fn a_role_that_may_not_create_temporary_tables_appends_and_dead_letters_a_violating_row()
-> Result<()> {
    let name = "privileges_temporary";
    let check = "ALTER TABLE readings ADD CONSTRAINT counted CHECK (seq >= 0), ADD CONSTRAINT once UNIQUE (energy_wh)";
    let mut case = Case::new(name, &table(check))?;
    case.as_role(name)?;
    case.execute(&format!(
        "REVOKE SELECT, UPDATE ON readings FROM {name}; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
    ))?;
    let validated = call(&["validate"], &case.file()?)?;
    assert!(validated.status.success(), "{}", String::from_utf8_lossy(&validated.stderr));
    case.start()?;
    case.send(10)?;
    case.drained()?;
    case.send_as_one_batch(&ten_good_around(&bad(json!({ "seq": -1 }))))?;
    // Among the first ten.
    case.send_as_one_batch(&ten_good_around(&bad(json!({ "energy_wh": 1003 }))))?;
    let codes: Vec<String> = case.dead_letters()?.into_iter().map(|(code, _)| code).collect();
    for code in ["23514", "23505"] {
        assert!(codes.iter().any(|found| found == code), "{code}: {codes:?}");
    }
    case.end()
}
