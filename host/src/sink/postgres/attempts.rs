//! Attempts to write a batch until its result is certain: written, fenced, or refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Written;
use super::blockers::Blockers;
use super::constraint_checks::ConstraintCheck;
use super::diagnosis::{self, Diagnosis};
use super::options::Options;
use super::sessions::TURN_MIN;
use super::transaction::{Aside, Failure, Progress, Work};
use crate::backoff::Backoff;
use crate::fault::{Fault, Remedy, sqlstate};
use crate::rows::{Rejection, Stage};
use crate::sink::commit::{Outcome, outcome};
use crate::sink::plan::Plan;
use crate::sink::{Envelope, Prepared, Receipt};

/// How often a batch is tried again of which Postgres rejects rows, and none of them when they are tried.
const FRUITLESS_MAX: u32 = 5;
/// How often a limit may end one write before the batch is made smaller, or its only message is at fault.
const LIMITED_MAX: u32 = 3;
/// The same for a single message that the server's own limit ends: somebody may be cancelling statements for a while.
const LIMITED_ALONE_MAX: u32 = 12;

/// How often an outage that goes on is mentioned.
const MENTION_EVERY: Duration = Duration::from_mins(1);

/// The connection of a writer, made again whenever it is lost.
#[derive(Debug)]
pub(super) struct Attempts {
    options: Options,
    head: Envelope,
    work: Option<Work>,
    checks: ConstraintChecks,
    /// Rows that triggers have dropped in the last attempt.
    dropped: Vec<u64>,
}

/// Constraints of one plan by which rows were refused lately: the next batches are asked about before they are
/// written, which is cheaper than finding out.
#[derive(Debug, Default)]
struct ConstraintChecks {
    plan: u64,
    known: Vec<ConstraintCheck>,
    /// Batches without such a row since.
    clean: u32,
}

/// After so many batches without a refused row none is expected any more.
const CLEAN_MAX: u32 = 20;

impl ConstraintChecks {
    /// True when there are any for this plan.
    fn of(&self, plan: &Plan) -> bool {
        self.plan == plan.id && !self.known.is_empty()
    }

    fn take_up(&mut self, plan: &Plan) {
        if self.plan != plan.id {
            *self = Self { plan: plan.id, ..Self::default() };
        }
        self.clean = 0;
    }

    fn asked(&mut self, found: bool) {
        self.clean = if found { 0 } else { self.clean + 1 };
        if self.clean >= CLEAN_MAX {
            self.known.clear();
        }
    }
}

/// What is known of a batch after an attempt.
enum AttemptResult {
    Committed,
    Fenced(Vec<i32>),
    /// Rejected by the server, for a reason that is to be found out.
    Refused(Fault),
    /// Not written, and to be tried again.
    Later(Fault),
    /// COMMIT was sent and failed with `fault` or went without an answer; `obstacle` keeps us from asking.
    Unknown {
        fault: Fault,
        obstacle: Fault,
    },
}

impl Attempts {
    pub fn new(options: Options, head: Envelope) -> Self {
        let (checks, dropped) = Default::default();
        Self { options, head, work: None, checks, dropped }
    }

    /// Waits until the session is to be given up, because it stays without work or because others wait for one and
    /// this lane has had its turn, and gives it up. Never returns where there is none.
    pub async fn rest(&mut self) {
        let Some(work) = &self.work else { return std::future::pending().await };
        let turn_end = work.session().opened() + TURN_MIN;
        let wanted = async {
            let Some(sessions) = self.options.sessions() else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(turn_end.into()).await;
            sessions.wanted().await;
        };
        tokio::select! {
            () = tokio::time::sleep(self.options.idle_max) => {}
            () = wanted => {}
        }
        self.work = None;
    }

