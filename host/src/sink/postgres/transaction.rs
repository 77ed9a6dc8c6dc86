//! One attempt to write one batch: a transaction on a session that is thrown away if anything goes wrong.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::SinkExt;
use futures_util::future::join;
use tokio_postgres::{CopyInSink, Error, Statement};

use super::connection::{Session, fault, fault_of_ours, fault_with_rows};
use super::dropped::{self, Dropped, TriggerCheck};
use super::options::Options;
use crate::fault::Fault;
use crate::sink::commit::{advance_and_commit, advance_statement};
use crate::sink::plan::{Plan, Route, TablePlan};
use crate::sink::{Envelope, Prepared, Range, Version, dead_letters, deletes, parked};

/// Larger pieces only make the library's buffer grow; smaller ones cost wake-ups.
const PIECE_BYTES: usize = 256 * 1024;

/// Staged rows of a full batch are sorted by their key: 50,000 of them take more than the default of 4 MB, and
/// a sort on disk costs Postgres a fifth more. A server that gives more keeps its own value.
const SORT_IN_MEMORY: &str = "SELECT pg_catalog.set_config('work_mem', '64MB', false) \
     WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) < pg_catalog.pg_size_bytes('64MB')";

/// Messages of a batch that do not become rows, each a whole COPY or empty.
#[derive(Debug, Default)]
pub(super) struct Aside {
    pub dead_letters: Bytes,
    pub parked: Bytes,
}

/// A session with the statements of one plan.
#[derive(Debug)]
pub(super) struct Work {
    session: Session,
    dead_letters: Statement,
    parked: Statement,
    plan: Option<Planned>,
}

#[derive(Debug)]
struct Planned {
    id: u64,
    advance: Statement,
    copies: Vec<Statement>,
    stages: Vec<String>,
    /// One per table.
    triggers: Vec<TriggerCheck>,
}

/// How far an attempt is; readable while it is under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    commit_sent: AtomicBool,
    rows_taken: AtomicBool,
    dropped: Dropped,
}

impl Progress {
    /// True when COMMIT is on its way: then only the positions tell what took place.
    pub fn commit_sent(&self) -> bool {
        self.commit_sent.load(Ordering::Relaxed)
    }

    /// True when the server may be at work on the COMMIT, because it has answered everything ahead of it.
    pub fn is_committing(&self) -> bool {
        self.commit_sent() && self.rows_taken.load(Ordering::Relaxed)
    }

