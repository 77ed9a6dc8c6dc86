//! Sees, from outside, when messages have become rows. The host moves a partition's position in the transaction
//! that writes the rows, so who sees the one sees the others; and a position is a row to read where new rows would
//! be a scan. The moment is that at which the answer is here: what the reader itself takes is part of the figures.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use super::Evenly;

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(1);
/// A pipeline that does nothing for so long has a fault.
const PATIENCE: Duration = Duration::from_secs(30);
const POSITIONS: &str =
    "SELECT partition, next_offset FROM sluice.positions WHERE pipeline = $1 AND topic = $2";

/// The position of a partition, seen for the first time.
pub struct Sighting {
    /// Since the origin.
    pub at: Duration,
    pub partition: usize,
    pub next_offset: usize,
}

/// A connection of its own.
pub struct Reader<'a> {
    order: &'a Evenly,
    messages: u64,
    origin: Instant,
    runtime: Runtime,
    client: Client,
}

impl<'a> Reader<'a> {
    /// Connects.
    pub fn connect(order: &'a Evenly, messages: u64, origin: Instant) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&order.url, NoTls).await?;
            tokio::spawn(connection);
            anyhow::Ok(client)
        })?;
        Ok(Self { order, messages, origin, runtime, client })
    }

    /// Looks until all messages are visible.
    pub fn watch(&self) -> Result<Vec<Sighting>> {
        let statement = self.runtime.block_on(self.client.prepare(POSITIONS))?;
        let mut seen = vec![0; self.order.partitions as usize];
        let mut sightings = Vec::new();
        let mut moved = self.origin.elapsed();
        while (seen.iter().sum::<usize>() as u64) < self.messages {
            let rows = self.runtime.block_on(
                self.client.query(&statement, &[&self.order.pipeline, &self.order.topic]),
            )?;
            let at = self.origin.elapsed();
            for row in rows {
                let partition = row.try_get::<_, i32>(0)? as usize;
                let next_offset = row.try_get::<_, i64>(1)? as usize;
                if next_offset != seen[partition] {
                    (seen[partition], moved) = (next_offset, at);
                    sightings.push(Sighting { at, partition, next_offset });
                }
            }
            ensure!(at < moved + PATIENCE, "nothing becomes visible any more");
            sleep(PAUSE);
        }
        Ok(sightings)
    }
}
