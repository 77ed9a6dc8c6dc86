//! Headers of a relayed letter: those of the message as they were, then what Spring's dead letter publisher
//! adds, in its binary encodings, then ours. Pure.

use std::borrow::Cow;

use crate::sink::letters::read::Letter;

/// A name and its value.
pub(super) type Header<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// What all letters of a pipeline have in common.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub pipeline: String,
    /// Consumer group.
    pub group: String,
}

/// All headers of `letter`, in their order. Where the message has a header of one of our names already, because it
/// was a dead letter before, readers take the last one: ours.
pub(super) fn of<'a>(letter: &'a Letter, origin: &'a Origin) -> Vec<Header<'a>> {
    let original = letter
        .headers
        .iter()
        .map(|(name, value)| (Cow::Borrowed(name.as_slice()), value.as_deref().map(Cow::Borrowed)));
    original.chain(spring(letter, origin)).chain(ours(letter, origin)).collect()
}

/// Numbers are big-endian, as Java's `ByteBuffer` writes them.
fn spring<'a>(letter: &'a Letter, origin: &'a Origin) -> [Header<'a>; 8] {
    let timestamp_type = match letter.timestamp_us {
        None => "NoTimestampType",
        Some(_) if letter.log_append_time => "LogAppendTime",
        Some(_) => "CreateTime",
    };
    let timestamp_ms = letter.timestamp_us.map_or(-1, |time_us| time_us.div_euclid(1000));
    [
        text("kafka_dlt-original-topic", &letter.topic),
        bytes("kafka_dlt-original-partition", letter.partition.to_be_bytes()),
        bytes("kafka_dlt-original-offset", letter.offset.to_be_bytes()),
        bytes("kafka_dlt-original-timestamp", timestamp_ms.to_be_bytes()),
        text("kafka_dlt-original-timestamp-type", timestamp_type),
        text("kafka_dlt-original-consumer-group", &origin.group),
        // In the place of an exception's class, and as stable as one: something to route by.
        bytes("kafka_dlt-exception-fqcn", format!("sluice.{}.{}", letter.stage, letter.code)),
        text("kafka_dlt-exception-message", &letter.reason),
    ]
}

fn ours<'a>(letter: &'a Letter, origin: &'a Origin) -> [Header<'a>; 7] {
    [
        text("sluice-pipeline", &origin.pipeline),
        text("sluice-stage", &letter.stage),
        text("sluice-code", &letter.code),
        text("sluice-reason", &letter.reason),
        text("sluice-digest", &letter.digest),
        bytes("sluice-attempts", letter.attempts.to_string()),
        // A letter may come more than once; this tells it from others.
        bytes("sluice-letter", letter.id.to_string()),
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

    fn letter() -> Letter {
        Letter {
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

    fn shown(letter: &Letter) -> String {
        let origin = Origin { pipeline: "orders".into(), group: "orders-eu".into() };
        let lines = of(letter, &origin).into_iter().map(|(name, value)| {
            let value =
                value.map_or("null".to_owned(), |value| format!("\"{}\"", value.escape_ascii()));
            format!("{}: {value}\n", name.escape_ascii())
        });
        lines.collect()
    }

    #[test]
    fn the_messages_own_come_first_then_springs_then_ours() {
        insta::assert_snapshot!(shown(&letter()), @r#"
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
        sluice-letter: "4711"
        "#);
    }

    #[test]
    fn the_kind_of_the_time_is_told_in_kafkas_words() {
        let kind = |letter: &Letter| {
            let shown = shown(letter);
            let lines =
                shown.lines().filter(|line| line.starts_with("kafka_dlt-original-timestamp"));
            lines.collect::<Vec<_>>().join("\n")
        };
        let appended = Letter { log_append_time: true, timestamp_us: Some(1000), ..letter() };
        let timeless = Letter { timestamp_us: None, ..letter() };
        insta::assert_snapshot!(format!("{}\n{}", kind(&appended), kind(&timeless)), @r#"
        kafka_dlt-original-timestamp: "\x00\x00\x00\x00\x00\x00\x00\x01"
        kafka_dlt-original-timestamp-type: "LogAppendTime"
        kafka_dlt-original-timestamp: "\xff\xff\xff\xff\xff\xff\xff\xff"
        kafka_dlt-original-timestamp-type: "NoTimestampType"
        "#);
    }
}
