//! Starts the lanes of a pipeline, each on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use uuid::Uuid;

use crate::bell::Bell;
use crate::fault::{self, Fault};
use crate::pipeline::lane::{Lane, Parts};
use crate::pipeline::order::Question;
use crate::pipeline::{Books, Deployed};
use crate::plugin::limits::THREAD_STACK_BYTES;
use crate::plugin::slot::Slot;
use crate::settings::Settings;
use crate::sink::Parking;
use crate::sink::postgres::{Options, Writer};
use crate::source::Room;
use crate::source::kafka::KafkaSource;
use crate::source::rebalance::{LaneEnd, Report};

/// What lanes of a pipeline have in common.
pub(super) struct LaneStart<'a> {
    pub settings: &'a Settings,
    pub name: &'a Arc<str>,
    pub owner: &'a str,
    pub options: &'a Options,
    pub runtime: &'a tokio::runtime::Handle,
    pub parking: &'a Parking,
    pub questions: &'a Sender<Question>,
}

impl LaneStart<'_> {
    /// Starts a lane for each of `ends_of_lanes`; how each of them ends is sent to `end`.
    pub fn all(
        &self,
        ends_of_lanes: Vec<LaneEnd>,
        slot: &Arc<Slot<Deployed>>,
        reports: &Sender<Report>,
        books: &Books,
        end: &Sender<Result<(), Fault>>,
    ) -> Result<Vec<JoinHandle<()>>, Fault> {
        let mut lanes = Vec::new();
        let count = ends_of_lanes.len();
        for (number, LaneEnd { commands, bell }) in ends_of_lanes.into_iter().enumerate() {
            let parts = Parts {
                number,
                source: Box::new(KafkaSource::new(&self.settings.source, count, bell.clone())?),
                connect: self.connect(bell.clone()),
                bell,
                slot: slot.clone(),
                commands,
                reports: reports.clone(),
                counters: books.counters.clone(),
                budget: books.budget.clone(),
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
            lanes.push(spawn_lane(parts, end.clone()));
        }
        Ok(lanes)
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

/// A lane that panics has found its own books wrong: going on could commit wrong offsets, so the
/// pipeline ends with an error instead.
fn spawn_lane(parts: Parts, end: Sender<Result<(), Fault>>) -> JoinHandle<()> {
    let name = format!("lane-{}", parts.number);
    let run = move || {
        let number = parts.number;
        let work = std::panic::AssertUnwindSafe(move || Lane::new(parts)?.run());
        let result = std::panic::catch_unwind(work).unwrap_or_else(|_| {
            Err(Fault::stop(
                fault::PANIC,
                format!("lane {number} panicked; its message is in the log"),
            ))
        });
        // Fails only when nobody waits for the pipeline any more.
        let _ = end.send(result);
    };
    std::thread::Builder::new()
        .name(name)
        .stack_size(THREAD_STACK_BYTES)
        .spawn(run)
        .expect("the system gives a thread")
}
