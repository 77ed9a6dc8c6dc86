//! Messages for the plugin `hostile`, of which some name a crime that it then commits, and what becomes of them.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::checker::{Disposition, Expected, Keep, Message, Shape, Table};
use crate::load::Made;
use crate::postgres::Database;

/// The table.
pub const TABLE: &str = "CREATE TABLE hostile (device_id text NOT NULL, seq bigint NOT NULL, length bigint NOT NULL, \
    note text, detail jsonb, long boolean NOT NULL, arrival bigint GENERATED ALWAYS AS IDENTITY)";

/// Crimes in `process`, and the code of the dead letter that their message becomes; none where there is nothing to object.
pub const CRIMES: [(&str, &str); 31] = [
    ("boolean-of-two", "contract-breach"),
    ("code-with-spaces", "contract-breach"),
    ("deep-recursion", "stack-overflow"),
    ("endless-loop", "timeout"),
    ("ends-descend", "contract-breach"),
    ("ends-pass-the-data", "contract-breach"),
    ("error-result", "failed"),
    ("extra-column", "contract-breach"),
    ("giant-output", "contract-breach"),
    ("invalid-utf8", "contract-breach"),
    ("large-output", "contract-breach"),
    ("leak", ""),
    ("lengths-differ", "contract-breach"),
    ("log-flood", ""),
    ("log-line", ""),
    ("memory-hog", "memory-limit"),
    ("message-out-of-range", "contract-breach"),
    ("messages-descend", "contract-breach"),
    ("missing-output", "contract-breach"),
    ("not-json", "contract-breach"),
    ("null-in-required", "contract-breach"),
    ("null-of-two", "contract-breach"),
    ("out-of-bounds", "trap"),
    ("panic", "trap"),
    ("reject-and-keep", "contract-breach"),
    ("reject-out-of-range", "contract-breach"),
    ("reject-twice", "contract-breach"),
    ("rows-without-end", "output-too-large"),
    ("split-character", "contract-breach"),
    ("trap", "trap"),
    ("wrong-kind", "contract-breach"),
];

/// Message `number`, which asks for `crime` if there is one.
pub fn message(number: usize, crime: Option<(&str, &str)>) -> Made {
    let device_id = format!("device-{number}");
    let (truth, more) = match crime {
        Some((crime, code)) => {
            let truth = if code.is_empty() { "row" } else { "plugin" };
            (truth, format!(",\"crime\":\"{crime}\""))
        }
        None => ("row", String::new()),
    };
    let payload = format!("{{\"device_id\":\"{device_id}\",\"seq\":{number}{more}}}");
    Made::raw(truth, &device_id, &payload)
}

/// What the messages become.
#[derive(Debug)]
pub struct Crimes;

impl Shape for Crimes {
    fn tables(&self) -> Vec<Table> {
        vec![Table {
            name: "hostile",
            text: "concat_ws('|', device_id, seq, length, note, detail, long)",
            arrival: Some("arrival"),
            marker: "",
            keep: Keep::All,
        }]
    }

    fn disposition(&self, message: &Message) -> Disposition {
        if message.truth() != "row" {
            return Disposition::DeadLetter(message.truth().to_owned());
        }
        let message = message.json();
        let device_id = message["device_id"].as_str().unwrap_or_default();
        let length = device_id.len();
        let text = format!("{device_id}|{}|{length}|{{\"length\": {length}}}|f", message["seq"]);
        Disposition::Rows(vec![Expected { table: "hostile", key: String::new(), text, rank: 0 }])
    }
}

/// Codes and reasons of the dead letters, each once, by crime.
pub fn dead_letters(database: &Database) -> Result<BTreeMap<String, Vec<(String, String)>>> {
    let sql = "SELECT DISTINCT convert_from(payload, 'UTF8')::json ->> 'crime', code, reason
               FROM sluice.dead_letters ORDER BY 1, 2, 3";
    let mut dead_letters: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for row in database.query(sql, &[])? {
        dead_letters.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    Ok(dead_letters)
}
