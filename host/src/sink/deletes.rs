//! Logs what `newer_than` does not do: a deleted row leaves nothing that a later one could be compared with.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::plan::{Plan, TablePlan};

/// Logs once for each plan that what is deleted from `table` is not protected by `newer_than`, if it has one.
pub(super) fn warn_once(plan: &Plan, table: &TablePlan) {
    static LOGGED: Mutex<BTreeSet<(u64, String)>> = Mutex::new(BTreeSet::new());
    let Some(column) = newer_than(plan, table) else { return };
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    if logged.insert((plan.id, table.output.clone())) {
        tracing::warn!(table = table.table, "{}", line(&table.table, column));
    }
}

fn newer_than<'a>(plan: &'a Plan, table: &TablePlan) -> Option<&'a str> {
    let settings = plan.settings.get(&table.output).or_else(|| plan.settings.get(""));
    settings.and_then(|settings| settings.newer_than.as_deref())
}

fn line(table: &str, column: &str) -> String {
    format!(
        "rows are deleted from {table}: newer_than remembers nothing of them, so an older row that comes later (a late \
         message, a retry, a replay) inserts its key again; mark rows as deleted in a column to keep their {column}"
    )
}

#[cfg(test)]
mod tests {
    use crate::columns::Kind;
    use crate::settings::{Mode, TableSettings};
    use crate::sink::tests::lab::{Database, make_plan, output, to_table};

    #[test]
    fn a_table_with_newer_than_is_found_by_its_output() {
        let database = Database::new();
        database.run("CREATE TABLE a (k bigint PRIMARY KEY, at bigint); CREATE TABLE b (LIKE a INCLUDING ALL)");
        let fields = [("k", Kind::Int64), ("at", Kind::Int64)];
        let outputs = [output("a", &fields), output("b", &fields)];
        let newer =
            TableSettings { newer_than: Some("at".to_owned()), ..to_table("b", Mode::Upsert) };
        let tables = [("a", to_table("a", Mode::Upsert)), ("b", newer.clone())];
        let plan = make_plan(&database, &outputs, &tables);
        let found: Vec<_> = plan.tables.iter().map(|it| super::newer_than(&plan, it)).collect();
        assert_eq!(found, [None, Some("at")]);
        let alone = make_plan(&database, &outputs[1..], &[("", newer)]);
        assert_eq!(super::newer_than(&alone, &alone.tables[0]), Some("at"));
    }
}
