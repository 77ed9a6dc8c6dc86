//! Messages that wait in a table of ours, and what becomes of them: their rows and the changes of that table in one
//! transaction, which moves no position. Knows neither which table that is nor why messages wait there.
//!
//! [`Settler::take`] begins a transaction and locks messages, the plugin makes rows of them while it stays open
//! ([`Settler::keep_open`]), and [`Settler::settle`] writes the rows, changes the table and commits. Nobody else can take
//! these messages in the meantime, and whatever ends the transaction before its COMMIT leaves them where they were. So no
//! outcome has to be resolved either: when the answer to a COMMIT is missing, the table itself tells, for what was
//! settled is no longer found there.

use std::time::Duration;

use postgres_types::ToSql;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::Row;

use super::connection::fault_of_ours;
use super::constraint_checks::ConstraintCheck;
use super::diagnosis::{Diagnosis, diagnose};
use super::options::Options;
use super::transaction::Work;
use crate::fault::{Fault, sqlstate};
use crate::rows::Rejection;
use crate::sink::Prepared;
use crate::sink::plan::Plan;

/// Pause between two of these statements, well below `idle_in_transaction_session_timeout`: that ends the transaction of
/// a process that was paused, so that another one can take its messages.
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(1);

/// A server that lives says within this time what it has for us.
const TAKE_MAX: Duration = Duration::from_mins(1);

/// A connection for settling, made again whenever it is lost. Dropping it leaves what was taken where it was.
#[derive(Debug)]
pub struct Settler {
    options: Options,
    idle: Option<Work>,
    /// In the transaction that has locked what was taken.
    taken: Option<Work>,
    /// Constraints that have refused rows, of the plan with this number.
    checks: (u64, Vec<ConstraintCheck>),
}

/// A statement on our own tables.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// What it is for: `remove dead letters`.
    pub doing: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Its parameters.
    pub parameters: &'a [&'a (dyn ToSql + Sync)],
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It comes into effect.
    Commit,
    /// It was only a dry run: what is checked at COMMIT is checked, then all is rolled back.
    RollBack,
}

impl Settler {
    /// Connects when the first messages are taken.
    pub fn new(options: &Options) -> Self {
        Self { options: options.clone(), idle: None, taken: None, checks: (0, Vec::new()) }
    }

    /// Closes the session, if nothing is taken: there is nothing to do for a while.
    pub fn rest(&mut self) {
        self.idle = None;
    }

    /// Begins a transaction and reads messages with `select`, which should lock them: `FOR UPDATE SKIP LOCKED`.
    /// What was taken before and not settled stays where it was.
    ///
    /// # Errors
    /// Whatever Postgres refuses; nothing was taken then.
    pub async fn take(&mut self, plan: &Plan, select: Statement<'_>) -> Result<Vec<Row>, Fault> {
        self.taken = None;
        let Statement { doing, text, parameters } = select;
        let idle = self.idle.take().filter(Work::is_usable);
        let take = async {
            let mut work = match idle {
                Some(work) => work,
                None => Work::open(&self.options).await?,
            };
            work.take_up(plan).await?;
            work.session().begin().await?;
            let rows = work.session().query(text, parameters).await;
            Ok((work, rows.map_err(|error| fault_of_ours(doing, &error))?))
        };
        let (work, rows) = tokio::time::timeout(TAKE_MAX, take).await.unwrap_or_else(|_| {
            let message = format!("{doing}: no response within {TAKE_MAX:?}");
            Err(Fault::retry(sqlstate::CONNECTION, message))
        })?;
        self.taken = Some(work);
        Ok(rows)
    }

    /// Does `work` on this thread while a statement now and then keeps the transaction from being ended as idle.
    /// If the connection is lost, [`Settler::settle`] tells.
    pub fn keep_open<T>(&self, runtime: &Handle, work: impl FnOnce() -> T) -> T {
        let (done, over) = oneshot::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(self.breathe(over)));
            let result = work();
            drop(done);
            result
        })
    }

    async fn breathe(&self, mut over: oneshot::Receiver<()>) {
        let Some(work) = &self.taken else { return };
        loop {
            tokio::select! {
                _ = &mut over => return,
                () = tokio::time::sleep(KEEP_ALIVE_PERIOD) => {
                    // An error is met again by the next statement.
                    let _ = work.session().batch_execute("SELECT 1").await;
                }
            }
        }
    }

    /// Finds the messages whose rows are refused by constraints that have refused others. What was taken stays taken.
    ///
    /// # Errors
    /// Whatever Postgres refuses; nothing is taken then.
    ///
    /// # Panics
    /// When nothing was taken.
    pub async fn ask(&mut self, plan: &Plan, prepared: &Prepared) -> Result<Vec<Rejection>, Fault> {
        if self.checks.0 != plan.id {
            return Ok(Vec::new());
        }
        let work = self.taken.take().expect("messages were taken");
        let rejections = work.ask_within(prepared, &self.checks.1).await?;
        self.taken = Some(work);
        Ok(rejections)
    }

    /// Finds out why [`Settler::settle`] has failed with remedy `DeadLetter`, or because tables have changed. Nothing is taken
    /// then.
    pub async fn diagnose(&mut self, plan: &Plan, prepared: &Prepared) -> Result<Diagnosis, Fault> {
        if self.checks.0 != plan.id {
            self.checks = (plan.id, Vec::new());
        }
        let (found, idle) = diagnose(&self.options, plan, prepared, &mut self.checks.1).await?;
        self.idle = idle;
        Ok(found)
    }

    /// Writes the rows of `prepared` (not its dead letters: those are changes, too), makes the changes, and ends
    /// the transaction. Each change says how many rows of ours it must touch; another number means that
    /// somebody has changed what we took, and then nothing is committed. Returns how many rows triggers have dropped, by
    /// table, as [`Receipt::dropped`](crate::sink::Receipt::dropped).
    ///
    /// # Errors
    /// When nothing was committed, and when the answer to COMMIT is missing. Remedy `DeadLetter` when a row was refused.
    ///
    /// # Panics
    /// When nothing was taken.
    pub async fn settle(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        changes: &[(Statement<'_>, u64)],
        end: End,
    ) -> Result<Vec<u64>, Fault> {
        let work = self.taken.take().expect("messages were taken");
        let limit = self.options.write_max;
        match tokio::time::timeout(limit, finish(&work, plan, prepared, changes, end)).await {
            Ok(done) => {
                let dropped = done?;
                self.idle = Some(work);
                Ok(dropped)
            }
            Err(_) => {
                work.cancel(&self.options).await;
                Err(Fault::too_slow(format!("write batch: not finished after {limit:?}")))
            }
        }
    }
}

/// One after the other, each answered before the next is sent: a transaction in which every statement has
/// succeeded has not failed, so its COMMIT cannot be a ROLLBACK that looks like one.
async fn finish(
    work: &Work,
    plan: &Plan,
    prepared: &Prepared,
    changes: &[(Statement<'_>, u64)],
    end: End,
) -> Result<Vec<u64>, Fault> {
    let dropped = work.write_rows(plan, prepared).await?;
    for (Statement { doing, text, parameters }, expected) in changes {
        let touched = work.session().execute(*text, parameters).await;
        let touched = touched.map_err(|error| fault_of_ours(doing, &error))?;
        if touched != *expected {
            let message = format!("{doing}: {touched} of {expected} were there");
            return Err(Fault::retry(sqlstate::CONTENTION, message));
        }
    }
    match end {
        End::Commit => work.run("COMMIT", "commit").await,
        End::RollBack => work.run("SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK", "roll back").await,
    }?;
    Ok(dropped)
}
