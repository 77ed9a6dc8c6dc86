//! Rows for which a partitioned table has no partition yet.

use anyhow::Result;
use serde_json::json;

use super::case::{Case, good, table_with, ten_good_around};

const NOVEMBER: &str = "CREATE TABLE november PARTITION OF readings FOR VALUES FROM ('2026-11-01Z') TO ('2026-12-01Z')";

#[test]
fn rows_without_a_partition_wait_until_it_is_created() -> Result<()> {
    let mut case = Case::begin(
        "partitions_missing",
        &table_with("PARTITION BY RANGE (measured_at)", NOVEMBER),
    )?;
    case.send(1000)?;
    case.drained()?;
    let december = good(json!({ "measured_at": "2026-12-01T00:00:01.000Z" }));
    case.send_each(&vec![december; 50_000])?;
    let reason = case.wait_until_blocked("SL-P021")?;
    assert!(reason.contains("readings"), "{reason}");
    assert_eq!(case.shown_by_lag()?, "SL-P021");
    assert_eq!(case.dead_letters()?, []);
    case.execute(
        "CREATE TABLE december PARTITION OF readings FOR VALUES FROM ('2026-12-01Z') TO ('2027-01-01Z')",
    )?;
    case.resumed()?;
    assert_eq!(case.dead_letters()?, []);
    assert_eq!(case.scene.database.number("SELECT count(*) FROM december")?, 50_000);
    case.end()
}

/// Good rows around them do not make such a row one that Postgres rejects for what it contains.
#[test]
fn one_row_without_a_partition_among_others_waits_with_them() -> Result<()> {
    let mut case =
        Case::begin("partitions_one", &table_with("PARTITION BY RANGE (measured_at)", NOVEMBER))?;
    case.send(10)?;
    case.drained()?;
    let later = good(json!({ "measured_at": "2027-01-31T00:00:01.000Z" }));
    case.send_each(&ten_good_around(&later))?;
    case.wait_until_blocked("SL-P021")?;
    assert_eq!(case.dead_letters()?, []);
    case.execute(
        "CREATE TABLE later PARTITION OF readings FOR VALUES FROM ('2027-01-01Z') TO ('2027-02-01Z')",
    )?;
    case.resumed()?;
    case.end()
}
