//! Columns whose type is changed under a running host: every value is written as what it is, or not at all.

use anyhow::Result;
use serde_json::json;

use super::case::{Case, bad, good, table, ten_good_around};

#[test]
fn a_column_that_was_widened_takes_what_it_could_not_take_before() -> Result<()> {
    let narrow =
        "ALTER TABLE readings ALTER COLUMN seq TYPE integer, ALTER COLUMN voltage_v TYPE real";
    let mut case = Case::begin("types_widened", &table(narrow))?;
    case.send(10)?;
    let large = json!({ "seq": 3_000_000_000_i64 });
    case.send_as_one_batch(&ten_good_around(&bad(large.clone())))?;
    for wider in [
        "ALTER COLUMN seq TYPE bigint",
        "ALTER COLUMN voltage_v TYPE float8",
        "ALTER COLUMN power_w TYPE numeric(12,3)",
    ] {
        case.execute(&format!("ALTER TABLE readings {wider}"))?;
        case.send_as_one_batch(&ten_good_around(&good(large.clone())))?;
    }
    let codes: Vec<String> = case.dead_letters()?.into_iter().map(|(code, _)| code).collect();
    assert!(!codes.is_empty() && codes.iter().all(|code| code == "out-of-range"), "{codes:?}");
    case.end()
}

/// Where another width or another type takes the field's values as they are, nothing is blocked.
#[test]
fn a_column_that_gets_another_type_gets_the_same_values() -> Result<()> {
    let types = "CREATE TYPE state AS ENUM ('offline', 'ok'); CREATE DOMAIN count AS integer CHECK (VALUE > 0)";
    let mut case = Case::begin("types_changed", &table(types))?;
    case.fields = json!({ "device_id": "5d1b0c4e-8f57-4a7e-9a53-0d4c3f2b1a00" });
    case.send(5)?;
    case.drained()?;
    for (column, changed) in [
        ("energy_wh", "numeric"),
        ("energy_wh", "numeric(20,3)"),
        ("energy_wh", "bigint"),
        ("seq", "smallint"),
        ("seq", "count"),
        ("seq", "numeric(9,0)"),
        ("power_w", "real"),
        ("power_w", "numeric(12,3)"),
        ("power_w", "float8"),
        ("device_id", "uuid USING device_id::uuid"),
        ("device_id", "text"),
        ("device_id", "varchar(36)"),
        ("measured_at", "timestamp USING measured_at AT TIME ZONE 'UTC'"),
        ("measured_at", "timestamptz USING measured_at AT TIME ZONE 'UTC'"),
        ("status", "state USING status::state"),
        ("status", "varchar(8) USING status::text"),
        ("status", "name"),
        ("status", "text"),
    ] {
        case.execute(&format!("ALTER TABLE readings ALTER COLUMN {column} TYPE {changed}"))?;
        // One that needs all eight bytes, where they are there.
        let odd = if column == "energy_wh" {
            json!({ column: 123_456_789_012_345_i64 })
        } else {
            json!({})
        };
        case.send_each(&ten_good_around(&good(odd)))?;
        case.drained()?;
    }
    assert_eq!(case.dead_letters()?, []);
    case.end()
}

/// Eight bytes are eight bytes: Postgres would take them for values that nobody has sent.
#[test]
fn a_column_whose_new_type_takes_no_such_values_blocks_the_pipeline() -> Result<()> {
    let mut case = Case::begin(
        "types_unfit",
        &table("ALTER TABLE readings ALTER COLUMN current_a TYPE real"),
    )?;
    case.send(5)?;
    case.drained()?;
    for (column, unfit, fit) in [
        ("energy_wh", "double precision", "bigint"),
        ("power_w", "bigint", "double precision"),
        ("current_a", "integer", "real"),
        ("measured_at", "bigint USING 0", "timestamptz USING '2026-11-22T03:04:05Z'"),
    ] {
        let change = |to| format!("ALTER TABLE readings ALTER COLUMN {column} TYPE {to}");
        // Their values before are not what is compared.
        case.execute("CREATE TABLE before AS SELECT * FROM readings; TRUNCATE readings")?;
        case.execute(&change(unfit))?;
        case.send(5)?;
        let reason = case.wait_until_blocked("SL-P010")?;
        assert!(reason.contains(column), "{reason}");
        assert_eq!(case.scene.database.number("SELECT count(*) FROM readings")?, 0, "{column}");
        case.execute(&change(fit))?;
        case.execute("INSERT INTO readings SELECT * FROM before; DROP TABLE before")?;
        case.resumed()?;
    }
    assert_eq!(case.dead_letters()?, []);
    case.end()
}

#[test]
fn a_label_that_an_enum_gets_is_known_at_once() -> Result<()> {
    let state = "CREATE TYPE state AS ENUM ('ok', 'degraded'); \
        ALTER TABLE readings ALTER COLUMN status TYPE state USING status::state";
    let mut case = Case::begin("types_label", &table(state))?;
    let offline = json!({ "status": "offline" });
    // It is replayed in the end, and so becomes a row.
    case.send_as_one_batch(&ten_good_around(&good(offline.clone())))?;
    let unknown = case.dead_letters()?;
    let are_unknown = unknown.iter().all(|(code, _)| code == "unknown-enum-value");
    assert!(!unknown.is_empty() && are_unknown, "{unknown:?}");
    case.execute("ALTER TYPE state ADD VALUE 'offline'")?;
    case.send_each(&vec![good(offline.clone()); 5])?;
    case.drained()?;
    assert_eq!(case.dead_letters()?, unknown);
    let replay = ["dlq", "replay", "--code", "unknown-enum-value"];
    let replayed = sluice_tests::operator::call(&replay, &case.file()?)?;
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    case.send_each(&vec![good(offline); 5])?;
    case.drained()?;
    assert_eq!(case.dead_letters()?, []);
    case.end()
}