    /// Rows that triggers have dropped, by table of the plan, as far as Postgres has said.
    pub fn take_dropped(&self) -> Vec<u64> {
        self.dropped.take()
    }
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
        session.take_role_path().await?;
        session.begin().await?;
        let dead_letters = prepare_ours(&session, dead_letters::COPY).await?;
        let parked = prepare_ours(&session, parked::COPY).await?;
        end_of_preparing(&session).await?;
        Ok(Self { session, dead_letters, parked, plan: None })
    }

    /// The COPY of table `index` of the plan taken up last.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn copy_statement(&self, index: usize) -> Statement {
        self.plan.as_ref().expect("a plan was taken up").copies[index].clone()
    }

    /// The session, for statements of one's own.
    pub fn session(&self) -> &Session {
        &self.session
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

    /// Writes a batch: all of it or, with an error before COMMIT was sent, nothing. Every statement is on
    /// its way before the COPY ahead of it was answered; only the start of a COPY is waited for, because
    /// the library hands out no sink earlier.
    pub async fn write(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        Aside { dead_letters, parked }: &Aside,
        head: &Envelope,
        progress: &Progress,
    ) -> Result<(), Fault> {
        self.take_up(plan).await?;
        let dropped = &progress.dropped;
        let mut copying = self.copy_rows(plan, prepared, Copying::NotBegun, dropped).await?;
        if !dead_letters.is_empty() {
            copying = self
                .copy(
                    copying,
                    &self.dead_letters,
                    Target::Ours("sluice.dead_letters"),
                    dead_letters,
                    None,
                )
                .await?;
        }
        if !parked.is_empty() {
            copying = self
                .copy(copying, &self.parked, Target::Ours("sluice.parked"), parked, None)
                .await?;
        }
        if matches!(copying, Copying::NotBegun) {
            // Nothing but filtered messages: their positions move all the same.
            self.session.begin().await?;
        }
        let (version, ranges) = covered(prepared);
        progress.commit_sent.store(true, Ordering::Relaxed);
        let advance = &self.plan.as_ref().expect("a plan was taken up").advance;
        let commit = advance_and_commit(&self.session, advance, head, version, ranges);
        let rows_taken = || progress.rows_taken.store(true, Ordering::Relaxed);
        copying.finish_and(rows_taken, commit).await.map_err(|(fault, refused)| {
            // The server has answered a COPY with an error: the COMMIT behind it commits nothing.
            progress.commit_sent.store(!refused, Ordering::Relaxed);
            fault
        })
    }

    /// Writes the rows of all tables into a transaction that is open, and makes sure that they are still defined as
    /// they were planned for. Moves no position and commits nothing. Returns how many rows triggers have dropped, as
    /// [`Receipt::dropped`](crate::sink::Receipt::dropped).
    pub async fn write_rows(&self, plan: &Plan, prepared: &Prepared) -> Result<Vec<u64>, Fault> {
        let dropped = Dropped::default();
        let copying = self.copy_rows(plan, prepared, Copying::Done, &dropped).await?;
        let expected = plan.definitions.expect(&self.session);
        copying.finish(expected).await.map_err(|(fault, _)| fault)?;
        Ok(dropped.take())
    }

    /// Sends the rows of all tables of the plan taken up last; the answer to the last COPY may be outstanding.
    async fn copy_rows<'a>(
        &self,
        plan: &'a Plan,
        prepared: &Prepared,
        mut copying: Copying<'a>,
        dropped: &'a Dropped,
    ) -> Result<Copying<'a>, Fault> {
        let Some(planned) = &self.plan else { unreachable!("a plan was taken up") };
        let tables = plan.tables.iter().zip(&planned.copies).zip(&prepared.tables);
        for (index, ((table, copy), rows)) in tables.enumerate() {
            if rows.bytes.is_empty() {
                continue;
            }
            if rows.deletes {
                deletes::warn_once(plan, table);
            }
            let sent = Sent { table: index, rows: rows.messages.len() as u64, dropped };
            let sent = (!table.is_staged()).then_some(sent);
            let target = Target::Users(&table.table);
            copying = self.copy(copying, copy, target, &rows.bytes, sent).await?;
            if table.is_staged() {
                let triggers = &planned.triggers[index];
                let apply = dropped::apply(&self.session, (index, table), rows, triggers, dropped);
                copying.finish(apply).await.map_err(|(fault, _)| fault)?;
                copying = Copying::Done;
            }
        }
        Ok(copying)
    }

    /// Prepares the statements of a plan, and forgets those of the one before.
    pub async fn take_up(&mut self, plan: &Plan) -> Result<(), Fault> {
        if self.plan.as_ref().is_some_and(|planned| planned.id == plan.id) {
            return Ok(());
        }
        for stage in self.plan.take().into_iter().flat_map(|planned| planned.stages) {
            self.run(&format!("DROP TABLE {stage}"), "drop a staging table").await?;
        }
        if plan.tables.iter().any(TablePlan::is_staged) {
            self.run(SORT_IN_MEMORY, "make room for sorting").await?;
        }
        let mut stages = Vec::new();
        for table in &plan.tables {
            if let Route::Staged { create, stage, .. } = &table.route {
                self.run(create, &format!("prepare to write into {}", table.table)).await?;
                stages.push(stage.clone());
            }
        }
        self.session.begin().await?;
        let mut copies = Vec::new();
        for table in &plan.tables {
            let statement = self.session.prepare(table.copy_statement()).await;
            let doing = format!("prepare to write into {}", table.table);
            copies.push(statement.map_err(|error| fault(&doing, &error))?);
        }
        let advance = advance_statement(&plan.definitions);
        let advance = prepare_ours(&self.session, &advance).await?;
        end_of_preparing(&self.session).await?;
        let triggers = plan.tables.iter().map(|_| TriggerCheck::default()).collect();
        self.plan = Some(Planned { id: plan.id, advance, copies, stages, triggers });
        Ok(())
    }

    /// Starts one COPY and sends its rows. With the first of a transaction goes BEGIN, with the others
    /// the end of the one before.
    async fn copy<'a>(
        &self,
        before: Copying<'a>,
        statement: &Statement,
        target: Target<'a>,
        bytes: &Bytes,
        sent: Option<Sent<'a>>,
    ) -> Result<Copying<'a>, Fault> {
        let started =
            async { self.session.copy_in(statement).await.map_err(|error| target.fault(&error)) };
        let sink = if let Copying::NotBegun = before {
            // Both are on their way before the first answer is awaited. No row is sent before BEGIN has
            // succeeded: outside of a transaction it would stay.
            let (begun, started) = join(self.session.begin(), started).await;
            begun?;
            started?
        } else {
            before.finish(started).await.map_err(|(fault, _)| fault)?
        };
        let mut sink = Box::pin(sink);
        feed(sink.as_mut(), bytes).await;
        Ok(Copying::Fed { sink, target, sent })
    }

    pub async fn run(&self, statement: &str, doing: &str) -> Result<(), Fault> {
        self.session.batch_execute(statement).await.map_err(|error| fault(doing, &error))
    }
}

