//! librdkafka alone: a thread and a client per lane, set up as the host's, fill batches that are thrown away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sluice::batch::Batch;
use sluice::bell::Bell;
use sluice::settings::Settings;
use sluice::source::kafka::KafkaSource;
use sluice::source::position::Positions;
use sluice::source::{Claimed, PartitionFault, Room, Source as _};

use super::{Job, begun, done};

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
    done(job.messages, 0, first.elapsed())?;
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
    fn lane(&self, lane: usize) -> Result<KafkaSource> {
        let settings = &self.settings.source;
        let lanes = self.settings.pipeline.lanes;
        let count = usize::try_from(self.job.partitions)?;
        let bell = Arc::<Bell>::default();
        let mut source = KafkaSource::new(settings, lanes, count, bell.clone())?;
        let mut positions = Positions::default();
        for partition in (0..self.job.partitions).skip(lane).step_by(lanes) {
            source.start(partition, 0)?;
            positions.own(Claimed { partition, next_offset: 0, epoch: 0, last: None });
        }
        let limits = self.settings.batch;
        let room = Room { messages_max: limits.max_messages, bytes_max: limits.max_bytes };
        let mut batch = Batch::new(&settings.topic);
        let mut moved = Instant::now();
        while self.taken.load(Ordering::Relaxed) < self.job.messages {
            let before = batch.len();
            let faults = source.fill(&mut batch, room, &mut positions);
            if let Some(PartitionFault { fault, .. }) = faults.into_iter().next() {
                return Err(fault.into());
            }
            let count = batch.len() - before;
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
                positions.close_batch();
                batch.clear();
            }
        }
        Ok(source)
    }
}
