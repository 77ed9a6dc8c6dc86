//! The writer: one connection that brings batches into Postgres, each in one transaction, however long
//! Postgres is away. Knows neither Kafka nor WebAssembly.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) use address::without_passwords;
pub use connection::Session;
pub(crate) use connection::fault_of_ours;
pub(crate) use diagnosis::{Diagnosis, can_be_diagnosed};
pub use options::Options;

use super::plan::Plan;
use super::prepared::Prepared;
use super::{Envelope, Receipt};
use crate::bell::Bell;
use crate::fault::{Fault, sqlstate};
use crate::rows::Rejection;
use attempts::Attempts;
use transaction::Aside;

pub(crate) mod address;
mod attempts;
mod backends;
pub(in crate::sink) mod blockers;
pub(in crate::sink) mod connection;
mod constraint_checks;
pub(in crate::sink) mod defaults;
mod diagnosis;
mod dropped;
pub(crate) mod environment;
mod login;
mod options;
mod passfile;
mod search;
pub mod sessions;
pub(in crate::sink) mod settle;
mod target;
mod tls;
mod transaction;

/// What became of a batch, and its memory for the next one.
#[derive(Debug)]
pub enum Written {
    /// It is in Postgres.
    Done {
        /// The proof.
        receipt: Receipt,
        /// Memory.
        reuse: Prepared,
    },
    /// Nothing of it will be written under our claims: these partitions are no longer ours, or moved
    /// without us. Where they stand, Postgres knows. What the batch contains of other partitions was not
    /// written and is to be read again.
    Fenced {
        /// In the order of the ranges.
        partitions: Vec<i32>,
        /// Memory.
        reuse: Prepared,
    },
    /// Nothing of it is, because rows were refused. To be written again without their messages.
    Refused {
        /// One for each message with such a row.
        rejections: Vec<Rejection>,
        /// The batch.
        prepared: Prepared,
    },
    /// Nothing of it is, because tables are defined otherwise now. To be made again for what they are.
    Changed {
        /// The plan for them.
        plan: Arc<Plan>,
        /// Memory.
        reuse: Prepared,
    },
    /// Nothing of it is, because a limit ended it again and again. To be made again in smaller parts.
    TooLarge {
        /// Which limit.
        fault: Fault,
        /// Memory.
        reuse: Prepared,
    },
    /// Nothing of it is, and trying again would not help.
    Stopped {
        /// Why.
        fault: Fault,
        /// Memory, with the batch still in it.
        reuse: Prepared,
    },
}

/// A lane's connection to Postgres. Takes one batch at a time and works on it in the background.
#[derive(Debug)]
pub struct Writer {
    head: Envelope,
    jobs: UnboundedSender<Job>,
    written: mpsc::Receiver<Written>,
    busy: bool,
    task: JoinHandle<()>,
}

struct Job {
    plan: Arc<Plan>,
    prepared: Prepared,
    aside: Aside,
}

impl Writer {
    /// A writer for batches of `topic`. Connects with the first batch; rings `bell` whenever it knows what became of one.
    pub fn start(
        handle: &Handle,
        options: &Options,
        pipeline: &str,
        topic: &str,
        topic_id: Uuid,
        owner: &str,
        bell: Arc<Bell>,
    ) -> Self {
        let head = Envelope {
            pipeline: pipeline.to_owned(),
            topic: topic.to_owned(),
            topic_id,
            relay: false,
        };
        let (jobs, waiting) = unbounded_channel();
        let (answers, written) = mpsc::channel();
        let attempts = Attempts::new(options.named(pipeline, owner), head.clone());
        let task = handle.spawn(work(attempts, waiting, answers, bell));
        Self { head, jobs, written, busy: false, task }
    }

    /// The same writer; its dead letters wait to be relayed to a topic if `relay`.
    #[must_use]
    pub fn relaying(mut self, relay: bool) -> Self {
        self.head.relay = relay;
        self
    }

    /// Begins to write a batch.
    ///
    /// # Panics
    /// When the batch before was not taken back with [`Writer::poll`] or [`Writer::wait`].
    pub fn write(&mut self, plan: Arc<Plan>, prepared: Prepared) {
        assert!(!self.busy, "one batch at a time");
        self.busy = true;
        let head = &self.head;
        let aside = Aside {
            dead_letters: prepared.dead_letters_under(head),
            parked: prepared.parked_under(head),
        };
        // It cannot fail but for a panic of the task, which the next poll reports.
        let _ = self.jobs.send(Job { plan, prepared, aside });
    }

    /// True while a batch is under way.
    pub fn busy(&self) -> bool {
        self.busy
    }

    /// What became of the batch, if that is known. Never waits.
    pub fn poll(&mut self) -> Option<Written> {
        match self.written.try_recv() {
            Ok(written) => Some(self.taken(written)),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => self.broken(),
        }
    }

    /// The same, waiting for at most `time`.
    pub fn wait(&mut self, time: Duration) -> Option<Written> {
        if !self.busy {
            return None;
        }
        match self.written.recv_timeout(time) {
            Ok(written) => Some(self.taken(written)),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => self.broken(),
        }
    }

    /// Throws the connection away, with whatever is under way: as dropping does.
    pub fn abandon(self) {}

    fn taken(&mut self, written: Written) -> Written {
        self.busy = false;
        written
    }

    fn broken(&mut self) -> Option<Written> {
        if !std::mem::take(&mut self.busy) {
            return None;
        }
        let fault =
            Fault::block(sqlstate::UNEXPECTED, "the writer's task ended; its panic is in the log");
        Some(Written::Stopped { fault, reuse: Prepared::default() })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn work(
    mut attempts: Attempts,
    mut jobs: UnboundedReceiver<Job>,
    answers: mpsc::Sender<Written>,
    bell: Arc<Bell>,
) {
    loop {
        let job = tokio::select! {
            biased;
            () = attempts.rest() => continue,
            job = jobs.recv() => job,
        };
        let Some(Job { plan, prepared, aside }) = job else { return };
        let written = attempts.write(&plan, prepared, aside).await;
        if answers.send(written).is_err() {
            return;
        }
        bell.ring();
    }
}
