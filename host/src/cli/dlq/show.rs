//! `sluice dlq show`: dead letters whole.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::bytes;
use super::selection::SelectionArgs;
use crate::cli::output::{self, count};
use crate::cli::{Format, block_on, database};
use crate::settings::Settings;
use crate::sink::dead_letters::read::{self, DeadLetter};

/// Bytes of a key, a payload or a header's value on the screen.
const BYTES_MAX: usize = 2000;

/// Arguments of `sluice dlq show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Show at most so many, the oldest ones
    #[arg(long, value_name = "DEAD_LETTERS", default_value_t = 10)]
    limit: u32,
    /// Show all bytes of long payloads; JSON always has them
    #[arg(long)]
    whole: bool,
}

/// Prints the dead letters.
pub fn run(args: &ShowArgs, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&args.file)?;
    let (pipeline, selection) = (&settings.pipeline.name, args.selection.selection());
    let (dead_letters, found) = block_on(async {
        let session = database::connect(&settings).await?;
        let dead_letters = read::dead_letters(&session, pipeline, &selection, args.limit).await?;
        Ok((dead_letters, read::count(&session, pipeline, &selection).await?))
    })?;
    let values: Vec<Value> = dead_letters.iter().map(value).collect();
    let bytes_max = if args.whole { usize::MAX } else { BYTES_MAX };
    output::print(format, &values, || screen(pipeline, &dead_letters, found, bytes_max))
}

fn screen(pipeline: &str, dead_letters: &[DeadLetter], found: u64, bytes_max: usize) -> String {
    let mut screen: String =
        dead_letters.iter().map(|dead_letter| text(dead_letter, bytes_max) + "\n").collect();
    match found.saturating_sub(dead_letters.len() as u64) {
        _ if dead_letters.is_empty() => {
            screen.push_str(&format!("pipeline {pipeline}: no such dead letter"));
        }
        0 => {}
        more => screen.push_str(&format!("{} more; --limit shows them", count(more as i64))),
    }
    screen
}

fn text(dead_letter: &DeadLetter, bytes_max: usize) -> String {
    let mut text = format!("dead letter {}\n", dead_letter.id);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    let DeadLetter { topic, topic_id, partition, offset, stage, code, digest, .. } = dead_letter;
    line(
        "position",
        format!("{topic}, partition {partition}, offset {offset} (topic id {topic_id})"),
    );
    line("time", dead_letter.timestamp_us.map_or_else(|| "(none)".into(), message_time));
    line("rejected", format!("{stage}, {}", output::line(code, usize::MAX)));
    line("reason", output::line(&dead_letter.reason, usize::MAX));
    line("attempts", attempts(dead_letter));
    line("plugin", format!("sha256:{}", digest.get(..12).unwrap_or(digest)));
    for (index, (name, value)) in dead_letter.headers.iter().enumerate() {
        let value = bytes::maybe(value.as_deref(), bytes_max);
        let head = if index == 0 { "headers" } else { "" };
        line(head, format!("{}: {value}", bytes::text(name)));
    }
    line("key", bytes::maybe(dead_letter.key.as_deref(), bytes_max));
    line("payload", bytes::maybe(dead_letter.payload.as_deref(), bytes_max));
    text
}

fn attempts(dead_letter: &DeadLetter) -> String {
    let first = database::time(dead_letter.rejected_at);
    match dead_letter.attempts {
        1 => format!("1, at {first}"),
        attempts => {
            format!(
                "{attempts}, first at {first}, last at {}",
                database::time(dead_letter.last_rejected_at)
            )
        }
    }
}

/// A message may claim a time that no calendar has.
fn message_time(time_us: i64) -> String {
    match Timestamp::from_microsecond(time_us) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{time_us} us after 1970"),
    }
}

