//! The table that is changed: which types each column may have, and what it is like now. Pure.

use std::collections::BTreeMap;

use fastrand::Rng;

/// What the table is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// No key.
    Plain,
    /// No key; `status` always has a type that texts are cast to.
    Cast,
    /// `device_id` is the primary key.
    Keyed,
    /// A partition for each `status`, whose type stays as it is.
    Partitioned,
}

/// How the table is defined now, as far as the next change has to know.
#[derive(Debug)]
pub struct Table {
    /// What it is made for.
    pub form: Form,
    /// Role of the host.
    pub role: String,
    /// Type of each column that a field fills.
    pub types: BTreeMap<&'static str, &'static str>,
    /// Columns that no field fills.
    pub extra: Vec<String>,
    /// Triggers.
    pub triggers: Vec<String>,
    /// The policy that lets the role write; none while row-level security is off.
    pub policy: Option<String>,
    /// Labels of the enum `state` that no message has.
    pub labels: Vec<String>,
    /// The partition for each status, and whether it is attached.
    pub partitions: BTreeMap<&'static str, (String, bool)>,
    /// Tables that were in its place before, with their rows.
    pub former: Vec<String>,
    /// Whether `current_a` must have a value.
    pub current_a_needed: bool,
    counter: u32,
}

/// Status that no message has.
pub const UNUSED: &str = "unused";

/// Statuses that messages have, and [`UNUSED`].
pub const STATUSES: [&str; 4] = ["ok", "degraded", "offline", UNUSED];

/// Types of a column, of which the first is what it begins with.
pub fn types_of(form: Form, column: &str) -> &'static [&'static str] {
    match column {
        "device_id" => &["text", "uuid", "varchar(36)", "varchar(50)", "char(36)"],
        "measured_at" => &["timestamptz", "timestamp", "timestamptz(3)", "timestamp(4)"],
        "seq" => &["bigint", "integer", "smallint", "numeric", "numeric(6,0)", "small_count"],
        "energy_wh" => &["bigint", "integer", "smallint", "numeric", "numeric(12,2)"],
        "power_w" => &["double precision", "real", "numeric(9,1)", "numeric"],
        "status" if form == Form::Cast => &["name", "citext", "ltree"],
        "status" if form == Form::Partitioned => &["text"],
        "status" => &["text", "varchar(8)", "varchar(20)", "state", "other_state", "char(8)"],
        _ => &["double precision", "real", "numeric(8,2)", "numeric"],
    }
}

/// Columns that a field fills.
pub const FILLED: [&str; 9] = [
    "device_id",
    "measured_at",
    "seq",
    "power_w",
    "voltage_v",
    "current_a",
    "energy_wh",
    "temperature_c",
    "status",
];

/// Columns that each message has a value for, although the table may allow NULL.
pub const ALWAYS_FILLED: [&str; 4] = ["seq", "power_w", "voltage_v", "status"];

impl Table {
    /// The table as it is in the beginning, to be written by `role`.
    pub fn new(form: Form, role: &str) -> Self {
        let partition = |status: &'static str| (status, (format!("readings_{status}"), true));
        let is_partitioned = form == Form::Partitioned;
        Self {
            form,
            role: role.to_owned(),
            types: FILLED.map(|column| (column, types_of(form, column)[0])).into(),
            extra: Vec::new(),
            triggers: Vec::new(),
            policy: None,
            labels: vec![UNUSED.to_owned()],
            partitions: STATUSES
                .iter()
                .filter(|_| is_partitioned)
                .map(|name| partition(name))
                .collect(),
            former: Vec::new(),
            current_a_needed: false,
            counter: 0,
        }
    }

    /// Statements that create it, and all that a change may need.
    pub fn create(&self) -> String {
        let columns: Vec<String> = FILLED
            .iter()
            .map(|column| {
                let key = if self.form == Form::Keyed && *column == "device_id" {
                    " PRIMARY KEY"
                } else {
                    ""
                };
                format!("{column} {}{key}", self.types[column])
            })
            .collect();
        let (options, parts) =
            if self.form == Form::Partitioned { self.partitions() } else { Default::default() };
        format!(
            "CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE SEQUENCE arrivals;
             CREATE TYPE state AS ENUM ('{UNUSED}', 'offline', 'degraded', 'ok');
             CREATE TYPE other_state AS ENUM ('ok', 'degraded', 'offline');
             CREATE DOMAIN small_count AS smallint CONSTRAINT counted CHECK (VALUE >= 0);
             CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TABLE readings ({columns}, arrival bigint NOT NULL DEFAULT nextval('arrivals')) {options}; {parts}
             GRANT CREATE ON DATABASE {role} TO {role};
             GRANT USAGE ON SEQUENCE arrivals TO {role}; {grant}",
            columns = columns.join(", "),
            role = self.role,
            grant = self.grant("readings"),
        )
    }

    fn partitions(&self) -> (&'static str, String) {
        let parts = self.partitions.iter().map(|(status, (name, _))| {
            format!("CREATE TABLE {name} PARTITION OF readings FOR VALUES IN ('{status}');")
        });
        ("PARTITION BY LIST (status)", parts.collect())
    }

    /// The statement that lets the role write to `table`.
    pub fn grant(&self, table: &str) -> String {
        format!("GRANT INSERT, SELECT, UPDATE ON {table} TO {}", self.role)
    }

    /// A name that nothing had before.
    pub fn new_name(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("{what}_{}", self.counter)
    }

    /// A type that `column` does not have now; `None` where it has but one.
    pub fn other_type(&self, column: &str, random: &mut Rng) -> Option<&'static str> {
        let others: Vec<_> = types_of(self.form, column)
            .iter()
            .filter(|name| **name != self.types[column])
            .collect();
        if others.is_empty() { None } else { Some(others[random.usize(..others.len())]) }
    }

    /// The value of `column` as a value of the type `to`.
    pub fn as_type(&self, column: &str, to: &str) -> String {
        let zoned = |name: &str| name.starts_with("timestamptz");
        if column == "measured_at" && zoned(to) != zoned(self.types[column]) {
            return format!("(measured_at AT TIME ZONE 'UTC')::{to}");
        }
        if matches!(column, "status" | "device_id") {
            return format!("{column}::text::{to}");
        }
        format!("{column}::{to}")
    }
}
