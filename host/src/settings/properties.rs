//! Properties that are handed to librdkafka: those that would break a promise are refused with the reason,
//! and librdkafka itself says what it thinks of the others.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use toml::de::DeValue;

use super::secret::{is_secret_key, is_secret_value};
use super::section::{Section, Text};
use crate::fault::Fault;

/// (property, value that is allowed all the same, why it is not the user's).
const REFUSED: [(&str, Option<&str>, &str); 15] = [
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
    ("plugin.library.paths", None, NATIVE_CODE),
    ("ssl.engine.location", None, NATIVE_CODE),
    ("ssl.providers", None, NATIVE_CODE),
    ("sasl.kerberos.kinit.cmd", None, "it would run a command of the shell on this host"),
];

const NATIVE_CODE: &str = "it would load native code into this process, which then has the passwords and data of all its pipelines";

/// Properties that leave brokers unchecked in spite of TLS: (property, its value as librdkafka writes it, what follows).
const UNCHECKED: [(&str, &str, &str); 2] = [
    ("enable.ssl.certificate.verification", "false", "any certificate passes for a broker's"),
    (
        "ssl.endpoint.identification.algorithm",
        "none",
        "a trusted certificate of any other host passes for a broker's",
    ),
];

const POSITIONS: &str =
    "positions live in Postgres; offsets are committed after each write, for information only";

/// `[source.properties]`, and as they stand there those whose values are in files in part.
pub(super) fn read(section: &Section<'_>) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut properties, mut raw) = (BTreeMap::new(), BTreeMap::new());
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
            if let DeValue::String(there) = value.get_ref()
                && there.contains("${file:")
            {
                raw.insert(key.to_owned(), there.to_string());
            }
        }
    }
    (properties, raw)
}

/// `SL-K021` for each property by which brokers are not checked.
pub(super) fn unchecked(properties: &BTreeMap<String, String>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (name, value, consequence) in UNCHECKED {
        // librdkafka takes several words for one value, in any case.
        let Some(given) = properties.get(name) else { continue };
        let config = ClientConfig::new().set(name, given).create_native_config();
        if config.and_then(|config| config.get(name)).is_ok_and(|it| it == value) {
            let message = format!("`{name}` is {value} in [source.properties]: {consequence}");
            found.push(Fault::block("SL-K021", message));
        }
    }
    found
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
        && !host.contains(|character: char| character.is_whitespace() || "/@".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::source::properties::OWNED;

    fn parsed(property: &str, value: &str) -> Result<Settings, (&'static str, Option<String>)> {
        let text = format!(
            "[pipeline]\nname = \"p\"\n[source]\nbrokers = \"b:1\"\ntopic = \"t\"\n[source.properties]\n\
             \"{property}\" = \"{value}\"\n[plugin]\npath = \"p\"\n[sink]\nurl = \"postgres://a@db/x\"\ntable = \"t\"\n"
        );
        Settings::parse("p.toml", &text, &|_| None).map_err(|error| {
            let [finding] = error.findings.as_slice() else { panic!("{error}") };
            (finding.code, finding.hint.clone())
        })
    }

    #[test]
    fn a_property_whose_value_is_in_a_file_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\n").unwrap();
        let source = parsed("sasl.password", &format!("x${{file:{}}}", file.path().display()))
            .unwrap()
            .source;
        assert_eq!(source.properties["sasl.password"], "xfirst");
        std::fs::write(file.path(), "second\n").unwrap();
        assert_eq!(source.now().unwrap().properties["sasl.password"], "xsecond");
        assert_eq!(source.properties["sasl.password"], "xfirst");
        std::fs::remove_file(file.path()).unwrap();
        assert!(source.now().err().unwrap().contains("cannot be read"));
        let plain = parsed("sasl.password", "plain").unwrap().source;
        assert_eq!((plain.properties_raw.len(), source.properties_raw.len()), (0, 1));
    }

    #[test]
    fn properties_that_load_native_code_or_run_commands_are_refused() {
        let check = |property: &str, value: &str, says: &str| {
            let (code, hint) = parsed(property, value).unwrap_err();
            assert_eq!(code, "SL-C010", "{property}");
            assert!(hint.as_ref().is_some_and(|hint| hint.contains(says)), "{property}: {hint:?}");
        };
        check("plugin.library.paths", "/tmp/evil.so", "native code");
        check("plugin.library.paths", "", "native code");
        check("ssl.engine.location", "/tmp/evil.so", "native code");
        check("ssl.providers", "default,evil", "native code");
        check("sasl.kerberos.kinit.cmd", "touch /tmp/owned", "a command");
        // librdkafka knows names in lower case only.
        for property in ["Plugin.Library.Paths", " ssl.providers", "topic.ssl.engine.location"] {
            assert_eq!(parsed(property, "x").unwrap_err().0, "SL-C011", "{property}");
        }
    }

    #[test]
    fn properties_that_switch_checks_of_tls_off_pass_with_a_warning() {
        let check = |property: &str, value: &str, expected: &[&str]| {
            let settings = parsed(property, value).unwrap();
            assert_eq!(settings.source.properties[property], value);
            let warnings = settings.warnings();
            let shown: Vec<_> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(shown, expected, "{property} = {value}");
        };
        let certificate = "SL-K021: pipeline p: `enable.ssl.certificate.verification` is false in [source.properties]: \
            any certificate passes for a broker's";
        check("enable.ssl.certificate.verification", "false", &[certificate]);
        check("enable.ssl.certificate.verification", "F", &[certificate]);
        check("enable.ssl.certificate.verification", "0", &[certificate]);
        check("enable.ssl.certificate.verification", "true", &[]);
        let host = "SL-K021: pipeline p: `ssl.endpoint.identification.algorithm` is none in [source.properties]: \
            a trusted certificate of any other host passes for a broker's";
        check("ssl.endpoint.identification.algorithm", "none", &[host]);
        check("ssl.endpoint.identification.algorithm", "None", &[host]);
        check("ssl.endpoint.identification.algorithm", "https", &[]);
        check("security.protocol", "ssl", &[]);
    }

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
