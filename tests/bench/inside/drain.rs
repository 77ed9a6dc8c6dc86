//! librdkafka alone: a thread and a client per lane, set up as the host's, fill batches that are thrown away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use sluice::batch::Batch;
use sluice::bell::Bell;
use sluice::settings::Settings;
use sluice::source::native::FetchedQueues;
use sluice::source::{Room, properties};

use super::{Job, begun, done};

/// As the host takes them.
const TAKEN_MAX: usize = 4096;
const WAIT: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the topic once.
pub fn run(job: &Job, settings: &Settings) -> Result<()> {
    let start = Instant::now();
    let drain = Drain { job, settings, first: OnceLock::new(), taken: AtomicU64::new(0) };
    let clients = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..settings.pipeline.lanes)
            .map(|lane| {
                scope.spawn({
                    let drain = &drain;
                    move || drain.lane(lane)
                })
            })
            .collect();
        while drain.first.get().is_none() && !lanes.iter().any(ScopedJoinHandle::is_finished) {
            std::thread::sleep(LOOK);
        }
        begun(start.elapsed())?;
        lanes
            .into_iter()
            .map(|lane| lane.join().expect("a lane panicked"))
            .collect::<Result<Vec<_>>>()
    })?;
    let first = drain.first.get().context("no message came")?;
    done(job.messages, first.elapsed())?;
    drop(clients);
    Ok(())
}

struct Drain<'a> {
    job: &'a Job,
    settings: &'a Settings,
    first: OnceLock<Instant>,
    taken: AtomicU64,
}

impl Drain<'_> {
    fn lane(&self, lane: usize) -> Result<BaseConsumer> {
        let source = &self.settings.source;
        let lanes = self.settings.pipeline.lanes;
        let share = usize::try_from(self.job.partitions)?.div_ceil(lanes);
        let bell = Arc::<Bell>::default();
        let consumer: BaseConsumer = properties::fetcher(source, share).create()?;
        let mut queues = FetchedQueues::of(&consumer, TAKEN_MAX, bell.clone());
        let mut partitions = TopicPartitionList::new();
        for partition in (0..self.job.partitions).skip(lane).step_by(lanes) {
            queues.add(&consumer, &source.topic, partition);
            partitions.add_partition_offset(&source.topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&partitions)?;
        let limits = self.settings.batch;
        let room = Room { messages_max: limits.max_messages, bytes_max: limits.max_bytes };
        let mut batch = Batch::new(&source.topic);
        let mut moved = Instant::now();
        while self.taken.load(Ordering::Relaxed) < self.job.messages {
            let (count, errors) = queues.take(&mut batch, TAKEN_MAX, |_, _| true);
            if let Some(error) = errors.first() {
                bail!("librdkafka: {error:?}");
            }
            if count > 0 {
                self.first.get_or_init(Instant::now);
                moved = Instant::now();
            } else if moved.elapsed() > PATIENCE {
                bail!("messages are missing");
            } else {
                bell.wait(WAIT);
            }
            self.taken.fetch_add(count as u64, Ordering::Relaxed);
            if room.is_full(&batch) {
                batch.clear();
            }
        }
        Ok(consumer)
    }
}
