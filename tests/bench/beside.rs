//! A program of somebody else that does the same work, measured in turn with ours.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use sluice_tests::child;

use crate::clocks;
use crate::figures::Figures;
use crate::priority::prefer;
use crate::servers::Servers;

/// Runs `command` in a shell and reads its figures from what it prints.
pub fn run(command: &str, servers: &Servers, topic: &str, messages: u64) -> Result<Figures> {
    let filled = [
        ("{brokers}", servers.brokers.clone()),
        ("{topic}", topic.to_owned()),
        ("{messages}", messages.to_string()),
        ("{postgres}", format!("127.0.0.1:{}", servers.postgres_port)),
        ("{postgres_password}", servers.postgres_password.clone()),
        ("{postgres_pid}", servers.postgres.to_string()),
    ];
    let command =
        filled.iter().fold(command.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut shell = child::command("setsid");
    shell.args(["/bin/sh", "-c", &command]).stdin(Stdio::null()).stdout(Stdio::piped());
    let shell = child::spawn(shell)?;
    let sessions = clocks::children(servers.postgres);
    prefer([shell.id(), servers.broker, servers.postgres].into_iter().chain(sessions));
    let output = shell.wait_with_output()?;
    if !output.status.success() {
        bail!("{command}: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    figures(&text).with_context(|| format!("no `NNN msg/s` in: {text}"))
}

fn figures(text: &str) -> Option<Figures> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| word.trim_end_matches(['%', ',', ';']).parse::<f64>().ok();
    let behind = |name: &str| {
        let mut pairs = words.windows(2);
        pairs.find_map(|pair| if pair[0] == name { number(pair[1]) } else { None })
    };
    let per_second = words
        .windows(2)
        .find_map(|pair| if pair[1].starts_with("msg/s") { number(pair[0]) } else { None })?;
    Some(Figures {
        per_second,
        host_us: behind("own"),
        postgres_us: behind("pg"),
        broker_us: behind("broker"),
        memory_mb: behind("rss"),
        start_ms: None,
        foreign_percent: behind("foreign"),
        totals: None,
    })
}
