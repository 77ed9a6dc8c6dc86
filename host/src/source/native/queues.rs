//! Messages that were fetched, a queue for each partition.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use rdkafka::bindings as sys;

use super::message::read;
use super::{FetchClient, FetchError};
use crate::batch::Batch;
use crate::bell::Bell;
use crate::source::Room;
use crate::source::position::{Doubt, Positions};

/// What was taken from a queue.
#[derive(Default)]
pub struct Taken {
    /// Messages, wanted or not; nothing means that all queues are empty.
    pub count: usize,
    /// Errors that were met.
    pub errors: Vec<FetchError>,
    /// A partition whose log may not be the one any more that was read. Nothing that was fetched of it is taken until the
    /// doubt is dealt with.
    pub doubt: Option<(i32, Doubt)>,
}

/// What a client has fetched, each partition in a queue of its own; messages are taken many at a time.
///
/// In a queue that partitions share, the first ones starve the last while there is a backlog: whenever it is full,
/// librdkafka forgets whose turn it is (2.12.1, `rd_kafka_broker_active_toppar_add`), and one partition fills a
/// whole response. A full queue of one partition takes only that one out of the turns.
pub struct FetchedQueues {
    queues: Vec<(i32, Queue)>,
    turn: usize,
    /// What was taken from the queue whose turn it is; `left` of it were not read yet, because the batch was full.
    taken: Vec<*mut sys::rd_kafka_message_t>,
    left: Range<usize>,
    // Dropped after the queues that ring it.
    bell: Arc<Bell>,
}

// SAFETY: librdkafka's queues may be used from any thread; `&mut self` keeps it to one at a time.
unsafe impl Send for FetchedQueues {}

impl FetchedQueues {
    /// No queues yet. `bell` is rung when one that was empty has something; at most `messages_max` messages are taken in
    /// one call.
    pub fn new(messages_max: usize, bell: Arc<Bell>) -> Self {
        let taken = vec![ptr::null_mut(); messages_max];
        Self { queues: Vec::new(), turn: 0, taken, left: 0..0, bell }
    }

    /// A queue for `partition`, from which its messages are taken from now on; `client` must outlive it.
    pub(super) fn add(&mut self, client: &FetchClient, partition: i32) -> &Queue {
        // SAFETY: the client is valid.
        let pointer = unsafe { sys::rd_kafka_queue_new(client.native()) };
        let bell = Arc::as_ptr(&self.bell).cast_mut().cast();
        // SAFETY: `ring` gets the pointer of a bell that outlives the queue.
        let queue = unsafe { Queue::ringing(pointer, ring, bell) };
        self.queues.push((partition, queue));
        &self.queues.last().expect("just added").1
    }

    /// Takes messages of `partition` no more.
    pub fn remove(&mut self, partition: i32) {
        if self.queues.get(self.turn).is_some_and(|&(number, _)| number == partition) {
            self.throw_away_left();
        }
        let whose = self.queues.get(self.turn).map(|&(number, _)| number);
        self.queues.retain(|&(number, _)| number != partition);
        // The turn stays with the partition of which something is left.
        let stays = self.queues.iter().position(|&(number, _)| Some(number) == whose);
        self.turn = stays.unwrap_or(0);
    }

    /// Takes messages from the first queue in turn that has any, as long as there is `room` in `batch`. Those that
    /// `positions` want are copied into it.
    pub fn take(&mut self, batch: &mut Batch, room: Room, positions: &mut Positions) -> Taken {
        let mut taken = Taken::default();
        if self.left.is_empty() && !self.poll(room.messages_max.saturating_sub(batch.len())) {
            return taken;
        }
        let begin = self.left.start;
        while !self.left.is_empty() && !room.is_full(batch) {
            let message = self.taken[self.left.start];
            self.left.start += 1;
            // SAFETY: librdkafka handed it out and it is ours since; it is read before it is destroyed, once.
            let doubt = unsafe {
                let doubt = read(&*message, batch, positions, &mut taken.errors);
                let partition = (*message).partition;
                sys::rd_kafka_message_destroy(message);
                doubt.map(|doubt| (partition, doubt))
            };
            if doubt.is_some() {
                taken.count = self.left.start - begin;
                taken.doubt = doubt;
                // All of the same partition.
                self.throw_away_left();
                return taken;
            }
        }
        taken.count = self.left.start - begin;
        taken
    }

    /// Takes up to `messages_max` messages from the first queue in turn that has any; false when none has.
    fn poll(&mut self, messages_max: usize) -> bool {
        let messages_max = messages_max.min(self.taken.len());
        for _ in 0..self.queues.len() {
            self.turn = (self.turn + 1) % self.queues.len();
            let queue = self.queues[self.turn].1.pointer;
            // SAFETY: `taken` has room for `messages_max` pointers, and the queue lives as long as self.
            let got = unsafe {
                if sys::rd_kafka_queue_length(queue) == 0 {
                    continue;
                }
                sys::rd_kafka_consume_batch_queue(queue, 0, self.taken.as_mut_ptr(), messages_max)
            };
            self.left = 0..usize::try_from(got).unwrap_or(0);
            if !self.left.is_empty() {
                return true;
            }
        }
        false
    }

    fn throw_away_left(&mut self) {
        for &message in &self.taken[std::mem::take(&mut self.left)] {
            // SAFETY: as in `take`: what is left was not destroyed yet.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
    }
}

impl Drop for FetchedQueues {
    fn drop(&mut self) {
        self.throw_away_left();
    }
}

/// One of librdkafka's queues, which calls back when it was empty and no longer is.
pub(super) struct Queue {
    pub pointer: *mut sys::rd_kafka_queue_t,
}

type CallBack = unsafe extern "C" fn(*mut sys::rd_kafka_t, *mut c_void);

impl Queue {
    /// # Safety
    /// `pointer` is a queue that is ours to give back, and `call_back` may be called with `argument` from any thread
    /// until this is dropped.
    pub unsafe fn ringing(
        pointer: *mut sys::rd_kafka_queue_t,
        call_back: CallBack,
        argument: *mut c_void,
    ) -> Self {
        assert!(!pointer.is_null(), "every client has queues");
        // SAFETY: as the caller promises.
        unsafe { sys::rd_kafka_queue_cb_event_enable(pointer, Some(call_back), argument) };
        Self { pointer }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, given back once. librdkafka holds the queue's lock while it calls back, and
        // takes it to take the callback off: afterwards its argument is not touched.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.pointer, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.pointer);
        }
    }
}

/// # Safety
/// `bell` points to a [`Bell`].
unsafe extern "C" fn ring(_: *mut sys::rd_kafka_t, bell: *mut c_void) {
    // SAFETY: as the caller promises.
    unsafe { &*bell.cast_const().cast::<Bell>() }.ring();
}
