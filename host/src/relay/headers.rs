//! Headers of a relayed dead letter: those of the message as they were, then what Spring's dead letter publisher
//! adds, in its binary encodings, then ours. Pure.

use std::borrow::Cow;

use crate::sink::dead_letters::read::DeadLetter;

/// A name and its value.
pub(super) type Header<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// What all dead letters of a pipeline have in common.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub pipeline: String,
    /// Consumer group.
    pub group: String,
}

/// All headers of `dead_letter`, in their order. Where the message has a header of one of our names already, because it
/// was a dead letter before, readers take the last one: ours.
pub(super) fn of<'a>(dead_letter: &'a DeadLetter, origin: &'a Origin) -> Vec<Header<'a>> {
    let original = dead_letter
        .headers
        .iter()
        .map(|(name, value)| (Cow::Borrowed(name.as_slice()), value.as_deref().map(Cow::Borrowed)));
    original.chain(spring(dead_letter, origin)).chain(ours(dead_letter, origin)).collect()
}

/// Numbers are big-endian, as Java's `ByteBuffer` writes them.
fn spring<'a>(dead_letter: &'a DeadLetter, origin: &'a Origin) -> [Header<'a>; 8] {
    let timestamp_type = match dead_letter.timestamp_us {
        None => "NoTimestampType",
        Some(_) if dead_letter.log_append_time => "LogAppendTime",
        Some(_) => "CreateTime",
    };
    let timestamp_ms = dead_letter.timestamp_us.map_or(-1, |time_us| time_us.div_euclid(1000));
    [
        text("kafka_dlt-original-topic", &dead_letter.topic),
        bytes("kafka_dlt-original-partition", dead_letter.partition.to_be_bytes()),
        bytes("kafka_dlt-original-offset", dead_letter.offset.to_be_bytes()),
        bytes("kafka_dlt-original-timestamp", timestamp_ms.to_be_bytes()),
        text("kafka_dlt-original-timestamp-type", timestamp_type),
        text("kafka_dlt-original-consumer-group", &origin.group),
        // In the place of an exception's class, and as stable as one: something to route by.
        bytes(
            "kafka_dlt-exception-fqcn",
            format!("sluice.{}.{}", dead_letter.stage, dead_letter.code),
        ),
        text("kafka_dlt-exception-message", &dead_letter.reason),
    ]
}

fn ours<'a>(dead_letter: &'a DeadLetter, origin: &'a Origin) -> [Header<'a>; 7] {
    [
        text("sluice-pipeline", &origin.pipeline),
        text("sluice-stage", &dead_letter.stage),
        text("sluice-code", &dead_letter.code),
        text("sluice-reason", &dead_letter.reason),
        text("sluice-digest", &dead_letter.digest),
        bytes("sluice-attempts", dead_letter.attempts.to_string()),
        // A dead letter may come more than once; this tells it from others.
        bytes("sluice-dead-letter", dead_letter.id.to_string()),
    ]
}

fn text<'a>(name: &'static str, value: &'a str) -> Header<'a> {
    (Cow::Borrowed(name.as_bytes()), Some(Cow::Borrowed(value.as_bytes())))
}

fn bytes(name: &'static str, value: impl Into<Vec<u8>>) -> Header<'static> {
    (Cow::Borrowed(name.as_bytes()), Some(Cow::Owned(value.into())))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn dead_letter() -> DeadLetter {
        DeadLetter {
            id: 4711,
            topic: "orders".into(),
            topic_id: String::new(),
            partition: 258,
            offset: 0x0102_0304_0506_0708,
            timestamp_us: Some(1_790_000_000_123_000),
            log_append_time: false,
            key: None,
            payload: None,
            headers: vec![
                (b"trace".to_vec(), Some(b"t-1".to_vec())),
                (b"empty".to_vec(), Some(Vec::new())),
                (b"none".to_vec(), None),
                (b"trace".to_vec(), Some(vec![0xff, 0])),
            ],
            stage: "plugin".into(),
            code: "unpaid".into(),
            reason: "order 17 is not paid".into(),
            digest: "0123abcd".into(),
            attempts: 5,
            rejected_at: Timestamp::UNIX_EPOCH,
            last_rejected_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn shown(dead_letter: &DeadLetter) -> String {
        let origin = Origin { pipeline: "orders".into(), group: "orders-eu".into() };
        let lines = of(dead_letter, &origin).into_iter().map(|(name, value)| {
            let value =
                value.map_or("null".to_owned(), |value| format!("\"{}\"", value.escape_ascii()));
            format!("{}: {value}\n", name.escape_ascii())
        });
        lines.collect()
    }

    #[test]
    fn the_messages_own_come_first_then_springs_then_ours() {
        insta::assert_snapshot!(shown(&dead_letter()), @r#"
        trace: "t-1"
        empty: ""
        none: null
        trace: "\xff\x00"
        kafka_dlt-original-topic: "orders"
        kafka_dlt-original-partition: "\x00\x00\x01\x02"
        kafka_dlt-original-offset: "\x01\x02\x03\x04\x05\x06\x07\x08"
        kafka_dlt-original-timestamp: "\x00\x00\x01\xa0\xc4Pl{"
        kafka_dlt-original-timestamp-type: "CreateTime"
        kafka_dlt-original-consumer-group: "orders-eu"
        kafka_dlt-exception-fqcn: "sluice.plugin.unpaid"
        kafka_dlt-exception-message: "order 17 is not paid"
        sluice-pipeline: "orders"
        sluice-stage: "plugin"
        sluice-code: "unpaid"
        sluice-reason: "order 17 is not paid"
        sluice-digest: "0123abcd"
        sluice-attempts: "5"
        sluice-dead-letter: "4711"
        "#);
    }

    #[test]
    fn the_kind_of_the_time_is_told_in_kafkas_words() {
        let kind = |dead_letter: &DeadLetter| {
            let shown = shown(dead_letter);
            let lines =
                shown.lines().filter(|line| line.starts_with("kafka_dlt-original-timestamp"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let appended =
            DeadLetter { log_append_time: true, timestamp_us: Some(1000), ..dead_letter() };
        let timeless = DeadLetter { timestamp_us: None, ..dead_letter() };
        insta::assert_snapshot!(format!("{}\n{}", kind(&appended), kind(&timeless)), @r#"
        kafka_dlt-original-timestamp: "\x00\x00\x00\x00\x00\x00\x00\x01"
        kafka_dlt-original-timestamp-type: "LogAppendTime"
        kafka_dlt-original-timestamp: "\xff\xff\xff\xff\xff\xff\xff\xff"
        kafka_dlt-original-timestamp-type: "NoTimestampType"
        "#);
    }
}
