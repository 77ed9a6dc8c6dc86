//! The devices of the demo: a minute's readings at once, then as many a minute as there are devices.
//! Waits for the pipeline only where the embedded broker would forget what has not been read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::observer::Seen;
use super::screen::Moment;
use super::{BAD_PER_MILLE, DEVICES, PARTITIONS, SEED};
use crate::fault::Fault;
use crate::progress::Progress;
use crate::simulate::{Devices, Generator as _, Producer, Quality, Shape};

/// Readings a second when each device sends one a minute.
pub const LIVE_PER_SECOND: u64 = DEVICES / 60;
/// A reading on its way, with what Kafka adds to it.
const MESSAGE_BYTES: u64 = 220;
/// Messages that librdkafka may queue, so that the broker is never handed much more than it may keep.
const UNACKNOWLEDGED_MAX: u64 = 60_000;
/// Messages between two looks at what the pipeline has done.
const LOOK_EVERY: u64 = 256;
/// A new version of the plugin is compiled beside the traffic; how long that may take.
const TAKE_OVER_MAX: Duration = Duration::from_secs(60);
/// When nothing moves for so long, the demo gives up.
const STANDSTILL_MAX: Duration = Duration::from_secs(30);

/// Everything around the traffic that may end it or is told of it.
pub struct Around<'a> {
    /// What has been seen in Postgres.
    pub seen: &'a Seen,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
    /// Fails when the pipeline has ended.
    pub alive: &'a dyn Fn() -> Result<(), Fault>,
    /// What the person sees.
    pub progress: Progress,
}

/// Why the traffic ended before its time.
#[derive(Debug)]
pub enum Ended {
    /// Ctrl-C.
    Stopped,
    /// The pipeline or the producer failed.
    Failed(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

/// Sends, counts and shows.
pub struct Traffic<'a> {
    producer: Producer,
    generator: Devices,
    around: Around<'a>,
    unread_bytes_max: u64,
    moment: Moment,
    key: Vec<u8>,
    payload: Vec<u8>,
    good: u64,
    moved: (Instant, u64),
}

impl<'a> Traffic<'a> {
    /// Traffic over `producer`, of which the pipeline may leave `unread_bytes_max` a partition unread.
    pub fn new(producer: Producer, unread_bytes_max: u64, around: Around<'a>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // What comes first has piled up during the last minute.
        let start_ms = now.as_millis() as i64 - 60_000;
        Self {
            producer,
            generator: Devices::new(DEVICES, Shape::Short, BAD_PER_MILLE, SEED, start_ms),
            around,
            unread_bytes_max,
            moment: Moment::default(),
            key: Vec::new(),
            payload: Vec::new(),
            good: 0,
            moved: (Instant::now(), 0),
        }
    }

    /// Waits until the pipeline has claimed all partitions.
    pub fn wait_for_claims(&mut self) -> Result<(), Ended> {
        while self.around.seen.claimed() < PARTITIONS as usize {
            self.look()?;
            self.wait_a_moment();
        }
        Ok(())
    }

    /// Sends `messages` as fast as they are taken, and waits until they are written.
    pub fn at_once(&mut self, messages: u64) -> Result<(), Ended> {
        while self.producer.sent() < messages {
            if self.producer.sent().is_multiple_of(LOOK_EVERY) {
                self.look()?;
                self.wait_for_room()?;
            }
            self.send()?;
        }
        self.drain()
    }

    /// Sends [`LIVE_PER_SECOND`] for `time`, and on until the version of the plugin that `replace` puts
    /// in place halfway has taken over; answers for how long.
    pub fn live(
        &mut self,
        time: Duration,
        replace: impl FnOnce(&Progress) -> Result<(), Fault>,
    ) -> Result<Duration, Ended> {
        let (start, mut passed) = (Instant::now(), Duration::ZERO);
        let mut replace = Some(replace);
        for index in 0_u64.. {
            passed = Duration::from_secs_f64(index as f64 / LIVE_PER_SECOND as f64);
            if passed >= time && (time.is_zero() || self.around.seen.arrived_ms().is_some()) {
                break;
            }
            if passed >= time + TAKE_OVER_MAX {
                let text = "the pipeline does not go on with the new version of the plugin";
                return Err(Fault::block("SL-S010", text).into());
            }
            self.producer.wait_for(start + passed);
            if index % LOOK_EVERY == 0 {
                self.look()?;
                self.wait_for_room()?;
            }
            if passed >= time / 2
                && let Some(replace) = replace.take()
            {
                replace(&self.around.progress)?;
            }
            self.send()?;
        }
        self.drain()?;
        Ok(passed)
    }

