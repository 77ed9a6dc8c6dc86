//! The page of the manual about failures, made from the code that decides. The file is compared with it:
//! `UPDATE_MANUAL=1 cargo test --package sluice manual` writes it again. One section, between two marks, is left as it
//! is: it comes from the test that has Postgres reject writes (`sink/tests/refusals.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Fault, Remedy, broker, exits, sqlstate};
use crate::explain;
use crate::plugin::PluginFault;
use crate::plugin::fault::Phase;

const INTRODUCTION: &str = "\
# Failures and what is done about them

This page is made from the code that decides. `sluice explain CODE` says more about each code, and what to do about it.

| remedy | what happens |
|---|---|
| **retry** | An outage. The same batch is tried again, indefinitely, with exponential backoff. Lag grows; nothing is dead-lettered, lost or written twice. |
| **dead-letter** | A message is at fault. It becomes a dead letter, with all that it consists of, in the same transaction in which the others become rows. |
| **block** | An operator has to act. The partition, or the pipeline, stays where it is, says so, is tried again after 1 s, 2 s, ... up to a minute, and resumes by itself when the cause is gone. Other partitions and pipelines are not affected. |
| **exit** | Only a restart helps, with other settings. The pipeline ends; other pipelines of the process are not affected. |

A pipeline that is blocked leaves its consumer group, so that another host can own its partitions. What is blocked stands in
the log, in `sluice lag` and in the table `sluice.blocks`. A partition that does not resume by itself resumes with
`sluice resolve`.
";

const WRITES: &str = "
### Who is at fault for a write

The table above is what an SQLSTATE means for statements without rows. For a write it says little: a trigger gives whatever
state it likes for a value, a type calls a value a syntax error, a policy calls a row a missing privilege. So for all but
outages (a broken connection, shutdown, full disk, deadlock, a lock that is not granted, read-only) an experiment decides:

1. The tables are read again. Were they changed, the same messages are encoded for what they are now; do the plugin's outputs
   no longer fit, the pipeline is blocked with the differences (SL-P010).
2. The same statements are run with no rows. If that fails, table, privilege or server is at fault: the pipeline is blocked,
   or the write retried.
3. It passes: rows are at fault. They are found by trying them in a transaction that is rolled back, and only their messages
   become dead letters.

An error that a trigger or function raises itself is always taken for the row's, whatever SQLSTATE it chose. Three things are
never taken for the messages' fault: a missing partition (SL-P021), a NOT NULL column that no field fills (SL-P010), and
`max_in_a_row` messages in a row whose rows are all rejected for one cause (SL-P020).
";

/// States that stand for their class or have a remedy of their own.
const STATES: &[(&str, &str, &str)] = &[
    ("08xxx", "08006", "connection refused, broken or not understood"),
    ("0A000", "0A000", "a prepared statement outlived a change of its table"),
    ("21xxx", "21000", "a row twice in one upsert, or a subquery with several rows"),
    ("22xxx", "22003", "a value that its type does not take"),
    ("23xxx", "23514", "a constraint refuses the row"),
    ("25006", "25006", "a standby, or made read-only"),
    ("25P02, 25P03, 25P04", "25P03", "the transaction waited too long"),
    ("26000", "26000", "a prepared statement is gone"),
    ("28xxx", "28P01", "login refused"),
    ("3D000", "3D000", "no such database"),
    ("3F000", "3F000", "no such schema"),
    ("40xxx", "40P01", "deadlock, serialization failure"),
    ("42501", "42501", "a privilege is missing"),
    ("42P05", "42P05", "a prepared statement of another session: a pooler in transaction mode"),
    ("42xxx", "42P01", "no such table, column, function; a statement that does not fit"),
    ("53xxx", "53100", "disk full, out of memory, too many connections"),
    ("54000, 54001", "54000", "a row too large for an index or a page"),
    ("55xxx", "55P03", "a lock was not granted in time"),
    ("57014", "57014", "a time limit of the server"),
    ("57xxx", "57P01", "the server is shutting down, starting, or ended the session"),
    ("58xxx", "58030", "input or output error of the server"),
    ("P0001", "P0001", "a trigger raises an exception"),
    (
        "SL001",
        "SL001",
        "another host has claimed the partition: the batch is dropped, its new owner reads the messages",
    ),
    (
        "SL002",
        "SL002",
        "a table was changed: it is read again, and the same messages are written for what it is now",
    ),
    ("any other", "XX000", ""),
];

