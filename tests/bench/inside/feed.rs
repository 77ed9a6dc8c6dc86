//! A producer that stays a fixed number of messages ahead of those that are done. It sends the same messages
//! again and again: the less it has to do, the more is left to those that are measured.

use std::convert::Infallible;
use std::io::stdin;
use std::time::Duration;

use anyhow::Result;
use sluice::simulate::{Producer, Shape};

use super::{Fed, Feed, say};
use crate::load::{Load, connect, target};

/// Messages that are prepared.
const PREPARED: u64 = 240_000;
const FLUSH_MAX: Duration = Duration::from_secs(60);

/// Sends until the standard input ends, on which stands, line by line, how many messages are done.
pub fn run(order: &Feed) -> Result<()> {
    let messages = Messages::prepare(order);
    let mut producer = connect(&target(&order.brokers, &order.topic))?;
    let mut fed = Fed::default();
    for line in stdin().lines() {
        let done: u64 = line?.parse()?;
        while fed.sent < done + order.ahead {
            let message = &messages.all[(fed.sent % PREPARED) as usize];
            producer.send(messages.part(message.key), messages.part(message.payload))?;
            fed.sent += 1;
            fed.bad += u64::from(message.bad);
        }
        producer.serve();
        enter(&mut fed, &producer);
        say(&fed)?;
    }
    producer.flush(FLUSH_MAX)?;
    enter(&mut fed, &producer);
    say(&fed)
}

fn enter(fed: &mut Fed, producer: &Producer) {
    let ledger = producer.ledger();
    fed.acknowledged = ledger.acknowledged();
    fed.ends = (0..producer.partitions() as i32).map(|partition| ledger.end(partition)).collect();
}

/// Messages side by side in one piece of memory.
struct Messages {
    bytes: Vec<u8>,
    all: Vec<Message>,
}

struct Message {
    key: (usize, usize),
    payload: (usize, usize),
    bad: bool,
}

impl Messages {
    fn prepare(feed: &Feed) -> Self {
        let Feed { partitions, bad_per_mille, .. } = *feed;
        let load = Load { shape: Shape::Short, messages: PREPARED, partitions, bad_per_mille };
        let (mut bytes, mut all) = (Vec::new(), Vec::new());
        let mut push = |part: &[u8]| {
            bytes.extend_from_slice(part);
            (bytes.len() - part.len(), bytes.len())
        };
        let Ok(()) = load.each::<Infallible>(|key, payload, verdict| {
            let (key, payload) = (push(key), push(payload));
            all.push(Message { key, payload, bad: !verdict.is_good() });
            Ok(())
        });
        Self { bytes, all }
    }

    fn part(&self, (from, to): (usize, usize)) -> &[u8] {
        &self.bytes[from..to]
    }
}
