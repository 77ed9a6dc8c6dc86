//! The search for the rows that their tables reject: everything is tried in a transaction that is rolled back.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join;
use tokio_postgres::error::DbError;
use tokio_postgres::{Error, Statement};

use super::connection::{Session, describe, fault, fault_with_rows, is_raised};
use super::constraint_checks::{ConstraintCheck, can_be_checked};
use super::transaction::{Work, feed};
use crate::fault::{DETAIL, Fault, Remedy, sqlstate};
use crate::rows::{Rejection, Stage};
use crate::settings::RetrySettings;
use crate::sink::Prepared;
use crate::sink::copied::CopiedRows;
use crate::sink::plan::{Plan, Route, TablePlan};
use crate::sink::prepared::TableCopy;

mod alone;
mod dependent;
mod line;

use dependent::Dependencies;
use line::{line_of, relation_of};

/// What Postgres has to say of a row may quote it.
const REASON_BYTES_MAX: usize = 2 << 10;
/// As many times the messages between two rejected ones are sent at a time.
const MESSAGES_PER_GAP: usize = 8;

/// Writes rows into one table.
pub(super) async fn write(
    session: &Session,
    table: &TablePlan,
    statement: &Statement,
    deletes: bool,
    bytes: &Bytes,
) -> Result<(), (Error, Started)> {
    let started = session.copy_in(statement).await;
    let mut sink = Box::pin(started.map_err(|error| (error, Started(false)))?);
    feed(sink.as_mut(), bytes).await;
    let apply = async {
        match &table.route {
            Route::Straight { .. } => Ok(()),
            Route::Staged { stage, .. } => {
                let apply = table.apply_statement(deletes);
                session.batch_execute(&format!("{apply}; DELETE FROM {stage}")).await
            }
        }
    };
    let (copied, applied) = join(sink.as_mut().finish(), apply).await;
    copied.and(applied).map_err(|error| (error, Started(true)))
}

/// Whether a COPY that failed had started. A session on which one has not is of no more use.
pub(super) struct Started(bool);

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried, or to be tried again.
    Open,
    /// Postgres has taken its rows, but they were rolled back together with others.
    Good,
    /// Its rows stand in the transaction.
    Written,
    Rejected,
}

/// One table of a search.
struct SearchTable<'a> {
    plan: &'a TablePlan,
    /// What COPY writes into, as Postgres names it in its messages.
    relation: String,
    copy: Statement,
    rows: &'a TableCopy,
    copied: CopiedRows<'a>,
}

/// Why the rows of some messages were not taken.
struct Failure {
    error: Error,
    /// Index of the table.
    table: usize,
    /// The message that Postgres names.
    message: Option<u32>,
    started: bool,
}

impl Failure {
    fn refusal(&self) -> Option<&DbError> {
        self.error.as_db_error()
    }

    fn state(&self) -> &str {
        self.error.code().map_or("", |state| state.code())
    }

    fn constraint(&self) -> Option<&str> {
        self.refusal().and_then(DbError::constraint)
    }
}

/// The search for the messages with rows that their tables reject.
pub(super) struct Search<'a> {
    work: &'a Work,
    plan: &'a Plan,
    tables: Vec<SearchTable<'a>>,
    rule: &'a RetrySettings,
    checks: &'a mut Vec<ConstraintCheck>,
    /// Constraints that were asked for the rows that violate them, by table.
    asked: HashSet<(usize, String)>,
    until: Instant,
    out_of_time: bool,
    dependencies: Dependencies,
    states: Vec<State>,
    rejections: BTreeMap<u32, Rejection>,
    /// Messages rejected one by one since many were tried alone at a time.
    one_by_one: usize,
    /// Messages before this one were tried alone.
    tried_alone: u32,
}