/// Codes of dead letters that Sluice itself gives: stage, code, meaning.
const DEAD_LETTERS: &[(&str, &str, &str)] = &[
    ("decode", "no-payload", "a tombstone, where the plugin reads fields"),
    ("decode", "invalid-utf8", "the payload is not UTF-8"),
    ("decode", "malformed-json", "the payload is not JSON"),
    ("decode", "missing-field", "a required field is missing or null"),
    ("decode", "wrong-type", "a field has another type than the plugin reads"),
    (
        "decode",
        "inexact-number",
        "a number with more digits than a double keeps, where the plugin computes doubles for a numeric column",
    ),
    (
        "decode, sink",
        "out-of-range",
        "a number or a time that the field or the column cannot represent",
    ),
    ("decode, sink", "lone-surrogate", "half of a character, written as an escape"),
    ("decode, sink", "bad-timestamp", "a time that is not RFC 3339, or has no time zone"),
    ("decode, sink", "too-deep", "JSON that is nested too deeply"),
    ("plugin", "the plugin's own", "the plugin rejected the message"),
    ("sink", "no-value", "NULL for a column that is NOT NULL"),
    ("sink", "nul-character", "U+0000, which text and jsonb do not take"),
    ("sink", "too-long", "a text longer than its column, or a value longer than Postgres takes"),
    ("sink", "bad-number", "a text that is no number, for a numeric column"),
    ("sink", "bad-date", "a text that is no date"),
    ("sink", "bad-time", "a text that is no time of day"),
    ("sink", "bad-uuid", "a text that is no UUID"),
    ("sink", "bad-json", "a text that is no JSON"),
    ("sink", "unknown-enum-value", "none of the labels of the column's enum"),
    ("sink", "an SQLSTATE", "Postgres refused the row: the reason names constraint and column"),
    ("sink", "delete-without-key", "a deletion where the table's mode is not upsert"),
];

/// What another test has written, marks included.
const BEGIN: &str = "<!-- refusals: begin -->\n";
const END: &str = "<!-- refusals: end -->\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

const fn word(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Retry => "retry",
        Remedy::DeadLetter => "dead-letter",
        Remedy::Block => "block",
        Remedy::Exit => "exit",
    }
}

fn title(code: &str) -> &'static str {
    explain::find(code).map_or("", |it| it.title)
}

/// What a plugin can have wrong with it, one of each.
fn plugin_faults() -> Vec<PluginFault> {
    let (text, phase, frames) = (String::new, Phase::Process, Vec::new);
    vec![
        PluginFault::NotComponent(text()),
        PluginFault::TooBig { bytes: 0, max: 0 },
        PluginFault::ForbiddenImport(Vec::new()),
        PluginFault::WrongWorld { expected: "", found: Vec::new() },
        PluginFault::WrongVersion { found: text(), offered: "" },
        PluginFault::WrongTypes(text()),
        PluginFault::Compile(text()),
        PluginFault::Settings(text()),
        PluginFault::Description(Vec::new()),
        PluginFault::Read { path: text(), error: std::io::Error::other("") },
        PluginFault::Trap { phase, text: text(), frames: frames() },
        PluginFault::Timeout { phase, max: Duration::ZERO, frames: frames() },
        PluginFault::Resource { phase, allowed: text(), frames: frames() },
        PluginFault::StackOverflow { phase, frames: frames() },
        PluginFault::OutputTooLarge { found: text(), allowed: text() },
        PluginFault::Breach(text()),
        PluginFault::Failed(text()),
        PluginFault::Poisoned { count: 0, last: Box::new(PluginFault::Failed(text())) },
    ]
}

