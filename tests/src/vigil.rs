//! What must be true of a host while something that it needs is away: it stays in its group, tells each change of
//! state once, and fills no memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};

use crate::host::{Event, Host};
use crate::kafka::{Group, Topic, broker, rebalances};
use crate::wait::{SOON, until_true};

/// Beyond what the host had before: three full batches for each of its lanes, and their rows. What more it may take is
/// tested where Postgres is silent; this is for what an outage itself might leave behind.
const GROWTH_BYTES_MAX: u64 = 160 << 20;

/// A watch over one host that is alone in its group, from [`Vigil::begin`] on.
#[derive(Debug)]
pub struct Vigil {
    topic: Topic,
    group: String,
    before: Group,
    rebalances: usize,
    events: usize,
    resident_bytes: u64,
}

impl Vigil {
    /// Remembers how things are; the host must have claimed its partitions.
    pub fn begin(host: &Host, topic: &Topic, group: &str) -> Result<Self> {
        let before = Group::read(topic, group)?;
        if before.state != "Stable" || before.members.len() != 1 {
            bail!("not at rest: {before:?}");
        }
        Ok(Self {
            topic: topic.clone(),
            group: group.to_owned(),
            before,
            rebalances: rebalances(broker()?.log(), group)?,
            events: host.all_events().len(),
            resident_bytes: host.resident_bytes()?,
        })
    }

    /// Waits until the host tells of a failure with `code`.
    pub fn hears(&self, host: &Host, code: &str) -> Result<()> {
        let told = |event: &Event| event.text("code").as_deref() == Some(code);
        until_true(&format!("the host tells of {code}"), SOON, || {
            Ok(host.all_events()[self.events..].iter().any(told))
        })
        .with_context(|| host.tail())
    }

    /// Fails when the group was rebalanced, or when the host said anything more than `times` times: the number of
    /// lanes, each of which has a connection to lose, times the number of outages.
    pub fn end(self, host: &Host, times: usize) -> Result<()> {
        let now = Group::read(&self.topic, &self.group)?;
        if now != self.before {
            bail!("the group has changed: {:?}, now {now:?}", self.before);
        }
        let rebalanced = rebalances(broker()?.log(), &self.group)? - self.rebalances;
        if rebalanced > 0 {
            bail!("the group was rebalanced {rebalanced} times");
        }
        let growth = host.resident_bytes()?.saturating_sub(self.resident_bytes);
        if growth > GROWTH_BYTES_MAX {
            bail!("the host has grown by {} MiB", growth >> 20);
        }
        let (repeated, most) = repetitions(&host.all_events()[self.events..]);
        if most > times {
            bail!("said more than {times} times:\n{repeated}");
        }
        Ok(())
    }
}

/// How often each kind of line was said, for a person, and the greatest of these numbers.
fn repetitions(events: &[Event]) -> (String, usize) {
    let mut kinds: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.is("progress")) {
        let kind = event.message.split(':').next().unwrap_or_default();
        // Figures differ from line to line.
        let kind = kind.replace(|character: char| character.is_ascii_digit(), "");
        let code = event.text("code").unwrap_or_default();
        kinds.entry((kind, code)).or_default().push(&event.line);
    }
    let most = kinds.values().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for ((kind, code), lines) in kinds {
        let last = lines.last().unwrap_or(&"");
        _ = writeln!(text, "{} times {kind} {code}, last: {last}", lines.len());
    }
    (text, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_differ_in_figures_alone_are_of_one_kind() {
        let lines = [
            r#"{"level":"WARN","message":"cannot write, retrying: x","code":"SL-P001"}"#,
            r#"{"level":"WARN","message":"cannot write, retrying: y","code":"SL-P001"}"#,
            r#"{"level":"WARN","message":"cannot write, retrying: y","code":"SL-P004"}"#,
            r#"{"level":"INFO","message":"written after 0.1 s of retries"}"#,
            r#"{"level":"INFO","message":"written after 12.7 s of retries"}"#,
            r#"{"level":"INFO","message":"written after 3.0 s of retries"}"#,
        ];
        let (text, most) = repetitions(&lines.map(Event::parse));
        assert_eq!(most, 3, "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
