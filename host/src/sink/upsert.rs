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
    /// Expression that stands in for a missing value.
    pub default: Option<String>,
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
    /// Makes the staging table, once per session. Columns are named by position, so that
    /// no column of the user's has the name of one of ours.
    pub fn create(&self) -> String {
        let columns = (self.columns.iter().zip(self.values()))
            .map(|(column, (position, _))| format!("{position} {}", column.type_name))
            .chain(["ordinal integer".to_owned(), "removed boolean".to_owned()])
            .collect::<Vec<_>>()
            .join(", ");
        format!("CREATE TEMPORARY TABLE {} ({columns}) ON COMMIT DELETE ROWS", quote(self.stage))
    }

    /// Fills the staging table.
    pub fn copy(&self) -> String {
        format!("COPY {} FROM STDIN (FORMAT binary)", quote(self.stage))
    }

    /// Moves the staged rows into the table, none of which deletes.
    ///
    /// The last of several rows with one key wins, and Postgres says what one key is: citext, numeric and
    /// collations have their own ideas. Rows are written in the order of their keys, so that two writers
    /// never deadlock.
    pub fn apply(&self) -> String {
        match self.conflict {
            Conflict::None => self.insert_all(),
            Conflict::Ignore { key } => {
                let insert = self.insert("latest", key);
                let (latest, key) = (self.latest(key, "ordinal"), names(key));
                format!("WITH {latest}\n{insert} ON CONFLICT ({key}) DO NOTHING")
            }
            Conflict::Replace { key, newer_than } => {
                let latest = self.latest(key, &self.newest(newer_than));
                let insert = self.insert("latest", key);
                let (action, key) = (self.action(key, newer_than), names(key));
                format!("WITH {latest}\n{insert} ON CONFLICT ({key}) {action}")
            }
        }
    }

    /// The same when some of the rows delete. Apart, because looking for keys to delete costs as much as
    /// writing; `None` where rows cannot delete.
    pub fn apply_and_delete(&self) -> Option<String> {
        let Conflict::Replace { key, newer_than } = self.conflict else { return None };
        let conditions: Vec<String> =
            (key.iter())
                .map(|name| {
                    let equals = self.operator(name, "=");
                    format!("t.{} {equals} latest.{}", quote(name), self.position(name))
                })
                .chain(newer_than.map(|column| {
                    self.not_older(column, &format!("latest.{}", self.position(column)))
                }))
                .collect();
        let removed = format!(
            "removed_rows AS (\n    DELETE FROM {} AS t USING latest\n    WHERE latest.removed AND {}\n)",
            self.table,
            conditions.join(" AND ")
        );
        Some(format!(
            "WITH {latest}, {removed}\n{insert} ON CONFLICT ({key}) {action}",
            latest = self.latest(key, &self.newest(newer_than)),
            insert = self.insert("latest WHERE NOT removed", key),
            action = self.action(key, newer_than),
            key = names(key),
        ))
    }

    /// Counts how many of the staged rows [`Staging::apply`] inserts or replaces, if no trigger drops one. `None` where
    /// rows may be skipped because of what is in the table: `newer_than`, and keys that are there already.
    pub fn expected(&self) -> Option<String> {
        let stage = quote(self.stage);
        let key = match self.conflict {
            Conflict::None => return Some(format!("SELECT count(*) FROM {stage}")),
            Conflict::Replace { key, newer_than: None } if key.len() < self.columns.len() => key,
            _ => return None,
        };
        let keys: Vec<(String, String)> = self.values().collect();
        let keys = key.iter().map(|name| &keys[self.index(name)]);
        let values: Vec<String> =
            keys.map(|(position, value)| format!("{value} AS {position}")).collect();
        let (values, key) = (values.join(", "), self.positions(key));
        Some(format!(
            "SELECT count(*) FROM (SELECT DISTINCT ON ({key}) removed\n    \
             FROM (SELECT {values}, ordinal, removed FROM {stage}) AS given ORDER BY {key}, ordinal DESC\n) AS latest \
             WHERE NOT removed"
        ))
    }

    fn insert_all(&self) -> String {
        let values: Vec<String> = self.values().map(|(_, value)| value).collect();
        let (columns, values, stage) = (self.names(), values.join(", "), quote(self.stage));
        format!(
            "INSERT INTO {} ({columns})\nSELECT {values} FROM {stage} ORDER BY ordinal",
            self.table
        )
    }

    /// The order in which the first row of a key is the one that counts.
    fn newest(&self, newer_than: Option<&str>) -> String {
        let newer = newer_than
            .map_or(String::new(), |column| format!("{} DESC NULLS LAST, ", self.position(column)));
        format!("{newer}ordinal DESC")
    }

    fn action(&self, key: &[String], newer_than: Option<&str>) -> String {
        let sets: Vec<String> = (self.columns.iter())
            .filter(|column| !key.contains(&column.name))
            .map(|column| format!("{0} = excluded.{0}", quote(&column.name)))
            .collect();
        match newer_than {
            // A table of keys alone has nothing to replace.
            _ if sets.is_empty() => "DO NOTHING".to_owned(),
            None => format!("DO UPDATE\nSET {}", sets.join(", ")),
            Some(column) => {
                let guard = self.not_older(column, &format!("excluded.{}", quote(column)));
                format!("DO UPDATE\nSET {}\nWHERE {guard}", sets.join(", "))
            }
        }
    }

    /// One row per key: the first in `order`.
    fn latest(&self, key: &[String], order: &str) -> String {
        let values = self.values().map(|(position, value)| {
            if value == position { value } else { format!("{value} AS {position}") }
        });
        let values = values.collect::<Vec<_>>();
        let (values, key, stage) = (values.join(", "), self.positions(key), quote(self.stage));
        format!(
            "given AS (\n    SELECT {values}, ordinal, removed FROM {stage}\n), latest AS (\n    \
             SELECT DISTINCT ON ({key}) * FROM given ORDER BY {key}, {order}\n)"
        )
    }

    fn insert(&self, from: &str, key: &[String]) -> String {
        let positions: Vec<String> = self.values().map(|(position, _)| position).collect();
        let (columns, positions, key) = (self.names(), positions.join(", "), self.positions(key));
        format!(
            "INSERT INTO {} AS t ({columns})\nSELECT {positions} FROM {from} ORDER BY {key}",
            self.table
        )
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The staging table's columns: name and value, cast where it must be.
    fn values(&self) -> impl Iterator<Item = (String, String)> {
        self.columns.iter().enumerate().map(|(index, column)| {
            let position = format!("c{index}");
            let value = match &column.cast {
                Some(cast) => format!("{position}::{cast}"),
                None => position.clone(),
            };
            match &column.default {
                Some(default) => (position, format!("coalesce({value}, {default})")),
                None => (position, value),
            }
        })
    }

    fn position(&self, name: &str) -> String {
        format!("c{}", self.index(name))
    }

    fn index(&self, name: &str) -> usize {
        let index = self.columns.iter().position(|column| column.name == name);
        index.expect("keys and newer_than are among the columns: the plan checked it")
    }

    /// Types without an encoder may have operators in other schemas: the path finds them. For all others it must not,
    /// because an operator for just this type, which anybody may have made, is preferred to one for `text` or any enum.
    fn operator(&self, name: &str, operator: &str) -> String {
        match self.columns[self.index(name)].cast {
            Some(_) => operator.to_owned(),
            None => format!("OPERATOR(pg_catalog.{operator})"),
        }
    }

    /// A row that has no value yet may be replaced by any; one without a value replaces none that has.
    fn not_older(&self, column: &str, new: &str) -> String {
        let at_least = self.operator(column, ">=");
        format!("(t.{0} IS NULL OR {new} {at_least} t.{0})", quote(column))
    }

    fn positions(&self, names: &[String]) -> String {
        names.iter().map(|name| self.position(name)).collect::<Vec<_>>().join(", ")
    }
}