fn page(other_tests_section: &str) -> String {
    let mut page = INTRODUCTION.to_owned();
    page +=
        "\n## What Postgres says\n\n| SQLSTATE | meaning | remedy | code |\n|---|---|---|---|\n";
    for &(states, state, meaning) in STATES {
        let (code, remedy) =
            sqlstate::remedy(state, if state == "0A000" { "cached plan" } else { "" });
        let remedy = match state {
            sqlstate::STALE_CLAIM => "drop the batch",
            sqlstate::CHANGED_TABLE => "encode the batch again",
            _ => word(remedy),
        };
        let _ = writeln!(page, "| {states} | {meaning} | {remedy} | {code} |");
    }
    let (code, remedy) = sqlstate::remedy_at_end("XX000", "");
    let _ = writeln!(
        page,
        "| XXxxx, ending the session | an internal error of the server, such as a full disk | {} | {code} |",
        word(remedy)
    );
    page += "\nA refusal that `[retry] sqlstates` or `constraints` names parks its message instead of dead-lettering it.\n";
    page += "\nA connection that breaks counts as 08006. Whether a COMMIT without an answer took place is read from \
             `sluice.positions`, never guessed.\n";
    page += WRITES;
    page += "\n## Ways in which Postgres can reject a write\n\n";
    page += other_tests_section;
    page += "\n## What brokers and librdkafka say\n\n| code | meaning | remedy | errors |\n|---|---|---|---|\n";
    for &(code, remedy, errors) in broker::TABLE {
        let names: Vec<String> = errors.iter().map(|error| format!("{error:?}")).collect();
        let (title, remedy) = (title(code), word(remedy));
        let _ = writeln!(page, "| {code} | {title} | {remedy} | {} |", names.join(", "));
    }
    let unexpected = broker::UNEXPECTED;
    let _ = writeln!(page, "| {unexpected} | {} | block | any other |", title(unexpected));
    page += "\n## What a plugin does\n\n| code | meaning | remedy |\n|---|---|---|\n";
    for fault in plugin_faults() {
        let rejection = fault.rejection_code().map(|code| format!("dead-letter as `{code}`"));
        let fault = Fault::from(fault);
        let remedy = rejection.unwrap_or_else(|| word(fault.remedy).to_owned());
        let _ = writeln!(page, "| {} | {} | {remedy} |", fault.code, title(fault.code));
    }
    page += "\nWhat goes wrong in `process` is looked for by bisecting the batch on fresh instances until the messages that cause it \
             are alone; the same while the plugin is made ready blocks the pipeline. A message that the plugin rejects \
             is dead-lettered, or parked and tried again later if it says so.\n";
    page +=
        "\nA new version that does not pass its checks is refused, and the one at work goes on.\n";
    page += "\n## What is wrong with a message\n\n| stage | code of the dead letter | meaning |\n|---|---|---|\n";
    for (stage, code, meaning) in DEAD_LETTERS {
        let _ = writeln!(page, "| {stage} | {code} | {meaning} |");
    }
    page += "\n## All codes\n\n| code | meaning | |\n|---|---|---|\n";
    for explanation in explain::all() {
        let code = explanation.code;
        let _ = writeln!(
            page,
            "| {code} | {} | {} |",
            explanation.title,
            if exits(code) { "exit" } else { "" }
        );
    }
    page
}

#[test]
fn the_manual_shows_what_the_code_does() {
    let path = root().join("docs/failures.md");
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // The other test may be writing its section.
    file.lock().unwrap();
    let mut stored = String::new();
    file.read_to_string(&mut stored).unwrap();
    let page = page(&section_of(&stored));
    if std::env::var_os("UPDATE_MANUAL").is_some() {
        file.rewind().unwrap();
        file.set_len(0).unwrap();
        file.write_all(page.as_bytes()).unwrap();
        stored.clone_from(&page);
    }
    let difference = page.lines().zip(stored.lines()).find(|(now, then)| now != then);
    assert!(
        stored == page,
        "host/docs/failures.md is old, write it again with UPDATE_MANUAL=1; first difference: {difference:?}"
    );
}

/// From one mark to the other; an empty section where there is none.
fn section_of(page: &str) -> String {
    let inner = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (inner, _) = inner.unwrap_or_default();
    format!("{BEGIN}{inner}{END}")
}

#[test]
fn no_error_of_a_broker_has_two_remedies() {
    let mut seen = BTreeMap::new();
    for (code, _, errors) in broker::TABLE {
        for error in *errors {
            assert_eq!(seen.insert(format!("{error:?}"), code), None, "{error:?}");
        }
    }
}

/// Words like `missing-field`, quoted, in the files that turn messages away.
#[test]
fn every_code_of_a_dead_letter_is_in_the_manual() {
    let mut used = BTreeSet::new();
    for file in ["decode/value.rs", "decode/timestamp.rs", "sink/encode.rs", "sink/types.rs"] {
        codes_in(&root().join("src").join(file), &mut used);
    }
    for entry in std::fs::read_dir(root().join("src/sink/types")).unwrap() {
        codes_in(&entry.unwrap().path(), &mut used);
    }
    let listed: BTreeSet<String> =
        DEAD_LETTERS.iter().map(|(_, code, _)| (*code).to_owned()).collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(&used).filter(|code| !code.contains(' ')).collect();
    assert!(missing.is_empty() && unused.is_empty(), "missing {missing:?}, unused {unused:?}");
}

fn codes_in(file: &Path, found: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
    let quoted = code.match_indices('"').filter_map(|(at, _)| code[at + 1..].split('"').next());
    let is_code = |word: &&str| {
        word.starts_with(|it: char| it.is_ascii_lowercase())
            && word.contains('-')
            && word.chars().all(|it| matches!(it, 'a'..='z' | '0'..='9' | '-'))
    };
    found.extend(quoted.filter(is_code).map(str::to_owned));
}
