//! Rows that Postgres rejects with whatever SQLSTATE: one such row among good ones costs its own message.

use anyhow::Result;
use serde_json::json;
use sluice_tests::checker::{ByValue, Keep};
use sluice_tests::wait::{SOON, until_true};

use super::case::{Case, bad, good, table, ten_good_around};

/// Types that report a text they cannot read as a syntax error, as if it were SQL.
#[test]
fn a_text_that_its_type_takes_for_a_syntax_error_is_dead_lettered() -> Result<()> {
    for mode in ["append", "ignore"] {
        let key = "CREATE EXTENSION ltree; CREATE TABLE written (line text, arrival bigint); \
            ALTER TABLE readings ADD UNIQUE (seq)";
        let mut case = Case::new(&format!("rejected_syntax_{mode}"), &table(key))?;
        case.pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\nkey = [\"seq\"]\n"));
        if mode == "append" {
            "table = \"readings\"\n".clone_into(&mut case.pipeline.sink_lines);
        }
        // Good ones are printed by Postgres as they are written here.
        for (name, fine, wrong) in [
            ("ltree", "site.a.dev1", "site..dev1"),
            ("tsvector", "'dev'", "dev:01:0a"),
            ("tsquery", "'dev' & 'site'", "dev & & site"),
            ("jsonpath", "$.\"a\"", "$.a["),
        ] {
            case.execute(&format!(
                "ALTER TABLE readings ALTER COLUMN device_id TYPE {name} USING NULL"
            ))?;
            case.start()?;
            case.fields = json!({ "device_id": fine });
            let before = case.dead_letters()?.len();
            case.send_as_one_batch(&ten_good_around(&bad(json!({ "device_id": wrong }))))?;
            let rejected = case.dead_letters()?;
            assert!(rejected.len() > before, "{name}");
            assert!(rejected[before..].iter().all(|(code, _)| code == "42601"), "{rejected:?}");
            case.stop()?;
            case.execute(&format!(
                "INSERT INTO written SELECT {}, arrival FROM readings; TRUNCATE readings",
                ByValue::LINE
            ))?;
        }
        case.shape = ByValue { table: "written", line: "line", keep: Keep::All, in_order: false };
        case.start()?;
        case.end()?;
    }
    Ok(())
}

/// A trigger that does with a row what its `energy_wh` says.
const STATES: &str = "
    CREATE FUNCTION states() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE one integer;
        BEGIN
            CASE -NEW.energy_wh
                WHEN 1 THEN SELECT 1 INTO STRICT one WHERE false;
                WHEN 2 THEN SELECT 1 INTO STRICT one FROM generate_series(1, 2);
                WHEN 3 THEN ASSERT false;
                WHEN 4 THEN RAISE EXCEPTION 'no bill' USING ERRCODE = 'BILL1';
                WHEN 5 THEN RAISE EXCEPTION 'unhandled' USING ERRCODE = '45000';
                WHEN 6 THEN RAISE EXCEPTION 'plain';
                WHEN 7 THEN EXECUTE 'SELECT FROM no_such_table';
                WHEN 8 THEN RAISE insufficient_privilege;
                WHEN 9 THEN RAISE feature_not_supported;
                WHEN 10 THEN EXECUTE 'SELEC';
                WHEN 11 THEN RAISE object_not_in_prerequisite_state;
                ELSE NULL;
            END CASE;
            RETURN NEW;
        END $$;
    CREATE TRIGGER states BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION states()";

#[test]
fn one_row_that_a_trigger_rejects_with_any_sqlstate_is_dead_lettered() -> Result<()> {
    for mode in ["append", "upsert"] {
        let key = "ALTER TABLE readings ADD PRIMARY KEY (device_id, seq)";
        let mut case =
            Case::new(&format!("rejected_states_{mode}"), &table(&format!("{STATES}; {key}")))?;
        case.pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\n"));
        case.shape.in_order = mode == "append";
        case.start()?;
        for (number, sqlstate) in (1..).zip([
            "P0002", "P0003", "P0004", "BILL1", "45000", "P0001", "42P01", "42501", "0A000",
            "42601", "55000",
        ]) {
            let before = case.dead_letters()?.len();
            case.send_as_one_batch(&ten_good_around(&bad(json!({ "energy_wh": -number }))))?;
            let rejected = case.dead_letters()?;
            assert!(rejected.len() > before, "{sqlstate}");
            assert!(
                rejected[before..].iter().all(|(code, _)| code == sqlstate),
                "{sqlstate}: {rejected:?}"
            );
        }
        case.end()?;
    }
    Ok(())
}

#[test]
fn a_row_that_a_trigger_rejects_with_a_listed_sqlstate_is_parked() -> Result<()> {
    let mut case = Case::new("rejected_parked", &table(STATES))?;
    let retry = "\n[retry]\nsqlstates = [\"BILL1\"]\nattempts = 100\ndelay = \"1s\"\n";
    case.pipeline.sink_lines.push_str(retry);
    case.start()?;
    // It becomes a row in the end.
    case.send_as_one_batch(&ten_good_around(&good(json!({ "energy_wh": -4 }))))?;
    assert_eq!(case.dead_letters()?, []);
    case.execute("DROP TRIGGER states ON readings")?;
    let database = case.scene.database.again()?;
    until_true("what was parked is a row", SOON, || {
        Ok(database.number("SELECT count(*) FROM sluice.parked")? == 0)
    })?;
    assert!(database.number("SELECT count(*) FROM sluice.retried")? > 0);
    case.end()
}

/// By a collation to which upper and lower case are the same, as Postgres' manual advises instead of `citext`.
#[test]
fn of_two_rows_whose_keys_a_collation_takes_for_one_the_mode_says_which_stays() -> Result<()> {
    for (mode, stays) in [("upsert", "dev-a|5, other|5"), ("ignore", "dev-A|0, OTHER|0")] {
        let collation = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
            ALTER TABLE readings ALTER COLUMN device_id TYPE text COLLATE ci, ADD PRIMARY KEY (device_id)";
        let mut case = Case::new(&format!("rejected_collation_{mode}"), &table(collation))?;
        case.pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\n"));
        let device =
            |name: &str, number: i64| good(json!({ "device_id": name, "energy_wh": number }));
        let round = |number: i64| {
            let names = ["dev-A", "OTHER", "dev-a", "other"];
            names.map(|name| device(name, number)).to_vec()
        };
        // Sent while no host runs, so that they are one batch; then each name in a batch of its own.
        case.send_each(&(0..5).flat_map(round).collect::<Vec<_>>())?;
        case.start()?;
        case.drained()?;
        for name in ["DEV-a", "other", "dev-a"] {
            case.send_each(&[device(name, 5)])?;
            case.drained()?;
        }
        case.stop()?;
        assert_eq!(case.dead_letters()?, []);
        let rows = "SELECT string_agg(device_id || '|' || energy_wh, ', ' ORDER BY device_id) FROM readings";
        assert_eq!(case.scene.database.text(rows)?.as_deref(), Some(stays), "{mode}");
    }
    Ok(())
}