fn covered(prepared: &Prepared) -> (&Version, &[Range]) {
    let version = prepared.version.as_deref().expect("a prepared batch has a version");
    (version, prepared.ranges())
}

/// How far the COPYs of a transaction are.
enum Copying<'a> {
    /// BEGIN was not sent.
    NotBegun,
    /// All rows of one into `table` are on their way; its answer is outstanding.
    Fed { sink: Pin<Box<CopyInSink<Bytes>>>, target: Target<'a>, sent: Option<Sent<'a>> },
    /// All were answered.
    Done,
}

impl Copying<'_> {
    /// Ends the COPY and sends `next` behind it at once. A refusal comes with true when the server has
    /// said no to the COPY; then `next` failed because of it, and its own error says nothing.
    async fn finish<T>(
        self,
        next: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, (Fault, bool)> {
        self.finish_and(|| (), next).await
    }

    /// The same, calling `answered` as soon as the COPY was answered.
    async fn finish_and<T>(
        self,
        answered: impl FnOnce(),
        next: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, (Fault, bool)> {
        let Self::Fed { mut sink, target, sent } = self else {
            answered();
            return next.await.map_err(|fault| (fault, false));
        };
        // The COPY's place in the connection's queue was taken when it started: `next` comes behind it.
        let copied = async {
            let copied = sink.as_mut().finish().await;
            answered();
            copied
        };
        let (copied, next) = join(copied, next).await;
        match (copied, sent) {
            (Ok(written), Some(Sent { table, rows, dropped })) => {
                dropped.note(table, rows, written);
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                return Err((target.fault(&error), error.as_db_error().is_some()));
            }
        }
        next.map_err(|fault| (fault, false))
    }
}

/// Hands all rows to the connection, or as many as it takes: why it takes no more, the end tells.
pub(super) async fn feed(mut sink: Pin<&mut CopyInSink<Bytes>>, bytes: &Bytes) {
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        if sink.as_mut().feed(piece).await.is_err() {
            return;
        }
    }
}

/// How many rows a COPY into a table of the user was given: Postgres says how many of them it wrote.
struct Sent<'a> {
    table: usize,
    rows: u64,
    dropped: &'a Dropped,
}

/// What a COPY writes into.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// A table of the user: its rows may be at fault.
    Users(&'a str),
    /// One of schema `sluice`: no message is ever at fault for it.
    Ours(&'a str),
}

impl Target<'_> {
    fn fault(self, error: &Error) -> Fault {
        match self {
            Self::Users(table) => fault_with_rows(&format!("copy rows into {table}"), error),
            Self::Ours(table) => fault_of_ours(&format!("copy into {table}"), error),
        }
    }
}

/// Statements are prepared in a transaction, so that they are where [`Session::begin`] has looked. They outlive its end,
/// whatever that is.
async fn end_of_preparing(session: &Session) -> Result<(), Fault> {
    session.batch_execute("ROLLBACK").await.map_err(|error| fault("roll back", &error))
}

async fn prepare_ours(session: &Session, statement: &str) -> Result<Statement, Fault> {
    let doing = "prepare statements on schema sluice";
    session.prepare(statement).await.map_err(|error| fault_of_ours(doing, &error))
}
