//! The rows of the table: ways from the topic to the table, and the two halves of one.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum Way {
    /// librdkafka alone: the topic is read into batches that are thrown away.
    Drain,
    /// Postgres alone: the rows, encoded before, are copied.
    Copy,
    /// The host with the plugin's code linked in.
    Native,
    /// The host as it is.
    Road,
    /// The host, upserting into a table with a primary key.
    Upsert,
    /// The host, and a table that refuses a hundredth of the rows.
    Refused,
    /// The host, with a plugin that decodes payloads itself.
    Raw,
    /// The program named with `--beside`.
    Beside,
}

impl Way {
    /// As it is written on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Columns of the table that is written.
    pub fn table(self) -> String {
        let constraint = match self {
            Self::Upsert => ", PRIMARY KEY (device_id, measured_at, seq)",
            Self::Refused => ", CONSTRAINT no_sevens CHECK (energy_wh % 100 <> 7)",
            _ => "",
        };
        format!(
            "CREATE TABLE readings (device_id text NOT NULL, measured_at timestamptz NOT NULL,
                 seq bigint NOT NULL, power_w double precision, voltage_v double precision,
                 current_a double precision, energy_wh bigint, temperature_c double precision,
                 status text{constraint})"
        )
    }

    /// Lines of `[sink]` behind the URL.
    pub fn sink(self) -> &'static str {
        match self {
            Self::Upsert => "table = \"readings\"\nmode = \"upsert\"\n",
            _ => "table = \"readings\"\n",
        }
    }

    /// The plugin it runs.
    pub fn plugin(self) -> &'static str {
        if self == Self::Raw { "readings-raw" } else { "readings" }
    }
}