impl<'a> Search<'a> {
    pub async fn new(
        work: &'a Work,
        plan: &'a Plan,
        prepared: &'a Prepared,
        checks: &'a mut Vec<ConstraintCheck>,
        until: Instant,
    ) -> Result<Self, Fault> {
        let tables = plan.tables.iter().zip(&prepared.tables).enumerate();
        let tables = tables.map(|(index, (table, rows))| SearchTable {
            plan: table,
            relation: match &table.route {
                Route::Straight { .. } => relation_of(&table.table),
                Route::Staged { stage, .. } => relation_of(stage),
            },
            copy: work.copy_statement(index),
            rows,
            copied: CopiedRows::of(&rows.bytes),
        });
        Ok(Self {
            work,
            plan,
            tables: tables.collect(),
            rule: &prepared.parking.rule,
            checks,
            asked: HashSet::new(),
            until,
            out_of_time: false,
            dependencies: Dependencies::read(work.session(), plan).await?,
            states: vec![State::Open; prepared.dispositions.len()],
            rejections: BTreeMap::new(),
            one_by_one: 0,
            tried_alone: 0,
        })
    }

    fn everything(&self) -> Range<u32> {
        0..self.states.len() as u32
    }

    /// Constraints that may wait until COMMIT are left waiting at first: a row may need one of a later message.
    pub async fn run(&mut self) -> Result<(), Fault> {
        self.pass(false).await?;
        if self.dependencies.deferrable && !self.out_of_time {
            self.reopen(|state| state == State::Good);
            self.pass(false).await?;
            if self.check_constraints().await?.is_some() {
                self.begin_again().await?;
                self.pass(true).await?;
            }
        }
        self.reconsider().await
    }

    /// The rejections that are certain.
    pub fn rejections(self) -> Result<Vec<Rejection>, Fault> {
        let Self { rejections, out_of_time, dependencies, .. } = self;
        let mut rejections: Vec<Rejection> = rejections.into_values().collect();
        if out_of_time {
            rejections.retain(|it| !dependencies.may_cause(&it.code));
            if rejections.is_empty() {
                let message = "find the rows that Postgres rejects: not finished in time";
                return Err(Fault::too_slow(message));
            }
        }
        Ok(rejections)
    }

    fn reopen(&mut self, which: impl Fn(State) -> bool) {
        for state in self.states.iter_mut().filter(|state| which(**state)) {
            *state = State::Open;
        }
    }

    /// Tries all open messages: writes those that are fine and rejects the others. Takes a query for all rows that
    /// violate one constraint, where such a query can be asked; else a COPY for each row where Postgres names the row;
    /// else bisects; and tries many alone at a time where many are rejected.
    async fn pass(&mut self, check: bool) -> Result<(), Fault> {
        // What is still to be tried, the next range last.
        let mut left = vec![self.everything()];
        // Messages sent at a time: of what stands behind a rejected row, Postgres reads all and keeps nothing.
        let mut size_max = self.states.len();
        while let Some(range) = left.pop() {
            let Some(mut range) = self.open_within(range) else { continue };
            if Instant::now() >= self.until {
                self.out_of_time = true;
                return Ok(());
            }
            if let Some(chunk) = self.chunk_to_try_alone(&range) {
                self.try_alone(chunk.clone()).await?;
                left.extend([chunk.end..range.end, chunk]);
                continue;
            }
            if range.len() > size_max {
                let end = range.start + size_max as u32;
                left.push(end..range.end);
                range.end = end;
            }
            let Some(failure) = self.attempt(range.clone(), check).await? else {
                size_max = size_max.saturating_mul(2);
                continue;
            };
            if depends_on_others(failure.state()) && self.states.contains(&State::Good) {
                // It may need, or collide with, rows that were found to be fine and are not there.
                self.reopen(|state| state == State::Good);
                left.push(0..range.end);
            } else if range.len() > 1 && self.ask_for_all(&failure, range.start).await? {
                left.push(range);
            } else {
                size_max = self.narrow(range, &failure, size_max, &mut left)?;
            }
        }
        Ok(())
    }

    /// Rejects a message of `range`, or parts it in two.
    fn narrow(
        &mut self,
        range: Range<u32>,
        failure: &Failure,
        size_max: usize,
        left: &mut Vec<Range<u32>>,
    ) -> Result<usize, Fault> {
        if let Some(message) = failure.message {
            let (before, row_by_row) =
                (range.start..message, self.dependencies.is_checked_row_by_row());
            if !row_by_row && depends_on_others(failure.state()) && !before.is_empty() {
                // What it collides with may be rejected itself, for its row in another table.
                left.extend([message..range.end, before]);
                return Ok(size_max);
            }
            self.reject(message, failure)?;
            left.push(message + 1..range.end);
            let gap = before.len() + 1;
            if row_by_row && !depends_on_others(failure.state()) {
                self.mark(before, State::Good);
            } else {
                left.push(before);
            }
            return Ok(MESSAGES_PER_GAP * gap);
        }
        if range.len() == 1 {
            self.reject(range.start, failure)?;
        } else {
            let middle = range.start + range.len() as u32 / 2;
            left.extend([middle..range.end, range.start..middle]);
        }
        Ok(size_max)
    }

