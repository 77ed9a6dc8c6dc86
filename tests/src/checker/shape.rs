//! What messages become, said a second time and in another way than the plugins say it.

use serde_json::Value;

use super::topic::Message;

/// A table and how its rows read as one line of text.
#[derive(Debug, Clone)]
pub struct Table {
    /// The table's name.
    pub name: &'static str,
    /// SQL expression over one row: the line that [`Expected::text`] must equal.
    pub text: &'static str,
    /// Column that says in which order rows arrived (`GENERATED ALWAYS AS IDENTITY`); none for tables whose rows
    /// are replaced.
    pub arrival: Option<&'static str>,
    /// SQL expression over one row: the mark of the version that made it; empty where rows are not marked.
    pub marker: &'static str,
    /// Which of several rows with the same key stays.
    pub keep: Keep,
}

/// Which rows of a table stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// The last by key; of those that have a rank, the last of the highest.
    Last,
    /// The first by key.
    First,
}

/// A row that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Name of the table.
    pub table: &'static str,
    /// Key within the table, where not all rows stay.
    pub key: String,
    /// The row as text.
    pub text: String,
    /// A row with a lower rank never replaces one with a higher.
    pub rank: i64,
}

impl Expected {
    /// A row of `table` that reads `text`.
    pub fn new(table: &'static str, text: String) -> Self {
        Self { table, key: String::new(), text, rank: 0 }
    }
}

/// What must have become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// These rows; none when it was filtered.
    Rows(Vec<Expected>),
    /// A dead letter of this stage.
    DeadLetter(String),
}

/// What messages become.
pub trait Shape: std::fmt::Debug {
    /// Tables that are written.
    fn tables(&self) -> Vec<Table>;
    /// What must have become of `message`.
    fn disposition(&self, message: &Message) -> Disposition;
}

/// Readings as rows of the table `readings`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readings {
    /// How rows are kept, by `device_id`; none where all are.
    pub keep: Option<Keep>,
    /// Rows are ranked by `measured_at`.
    pub newer: bool,
    /// Rows have a column `marker`.
    pub marked: bool,
}

const READINGS_TEXT: &str = "concat_ws('|', device_id, to_char(measured_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS'), \
    seq, power_w, voltage_v, current_a, energy_wh, temperature_c, status)";

impl Readings {
    /// Columns of the table, with one that says in which order rows arrived.
    pub const TABLE: &str = "CREATE TABLE readings (device_id text NOT NULL, measured_at timestamptz NOT NULL, \
        seq bigint, power_w float8, voltage_v float8, current_a float8, energy_wh bigint, temperature_c float8, \
        status text, arrival bigint GENERATED ALWAYS AS IDENTITY)";

    /// The same with a primary key, for the modes that need one.
    pub const KEYED_TABLE: &str = "CREATE TABLE readings (device_id text PRIMARY KEY, measured_at timestamptz NOT NULL, \
        seq bigint, power_w float8, voltage_v float8, current_a float8, energy_wh bigint, temperature_c float8, \
        status text)";

    /// All readings, in a table without unique key.
    pub fn all() -> Self {
        Self::default()
    }

    /// Readings of which one row a device stays.
    pub fn keyed(keep: Keep) -> Self {
        Self { keep: Some(keep), ..Self::default() }
    }
}

impl Shape for Readings {
    fn tables(&self) -> Vec<Table> {
        vec![Table {
            name: "readings",
            text: READINGS_TEXT,
            arrival: self.keep.is_none().then_some("arrival"),
            marker: if self.marked { "marker" } else { "" },
            keep: self.keep.unwrap_or(Keep::All),
        }]
    }

    fn disposition(&self, message: &Message) -> Disposition {
        if message.truth() != "row" {
            return Disposition::DeadLetter(message.truth().to_owned());
        }
        let reading = message.json();
        let text = |name: &str| reading[name].as_str().unwrap_or_default().to_owned();
        let line = [
            text("device_id"),
            text("measured_at").trim_end_matches('Z').to_owned(),
            number(&reading["seq"]),
            number(&reading["power_w"]),
            number(&reading["voltage_v"]),
            number(&reading["current_a"]),
            number(&reading["energy_wh"]),
            number(&reading["temperature_c"]),
            text("status"),
        ]
        .join("|");
        let measured_at: Option<jiff::Timestamp> = text("measured_at").parse().ok();
        let rank = measured_at.filter(|_| self.newer).map_or(0, jiff::Timestamp::as_millisecond);
        Disposition::Rows(vec![Expected {
            table: "readings",
            key: text("device_id"),
            text: line,
            rank,
        }])
    }
}

/// A number as Postgres prints it.
pub(crate) fn number(value: &Value) -> String {
    match value.as_i64() {
        Some(integer) => integer.to_string(),
        None => value.as_f64().unwrap_or(f64::NAN).to_string(),
    }
}
