//! Readings in tables whose columns may have any type that takes their values: compared are values, not their texts.

use serde_json::Value;

use super::shape::{Disposition, Expected, Keep, Shape, Table, number};
use super::topic::Message;

/// What a missing `current_a` is in a table where it may not be NULL: no message has this value.
pub const NO_CURRENT_A: i64 = -1;

/// Readings, compared by value.
#[derive(Debug, Clone, Copy)]
pub struct ByValue {
    /// Table that is compared.
    pub table: &'static str,
    /// SQL expression over one of its rows that has the form of [`ByValue::LINE`].
    pub line: &'static str,
    /// Which row stays of those with one `device_id`.
    pub keep: Keep,
    /// True for a table with a column `arrival` that says in which order rows were written.
    pub in_order: bool,
}

impl ByValue {
    /// One row of a table like `readings` as a line of text, which is the same for all types of its columns.
    pub const LINE: &str = "concat_ws('|', device_id::text, \
        to_char(measured_at::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS'), \
        trim_scale(seq::numeric), trim_scale(power_w::numeric), trim_scale(voltage_v::numeric), \
        coalesce(trim_scale(nullif(current_a::numeric, -1))::text, '-'), \
        coalesce(trim_scale(energy_wh::numeric)::text, '-'), \
        coalesce(trim_scale(temperature_c::numeric)::text, '-'), status::text)";

    /// All rows of `readings`, in the order in which they were written.
    pub fn all() -> Self {
        Self { table: "readings", line: Self::LINE, keep: Keep::All, in_order: true }
    }
}

impl Shape for ByValue {
    fn tables(&self) -> Vec<Table> {
        vec![Table {
            name: self.table,
            text: self.line,
            arrival: self.in_order.then_some("arrival"),
            marker: "",
            keep: self.keep,
        }]
    }

    fn disposition(&self, message: &Message) -> Disposition {
        if message.truth() != "row" {
            return Disposition::DeadLetter(message.truth().to_owned());
        }
        let reading = message.json();
        let text = |name: &str| reading[name].as_str().unwrap_or_default().to_owned();
        let value = |name: &str| match &reading[name] {
            Value::Null => "-".to_owned(),
            value => number(value),
        };
        let line = [
            text("device_id"),
            text("measured_at").trim_end_matches('Z').to_owned(),
            value("seq"),
            value("power_w"),
            value("voltage_v"),
            value("current_a"),
            value("energy_wh"),
            value("temperature_c"),
            text("status"),
        ]
        .join("|");
        let expected = Expected::new(self.table, line);
        Disposition::Rows(vec![Expected { key: text("device_id"), ..expected }])
    }
}