fn value(dead_letter: &DeadLetter) -> Value {
    let headers = dead_letter.headers.iter().map(|(name, value)| {
        json!({ "name": bytes::value(Some(name)), "value": bytes::value(value.as_deref()) })
    });
    json!({
        "id": dead_letter.id,
        "topic": dead_letter.topic,
        "topic_id": dead_letter.topic_id,
        "partition": dead_letter.partition,
        "offset": dead_letter.offset,
        "timestamp_us": dead_letter.timestamp_us,
        "stage": dead_letter.stage,
        "code": dead_letter.code,
        "reason": dead_letter.reason,
        "digest": dead_letter.digest,
        "attempts": dead_letter.attempts,
        "first_rejected_at": dead_letter.rejected_at,
        "last_rejected_at": dead_letter.last_rejected_at,
        "headers": headers.collect::<Vec<_>>(),
        "key": bytes::value(dead_letter.key.as_deref()),
        "payload": bytes::value(dead_letter.payload.as_deref()),
    })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn dead_letter() -> DeadLetter {
        DeadLetter {
            id: 17,
            topic: "hems.readings".into(),
            topic_id: uuid::Uuid::from_u128(7).to_string(),
            partition: 3,
            offset: 1234,
            timestamp_us: Some(1_700_000_000_123_000),
            log_append_time: false,
            key: Some(b"device-1".to_vec()),
            payload: Some("{\"device_id\": \"K\u{fc}che\",\n \"power_w\": 1e99}".into()),
            headers: vec![
                (b"trace".to_vec(), Some(b"a".to_vec())),
                (b"\xfftrace".to_vec(), Some(b"\x00\x01".to_vec())),
                (b"trace".to_vec(), None),
            ],
            stage: "plugin".into(),
            code: "power-out-of-range".into(),
            reason: "1e99 W is beyond 50000 W".into(),
            digest: "0123456789abcdef".repeat(4),
            attempts: 2,
            rejected_at: Timestamp::from_second(1_700_000_060).unwrap(),
            last_rejected_at: Timestamp::from_second(1_700_003_660).unwrap(),
        }
    }

    #[test]
    fn a_dead_letter_is_shown_with_its_headers_in_order() {
        assert_snapshot!(text(&dead_letter(), BYTES_MAX), @r#"
        dead letter 17
          position  hems.readings, partition 3, offset 1234 (topic id 00000000-0000-0000-0000-000000000007)
          time      2023-11-14T22:13:20.123Z
          rejected  plugin, power-out-of-range
          reason    1e99 W is beyond 50000 W
          attempts  2, first at 2023-11-14T22:14:20Z, last at 2023-11-14T23:14:20Z
          plugin    sha256:0123456789ab
          headers   trace: a
                    \xfftrace: \u{0}\u{1}
                    trace: (none)
          key       device-1
          payload   {"device_id": "Küche",\n "power_w": 1e99}
        "#);
        assert_snapshot!(serde_json::to_string_pretty(&value(&dead_letter())).unwrap(), @r#"
        {
          "attempts": 2,
          "code": "power-out-of-range",
          "digest": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
          "first_rejected_at": "2023-11-14T22:14:20Z",
          "headers": [
            {
              "name": {
                "text": "trace"
              },
              "value": {
                "text": "a"
              }
            },
            {
              "name": {
                "hex": "ff7472616365"
              },
              "value": {
                "text": "\u0000\u0001"
              }
            },
            {
              "name": {
                "text": "trace"
              },
              "value": null
            }
          ],
          "id": 17,
          "key": {
            "text": "device-1"
          },
          "last_rejected_at": "2023-11-14T23:14:20Z",
          "offset": 1234,
          "partition": 3,
          "payload": {
            "text": "{\"device_id\": \"Küche\",\n \"power_w\": 1e99}"
          },
          "reason": "1e99 W is beyond 50000 W",
          "stage": "plugin",
          "timestamp_us": 1700000000123000,
          "topic": "hems.readings",
          "topic_id": "00000000-0000-0000-0000-000000000007"
        }
        "#);
    }

    #[test]
    fn what_is_missing_is_said() {
        let dead_letter = DeadLetter {
            key: None,
            payload: Some(Vec::new()),
            headers: Vec::new(),
            timestamp_us: None,
            attempts: 1,
            ..dead_letter()
        };
        assert_snapshot!(screen("energy", &[dead_letter], 31, BYTES_MAX), @"
        dead letter 17
          position  hems.readings, partition 3, offset 1234 (topic id 00000000-0000-0000-0000-000000000007)
          time      (none)
          rejected  plugin, power-out-of-range
          reason    1e99 W is beyond 50000 W
          attempts  1, at 2023-11-14T22:14:20Z
          plugin    sha256:0123456789ab
          key       (none)
          payload   (empty)

        30 more; --limit shows them
        ");
        assert_snapshot!(screen("energy", &[], 0, BYTES_MAX), @"pipeline energy: no such dead letter");
    }

    #[test]
    fn long_payloads_are_cut_and_odd_times_are_numbers() {
        let dead_letter = DeadLetter {
            payload: Some(vec![b'x'; 30]),
            timestamp_us: Some(i64::MAX),
            headers: Vec::new(),
            ..dead_letter()
        };
        assert_snapshot!(text(&dead_letter, 12), @"
        dead letter 17
          position  hems.readings, partition 3, offset 1234 (topic id 00000000-0000-0000-0000-000000000007)
          time      9223372036854775807 us after 1970
          rejected  plugin, power-out-of-range
          reason    1e99 W is beyond 50000 W
          attempts  2, first at 2023-11-14T22:14:20Z, last at 2023-11-14T23:14:20Z
          plugin    sha256:0123456789ab
          key       device-1
          payload   xxxxxxxxxxxx... 18 more bytes
        ");
    }
}
