//! The statements by which staged rows get into their table. Text only; nothing is run here.

use super::table::quote;

/// A table whose rows go through a staging table of the session.
#[derive(Debug, Clone, Copy)]
pub struct Staging<'a> {
    /// Name of the staging table, unquoted.
    pub stage: &'a str,
    /// The table, quoted.
    pub table: &'a str,
    /// Columns given, in the order of the output.
    pub columns: &'a [StagedColumn],
    /// What happens on a conflict.
    pub conflict: Conflict<'a>,
}

/// A column of a staging table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedColumn {
    /// Name in both tables, unquoted.
    pub name: String,
    /// Type in the staging table, as SQL.
    pub type_name: String,
    /// Type it is cast to on its way into the table, when that is another.
    pub cast: Option<String>,
}

/// What happens to a row whose key is there already.
#[derive(Debug, Clone, Copy)]
pub enum Conflict<'a> {
    /// There are none: all rows are inserted, in their order.
    None,
    /// The row that is there stays.
    Ignore {
        /// Unique columns.
        key: &'a [String],
    },
    /// It is replaced, or deleted.
    Replace {
        /// Unique columns.
        key: &'a [String],
        /// Column whose value in the new row must not be smaller.
        newer_than: Option<&'a str>,
    },
}

impl Staging<'_> {
    /// Makes the staging table, once per session. Its own columns have names that no column list of the
    /// user can contain twice: they are positions.
    pub fn create(&self) -> String {
        let columns: String = (self.columns.iter().enumerate())
            .map(|(index, column)| format!("c{index} {}, ", column.type_name))
            .collect();
        format!(
            "CREATE TEMPORARY TABLE {} ({columns}ordinal integer, removed boolean) ON COMMIT DELETE ROWS",
            quote(self.stage)
        )
    }

    /// Fills the staging table.
    pub fn copy(&self) -> String {
        format!("COPY {} FROM STDIN (FORMAT binary)", quote(self.stage))
    }

    /// Moves the staged rows into the table.
    ///
    /// The last of several rows with one key wins, and Postgres says what one key is: citext, numeric and
    /// collations have their own ideas. Rows are written in the order of their keys, so that two writers
    /// never wait for each other crosswise.
    pub fn apply(&self) -> String {
        match self.conflict {
            Conflict::None => self.insert_all(),
            Conflict::Ignore { key } => {
                format!("{}{} ON CONFLICT ({}) DO NOTHING", self.latest(key, None), self.insert("latest", key), list(key))
            }
            Conflict::Replace { key, newer_than } => self.replace(key, newer_than),
        }
    }

    fn insert_all(&self) -> String {
        let (names, values) = (self.names(), self.values().join(", "));
        format!("INSERT INTO {} ({names}) SELECT {values} FROM {} ORDER BY ordinal", self.table, quote(self.stage))
    }

    fn replace(&self, key: &[String], newer_than: Option<&str>) -> String {
        let table = self.table;
        let guard = |new: &str, column: &str| {
            let column = quote(column);
            format!("(t.{column} IS NULL OR {new}.{column} >= t.{column})")
        };
        let conditions: Vec<String> = std::iter::once("latest.removed".to_owned())
            .chain(key.iter().map(|name| format!("t.{0} = latest.{0}", quote(name))))
            .chain(newer_than.map(|column| guard("latest", column)))
            .collect();
        let sets: Vec<String> = (self.columns.iter())
            .filter(|column| !key.contains(&column.name))
            .map(|column| format!("{0} = excluded.{0}", quote(&column.name)))
            .collect();
        // A table of keys alone has nothing to replace.
        let action = match (sets.is_empty(), newer_than) {
            (true, _) => "DO NOTHING".to_owned(),
            (false, None) => format!("DO UPDATE SET {}", sets.join(", ")),
            (false, Some(column)) => format!("DO UPDATE SET {} WHERE {}", sets.join(", "), guard("excluded", column)),
        };
        format!(
            "{latest}, removed AS (\n    DELETE FROM {table} AS t USING latest WHERE {conditions}\n)\n\
             {insert} ON CONFLICT ({key}) {action}",
            latest = self.latest(key, newer_than),
            conditions = conditions.join(" AND "),
            insert = self.insert("latest WHERE NOT removed", key),
            key = list(key),
        )
    }

    /// One row per key: the newest, else the last.
    fn latest(&self, key: &[String], newer_than: Option<&str>) -> String {
        let columns: Vec<String> = (self.columns.iter().zip(self.values()))
            .map(|(column, value)| format!("{value} AS {}", quote(&column.name)))
            .collect();
        let newest = newer_than.map_or(String::new(), |column| format!("{} DESC NULLS LAST, ", quote(column)));
        let key = list(key);
        format!(
            "WITH given AS (\n    SELECT {columns}, ordinal, removed FROM {stage}\n), latest AS (\n    \
             SELECT DISTINCT ON ({key}) * FROM given ORDER BY {key}, {newest}ordinal {direction}\n)",
            columns = columns.join(", "),
            stage = quote(self.stage),
            // Without replacing, the first row of a key is the one that stays.
            direction = if matches!(self.conflict, Conflict::Ignore { .. }) { "ASC" } else { "DESC" },
        )
    }

    fn insert(&self, from: &str, key: &[String]) -> String {
        let names = self.names();
        format!("\nINSERT INTO {} AS t ({names})\nSELECT {names} FROM {from} ORDER BY {}", self.table, list(key))
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quote(&column.name)).collect();
        names.join(", ")
    }

    fn values(&self) -> Vec<String> {
        let value = |(index, column): (usize, &StagedColumn)| match &column.cast {
            Some(cast) => format!("c{index}::{cast}"),
            None => format!("c{index}"),
        };
        self.columns.iter().enumerate().map(value).collect()
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(conflict: Conflict<'_>) -> String {
        let column = |name: &str, type_name: &str, cast: Option<&str>| StagedColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            cast: cast.map(str::to_owned),
        };
        let columns = [
            column("device", "text", None),
            column("at", "timestamp with time zone", None),
            column("ip", "text", Some("inet")),
        ];
        let staging = Staging { stage: "stage", table: "public.\"Last\"", columns: &columns, conflict };
        format!("{};\n{};\n{};", staging.create(), staging.copy(), staging.apply())
    }

    fn key(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn rows_that_need_a_cast_are_staged() {
        insta::assert_snapshot!(apply(Conflict::None), @"");
    }

    #[test]
    fn ignore_keeps_what_is_there() {
        insta::assert_snapshot!(apply(Conflict::Ignore { key: &key(&["device", "at"]) }), @"");
    }

    #[test]
    fn upsert_replaces_and_deletes() {
        insta::assert_snapshot!(apply(Conflict::Replace { key: &key(&["device"]), newer_than: None }), @"");
    }

    #[test]
    fn upsert_with_newer_than_never_goes_back() {
        insta::assert_snapshot!(apply(Conflict::Replace { key: &key(&["device"]), newer_than: Some("at") }), @"");
    }

    #[test]
    fn a_table_of_keys_alone_has_nothing_to_replace() {
        insta::assert_snapshot!(apply(Conflict::Replace { key: &key(&["device", "at", "ip"]), newer_than: None }), @"");
    }
}
