//! Finds out by experiment who is at fault when Postgres rejects a write: the tables, or some of the rows. All of it in
//! a transaction that is rolled back: nothing but the whole batch is ever committed.
//!
//! An SQLSTATE does not tell. A trigger gives whatever state it likes for a value, a type calls a value a syntax error,
//! and a policy calls a row a missing privilege. What tells is whether the same statements pass without rows.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::{Session, fault};
use super::constraint_checks::ConstraintCheck;
use super::options::Options;
use super::search::{Search, write};
use super::transaction::Work;
use crate::fault::{Fault, Remedy, sqlstate};
use crate::rows::Rejection;
use crate::sink::plan::Plan;
use crate::sink::{Prepared, copy};

/// Who is at fault for a write that Postgres rejects.
#[derive(Debug)]
pub(crate) enum Diagnosis {
    /// These rows, by message.
    Rows(Vec<Rejection>),
    /// Tables are defined otherwise now. The plan for what they are.
    Changed(Box<Plan>),
    /// Nobody: all rows pass when they are tried.
    Nothing,
}

/// True for a fault that an experiment may explain.
pub(crate) fn can_be_diagnosed(fault: &Fault) -> bool {
    fault.remedy == Remedy::DeadLetter || fault.code == sqlstate::CHANGED
}

/// How long rejected rows are looked for before what was found is used.
const SEARCH_MAX: Duration = Duration::from_secs(30);

/// Finds out, on a new session, why `plan` cannot be written. The session comes along where it is fit for the next batch:
/// after a changed table it is in the middle of what failed.
///
/// # Errors
/// When it is none of the rows: what is wrong with tables, privileges or server; and when there was not enough time.
pub(super) async fn diagnose(
    options: &Options,
    plan: &Plan,
    prepared: &Prepared,
    checks: &mut Vec<ConstraintCheck>,
) -> Result<(Diagnosis, Option<Work>), Fault> {
    let limit = options.write_max;
    let mut work = Work::open(options).await?;
    let until = Instant::now() + SEARCH_MAX.min(limit);
    let found = work.find_out(options, plan, prepared, checks, until);
    let Ok(found) = tokio::time::timeout(limit, found).await else {
        work.cancel(options).await;
        return Err(Fault::too_slow(format!("find rejected rows: not finished after {limit:?}")));
    };
    let found = found?;
    let whole = !matches!(found, Diagnosis::Changed(_));
    Ok((found, whole.then_some(work)))
}

impl Work {
    async fn find_out(
        &mut self,
        options: &Options,
        plan: &Plan,
        prepared: &Prepared,
        checks: &mut Vec<ConstraintCheck>,
        until: Instant,
    ) -> Result<Diagnosis, Fault> {
        if let Some(diagnosis) = self.try_without_rows(options, plan, prepared).await? {
            return Ok(diagnosis);
        }
        self.run("SAVEPOINT start", "set a savepoint").await?;
        let mut search = Search::new(self, plan, prepared, checks, until).await?;
        search.run().await?;
        let rejections = search.rejections()?;
        self.run("ROLLBACK", "roll back").await?;
        let found =
            if rejections.is_empty() { Diagnosis::Nothing } else { Diagnosis::Rows(rejections) };
        Ok(found)
    }

    /// Begins a transaction, writes nothing to each table, which takes their locks, and compares their definitions.
    /// Leaves the transaction open unless the tables have changed.
    ///
    /// # Errors
    /// What keeps even an empty batch from being written.
    pub(super) async fn try_without_rows(
        &mut self,
        options: &Options,
        plan: &Plan,
        prepared: &Prepared,
    ) -> Result<Option<Diagnosis>, Fault> {
        let written = async {
            self.take_up(plan).await?;
            self.session().begin().await?;
            self.write_nothing(plan, prepared).await
        };
        if let Err(fault) = written.await {
            return plan_again(options, plan, fault).await.map(Some);
        }
        let changed = plan.again(self.session()).await?;
        if changed.is_some() {
            self.run("ROLLBACK", "roll back").await?;
        }
        Ok(changed.map(|plan| Diagnosis::Changed(Box::new(plan))))
    }

    async fn write_nothing(&self, plan: &Plan, prepared: &Prepared) -> Result<(), Fault> {
        let mut nothing = Vec::new();
        copy::begin(&mut nothing);
        copy::end(&mut nothing);
        let nothing = Bytes::from(nothing);
        for (index, (table, rows)) in plan.tables.iter().zip(&prepared.tables).enumerate() {
            if rows.bytes.is_empty() {
                continue;
            }
            let statement = self.copy_statement(index);
            let written = write(self.session(), table, &statement, rows.deletes, &nothing).await;
            let doing = format!("write into {}", table.table);
            written.map_err(|(error, _)| fault(&doing, &error))?;
        }
        Ok(())
    }
}

/// The plan for the tables as they are, or `fault` if they are as they were. On another session: the library is out of
/// step with the server after a COPY that did not start.
async fn plan_again(options: &Options, plan: &Plan, fault: Fault) -> Result<Diagnosis, Fault> {
    // 55000 is said of a table that keeps its rows from being updated as well.
    if fault.remedy == Remedy::Retry && fault.sqlstate != "55000" {
        return Err(fault);
    }
    // No session of our own: whoever has one must not wait for another.
    let again = async |session: &Session| plan.again(session).await;
    match options.errand("read the tables again", again).await? {
        Some(next) => Ok(Diagnosis::Changed(Box::new(next))),
        None if fault.remedy == Remedy::DeadLetter => Err(Fault::block(
            sqlstate::STATEMENT,
            format!("{}; without a single row as well", fault.message),
        )),
        None => Err(fault),
    }
}