    /// How long `act` takes.
    pub fn timed(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), Ended>,
    ) -> Result<Duration, Ended> {
        let start = Instant::now();
        act(self)?;
        Ok(start.elapsed())
    }

    /// Messages sent, and how many of them are good.
    pub fn sent(&self) -> (u64, u64) {
        (self.producer.sent(), self.good)
    }

    /// Takes the progress away.
    pub fn finish(self) {
        self.around.progress.finish();
    }

    fn send(&mut self) -> Result<(), Fault> {
        let quality = self.generator.write(self.producer.sent(), &mut self.key, &mut self.payload);
        self.good += u64::from(quality == Quality::Good);
        self.producer.send(&self.key, &self.payload)
    }

    /// Waits until everything that was sent is written.
    fn drain(&mut self) -> Result<(), Ended> {
        self.producer.flush(STANDSTILL_MAX)?;
        while self.lag() > 0 {
            self.look()?;
            self.wait_a_moment();
        }
        Ok(())
    }

    /// Waits until the fullest partition has room again.
    fn wait_for_room(&mut self) -> Result<(), Ended> {
        while self.unread_bytes() > self.unread_bytes_max
            || self.producer.sent() - self.producer.ledger().acknowledged() > UNACKNOWLEDGED_MAX
        {
            self.look()?;
            self.wait_a_moment();
        }
        Ok(())
    }

    fn wait_a_moment(&self) {
        self.producer.serve_until(Instant::now() + Duration::from_millis(1));
    }

    /// Shows how things stand, and ends the traffic where there is a reason to.
    fn look(&mut self) -> Result<(), Ended> {
        if self.around.stop.load(Ordering::Relaxed) {
            return Err(Ended::Stopped);
        }
        (self.around.alive)()?;
        if let Some(failure) = self.around.seen.failure() {
            return Err(
                Fault::block("SL-S007", format!("failed to look at Postgres: {failure}")).into()
            );
        }
        self.check_movement()?;
        if !self.around.progress.is_due() {
            return Ok(());
        }
        if self.producer.sent() == 0 {
            self.around.progress.show(0, "the pipeline joins its consumer group");
        } else {
            let (sent, lag) = (self.producer.sent(), self.lag());
            let (rows, rejected) = (self.around.seen.rows(), self.around.seen.rejected());
            self.moment.turn(sent, rows, rejected, lag);
            self.around.progress.show(rows + rejected, &self.moment.to_string());
        }
        Ok(())
    }

    fn check_movement(&mut self) -> Result<(), Fault> {
        let written =
            (0..PARTITIONS).map(|partition| self.around.seen.next(partition) as u64).sum();
        let (since, before) = self.moved;
        let idle = self.lag() == 0 && self.around.seen.claimed() > 0;
        if written != before || idle {
            self.moved = (Instant::now(), written);
        } else if since.elapsed() > STANDSTILL_MAX {
            let seconds = STANDSTILL_MAX.as_secs();
            let text = format!("nothing was written for {seconds} s, {} messages wait", self.lag());
            return Err(Fault::block("SL-S008", text));
        }
        Ok(())
    }

    /// Acknowledged messages that are not written yet.
    fn lag(&self) -> u64 {
        (0..PARTITIONS).map(|partition| self.lag_of(partition)).sum()
    }

    fn lag_of(&self, partition: i32) -> u64 {
        let end = self.producer.ledger().end(partition);
        (end - self.around.seen.next(partition)).max(0) as u64
    }

    /// Of the fullest partition.
    fn unread_bytes(&self) -> u64 {
        let fullest = (0..PARTITIONS).map(|partition| self.lag_of(partition)).max();
        fullest.unwrap_or(0) * MESSAGE_BYTES
    }
}
