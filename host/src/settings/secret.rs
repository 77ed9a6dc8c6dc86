//! What may never be printed: which keys and values are secret, and where they stand in a file.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::variables::FILE;

/// Parts of keys whose values are secret.
const WORDS: [&str; 10] = [
    "pass",
    "secret",
    "token",
    "credential",
    "private",
    "ssl.key",
    "api_key",
    "apikey",
    "jaas",
    "oauthbearer.config",
];

/// True for `sasl.password`, `ssl.key.pem`, `url` and their like.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "url" || key == "dsn" || WORDS.iter().any(|word| key.contains(word))
}

/// True for a value that contains a password whatever its key is called, so that a mistyped `urll` keeps it too.
pub(super) fn is_secret_value(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    (value.contains("://") && value.contains('@'))
        || value.contains("password")
        || value.contains("private key")
}

/// `value` in backquotes, for a message; a secret is not quoted.
pub(super) fn quote(value: &str) -> String {
    if is_secret_value(value) { "`***`".to_owned() } else { format!("`{}`", value.escape_debug()) }
}

/// Where the secrets stand in a file that was parsed.
pub(super) fn spans(table: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for (key, value) in table {
        collect(is_secret_key(key.get_ref()), value, &mut spans);
    }
    spans
}

fn collect(secret: bool, value: &Spanned<DeValue<'_>>, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                collect(secret || is_secret_key(key.get_ref()), value, spans);
            }
        }
        DeValue::Array(items) => items.iter().for_each(|item| collect(secret, item, spans)),
        DeValue::String(text) if is_reference(text) => {}
        DeValue::String(text) if secret || is_secret_value(text) => spans.push(value.span()),
        DeValue::String(_) => {}
        _ if secret => spans.push(value.span()),
        _ => {}
    }
}

/// True for `${NAME}` or `${file:/path}` alone: it names the secret and does not tell it.
fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let is_file = |name: &str| name.starts_with(FILE) && !name.contains(['{', '}']);
    name.is_some_and(|name| {
        is_file(name) || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// The part of the line at `at` that must not be shown when the file could not be parsed, so that
/// nothing is known about it: all but lines which begin like TOML and speak of nothing secret.
pub(super) fn unparsed_span(text: &str, at: usize) -> Option<Range<usize>> {
    let at = at.min(text.len());
    let start = text.as_bytes()[..at]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let end = text.as_bytes()[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(text.len(), |length| at + length);
    let open = |quotes: &str| text[..start].matches(quotes).count() % 2 == 1;
    let line = text[start..end].to_ascii_lowercase();
    let begins_like_toml = line.trim_start().starts_with(['[', '#']) || line.contains('=');
    if open("\"\"\"") || open("'''") || !begins_like_toml {
        return Some(start..end);
    }
    let key = line.split('=').next().unwrap_or_default().trim();
    let speaks = is_secret_key(key)
        || is_secret_value(&line)
        || WORDS.iter().any(|word| line.contains(word));
    speaks.then(|| start + line.find('=').map_or(0, |equals| equals + 1)..end)
}
