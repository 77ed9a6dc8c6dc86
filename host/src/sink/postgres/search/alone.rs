//! Tries the rows of many messages alone, each in a savepoint of its own, without waiting for one answer before the next is
//! sent: where most rows are rejected, one round trip for each would take very long on a distant server.

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use postgres_types::{IsNull, ToSql, Type};
use tokio_postgres::{Error, Statement};

use super::{Failure, Search, State, depends_on_others, fault_of};
use crate::fault::Fault;
use crate::sink::plan::{Route, TablePlan};
use crate::sink::postgres::connection::{Session, fault};

/// Messages in one round trip.
const CHUNK: u32 = 512;
/// So many are rejected one after the other before the rest is tried alone.
const ONE_BY_ONE_MAX: usize = 64;

type Step<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A cell of a COPY as the parameter of a statement: the two have one binary form.
#[derive(Debug)]
struct Cell(Option<Vec<u8>>);

impl ToSql for Cell {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let Some(bytes) = &self.0 else { return Ok(IsNull::Yes) };
        out.put_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    postgres_types::to_sql_checked!();
}

impl Cell {
    /// From a cell with its length in front.
    fn of(cell: &[u8]) -> Self {
        let (length, value) = cell.split_at(4);
        Self((length != [0xff; 4]).then(|| value.to_vec()))
    }
}

impl Search<'_> {
    /// The beginning of `range`, when it is worth to try its messages alone.
    pub(super) fn chunk_to_try_alone(&self, range: &Range<u32>) -> Option<Range<u32>> {
        let many = self.one_by_one >= ONE_BY_ONE_MAX && range.len() as u32 > CHUNK / 8;
        let end = range.end.min(range.start + CHUNK);
        (many && range.start >= self.tried_alone).then_some(range.start..end)
    }

    /// Rejects those open messages of `range` that are rejected alone.
    pub(super) async fn try_alone(&mut self, range: Range<u32>) -> Result<(), Fault> {
        let session = self.work.session();
        let mut inserts = Vec::new();
        for table in &self.tables {
            let prepared =
                session.prepare(&insert_statement(table.plan, table.rows.bytes.is_empty())).await;
            inserts.push(prepared.map_err(|error| fault("prepare to try rows alone", &error))?);
        }
        self.tried_alone = range.end;
        let open: Vec<u32> =
            range.clone().filter(|message| self.states[*message as usize] == State::Open).collect();
        let (mut steps, mut owners) = (Vec::new(), Vec::new());
        for message in &open {
            let before = steps.len();
            self.steps_of(*message, &inserts, &mut steps);
            owners.extend((before..steps.len()).map(|_| *message));
        }
        let results = in_order(steps).await;
        let (mut last, mut rejected) = (None, 0);
        for ((table, result), message) in results.into_iter().zip(owners) {
            let Err(error) = result else { continue };
            // What follows within the savepoint fails for the first.
            if last == Some(message) {
                continue;
            }
            fault_of(&error)?;
            let failure = Failure { error, table, message: Some(message), started: true };
            if depends_on_others(failure.state()) && self.states.contains(&State::Good) {
                continue;
            }
            last = Some(message);
            rejected += 1;
            self.reject(message, &failure)?;
        }
        self.one_by_one = if rejected * 8 >= open.len() { ONE_BY_ONE_MAX } else { 0 };
        Ok(())
    }

    /// What tries the rows of a message and takes them back, each with the index of its table.
    fn steps_of<'a>(
        &self,
        message: u32,
        inserts: &'a [Statement],
        steps: &mut Vec<(usize, Step<'a>)>,
    ) where
        Self: 'a,
    {
        let session: &Session = self.work.session();
        steps.push((0, run(session, "SAVEPOINT alone".to_owned())));
        for (index, table) in self.tables.iter().enumerate() {
            let rows = table.rows_of(&(message..message + 1));
            if rows.is_empty() {
                continue;
            }
            for row in rows {
                let cells: Vec<Cell> = table.copied.cells(row).map(Cell::of).collect();
                steps.push((index, insert(session, &inserts[index], cells)));
            }
            if table.plan.is_staged() {
                let apply = table.plan.apply_statement(table.rows.deletes).to_owned();
                steps.push((index, run(session, apply)));
            }
        }
        steps.push((0, run(session, "ROLLBACK TO alone; RELEASE alone".to_owned())));
    }
}

fn run(session: &Session, statement: String) -> Step<'_> {
    Box::pin(async move { session.batch_execute(&statement).await })
}

fn insert<'a>(session: &'a Session, statement: &'a Statement, cells: Vec<Cell>) -> Step<'a> {
    Box::pin(async move {
        let cells: Vec<&(dyn ToSql + Sync)> = cells.iter().map(|cell| cell as _).collect();
        session.execute(statement, &cells).await.map(drop)
    })
}

/// One row into the table that COPY writes to.
fn insert_statement(table: &TablePlan, unused: bool) -> String {
    if unused {
        return "SELECT 1".to_owned();
    }
    let (into, count) = match &table.route {
        Route::Straight { .. } => (table.target(), table.fields.len()),
        // Behind the fields stand the ordinal and whether the row deletes.
        Route::Staged { stage, .. } => (stage.clone(), table.fields.len() + 2),
    };
    let places: Vec<String> = (1..=count).map(|place| format!("${place}")).collect();
    format!("INSERT INTO {into} VALUES ({})", places.join(", "))
}

/// Sends all before the first is answered: the library sends a request when its future is polled for the first time.
async fn in_order(mut steps: Vec<(usize, Step<'_>)>) -> Vec<(usize, Result<(), Error>)> {
    let mut sent = Vec::with_capacity(steps.len());
    poll_fn(|context| {
        for (table, mut step) in steps.drain(..) {
            let answer = step.as_mut().poll(context);
            sent.push((table, step, answer));
        }
        Poll::Ready(())
    })
    .await;
    let mut results = Vec::with_capacity(sent.len());
    // Answers come in the order of the requests.
    for (table, step, answer) in sent {
        let result = match answer {
            Poll::Ready(result) => result,
            Poll::Pending => step.await,
        };
        results.push((table, result));
    }
    results
}