    /// Writes a batch. Returns only when it is certain what became of it.
    pub async fn write(&mut self, plan: &Plan, prepared: Prepared, aside: Aside) -> Written {
        let mut outage = Outage::default();
        let mut unanswered: Option<Fault> = None;
        let mut vain = Vain::default();
        let mut prepared = prepared;
        if self.checks.of(plan) && !std::mem::replace(&mut prepared.asked, true) {
            match self.ask_ahead(&prepared).await {
                Ok(rejections) if rejections.is_empty() => {}
                Ok(rejections) => return Written::Refused { rejections, prepared },
                // It was only to save time: the write itself meets the same trouble, if it lasts.
                Err(_) => self.work = None,
            }
        }
        loop {
            let result = match unanswered.take() {
                Some(fault) => self.resolve(&prepared, fault).await,
                None => self.attempt(plan, &prepared, &aside, outage.contended()).await,
            };
            let fault = match result {
                AttemptResult::Committed => {
                    outage.over(&self.head);
                    let dropped = std::mem::take(&mut self.dropped);
                    let receipt = Receipt { ranges: prepared.ranges.clone(), dropped };
                    return Written::Done { receipt, reuse: prepared };
                }
                AttemptResult::Fenced(partitions) => {
                    let topic = &self.head.topic;
                    tracing::debug!(
                        code = sqlstate::FENCED,
                        topic,
                        ?partitions,
                        "partitions were claimed by another host; batch dropped"
                    );
                    return Written::Fenced { partitions, reuse: prepared };
                }
                AttemptResult::Unknown { fault, obstacle } => {
                    unanswered = Some(fault);
                    obstacle
                }
                AttemptResult::Later(fault) => fault,
                AttemptResult::Refused(fault) => {
                    match self.diagnose(plan, &mut prepared, fault, &mut vain).await {
                        Ok(conclusion) => return conclusion.into_written(prepared),
                        Err(Again::Outage(fault)) => fault,
                        Err(Again::Passed(fault)) => {
                            // Without what Postgres said: it quotes a text that it could not cast.
                            let (topic, sqlstate) = (&self.head.topic, &fault.sqlstate);
                            tracing::info!(topic, sqlstate, "rejected a moment ago, accepted now");
                            tokio::time::sleep(outage.backoff.pause()).await;
                            continue;
                        }
                    }
                }
            };
            // Not while a COMMIT may have taken place.
            if unanswered.is_none() && vain.limited(&fault, &prepared) {
                match self.limited(plan, &prepared, fault).await {
                    Ok(conclusion) => return conclusion.into_written(prepared),
                    Err(fault) => outage.goes_on(&self.head, &fault),
                }
            } else {
                outage.goes_on(&self.head, &fault);
            }
            tokio::time::sleep(outage.backoff.pause()).await;
        }
    }

    /// Concludes what to do about a write that the server has rejected with `fault`.
    async fn diagnose(
        &mut self,
        plan: &Plan,
        prepared: &mut Prepared,
        fault: Fault,
        vain: &mut Vain,
    ) -> Result<Conclusion, Again> {
        if fault.is_ours && fault.code != sqlstate::CHANGED {
            return Ok(Conclusion::Stopped(fault));
        }
        match self.find_out(plan, prepared).await {
            Ok(Diagnosis::Rows(rejections)) => {
                prepared.asked = true;
                Ok(Conclusion::Refused(rejections))
            }
            Ok(Diagnosis::Changed(plan)) => Ok(Conclusion::Changed(Arc::from(plan))),
            // What was changed has been changed back, or nothing stands in the way any more: the write itself tells.
            Ok(Diagnosis::Nothing) => vain.fruitless(prepared, fault),
            Err(fault) if fault.remedy == Remedy::Retry => Err(Again::Outage(fault)),
            Err(fault) => Ok(Conclusion::Stopped(fault)),
        }
    }

    /// A limit of time or memory keeps ending the write: a smaller batch may pass. A single message is at fault when
    /// nothing else is, for the same statements pass without its rows.
    async fn limited(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        fault: Fault,
    ) -> Result<Conclusion, Fault> {
        if prepared.messages_with_rows().nth(1).is_some() {
            return Ok(Conclusion::TooLarge(fault));
        }
        let Some(message) = prepared.messages_with_rows().next() else { return Err(fault) };
        let mut work = Work::open(&self.options).await?;
        let limit = self.options.write_max;
        let empty =
            tokio::time::timeout(limit, work.try_without_rows(&self.options, plan, prepared)).await;
        match empty {
            Ok(Ok(None)) => {
                let (code, reason, stage) = (fault.sqlstate, fault.message, Stage::Sink);
                let rejection = Rejection { message, stage, code, reason, retry: false };
                Ok(Conclusion::Refused(vec![rejection]))
            }
            Ok(Ok(Some(Diagnosis::Changed(plan)))) => Ok(Conclusion::Changed(Arc::from(plan))),
            Ok(Err(obstacle)) => Err(obstacle),
            _ => Err(fault),
        }
    }

