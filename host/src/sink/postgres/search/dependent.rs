//! Rows that are fine only together with others: those that refer to rows of later messages or of other tables. Tried
//! apart from them they are rejected without being at fault.

use tokio_postgres::types::ToSql;

use super::{Search, State};
use crate::fault::Fault;
use crate::rows::Rejection;
use crate::sink::plan::Plan;
use crate::sink::postgres::connection::{Session, fault};

/// Which rows of a plan's tables may depend on which.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Dependencies {
    /// Some constraints or triggers may wait until COMMIT.
    pub deferrable: bool,
    /// Foreign keys refer to a table of the plan.
    references: bool,
    /// Triggers of users look at rows after they were written.
    triggers_after: bool,
    /// Something is checked at the end of a statement: COPY then names no row, and those ahead of one that it names are
    /// not known to be fine.
    at_end: bool,
    tables: usize,
}

/// Partitions have triggers and constraints of their own.
const DEPENDENCIES: &str = "\
WITH own (oid) AS (
    SELECT o.oid FROM pg_catalog.unnest($1::text[]) AS n (name)
    CROSS JOIN LATERAL (SELECT pg_catalog.to_regclass(n.name)::oid AS oid) AS o
    UNION
    SELECT p.relid FROM pg_catalog.unnest($1::text[]) AS n (name)
    CROSS JOIN LATERAL pg_catalog.pg_partition_tree(pg_catalog.to_regclass(n.name)) AS p
    UNION
    SELECT p.relid FROM pg_catalog.unnest($1::text[]) AS n (name)
    CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass(n.name)) AS p
), triggers AS (
    SELECT g.tgdeferrable AS waits, g.tgisinternal AS internal,
        -- For each row (1), after (neither before, 2, nor instead of, 64).
        g.tgtype::integer & 1 = 1 AND g.tgtype::integer & 66 = 0 AS is_after
    FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid IN (SELECT oid FROM own) AND g.tgenabled <> 'D'
)
SELECT coalesce(pg_catalog.bool_or(waits), false) AS waits,
    coalesce(pg_catalog.bool_or(is_after AND NOT internal), false) AS triggers_after,
    coalesce(pg_catalog.bool_or(is_after), false) AS at_end,
    EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f'
        AND k.conrelid IN (SELECT oid FROM own) AND k.confrelid IN (SELECT oid FROM own)) AS refers
FROM triggers";

impl Dependencies {
    pub async fn read(session: &Session, plan: &Plan) -> Result<Self, Fault> {
        let names: Vec<&str> = plan.table_names().collect();
        let parameters: [&(dyn ToSql + Sync); 1] = [&names];
        let row = session.query_one(DEPENDENCIES, &parameters).await;
        let row = row.map_err(|error| fault("read triggers and foreign keys", &error))?;
        Ok(Self {
            deferrable: row.get("waits"),
            references: row.get("refers"),
            triggers_after: row.get("triggers_after"),
            at_end: row.get("at_end"),
            tables: names.len(),
        })
    }

    /// True when rows ahead of one that COPY names have passed everything.
    pub fn is_checked_row_by_row(&self) -> bool {
        self.tables == 1 && !self.at_end
    }

    /// True when a row may be rejected with `sqlstate` only because others are not there yet.
    pub fn may_cause(&self, sqlstate: &str) -> bool {
        match sqlstate {
            "23503" => self.references || self.triggers_after || self.tables > 1,
            "23505" | "23P01" | "23502" | "23514" => false,
            state if state.starts_with("22") => false,
            _ => self.triggers_after || self.tables > 1 && self.at_end,
        }
    }
}

impl Search<'_> {
    /// Tries those again that may have lacked others which are there now. What passes so is no longer rejected if
    /// everything passes as it will be written: in the order of the batch and at once.
    pub(super) async fn reconsider(&mut self) -> Result<(), Fault> {
        let mut passed: Vec<Rejection> = Vec::new();
        loop {
            let doubtful = self.take_doubtful();
            if doubtful.is_empty() || self.out_of_time {
                self.rejections.extend(doubtful.into_iter().map(|it| (it.message, it)));
                break;
            }
            self.reopen(|state| state == State::Good);
            self.tried_alone = 0;
            self.pass(true).await?;
            let before = passed.len();
            let written = |it: &Rejection| self.states[it.message as usize] == State::Written;
            passed.extend(doubtful.into_iter().filter(written));
            if passed.len() == before {
                break;
            }
        }
        self.confirm(passed).await
    }

    /// Opens the messages that may be fine.
    fn take_doubtful(&mut self) -> Vec<Rejection> {
        let dependencies = self.dependencies;
        let doubtful: Vec<Rejection> = (self.rejections)
            .extract_if(.., |_, rejection| dependencies.may_cause(&rejection.code))
            .map(|(_, rejection)| rejection)
            .collect();
        for rejection in &doubtful {
            self.states[rejection.message as usize] = State::Open;
        }
        doubtful
    }

    /// Keeps those of `passed` out of the rejections that pass together with all others.
    async fn confirm(&mut self, passed: Vec<Rejection>) -> Result<(), Fault> {
        if passed.is_empty() {
            return Ok(());
        }
        for rejection in &passed {
            self.rejections.insert(rejection.message, rejection.clone());
        }
        let mut groups = vec![passed];
        while let Some(mut group) = groups.pop() {
            let known = self.rejections.clone();
            self.rejections.retain(|message, _| !group.iter().any(|it| it.message == *message));
            if self.passes_as_a_whole().await? {
                continue;
            }
            self.rejections = known;
            if group.len() > 1 {
                let second = group.split_off(group.len() / 2);
                groups.extend([second, group]);
            }
        }
        Ok(())
    }

    /// Writes everything that is not rejected as the batch would be.
    async fn passes_as_a_whole(&mut self) -> Result<bool, Fault> {
        self.work.run("ROLLBACK TO start", "return to the savepoint").await?;
        for (message, state) in self.states.iter_mut().enumerate() {
            let rejected = self.rejections.contains_key(&(message as u32));
            *state = if rejected { State::Rejected } else { State::Open };
        }
        Ok(self.attempt(self.everything(), true).await?.is_none())
    }
}
