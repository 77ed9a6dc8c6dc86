//! Numbers that a double or an integer of 64 bits would change, on their way from Kafka into numeric columns.

use anyhow::{Context, Result};
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::operator;
use sluice_tests::scene::Scene;

const TABLE: &str = "CREATE TABLE readings (device_id text PRIMARY KEY, measured_at timestamptz NOT NULL, \
    seq numeric(20,0), power_w numeric(20,6), voltage_v float8, current_a numeric(20,6), energy_wh bigint, \
    temperature_c float8, status text)";

/// `seq`, `power_w` (which the plugin reads) and `current_a` of a message, and the row or the dead letter that they
/// become.
const CASES: &[([&str; 3], &str)] = &[
    (
        ["9223372036854775807", "1.5", "1234567890123.456789"],
        "9223372036854775807 1.500000 1234567890123.456789",
    ),
    (
        ["9223372036854775808", "0.1000005", "169299987.35345112123"],
        "9223372036854775808 0.100001 169299987.353451",
    ),
    (
        ["18446744073709551615", "49999.99999949999999999", "0.1"],
        "18446744073709551615 49999.999999 0.100000",
    ),
    (["-0", "-0.0", "-0.0"], "0 0.000000 0.000000"),
    (["7", "1e-7", "5E-7"], "7 0.000000 0.000001"),
    (
        ["-99999999999999999999", "1e3", "-99999999999999.999999"],
        "-99999999999999999999 1000.000000 -99999999999999.999999",
    ),
    (["8", "1", "null"], "8 1.000000 NULL"),
    (
        ["1", "1", "9007199254740993"],
        "sink out-of-range: column \"current_a\": 9007199254740993 does not fit the column's precision",
    ),
    (
        ["1", "1", "99999999999999.9999995"],
        "sink out-of-range: column \"current_a\": 99999999999999.9999995 does not fit the column's precision",
    ),
    (
        ["1", "1", "1E400"],
        "sink out-of-range: column \"current_a\": 1E400 does not fit the column's precision",
    ),
    (
        ["1", "1", "1e100000000000"],
        "sink out-of-range: column \"current_a\": 1e100000000000 has too many digits",
    ),
    (
        ["100000000000000000000", "1", "1"],
        "sink out-of-range: column \"seq\": 100000000000000000000 does not fit the column's precision",
    ),
    (["1.0", "1", "1"], "decode wrong-type: /seq: expected an integer, found 1.0 at byte "),
    (["1", "1", "\"1\""], "decode wrong-type: /current_a: expected a number, found \"1\" at byte "),
];

/// Every case again and again: what was learned from a message must not change the next one.
const ROUNDS: usize = 40;

fn message(round: usize, case: usize) -> Made {
    let [seq, power_w, current_a] = CASES[case].0;
    let device_id = format!("{round}-{case}");
    let payload = format!(
        r#"{{"device_id":"{device_id}","measured_at":"2026-11-22T03:04:05.123Z","seq":{seq},"power_w":{power_w},"voltage_v":229.81,"current_a":{current_a},"energy_wh":3,"temperature_c":21.5,"status":"ok"}}"#
    );
    Made::raw("row", &device_id, &payload)
}

#[test]
fn every_digit_of_a_number_reaches_its_numeric_column() -> Result<()> {
    for mode in ["append", "upsert"] {
        let scene = Scene::new(&format!("digits-{mode}"), 1, TABLE)?;
        let mut pipeline = scene.pipeline()?;
        pipeline.sink_lines = format!("table = \"readings\"\nmode = \"{mode}\"\n");
        let messages: Vec<(i32, Made)> = (0..ROUNDS)
            .flat_map(|round| (0..CASES.len()).map(move |case| (0, message(round, case))))
            .collect();
        Load::new(&scene.topic, Mix::default())?.send_made(&messages)?;
        let host = scene.start("host", &pipeline)?;
        scene.wait_until_drained()?;
        host.drain()?;
        let ended = ended(&scene)?;
        assert_eq!(ended.len(), messages.len(), "{mode}");
        for (device_id, became) in ended {
            let (_, case) = device_id.split_once('-').context("a device of ours")?;
            let (numbers, expected) = CASES[case.parse::<usize>()?];
            let same = match expected.strip_suffix("at byte ") {
                Some(start) => became.starts_with(start),
                None => became == expected,
            };
            assert!(same, "{mode}, {numbers:?}: {became:?}, not {expected:?}");
        }
    }
    Ok(())
}

/// What became of the message of each device: its row, or its dead letter.
fn ended(scene: &Scene) -> Result<Vec<(String, String)>> {
    let sql = "SELECT device_id, concat_ws(' ', seq, power_w, coalesce(current_a::text, 'NULL')) FROM readings \
        UNION ALL SELECT convert_from(key, 'UTF8'), stage || ' ' || code || ': ' || reason FROM sluice.dead_letters";
    let rows = scene.database.query(sql, &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[test]
fn validate_says_where_every_digit_is_kept() -> Result<()> {
    let scene = Scene::new("digits-validate", 1, TABLE)?;
    let file = scene.pipeline()?.write(&scene.folder)?;
    let output = operator::call(&["validate"], &file)?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "seq            int64 -> numeric(20,0), every digit kept, from /seq",
        "power_w        float64 -> numeric(20,6), every digit kept, from /power_w",
        "voltage_v      float64 -> double precision, from /voltage_v",
        "energy_wh      int64 -> bigint, from /energy_wh",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    Ok(())
}
