//! Finds the rows that their tables refuse, in a transaction that is rolled back: nothing but the whole batch
//! is ever committed.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use tokio_postgres::error::DbError;
use tokio_postgres::{Error, Statement};

use super::connection::{describe, fault};
use super::judge::{Suspect, can_be_judged};
use super::transaction::{Work, feed};
use crate::fault::{Fault, Remedy};
use crate::rows::{Rejection, Stage};
use crate::settings::RetrySettings;
use crate::sink::Prepared;
use crate::sink::copied::CopiedRows;
use crate::sink::plan::{Plan, Route, TablePlan};
use crate::sink::prepared::TableCopy;

/// What Postgres has to say of a row may quote it.
const REASON_BYTES_MAX: usize = 2 << 10;

impl Work {
    /// One rejection for each message with a row that is refused. Takes a query for all rows that one constraint
    /// refuses, where such a query can be asked; else a COPY for each row where Postgres names the row; else halves:
    /// `2 log2 n` writes for each row among `n`. Constraints that can be asked for are added to `suspects`.
    pub async fn find_refused(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        suspects: &mut Vec<Suspect>,
    ) -> Result<Vec<Rejection>, Fault> {
        self.take_up(plan).await?;
        let mut found = Found::default();
        loop {
            self.run("BEGIN", "begin").await?;
            self.look_for_refused(plan, prepared, suspects, &mut found).await?;
            self.run("ROLLBACK", "roll back").await?;
            if !found.begin_anew() {
                return Ok(found.rejections);
            }
        }
    }

