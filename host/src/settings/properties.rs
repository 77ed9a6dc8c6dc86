//! Properties that are handed to librdkafka: those that would break a promise are refused with the reason,
//! and librdkafka itself says what it thinks of the others.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use toml::de::DeValue;

use super::secret::{is_secret_key, is_secret_value};
use super::section::{Section, Text};

/// (property, value that is allowed all the same, why it is not the user's).
const REFUSED: [(&str, Option<&str>, &str); 11] = [
    ("bootstrap.servers", None, "write it as `brokers` in [source]"),
    ("metadata.broker.list", None, "write it as `brokers` in [source]"),
    ("group.id", None, "write it as `group` in [source]"),
    ("group.protocol", Some("classic"), "claims need the classic protocol's rebalance callback"),
    ("enable.auto.commit", Some("false"), POSITIONS),
    ("enable.auto.offset.store", Some("false"), POSITIONS),
    (
        "auto.offset.reset",
        Some("error"),
        "it would skip or repeat messages silently; `start` in [source] says where to begin",
    ),
    (
        "isolation.level",
        Some("read_committed"),
        "messages of aborted transactions would become rows",
    ),
    ("enable.partition.eof", None, "positions go by it over markers of transactions"),
    ("check.crcs", Some("true"), "damaged messages would become rows"),
    ("allow.auto.create.topics", Some("false"), "a mistyped topic would be created, and be empty"),
];

const POSITIONS: &str =
    "positions live in Postgres; offsets are committed after each write, as advice";

/// `[source.properties]`
pub(super) fn read(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for (key, at, value) in section.entries() {
        let text = match value.get_ref() {
            DeValue::String(_) => section.report.text(key, value).map(|text| text.value),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                Some(section.report.text[value.span()].to_owned())
            }
            _ => section.report.wrong_type(key, value, "a string, a number or a boolean"),
        };
        let Some(text) = text else { continue };
        let owned = REFUSED
            .iter()
            .find(|(name, allowed, _)| *name == key && *allowed != Some(text.as_str()));
        if let Some((name, _, reason)) = owned {
            let message = format!("`{name}` is not yours to set");
            section.report.note("SL-C010", &at, message, Some((*reason).to_owned()));
        } else if let Some(complaint) = complaint(key, &text) {
            section.report.note("SL-C011", &at, complaint, None);
        } else {
            properties.insert(key.to_owned(), text);
        }
    }
    properties
}

/// What librdkafka says against a property.
fn complaint(key: &str, value: &str) -> Option<String> {
    let refused = ClientConfig::new().set(key, value).create_native_config().err()?;
    let secret = is_secret_key(key) || is_secret_value(value);
    let key = key.escape_debug();
    Some(match refused {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
            format!("librdkafka knows no property `{key}`")
        }
        KafkaError::ClientConfig(_, reason, ..) if !secret => {
            format!("librdkafka refuses `{key}`: {}", reason.trim_end_matches('.'))
        }
        _ => format!("librdkafka refuses the value of `{key}`"),
    })
}

/// True when `brokers` is `host:port`, comma-separated; the port may be left out.
pub(super) fn check_brokers(section: &Section<'_>, brokers: &Text<'_>) {
    let wrong = brokers.value.split(',').find(|broker| !is_broker(broker.trim()));
    if wrong.is_some() {
        let message = "`brokers` is not a list of brokers".to_owned();
        let hint = "write it as `\"host:9092\"` or `\"host1:9092,host2:9092\"`".to_owned();
        section.report.note("SL-C006", &brokers.at, message, Some(hint));
    }
}

fn is_broker(broker: &str) -> bool {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    port_fits
        && !host.is_empty()
        && !host.contains(|letter: char| letter.is_whitespace() || "/@".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::properties::OWNED;

    #[test]
    fn what_exactly_once_needs_is_refused_with_a_reason_and_not_just_overwritten() {
        for (key, value) in OWNED {
            assert!(
                REFUSED.iter().any(|(name, allowed, _)| name == key && *allowed == Some(value)),
                "{key}"
            );
        }
    }
}
