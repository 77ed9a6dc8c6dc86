//! Starts the lanes of a pipeline, and what tries parked messages again.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::bell::{Bell, Mailbox, Post};
use crate::fault::{self, Fault};
use crate::pipeline::lane::{Lane, Parts};
use crate::pipeline::order::Question;
use crate::pipeline::{Books, Deployed, retry};
use crate::plugin::slot::Slot;
use crate::settings::Settings;
use crate::sink::Parking;
use crate::sink::parked::due::Due;
use crate::sink::parked::looks::Watched;
use crate::sink::postgres::{Options, Writer};
use crate::source::Room;
use crate::source::kafka::KafkaSource;
use crate::source::rebalance::{Command, Shared};
use crate::threads::{self, Job, Turn, Work};

/// What lanes and retries of a pipeline have in common.
pub(super) struct Start<'a> {
    pub settings: &'a Settings,
    pub name: &'a Arc<str>,
    pub owner: &'a str,
    pub options: &'a Options,
    pub runtime: &'a tokio::runtime::Handle,
    pub parking: &'a Parking,
    pub questions: &'a Post<Question>,
    /// How many the topic has.
    pub partitions: usize,
}

impl Start<'_> {
    /// Starts a lane for each of `mailboxes`; how each of them ends is sent to `end`.
    pub fn all(
        &self,
        mailboxes: Vec<Mailbox<Command>>,
        slot: &Arc<Slot<Deployed>>,
        shared: &Shared,
        books: &Books,
        end: &Post<Result<(), Fault>>,
    ) -> Result<Vec<Job<()>>, Fault> {
        let mut lanes = Vec::new();
        let count = mailboxes.len();
        for (number, Mailbox { things: commands, bell }) in mailboxes.into_iter().enumerate() {
            let parts = Parts {
                number,
                source: Box::new(KafkaSource::new(
                    &self.settings.source,
                    count,
                    self.partitions,
                    bell.clone(),
                )?),
                connect: self.connect(bell.clone()),
                bell,
                slot: slot.clone(),
                commands,
                shared: shared.clone(),
                counters: books.counters.clone(),
                budget: books.budget.clone(),
                backlog: books.backlog.clone(),
                brake: books.brake.clone(),
                pipeline: self.name.clone(),
                topic: self.settings.source.topic.clone(),
                room: Room {
                    messages_max: self.settings.batch.max_messages,
                    bytes_max: self.settings.batch.max_bytes,
                },
                pace: self.settings.batch.pace,
                parking: self.parking.clone(),
                questions: self.questions.clone(),
            };
            let (end, bell) = (end.clone(), parts.bell.clone());
            let work = LaneWork { number, parts: Some(parts), lane: None, end };
            lanes.push(threads::spawn(self.runtime, bell, work));
        }
        Ok(lanes)
    }

    /// Starts what tries parked messages again; it is `asked` by lanes.
    pub fn retries(
        &self,
        asked: Mailbox<Question>,
        slot: &Arc<Slot<Deployed>>,
        books: &Books,
        end: &Post<Result<(), Fault>>,
    ) -> Job<()> {
        let relays = self.settings.dead_letters.topic.is_some();
        retry::start(retry::Parts {
            pipeline: self.name.clone(),
            slot: slot.clone(),
            parked: Watched::start(self.options, self.name, asked.bell.clone(), self.runtime),
            due: Due::new(self.options, self.name, self.parking.rule.clone(), relays),
            parking: self.parking.clone(),
            counters: books.counters.clone(),
            budget: books.budget.clone(),
            backlog: books.backlog.clone(),
            questions: asked,
            end: end.clone(),
            runtime: self.runtime.clone(),
        })
    }

    fn connect(&self, bell: Arc<Bell>) -> Box<dyn Fn(Uuid) -> Writer + Send> {
        let (runtime, options) = (self.runtime.clone(), self.options.clone());
        let (pipeline, owner) = (self.name.to_string(), self.owner.to_owned());
        let topic = self.settings.source.topic.clone();
        let relay = self.settings.dead_letters.topic.is_some();
        Box::new(move |topic_id| {
            let bell = bell.clone();
            Writer::start(&runtime, &options, &pipeline, &topic, topic_id, &owner, bell)
                .relaying(relay)
        })
    }
}

/// A lane as work that has its turns.
struct LaneWork {
    number: usize,
    /// Taken with the first turn, because plugins are started on a thread that has the stack for it.
    parts: Option<Parts>,
    lane: Option<Lane>,
    end: Post<Result<(), Fault>>,
}

impl LaneWork {
    fn advance(&mut self) -> Result<Option<Duration>, Fault> {
        if let Some(parts) = self.parts.take() {
            self.lane = Some(Lane::new(parts)?);
        }
        self.lane.as_mut().map_or(Ok(None), Lane::run)
    }
}

impl Work for LaneWork {
    type End = ();

    /// While messages flow a lane keeps its thread from one write to the next, at the default pace.
    const LINGER: Duration = Duration::from_millis(150);

    /// A lane that panics has found its own state wrong: going on could commit wrong offsets, so all that is in memory is
    /// dropped, and the pipeline begins again from its positions.
    fn turn(&mut self) -> Turn<()> {
        let who = format!("lane {}", self.number);
        let end = match fault::caught(&who, || self.advance()) {
            Ok(Some(wait)) => return Turn::Sleep(wait),
            Ok(None) => Ok(()),
            Err(fault) => Err(fault),
        };
        // Its connections end before somebody hears of it.
        self.lane = None;
        // Fails only when nobody waits for the pipeline any more.
        let _ = self.end.send(end);
        Turn::End(())
    }
}