fn names(names: &[String]) -> String {
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
            default: None,
        };
        let columns = [
            column("device", "text", None),
            column("at", "timestamp with time zone", None),
            column("ip", "text", Some("inet")),
        ];
        let staging =
            Staging { stage: "stage", table: "public.\"Last\"", columns: &columns, conflict };
        let delete =
            staging.apply_and_delete().map_or(String::new(), |delete| format!("\n{delete};"));
        format!("{};\n{};\n{};{delete}", staging.create(), staging.copy(), staging.apply())
    }

    fn key(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_default_stands_in_for_a_missing_value() {
        let (name, default) = ("at".to_owned(), Some("now()".to_owned()));
        let columns =
            [StagedColumn { name, type_name: "timestamptz".to_owned(), cast: None, default }];
        let staging =
            Staging { stage: "stage", table: "t", columns: &columns, conflict: Conflict::None };
        assert!(staging.apply().contains("SELECT coalesce(c0, now()) FROM"), "{}", staging.apply());
    }

    #[test]
    fn rows_that_need_a_cast_are_staged() {
        insta::assert_snapshot!(apply(Conflict::None), @r#"
        CREATE TEMPORARY TABLE "stage" (c0 text, c1 timestamp with time zone, c2 text, ordinal integer, removed boolean) ON COMMIT DELETE ROWS;
        COPY "stage" FROM STDIN (FORMAT binary);
        INSERT INTO public."Last" ("device", "at", "ip")
        SELECT c0, c1, c2::inet FROM "stage" ORDER BY ordinal;
        "#);
    }

    #[test]
    fn ignore_keeps_what_is_there() {
        insta::assert_snapshot!(apply(Conflict::Ignore { key: &key(&["device", "at"]) }), @r#"
        CREATE TEMPORARY TABLE "stage" (c0 text, c1 timestamp with time zone, c2 text, ordinal integer, removed boolean) ON COMMIT DELETE ROWS;
        COPY "stage" FROM STDIN (FORMAT binary);
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0, c1) * FROM given ORDER BY c0, c1, ordinal
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest ORDER BY c0, c1 ON CONFLICT ("device", "at") DO NOTHING;
        "#);
    }

    #[test]
    fn upsert_replaces_and_deletes() {
        insta::assert_snapshot!(apply(Conflict::Replace { key: &key(&["device"]), newer_than: None }), @r#"
        CREATE TEMPORARY TABLE "stage" (c0 text, c1 timestamp with time zone, c2 text, ordinal integer, removed boolean) ON COMMIT DELETE ROWS;
        COPY "stage" FROM STDIN (FORMAT binary);
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0) * FROM given ORDER BY c0, ordinal DESC
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest ORDER BY c0 ON CONFLICT ("device") DO UPDATE
        SET "at" = excluded."at", "ip" = excluded."ip";
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0) * FROM given ORDER BY c0, ordinal DESC
        ), removed_rows AS (
            DELETE FROM public."Last" AS t USING latest
            WHERE latest.removed AND t."device" OPERATOR(pg_catalog.=) latest.c0
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest WHERE NOT removed ORDER BY c0 ON CONFLICT ("device") DO UPDATE
        SET "at" = excluded."at", "ip" = excluded."ip";
        "#);
    }

    #[test]
    fn upsert_with_newer_than_never_goes_back() {
        insta::assert_snapshot!(apply(Conflict::Replace { key: &key(&["device"]), newer_than: Some("at") }), @r#"
        CREATE TEMPORARY TABLE "stage" (c0 text, c1 timestamp with time zone, c2 text, ordinal integer, removed boolean) ON COMMIT DELETE ROWS;
        COPY "stage" FROM STDIN (FORMAT binary);
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0) * FROM given ORDER BY c0, c1 DESC NULLS LAST, ordinal DESC
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest ORDER BY c0 ON CONFLICT ("device") DO UPDATE
        SET "at" = excluded."at", "ip" = excluded."ip"
        WHERE (t."at" IS NULL OR excluded."at" OPERATOR(pg_catalog.>=) t."at");
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0) * FROM given ORDER BY c0, c1 DESC NULLS LAST, ordinal DESC
        ), removed_rows AS (
            DELETE FROM public."Last" AS t USING latest
            WHERE latest.removed AND t."device" OPERATOR(pg_catalog.=) latest.c0 AND (t."at" IS NULL OR latest.c1 OPERATOR(pg_catalog.>=) t."at")
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest WHERE NOT removed ORDER BY c0 ON CONFLICT ("device") DO UPDATE
        SET "at" = excluded."at", "ip" = excluded."ip"
        WHERE (t."at" IS NULL OR excluded."at" OPERATOR(pg_catalog.>=) t."at");
        "#);
    }

    #[test]
    fn a_table_of_keys_alone_has_nothing_to_replace() {
        insta::assert_snapshot!(apply(Conflict::Replace { key: &key(&["device", "at", "ip"]), newer_than: None }), @r#"
        CREATE TEMPORARY TABLE "stage" (c0 text, c1 timestamp with time zone, c2 text, ordinal integer, removed boolean) ON COMMIT DELETE ROWS;
        COPY "stage" FROM STDIN (FORMAT binary);
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0, c1, c2) * FROM given ORDER BY c0, c1, c2, ordinal DESC
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest ORDER BY c0, c1, c2 ON CONFLICT ("device", "at", "ip") DO NOTHING;
        WITH given AS (
            SELECT c0, c1, c2::inet AS c2, ordinal, removed FROM "stage"
        ), latest AS (
            SELECT DISTINCT ON (c0, c1, c2) * FROM given ORDER BY c0, c1, c2, ordinal DESC
        ), removed_rows AS (
            DELETE FROM public."Last" AS t USING latest
            WHERE latest.removed AND t."device" OPERATOR(pg_catalog.=) latest.c0 AND t."at" OPERATOR(pg_catalog.=) latest.c1 AND t."ip" = latest.c2
        )
        INSERT INTO public."Last" AS t ("device", "at", "ip")
        SELECT c0, c1, c2 FROM latest WHERE NOT removed ORDER BY c0, c1, c2 ON CONFLICT ("device", "at", "ip") DO NOTHING;
        "#);
    }
}
