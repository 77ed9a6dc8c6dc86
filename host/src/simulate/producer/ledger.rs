//! What the brokers acknowledged, partition by partition. Shared between the thread that sends and
//! those that watch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use rdkafka::producer::DeliveryResult;

use crate::fault::Fault;

/// One in so many messages leaves a mark with its time.
const MARK_EVERY: i64 = 16;
/// Marks kept per partition; older ones are forgotten when nobody takes them.
const MARKS_MAX: usize = 65_536;

/// What the brokers acknowledged.
#[derive(Debug)]
pub struct Ledger {
    start: Instant,
    accounts: OnceLock<Vec<Account>>,
    marking: AtomicBool,
    failed: AtomicU64,
    failure: Mutex<Option<KafkaError>>,
}

#[derive(Debug, Default)]
struct Account {
    acknowledged: AtomicU64,
    bytes: AtomicU64,
    end: AtomicI64,
    marks: Mutex<VecDeque<Mark>>,
}

/// When a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// When it was handed to the producer, on the ledger's clock.
    pub sent_at_ms: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            accounts: OnceLock::new(),
            marking: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }
}

impl Ledger {
    /// The ledger's clock: milliseconds since it was opened.
    pub fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Messages that the brokers acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.accounts().iter().map(|account| account.acknowledged.load(Ordering::Relaxed)).sum()
    }

    /// Messages that they did not.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The offset behind the last acknowledged message of `partition`; 0 before the first.
    pub fn end(&self, partition: i32) -> i64 {
        self.accounts()[partition as usize].end.load(Ordering::Relaxed)
    }

    /// Bytes of keys and payloads that `partition` acknowledged.
    pub fn bytes(&self, partition: i32) -> u64 {
        self.accounts()[partition as usize].bytes.load(Ordering::Relaxed)
    }

    /// From now on one in 16 messages leaves a mark, to be taken with [`Ledger::take_marks`].
    pub fn keep_marks(&self) {
        self.marking.store(true, Ordering::Relaxed);
    }

    /// Takes the marks of `partition` below the offset `end`.
    pub fn take_marks(&self, partition: i32, end: i64) -> Vec<Mark> {
        let mut marks = lock(&self.accounts()[partition as usize].marks);
        let taken = marks.partition_point(|mark| mark.offset < end);
        marks.drain(..taken).collect()
    }

    /// Fails when a message was not acknowledged.
    pub(super) fn check(&self, topic: &str) -> Result<(), Fault> {
        if self.failed() == 0 {
            return Ok(());
        }
        let fault = Fault::block("SL-S003", format!("failed to send to {topic}"));
        Err(match lock(&self.failure).clone() {
            Some(error) => fault.because(error),
            None => fault,
        })
    }

    /// One account for each partition; nothing can be entered before.
    pub(super) fn open(&self, partitions: usize) {
        self.accounts.get_or_init(|| (0..partitions).map(|_| Account::default()).collect());
    }

    pub(super) fn enter(&self, result: &DeliveryResult<'_>, sent_at_ms: u64) {
        match result {
            Ok(message) => {
                let account = &self.accounts()[message.partition() as usize];
                let marking = self.marking.load(Ordering::Relaxed);
                account.enter(message, marking.then_some(sent_at_ms));
            }
            Err((error, _)) => {
                lock(&self.failure).get_or_insert_with(|| error.clone());
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn accounts(&self) -> &[Account] {
        self.accounts.get().map_or(&[], Vec::as_slice)
    }
}

impl Account {
    fn enter(&self, message: &rdkafka::message::BorrowedMessage<'_>, sent_at_ms: Option<u64>) {
        let bytes = message.key_len() + message.payload_len();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let offset = message.offset();
        if let Some(sent_at_ms) = sent_at_ms
            && offset % MARK_EVERY == 0
        {
            let mut marks = lock(&self.marks);
            marks.push_back(Mark { offset, sent_at_ms });
            if marks.len() > MARKS_MAX {
                marks.pop_front();
            }
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.end.fetch_max(offset + 1, Ordering::Relaxed);
    }
}

/// Nothing under these locks can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
