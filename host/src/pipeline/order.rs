//! Keys of parked messages that later messages of a lane have to wait behind (`[retry] order = "key"`).
//!
//! Only the lane that owns a partition parks messages of it, so it knows all keys: those that were parked when the
//! partition was claimed, and its own. Others only take messages away: a key that is still here although nothing of it
//! is parked any more costs a detour and no order, so it is enough to ask now and then.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::bell::{Bell, Post};
use crate::sink::{KeyHash, Prepared, WaitingKeys};

/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Most keys of one question: the retry thread answers, and has other things to do.
const ASKED_MAX: usize = 5_000;

/// Which of these keys have no parked message any more?
#[derive(Debug)]
pub struct Question {
    /// The incarnation of the topic.
    pub topic_id: Uuid,
    /// Partitions and keys.
    pub keys: Vec<Key>,
    /// Where the answer goes: those that are free.
    pub answer: Post<Vec<Key>>,
}

/// A partition and a key in it.
pub type Key = (i32, KeyHash);

/// What a lane knows of waiting keys.
#[derive(Debug)]
pub struct KeyOrder {
    waiting: WaitingKeys,
    /// Numbers of the batch that was made last and of the one that was committed last.
    made: u64,
    committed: u64,
    questions: Post<Question>,
    /// Rung with each answer.
    bell: Arc<Bell>,
    asked: Option<Asked>,
    asked_at: Option<Instant>,
    /// The last key that was asked for: the next question begins after it.
    asked_last: Option<Key>,
}

#[derive(Debug)]
struct Asked {
    /// All that was parked of the keys in question was committed with this batch at the latest.
    committed: u64,
    answer: Receiver<Vec<Key>>,
}

impl KeyOrder {
    /// No key waits. Questions are sent to `questions`; their answers ring `bell`.
    pub fn new(questions: Post<Question>, bell: Arc<Bell>) -> Self {
        let waiting = WaitingKeys::default();
        Self {
            waiting,
            made: 0,
            committed: 0,
            questions,
            bell,
            asked: None,
            asked_at: None,
            asked_last: None,
        }
    }

    /// The keys that messages have to wait behind.
    pub fn waiting(&self) -> &WaitingKeys {
        &self.waiting
    }

    /// Takes up a partition that was claimed, with the keys that are parked.
    pub fn own(&mut self, partition: i32, keys: &[KeyHash]) {
        // An answer that is on its way may be older than what others parked in the meantime.
        self.asked = None;
        self.waiting.forget(partition);
        for &key in keys {
            self.waiting.insert(partition, key, self.committed);
        }
    }

    /// Releases a partition.
    pub fn forget(&mut self, partition: i32) {
        self.waiting.forget(partition);
    }

    /// Numbers a batch that was made, and notes what it parks.
    pub fn made(&mut self, prepared: &Prepared) -> u64 {
        self.made += 1;
        self.parked(prepared.parked_keys(), self.made);
        self.made
    }

    /// Notes what batch `number` parks.
    pub fn parked(&mut self, keys: &[Key], number: u64) {
        for &(partition, key) in keys {
            self.waiting.insert(partition, key, number);
        }
    }

    /// Notes that batch `number` was committed.
    pub fn committed(&mut self, number: u64) {
        self.committed = number;
    }

    /// When [`KeyOrder::look`] is to be called next if nobody rings. `None` while no key waits, or an answer is awaited.
    pub fn look_after(&self, now: Instant) -> Option<Duration> {
        let at = self.asked_at.map_or(now, |at| at + ASK_EVERY);
        let asks = !self.waiting.is_empty() && self.asked.is_none();
        asks.then(|| at.saturating_duration_since(now))
    }

    /// Asks which keys are free now, and takes the answer when it comes.
    pub fn look(&mut self, topic_id: Uuid, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(Asked { committed, answer }) = &self.asked {
            match answer.try_recv() {
                Ok(free) => self.waiting.free(&free, *committed),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {}
            }
            self.asked = None;
        }
        if self.asked_at.is_some_and(|at| now < at + ASK_EVERY) {
            return;
        }
        self.asked_at = Some(now);
        let keys = self.waiting.parked_up_to(self.committed, self.asked_last, ASKED_MAX);
        let Some(&last) = keys.last() else { return };
        self.asked_last = Some(last);
        let (post, answer) = Post::ringing(&self.bell);
        if self.questions.send(Question { topic_id, keys, answer: post }).is_ok() {
            self.asked = Some(Asked { committed: self.committed, answer });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);

    #[test]
    fn a_key_is_asked_for_when_its_batch_is_committed_and_freed_by_the_answer() {
        let bell = Arc::default();
        let (post, questions) = Post::ringing(&bell);
        let mut order = KeyOrder::new(post, bell);
        let mut now = Instant::now();
        let mut look = |order: &mut KeyOrder| {
            now += ASK_EVERY;
            order.look(TOPIC, now);
        };
        order.parked(&[(0, KeyHash::of(b"a"))], 1);
        look(&mut order);
        assert!(questions.try_recv().is_err(), "not committed yet");
        order.committed(1);
        look(&mut order);
        let question = questions.try_recv().expect("a question");
        assert_eq!(question.keys, [(0, KeyHash::of(b"a"))]);
        look(&mut order);
        assert!(questions.try_recv().is_err(), "one question at a time");
        // While the answer is on its way, one more message is parked behind.
        order.parked(&[(0, KeyHash::of(b"a"))], 2);
        question.answer.send(question.keys).unwrap();
        look(&mut order);
        assert!(order.waiting().contains(0, b"a"));
        order.committed(2);
        look(&mut order);
        let question = questions.try_recv().expect("one more question");
        question.answer.send(question.keys).unwrap();
        look(&mut order);
        assert!(order.waiting().is_empty());
    }

    #[test]
    fn an_answer_from_before_a_claim_frees_nothing() {
        let bell = Arc::default();
        let (post, questions) = Post::ringing(&bell);
        let mut order = KeyOrder::new(post, bell);
        let now = Instant::now();
        order.own(3, &[KeyHash::of(b"a")]);
        order.look(TOPIC, now);
        let question = questions.try_recv().expect("a question");
        question.answer.send(question.keys).unwrap();
        order.forget(3);
        // Another host has parked a message of the same key in the meantime.
        order.own(3, &[KeyHash::of(b"a")]);
        order.look(TOPIC, now);
        assert!(order.waiting().contains(3, b"a"));
    }

    #[test]
    fn a_claim_brings_the_keys_of_its_partition() {
        let bell = Arc::default();
        let (post, questions) = Post::ringing(&bell);
        let mut order = KeyOrder::new(post, bell);
        order.own(3, &[KeyHash::of(b"a")]);
        assert!(order.waiting().contains(3, b"a"));
        order.look(TOPIC, Instant::now());
        assert_eq!(questions.try_recv().expect("a question").keys.len(), 1);
        order.forget(3);
        assert!(order.waiting().is_empty());
    }
}