    /// The part of `range` from its first open message to its last.
    fn open_within(&self, range: Range<u32>) -> Option<Range<u32>> {
        let open = |message: &u32| self.states[*message as usize] == State::Open;
        let first = range.clone().find(open)?;
        let last = range.rev().find(open)?;
        Some(first..last + 1)
    }

    fn mark(&mut self, range: Range<u32>, state: State) {
        for message in range {
            let of = &mut self.states[message as usize];
            if *of == State::Open {
                *of = state;
            }
        }
    }

    /// Writes the rows of the open messages of `range` and keeps them, or says why one is rejected and keeps none.
    async fn attempt(&mut self, range: Range<u32>, check: bool) -> Result<Option<Failure>, Fault> {
        self.work.run("SAVEPOINT probe", "set a savepoint").await?;
        let Some(failure) = self.write(range.clone(), check).await else {
            self.work.run("RELEASE probe", "release the savepoint").await?;
            self.mark(range, State::Written);
            return Ok(None);
        };
        fault_of(&failure.error)?;
        if !failure.started {
            let doing = format!("write into {}", self.tables[failure.table].plan.table);
            return Err(fault(&doing, &failure.error));
        }
        // Released as well: each level that is kept costs the server memory, and a lock once a row stays.
        self.work.run("ROLLBACK TO probe; RELEASE probe", "return to the savepoint").await?;
        Ok(Some(failure))
    }

    async fn write(&self, range: Range<u32>, check: bool) -> Option<Failure> {
        let session = self.work.session();
        for (index, table) in self.tables.iter().enumerate() {
            let rows = table.rows_of(&range);
            let wanted = |row: usize| self.states[table.rows.messages[row] as usize] == State::Open;
            if !rows.clone().any(wanted) {
                continue;
            }
            let mut part = Vec::new();
            table.copied.part(rows.clone(), wanted, &mut part);
            let (bytes, deletes) = (Bytes::from(part), table.rows.deletes);
            let written = write(session, table.plan, &table.copy, deletes, &bytes).await;
            if let Err((error, Started(started))) = written {
                let line = line_of(&error, &table.relation);
                let row = line.and_then(|line| rows.filter(|row| wanted(*row)).nth(line - 1));
                let message = row.map(|row| table.rows.messages[row]);
                return Some(Failure { error, table: index, message, started });
            }
        }
        if check && self.dependencies.deferrable {
            let checked = session.batch_execute(CHECK_CONSTRAINTS).await;
            let failure = |error| Failure { error, table: 0, message: None, started: true };
            return checked.err().map(failure);
        }
        None
    }

    /// The violation of a constraint that was left waiting, if there is one.
    async fn check_constraints(&self) -> Result<Option<Error>, Fault> {
        match self.work.session().batch_execute(CHECK_CONSTRAINTS).await {
            Ok(()) => Ok(None),
            Err(error) => fault_of(&error).map(|()| Some(error)),
        }
    }

    /// Takes everything back, and with it what may have been rejected for a collision with a row that is rejected itself.
    async fn begin_again(&mut self) -> Result<(), Fault> {
        self.work.run("ROLLBACK TO start", "return to the savepoint").await?;
        self.tried_alone = 0;
        self.rejections.retain(|_, rejection| !is_collision(&rejection.code));
        for (message, state) in self.states.iter_mut().enumerate() {
            let rejected = self.rejections.contains_key(&(message as u32));
            *state = if rejected { State::Rejected } else { State::Open };
        }
        Ok(())
    }

