//! What the brokers acknowledged, partition by partition. Shared between the thread that sends and
//! those that watch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rdkafka::Message as _;
use rdkafka::error::KafkaError;
use rdkafka::producer::DeliveryResult;

use crate::fault::Fault;

/// One in so many messages leaves a mark with its time.
const MARK_EVERY: i64 = 16;
/// Marks kept per partition; older ones are forgotten when nobody takes them.
const MARKS_MAX: usize = 65_536;

/// What the brokers acknowledged.
#[derive(Debug, Default)]
pub struct Ledger {
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

/// When a message was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// Its own time, in milliseconds since 1970-01-01T00:00:00Z.
    pub made_at_ms: i64,
}

impl Ledger {
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
        let fault = Fault::stop("SL-S003", format!("failed to send to {topic}"));
        Err(match lock(&self.failure).clone() {
            Some(error) => fault.because(error),
            None => fault,
        })
    }

    /// One account for each partition; nothing can be entered before.
    pub(super) fn open(&self, partitions: usize) {
        self.accounts.get_or_init(|| (0..partitions).map(|_| Account::default()).collect());
    }

    pub(super) fn enter(&self, result: &DeliveryResult<'_>) {
        match result {
            Ok(message) => {
                let account = &self.accounts()[message.partition() as usize];
                account.enter(message, self.marking.load(Ordering::Relaxed));
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
    fn enter(&self, message: &rdkafka::message::BorrowedMessage<'_>, marking: bool) {
        let bytes = message.key_len() + message.payload_len();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let offset = message.offset();
        if marking && offset % MARK_EVERY == 0 {
            if let Some(made_at_ms) = message.timestamp().to_millis() {
                let mut marks = lock(&self.marks);
                marks.push_back(Mark { offset, made_at_ms });
                if marks.len() > MARKS_MAX {
                    marks.pop_front();
                }
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