    async fn attempt(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        aside: &Aside,
        contended: bool,
    ) -> AttemptResult {
        match self.transaction(plan, prepared, aside, contended).await {
            Ok(()) => AttemptResult::Committed,
            Err(Failure { fault, commit_sent }) => {
                // Whatever state it is in: the server rolls back what was open.
                self.work = None;
                match fault.remedy {
                    // The server said so instead of moving positions: nothing was committed.
                    Remedy::Block | Remedy::Exit
                        if fault.is_ours && fault.code != sqlstate::FENCED =>
                    {
                        AttemptResult::Refused(fault)
                    }
                    _ if commit_sent => self.resolve(prepared, fault).await,
                    Remedy::Retry => AttemptResult::Later(fault),
                    Remedy::DeadLetter | Remedy::Block | Remedy::Exit => {
                        AttemptResult::Refused(fault)
                    }
                }
            }
        }
    }

    async fn transaction(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        aside: &Aside,
        contended: bool,
    ) -> Result<(), Failure> {
        let limit = self.options.write_max;
        let mut work = match self.work.take().filter(Work::is_usable) {
            Some(work) => work,
            None => Work::open(&self.options).await?,
        };
        let progress = Progress::default();
        let pid = work.pid();
        let write =
            tokio::time::timeout(limit, work.write(plan, prepared, aside, &self.head, &progress));
        let result = if contended {
            // The last attempt waited for a lock in vain: see whether an owner that crashed still holds the lock.
            let mut blockers = Blockers::default();
            tokio::select! {
                result = write => result,
                () = blockers.end_abandoned(&self.options, pid) => unreachable!("it never returns"),
            }
        } else {
            write.await
        };
        self.dropped = progress.take_dropped();
        match result {
            Ok(Ok(())) => {
                self.work = Some(work);
                Ok(())
            }
            Ok(Err(fault)) => Err(Failure { fault, commit_sent: progress.commit_sent() }),
            Err(_) => {
                // Not while it may be committing: a wait for a synchronous standby, once cancelled, leaves
                // a commit that exists here alone.
                if !progress.is_committing() {
                    work.cancel(&self.options).await;
                }
                let message = format!("write batch: not finished after {limit:?}");
                let fault = if progress.is_committing() {
                    Fault::retry(sqlstate::TOO_SLOW, message)
                } else {
                    Fault::too_slow(message)
                };
                Err(Failure { fault, commit_sent: progress.commit_sent() })
            }
        }
    }

    /// Finds the messages whose rows are refused by constraints that refused others lately.
    async fn ask_ahead(&mut self, prepared: &Prepared) -> Result<Vec<Rejection>, Fault> {
        let limit = self.options.write_max;
        let work = match self.work.take().filter(Work::is_usable) {
            Some(work) => work,
            None => Work::open(&self.options).await?,
        };
        let asked = work.ask(prepared, &self.checks.known);
        let rejections = tokio::time::timeout(limit, asked)
            .await
            .map_err(|_| Fault::retry(sqlstate::TOO_SLOW, "look for refused rows: too slow"))??;
        self.work = Some(work);
        self.checks.asked(!rejections.is_empty());
        Ok(rejections)
    }

    async fn find_out(&mut self, plan: &Plan, prepared: &Prepared) -> Result<Diagnosis, Fault> {
        self.checks.take_up(plan);
        let (found, work) =
            diagnosis::diagnose(&self.options, plan, prepared, &mut self.checks.known).await?;
        self.work = work;
        Ok(found)
    }

    /// Reads what became of a COMMIT, on a new connection.
    async fn resolve(&mut self, prepared: &Prepared, fault: Fault) -> AttemptResult {
        match self.outcome(prepared).await {
            Ok(found) => {
                // A refusal by the positions themselves is no riddle.
                if fault.code != sqlstate::FENCED {
                    let (topic, committed) = (&self.head.topic, found == Outcome::Committed);
                    tracing::warn!(topic, committed, ?found, "commit outcome resolved: {fault}");
                }
                match (found, fault.remedy) {
                    (Outcome::Committed, _) => AttemptResult::Committed,
                    (Outcome::Fenced(partitions), _) => AttemptResult::Fenced(partitions),
                    (Outcome::NotCommitted, Remedy::Retry) => AttemptResult::Later(fault),
                    (Outcome::NotCommitted, _) => AttemptResult::Refused(fault),
                }
            }
            Err(obstacle) => AttemptResult::Unknown { fault, obstacle },
        }
    }

