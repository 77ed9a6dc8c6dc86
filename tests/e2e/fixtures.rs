//! The fixtures themselves, without a host.

use std::path::PathBuf;

use anyhow::Result;
use sluice_tests::checker::{Check, Log, Readings};
use sluice_tests::kafka::Topic;
use sluice_tests::load::{Load, Mix};
use sluice_tests::postgres::Database;

#[test]
fn what_was_sent_is_read_again_byte_for_byte() -> Result<()> {
    let mut topic = Topic::create("fixtures_load", 3)?;
    let mut load = Load::new(&topic, Mix { bad_per_mille: 200, long_per_mille: 100 })?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        load.compress(codec)?;
        load.send(300)?;
    }
    assert_eq!(load.acknowledged(), 1500);
    let log = Log::read(&topic)?;
    for (&partition, entry) in &log.partitions {
        assert_eq!((entry.start, entry.end, entry.messages.len()), (0, 500, 500));
        for (number, message) in entry.messages.iter().enumerate() {
            let made = sluice_tests::load::message::make(
                Mix { bad_per_mille: 200, long_per_mille: 100 },
                partition,
                u64::try_from(number)?,
            );
            let headers: Vec<_> = made
                .headers
                .iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.clone()))
                .collect();
            assert_eq!(
                (message.offset, message.timestamp_ms),
                (i64::try_from(number)?, made.timestamp_ms)
            );
            assert_eq!(
                (&message.key, &message.payload, &message.headers),
                (&made.key, &made.payload, &headers)
            );
        }
    }
    topic.delete_records(1, 100)?;
    topic.grow(4)?;
    assert_eq!((topic.ends(1)?, topic.log_ends()?), ((100, 500), vec![500, 500, 500, 0]));
    let later = Log::read(&topic)?;
    assert_eq!(later.partitions[&1].messages.len(), 400);
    assert_eq!(log.extended_by(later).partitions[&1].messages.len(), 500);
    topic.delete()?;
    Topic::create("fixtures_load", 1)?.delete()
}

#[test]
fn a_stream_sends_until_it_is_stopped() -> Result<()> {
    let topic = Topic::create("fixtures_stream", 2)?;
    let stream = Load::new(&topic, Mix::default())?.stream(2000);
    sluice_tests::wait::until_true("something was sent", sluice_tests::wait::SOON, || {
        Ok(stream.acknowledged() > 500)
    })?;
    let load = stream.stop()?;
    let ends: i64 = topic.log_ends()?.iter().sum();
    assert_eq!(u64::try_from(ends)?, load.acknowledged());
    Ok(())
}

/// Does with SQL what the host does, so that the checker is tried on real tables.
#[test]
fn the_checker_reads_real_tables() -> Result<()> {
    let topic = Topic::create("fixtures_checker", 1)?;
    Load::new(&topic, Mix { bad_per_mille: 500, long_per_mille: 0 })?.send(100)?;
    let database = Database::create("fixtures_checker")?;
    database.execute("CREATE SCHEMA sluice")?;
    migrations()?.iter().try_for_each(|migration| database.execute(migration))?;
    database.execute(Readings::TABLE)?;
    let shape = Readings::all();
    let check = Check::new("p", &shape);
    let before = check.differences(&topic, &database)?;
    assert_eq!(before.len(), 102, "{before:?}");
    write_by_hand(&topic, &database)?;
    check.passes(&topic, &database)?;
    database.execute("INSERT INTO readings (device_id, measured_at) VALUES ('x', now())")?;
    let error = check.passes(&topic, &database).expect_err("there is a row too many");
    assert!(error.to_string().contains("row of no message: 1"), "{error}");
    Ok(())
}

/// All of them, in the order of their numbers.
fn migrations() -> Result<Vec<String>> {
    let folder = sluice_tests::folders::workspace().join("migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    // As text, V10 comes before V2.
    let number = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digits = name.strip_prefix('V').and_then(|it| it.split_once("__"));
        digits.and_then(|(digits, _)| digits.parse::<u32>().ok())
    };
    files.sort_by_key(number);
    files.iter().map(|file| Ok(std::fs::read_to_string(file)?)).collect()
}

fn write_by_hand(topic: &Topic, database: &Database) -> Result<()> {
    let log = Log::read(topic)?;
    let mut rejected = 0_i64;
    for message in &log.partitions[&0].messages {
        if message.truth() == "row" {
            let payload = message.json().to_string();
            let sql = "INSERT INTO readings SELECT * FROM json_to_record($1::text::json) AS r(device_id text, \
                       measured_at timestamptz, seq bigint, power_w float8, voltage_v float8, current_a float8, \
                       energy_wh bigint, temperature_c float8, status text)";
            database.query(sql, &[&payload])?;
        } else {
            rejected += 1;
            let (names, values): (Vec<&[u8]>, Vec<Option<&[u8]>>) = message
                .headers
                .iter()
                .map(|(name, value)| (name.as_slice(), value.as_deref()))
                .unzip();
            let sql = "INSERT INTO sluice.dead_letters (pipeline, topic, topic_id, partition, \"offset\", \"timestamp\", \
                       key, payload, header_names, header_values, stage, code, reason, digest) \
                       SELECT 'p', $1, gen_random_uuid(), 0, $2, 'epoch'::timestamptz + $3::bigint * interval '1 ms', \
                       $4, $5, $6, $7, $8, 'c', 'r', repeat('0', 64)";
            let stage = message.truth();
            database.query(
                sql,
                &[
                    &topic.name,
                    &message.offset,
                    &message.timestamp_ms,
                    &message.key,
                    &message.payload,
                    &names,
                    &values,
                    &stage,
                ],
            )?;
        }
    }
    let good = 100 - rejected;
    database.execute(&format!(
        "INSERT INTO sluice.positions (pipeline, topic, partition, topic_id, next_offset, epoch, owner) \
         VALUES ('p', '{name}', 0, '00000000-0000-0000-0000-000000000001', 100, 1, 'hand');
         INSERT INTO sluice.lineage SELECT 'p', '{name}', '00000000-0000-0000-0000-000000000001', 0, 0, 100, \
         repeat('0', 64), 'n', 'v', 100, {good}, {good}, 0, {rejected};
         UPDATE sluice.dead_letters SET topic_id = '00000000-0000-0000-0000-000000000001'",
        name = topic.name
    ))
}