    async fn look_for_refused(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        suspects: &mut Vec<Suspect>,
        found: &mut Found,
    ) -> Result<(), Fault> {
        let rule = &prepared.parking.rule;
        for (index, (table, rows)) in plan.tables.iter().zip(&prepared.tables).enumerate() {
            if rows.bytes.is_empty() {
                continue;
            }
            let copy = self.copy_statement(index);
            let relation = match &table.route {
                Route::Straight { .. } => relation_of(&table.table),
                Route::Staged { stage, .. } => relation_of(stage),
            };
            let copied = CopiedRows::of(&rows.bytes);
            let ahead = &prepared.tables[..index];
            let probe =
                Probe { work: self, plan, index, ahead, table, relation, copy, rows, copied, rule };
            probe.run(found, suspects).await?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Found {
    messages: BTreeSet<u32>,
    rejections: Vec<Rejection>,
    /// Messages of which rows had been written when another one was refused.
    late: BTreeSet<u32>,
}

impl Found {
    fn accuse(&mut self, rejection: Rejection, has_rows: bool) {
        if self.messages.insert(rejection.message) {
            if has_rows {
                self.late.insert(rejection.message);
            }
            self.rejections.push(rejection);
        }
    }

    /// True when rows may have been refused only because they collided with some that are refused themselves. Then
    /// what collided is acquitted for now; all others stay, so that this comes to an end.
    fn begin_anew(&mut self) -> bool {
        let late = std::mem::take(&mut self.late);
        let stays = |it: &Rejection| late.contains(&it.message) || !is_collision(&it.code);
        if late.is_empty() || self.rejections.iter().all(stays) {
            return false;
        }
        self.rejections.retain(stays);
        self.messages = self.rejections.iter().map(|it| it.message).collect();
        true
    }
}

/// As many times the rows between two refused ones are sent at a time.
const ROWS_PER_GAP: usize = 8;

/// The search in one table.
struct Probe<'a> {
    work: &'a Work,
    plan: &'a Plan,
    index: usize,
    /// The tables that were searched before this one.
    ahead: &'a [TableCopy],
    table: &'a TablePlan,
    /// What COPY writes into, as Postgres names it in its messages.
    relation: String,
    copy: Statement,
    rows: &'a TableCopy,
    rule: &'a RetrySettings,
    copied: CopiedRows<'a>,
}

impl Probe<'_> {
    async fn run(&self, found: &mut Found, suspects: &mut Vec<Suspect>) -> Result<(), Fault> {
        // What is still to be written, the next range last.
        let mut left = Vec::new();
        left.push(0..self.copied.len());
        // Rows sent at a time: of what stands behind a refused row, Postgres reads all and keeps nothing.
        let mut rows_max = self.copied.len();
        while let Some(mut range) = left.pop() {
            if range.is_empty() {
                continue;
            }
            if range.len() > rows_max {
                left.push(range.start + rows_max..range.end);
                range.end = range.start + rows_max;
            }
            let Some(error) = self.attempt(range.clone(), found).await? else {
                rows_max = rows_max.saturating_mul(2);
                continue;
            };
            if range.len() > 1 && self.judge(&error, range.start, found, suspects).await? {
                left.push(range);
                continue;
            }
            match self.line_of(&error) {
                Some(line) => {
                    let row = self.row_at(range.clone(), line, found);
                    self.reject(row, range.start, &error, found);
                    left.push(row + 1..range.end);
                    rows_max = ROWS_PER_GAP * (row - range.start + 1);
                    // What was fine ahead of it is written again where later rows may collide with it.
                    if error.code().is_some_and(|state| is_collision(state.code())) {
                        left.push(range.start..row);
                    }
                }
                None if range.len() == 1 => self.reject(range.start, range.start, &error, found),
                None => {
                    let middle = range.start + range.len() / 2;
                    left.push(middle..range.end);
                    left.push(range.start..middle);
                }
            }
        }
        Ok(())
    }

    /// Finds all rows that the constraint in `error` refuses, if it can be asked for them; those before `first` are
    /// dealt with. False when that brings nothing new.
    async fn judge(
        &self,
        error: &Error,
        first: usize,
        found: &mut Found,
        suspects: &mut Vec<Suspect>,
    ) -> Result<bool, Fault> {
        let Some(error) = error.as_db_error() else { return Ok(false) };
        if !can_be_judged(self.rows) {
            return Ok(false);
        }
        let learned = Suspect::learn(self.work.session(), self.plan, self.index, error).await?;
        let Some(suspect) = learned else { return Ok(false) };
        self.work.make_room_for(&suspect).await?;
        self.work.run("SAVEPOINT judge", "set a savepoint").await?;
        let rejections = match self.work.judge(&suspect, self.rows, first, self.rule).await {
            Ok(rejections) => rejections,
            Err(fault) if fault.remedy == Remedy::Retry => return Err(fault),
            // A cell that the column's type refuses, say: then one row after the other.
            Err(_) => {
                self.work.run("ROLLBACK TO judge", "return to the savepoint").await?;
                return Ok(false);
            }
        };
        let before = found.messages.len();
        for rejection in rejections {
            let has_rows = self.has_rows(rejection.message, first);
            found.accuse(rejection, has_rows);
        }
        if !suspects.contains(&suspect) {
            suspects.push(suspect);
        }
        Ok(found.messages.len() > before)
    }

    /// Writes the rows of `range` and keeps them, or returns why a row among them is refused and keeps none.
    async fn attempt(&self, range: Range<usize>, found: &Found) -> Result<Option<Error>, Fault> {
        let mut part = Vec::new();
        self.copied.part(
            range,
            |row| !found.messages.contains(&self.rows.messages[row]),
            &mut part,
        );
        self.work.run("SAVEPOINT probe", "set a savepoint").await?;
        let Err(error) = self.write(Bytes::from(part)).await else {
            self.work.run("RELEASE probe", "release the savepoint").await?;
            return Ok(None);
        };
        let doing = format!("find the rows that {} refuses", self.table.table);
        let fault = fault(&doing, &error);
        if fault.remedy != Remedy::Bury {
            return Err(fault);
        }
        self.work.run("ROLLBACK TO probe", "return to the savepoint").await?;
        Ok(Some(error))
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Error> {
        let session = self.work.session();
        let mut sink = Box::pin(session.copy_in(&self.copy).await?);
        feed(sink.as_mut(), &bytes).await;
        sink.as_mut().finish().await?;
        if let Route::Staged { stage, apply, apply_and_delete, .. } = &self.table.route {
            let apply = apply_and_delete.as_ref().filter(|_| self.rows.deletes).unwrap_or(apply);
            session.batch_execute(&format!("{apply}; DELETE FROM {stage}")).await?;
        }
        // Deferred ones would speak up at COMMIT only, and name no row.
        session.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED").await
    }

    /// The line that COPY was at, counted from 1.
    fn line_of(&self, error: &Error) -> Option<usize> {
        let context = error.as_db_error()?.where_()?;
        context.lines().find_map(|line| line_in(line, &self.relation))
    }

    /// The row of the table behind line `line`, counted from 1, of a COPY of `range`.
    fn row_at(&self, range: Range<usize>, line: usize, found: &Found) -> usize {
        let last = range.end - 1;
        range
            .filter(|row| !found.messages.contains(&self.rows.messages[*row]))
            .nth(line - 1)
            .unwrap_or(last)
    }

    /// True when rows of a message were written that stand before row `first`.
    fn has_rows(&self, message: u32, first: usize) -> bool {
        let own = self.rows.messages[..first].binary_search(&message).is_ok();
        own || self.ahead.iter().any(|table| table.messages.binary_search(&message).is_ok())
    }

    fn reject(&self, row: usize, first: usize, error: &Error, found: &mut Found) {
        let message = self.rows.messages[row];
        let constraint = error.as_db_error().and_then(DbError::constraint);
        let state = error.code().map_or("", |state| state.code());
        let mut reason = format!("{}: {}", self.table.table, describe(error));
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        let rejection = Rejection {
            message,
            stage: Stage::Sink,
            code: state.to_owned(),
            reason,
            retry: self.rule.covers(state, constraint),
        };
        found.accuse(rejection, self.has_rows(message, first));
    }
}

/// True for constraints between rows.
fn is_collision(sqlstate: &str) -> bool {
    matches!(sqlstate, "23505" | "23P01")
}

/// The number in `COPY readings, line 302, column power_w`. The words depend on the server's language.
fn line_in(context: &str, relation: &str) -> Option<usize> {
    let behind = context.strip_prefix("COPY ")?.strip_prefix(relation)?;
    let start = behind.find(|it: char| it.is_ascii_digit())?;
    let digits = behind[start..].split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|line| *line > 0)
}

/// The last name in `schema."Table"`, without quotes.
fn relation_of(name: &str) -> String {
    let mut quoted = false;
    let last = name.rfind(|it: char| {
        quoted ^= it == '"';
        it == '.' && !quoted
    });
    let last = last.map_or(name, |dot| &name[dot + 1..]);
    match last.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_what_postgres_says() {
        let check = |context: &str, line| {
            assert_eq!(line_in(context, "readings_2026"), line, "{context}");
        };
        check("COPY readings_2026, line 302", Some(302));
        check("COPY readings_2026, line 302, column power_w", Some(302));
        check("COPY readings_2026, Zeile 302, Spalte power_w2", Some(302));
        check("COPY readings_2026, line 302, column note: \"a, line 5\"", Some(302));
        check("COPY readings, line 302", None);
        check("PL/pgSQL function f() line 3 at RAISE", None);
        check("COPY readings_2026, line 0", None);
        check("COPY readings_2026", None);
    }

    #[test]
    fn a_relation_is_named_without_schema_and_quotes() {
        let check = |name: &str, relation| assert_eq!(relation_of(name), relation);
        check("public.readings", "readings");
        check("public.\"Read.ings\"", "Read.ings");
        check("\"a.b\".\"say \"\"hi\"\"\"", "say \"hi\"");
        check("sluice_stage_1_0", "sluice_stage_1_0");
    }
}