    async fn outcome(&self, prepared: &Prepared) -> Result<Outcome, Fault> {
        let session = self.options.connect().await?;
        let limit = self.options.write_max;
        let found = tokio::time::timeout(limit, outcome(&session, &self.head, prepared.ranges()));
        if let Ok(found) = found.await {
            return found;
        }
        session.cancel(&self.options).await;
        let message = format!("read the positions: no answer within {limit:?}");
        Err(Fault::retry(sqlstate::TOO_SLOW, message))
    }
}

/// Why the same write is tried again after a pause.
enum Again {
    Outage(Fault),
    /// What was rejected would pass now.
    Passed(Fault),
}

/// What becomes of a batch that is not written as it is.
enum Conclusion {
    Refused(Vec<Rejection>),
    Changed(Arc<Plan>),
    Stopped(Fault),
    TooLarge(Fault),
}

impl Conclusion {
    fn into_written(self, prepared: Prepared) -> Written {
        match self {
            Self::Refused(rejections) => Written::Refused { rejections, prepared },
            Self::Changed(plan) => Written::Changed { plan, reuse: prepared },
            Self::TooLarge(fault) => Written::TooLarge { fault, reuse: prepared },
            Self::Stopped(fault) => Written::Stopped { fault, reuse: prepared },
        }
    }
}

/// Attempts at one batch that ended alike.
#[derive(Debug, Default)]
struct Vain {
    fruitless: u32,
    limited: u32,
}

impl Vain {
    /// After a diagnosis that found nothing.
    fn fruitless(&mut self, prepared: &Prepared, fault: Fault) -> Result<Conclusion, Again> {
        self.fruitless += 1;
        let several = prepared.messages_with_rows().nth(1).is_some();
        if several && sqlstate::depends_on_size(&fault.sqlstate) {
            return Ok(Conclusion::TooLarge(fault));
        }
        match self.fruitless {
            // Rows that collided with others which are gone now, say, or a change of a table that was undone.
            ..=FRUITLESS_MAX => Err(Again::Passed(fault)),
            _ if several => Ok(Conclusion::TooLarge(fault)),
            _ => Ok(Conclusion::Stopped(fault)),
        }
    }

    /// True when it is a limit that ends the write, and has done so often enough.
    fn limited(&mut self, fault: &Fault, prepared: &Prepared) -> bool {
        if !sqlstate::depends_on_size(&fault.sqlstate) {
            self.limited = 0;
            return false;
        }
        self.limited += 1;
        let ours = fault.code == sqlstate::TOO_SLOW;
        let several = prepared.messages_with_rows().nth(1).is_some();
        self.limited
            >= match (ours, several) {
                // Our own limit is long.
                (true, true) => 1,
                (false, false) => LIMITED_ALONE_MAX,
                _ => LIMITED_MAX,
            }
    }
}

/// A time without success, told in one line at its beginning, one for each other cause, one a minute, and one at
/// its end.
#[derive(Debug, Default)]
struct Outage {
    backoff: Backoff,
    began: Option<Instant>,
    mentioned: Option<Instant>,
    last_code: &'static str,
    /// Codes that were told of: two that alternate from attempt to attempt are no news.
    told: BTreeSet<&'static str>,
}

impl Outage {
    fn goes_on(&mut self, head: &Envelope, fault: &Fault) {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        let due = self.mentioned.is_none_or(|at| now - at >= MENTION_EVERY);
        self.last_code = fault.code;
        let is_news = self.told.insert(fault.code);
        if due || is_news {
            self.mentioned = Some(now);
            let (attempts, seconds) = (self.backoff.attempts() + 1, began.elapsed().as_secs());
            tracing::warn!(
                topic = head.topic,
                code = fault.code,
                attempts,
                seconds,
                "cannot write, retrying: {fault}"
            );
        }
    }

    fn over(&self, head: &Envelope) {
        if let Some(began) = self.began {
            let (attempts, elapsed) = (self.backoff.attempts(), began.elapsed());
            tracing::info!(
                topic = head.topic,
                attempts,
                "written after {:.1} s of retries",
                elapsed.as_secs_f64()
            );
        }
    }

    fn contended(&self) -> bool {
        self.last_code == sqlstate::CONTENTION
    }
}