    /// Finds all rows that violate the constraint in `failure`, if it can be asked for them. False when that brings
    /// nothing new.
    async fn ask_for_all(&mut self, failure: &Failure, first: u32) -> Result<bool, Fault> {
        let (Some(refusal), Some(name)) = (failure.refusal(), failure.constraint()) else {
            return Ok(false);
        };
        let index = failure.table;
        let rows = self.tables[index].rows;
        if !can_be_checked(rows) || !self.asked.insert((index, name.to_owned())) {
            return Ok(false);
        }
        let first_row = self.tables[index].rows_of(&(first..first)).start;
        self.work.run("SAVEPOINT checks", "set a savepoint").await?;
        let asked =
            self.work.learn_and_ask(self.plan, index, refusal, (rows, first_row), self.rule);
        let (check, found) = match asked.await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                self.work.run("RELEASE checks", "release the savepoint").await?;
                return Ok(false);
            }
            Err(fault) if fault.remedy == Remedy::Retry => return Err(fault),
            // No privilege for a temporary table, say, or to read the table: then by COPY, as for all others.
            Err(_) => {
                self.work
                    .run("ROLLBACK TO checks; RELEASE checks", "return to the savepoint")
                    .await?;
                return Ok(false);
            }
        };
        self.work.run("RELEASE checks", "release the savepoint").await?;
        let before = self.rejections.len();
        for rejection in found {
            self.settle(rejection);
        }
        if !self.checks.contains(&check) {
            self.checks.push(check);
        }
        Ok(self.rejections.len() > before)
    }

    fn settle(&mut self, rejection: Rejection) {
        let state = &mut self.states[rejection.message as usize];
        if *state != State::Rejected && *state != State::Written {
            *state = State::Rejected;
            self.rejections.insert(rejection.message, rejection);
        }
    }

    fn reject(&mut self, message: u32, failure: &Failure) -> Result<(), Fault> {
        self.one_by_one += 1;
        let rejection = self.rejection(message, failure)?;
        self.settle(rejection);
        Ok(())
    }

    fn rejection(&self, message: u32, failure: &Failure) -> Result<Rejection, Fault> {
        let table = self.tables[failure.table].plan;
        let (state, constraint) = (failure.state(), failure.constraint());
        let retry = self.rule.covers(state, constraint);
        if let Some(fault) =
            failure.refusal().and_then(|it| fault_of_table(table, it)).filter(|_| !retry)
        {
            return Err(fault);
        }
        let mut reason = format!("{}: {}", table.table, describe(&failure.error));
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Ok(Rejection { message, stage: Stage::Sink, code: state.to_owned(), reason, retry })
    }
}

impl SearchTable<'_> {
    /// The rows of those messages.
    fn rows_of(&self, messages: &Range<u32>) -> Range<usize> {
        let row_of = |message: u32| self.rows.messages.partition_point(|it| *it < message);
        row_of(messages.start)..row_of(messages.end)
    }
}

/// An error that says nothing about rows.
fn fault_of(error: &Error) -> Result<(), Fault> {
    let fault = fault_with_rows("find the rows that Postgres rejects", error);
    if fault.remedy == Remedy::DeadLetter { Ok(()) } else { Err(fault) }
}

/// Deferred constraints would speak up at COMMIT only.
const CHECK_CONSTRAINTS: &str = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED";

/// What lies in the table, for whatever row it shows: no message is rejected for it.
fn fault_of_table(table: &TablePlan, refusal: &DbError) -> Option<Fault> {
    if is_raised(refusal) {
        return None;
    }
    let said = format!("{}: {}", table.table, refusal.message());
    match (refusal.code().code(), refusal.constraint(), refusal.column()) {
        ("23514", None, _) => {
            let detail = refusal.detail().map_or_else(String::new, |it| format!("{DETAIL}{it}"));
            Some(Fault::block(sqlstate::NO_PARTITION, format!("{said}{detail}")))
        }
        // Of the table itself it would have been a difference: only a partition may ask for more.
        ("23502", _, Some(column)) if table.unfilled.iter().any(|it| it == column) => {
            let what = "no field of the plugin fills that column";
            Some(Fault::block(sqlstate::DIFFERENCES, format!("{said}; {what}")))
        }
        _ => None,
    }
}

/// True for constraints between rows.
fn is_collision(sqlstate: &str) -> bool {
    matches!(sqlstate, "23505" | "23P01")
}

/// True unless a value is at fault by itself.
fn depends_on_others(sqlstate: &str) -> bool {
    !sqlstate.starts_with("22") && !matches!(sqlstate, "23502" | "23514" | "42601" | "XX000")
}
