//! One attempt to write one batch: a transaction on a session that is thrown away if anything goes wrong.

use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::future::join;
use tokio_postgres::{CopyInSink, Statement};

use super::connection::{Options, Session, describe, fault};
use crate::fault::{Fault, Remedy, sqlstate};
use crate::sink::commit::{ADVANCE, advance_and_commit};
use crate::sink::plan::{Plan, Route, TablePlan};
use crate::sink::{Letterhead, Prepared, Range, Version, letters};

/// Larger pieces only make the library's buffer grow; smaller ones cost wake-ups.
const PIECE_BYTES: usize = 256 * 1024;

/// A session with the statements of one plan.
#[derive(Debug)]
pub(super) struct Work {
    session: Session,
    advance: Statement,
    letters: Statement,
    plan: Option<Planned>,
}

#[derive(Debug)]
struct Planned {
    id: u64,
    copies: Vec<Statement>,
    stages: Vec<String>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub fault: Fault,
    /// True when COMMIT was sent: then only the positions tell what took place.
    pub commit_sent: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, commit_sent: false }
    }
}

impl Work {
    /// Opens a session and prepares what every batch needs.
    pub async fn open(options: &Options) -> Result<Self, Fault> {
        let session = options.connect().await?;
        let advance = prepare_ours(&session, ADVANCE).await?;
        let letters = prepare_ours(&session, letters::COPY).await?;
        Ok(Self { session, advance, letters, plan: None })
    }

    /// Process id of the server's side.
    pub fn pid(&self) -> i32 {
        self.session.pid()
    }

    /// Gives up the statement under way.
    pub async fn cancel(&self, options: &Options) {
        self.session.cancel(options).await;
    }

    /// False when it is known already that the connection is gone.
    pub fn is_usable(&self) -> bool {
        !self.session.is_closed()
    }

    /// Writes a batch: all of it or, with an error before COMMIT was sent, nothing.
    pub async fn write(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        letters: &Bytes,
        head: &Letterhead,
        commit_sent: &mut bool,
    ) -> Result<(), Fault> {
        self.take_up(plan).await?;
        let Some(planned) = &self.plan else { unreachable!("taken up above") };
        let mut begun = false;
        for ((table, copy), bytes) in plan.tables.iter().zip(&planned.copies).zip(&prepared.tables)
        {
            self.copy(copy, &table.table, bytes, &mut begun).await?;
            if !bytes.is_empty() {
                self.apply(table).await?;
            }
        }
        self.copy(&self.letters, "sluice.dead_letters", letters, &mut begun).await?;
        let (version, ranges) = covered(prepared);
        if !begun {
            // Nothing but filtered messages: their positions move all the same.
            self.run("BEGIN", "begin").await?;
        }
        *commit_sent = true;
        advance_and_commit(&self.session, &self.advance, head, version, ranges).await
    }

    /// Prepares the statements of a plan, and forgets those of the one before.
    async fn take_up(&mut self, plan: &Plan) -> Result<(), Fault> {
        if self.plan.as_ref().is_some_and(|planned| planned.id == plan.id) {
            return Ok(());
        }
        for stage in self.plan.take().into_iter().flat_map(|planned| planned.stages) {
            self.run(&format!("DROP TABLE {stage}"), "drop a staging table").await?;
        }
        let (mut copies, mut stages) = (Vec::new(), Vec::new());
        for table in &plan.tables {
            let doing = format!("prepare to write into {}", table.table);
            if let Route::Staged { create, stage, .. } = &table.route {
                self.run(create, &doing).await?;
                stages.push(stage.clone());
            }
            let statement = self.session.prepare(table.copy_statement()).await;
            copies.push(statement.map_err(|error| fault(&doing, &error))?);
        }
        self.plan = Some(Planned { id: plan.id, copies, stages });
        Ok(())
    }

    /// Sends one COPY; with the first of a transaction goes BEGIN.
    async fn copy(
        &self,
        statement: &Statement,
        table: &str,
        bytes: &Bytes,
        begun: &mut bool,
    ) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let doing = format!("copy rows into {table}");
        let translate = |error: tokio_postgres::Error| fault(&doing, &error);
        let started = self.session.copy_in(statement);
        let sink: CopyInSink<Bytes> = if std::mem::replace(begun, true) {
            started.await.map_err(translate)?
        } else {
            // Both are on their way before the first answer is awaited. No row is sent before BEGIN has
            // succeeded: outside of a transaction it would stay.
            let (opened, started) = join(self.session.batch_execute("BEGIN"), started).await;
            opened.map_err(|error| fault("begin", &error))?;
            started.map_err(translate)?
        };
        send(sink, bytes).await.map_err(translate)
    }

    async fn apply(&self, table: &TablePlan) -> Result<(), Fault> {
        match &table.route {
            Route::Straight { .. } => Ok(()),
            Route::Staged { apply, .. } => {
                self.run(apply, &format!("write rows into {}", table.table)).await
            }
        }
    }

    async fn run(&self, statement: &str, doing: &str) -> Result<(), Fault> {
        self.session.batch_execute(statement).await.map_err(|error| fault(doing, &error))
    }
}

fn covered(prepared: &Prepared) -> (&Version, &[Range]) {
    let version = prepared.version.as_deref().expect("a prepared batch has a version");
    (version, prepared.ranges())
}

async fn send(sink: CopyInSink<Bytes>, bytes: &Bytes) -> Result<(), tokio_postgres::Error> {
    let mut sink = pin!(sink);
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        if sink.feed(piece).await.is_err() {
            // It only says "closed"; finishing tells why.
            break;
        }
    }
    sink.finish().await.map(drop)
}

/// Statements on our own tables: what does not fit there is a missing migration.
async fn prepare_ours(session: &Session, statement: &str) -> Result<Statement, Fault> {
    session.prepare(statement).await.map_err(|error| {
        let translated = fault("prepare statements on schema sluice", &error);
        match translated.remedy {
            Remedy::Stop if translated.code == sqlstate::STATEMENT => {
                let message = format!("prepare statements on schema sluice: {}", describe(&error));
                Fault::stop(sqlstate::SCHEMA, message)
            }
            _ => translated,
        }
    })
}
