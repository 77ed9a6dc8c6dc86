//! What librdkafka offers and its Rust wrapper does not: taking many messages in one call from each partition
//! in turn, the log of a client that is read so, and the id of a topic. The only `unsafe` of the source; offsets
//! are taken from the messages alone, because release 2.12.1 moves its own position even on errors.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use uuid::Uuid;

use crate::batch::{Batch, Message};
use crate::bell::Bell;

/// An error that librdkafka delivers in place of a message.
#[derive(Debug)]
pub struct FetchError {
    /// The partition, where the error concerns one.
    pub partition: Option<i32>,
    /// Kafka's or librdkafka's code.
    pub code: RDKafkaErrorCode,
    /// librdkafka's text.
    pub text: String,
}

/// What a consumer has fetched, each partition in a queue of its own; messages are taken many at a time.
///
/// In the queue that librdkafka gives to all partitions together, the first ones starve the last while
/// there is a backlog: whenever that queue is full it forgets whose turn it is (2.12.1,
/// `rd_kafka_broker_active_toppar_add`), and one partition fills a whole response. A full queue of one
/// partition takes only that one out of the turns.
pub struct FetchedQueues {
    // The first one is the consumer's, for what concerns no partition.
    queues: Vec<Queue>,
    turn: usize,
    taken: Vec<*mut sys::rd_kafka_message_t>,
    // Dropped after the queues that ring it.
    bell: Arc<Bell>,
}

// SAFETY: librdkafka's queues may be used from any thread; `&mut self` keeps it to one at a time.
unsafe impl Send for FetchedQueues {}

impl FetchedQueues {
    /// The queues of `consumer`, which must outlive them. `bell` is rung when one that was empty has something.
    ///
    /// # Panics
    /// When the consumer has no `group.id`.
    pub fn of<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        messages_max: usize,
        bell: Arc<Bell>,
    ) -> Self {
        // SAFETY: the client pointer is valid as long as the consumer lives.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        let own = Queue::ringing(queue, NO_PARTITION, &bell);
        Self { queues: vec![own], turn: 0, taken: vec![ptr::null_mut(); messages_max], bell }
    }

    /// Takes messages of `partition` from now on; called before it is assigned.
    ///
    /// # Panics
    /// When the name of the topic holds a NUL.
    pub fn add<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        topic: &str,
        partition: i32,
    ) {
        let name = CString::new(topic).expect("a topic that was found has no NUL in its name");
        // SAFETY: client and name are valid; a queue forwarded nowhere keeps what it gets.
        let queue = unsafe {
            let client = consumer.client().native_ptr();
            let queue = sys::rd_kafka_queue_get_partition(client, name.as_ptr(), partition);
            sys::rd_kafka_queue_forward(queue, ptr::null_mut());
            queue
        };
        self.queues.push(Queue::ringing(queue, partition, &self.bell));
    }

    /// Takes messages of `partition` no more.
    pub fn remove(&mut self, partition: i32) {
        self.queues.retain(|queue| queue.partition != partition);
        self.turn = 0;
    }

    /// Takes up to `messages_max` messages from the first queue in turn that has any. `accept` says whether
    /// a message at (partition, offset) is wanted; wanted ones are copied into `batch`.
    /// Returns the number taken, wanted or not, and the errors met; nothing means that all queues are empty.
    pub fn take(
        &mut self,
        batch: &mut Batch,
        messages_max: usize,
        mut accept: impl FnMut(i32, i64) -> bool,
    ) -> (usize, Vec<FetchError>) {
        let mut errors = Vec::new();
        for _ in 0..self.queues.len() {
            self.turn = (self.turn + 1) % self.queues.len();
            let count = self.call(batch, messages_max, &mut accept, &mut errors);
            if count > 0 {
                return (count, errors);
            }
        }
        (0, errors)
    }

    fn call(
        &mut self,
        batch: &mut Batch,
        messages_max: usize,
        accept: &mut impl FnMut(i32, i64) -> bool,
        errors: &mut Vec<FetchError>,
    ) -> usize {
        let queue = self.queues[self.turn].pointer;
        let messages_max = messages_max.min(self.taken.len());
        // SAFETY: `taken` has room for `messages_max` pointers, and the queue lives as long as self.
        let got = unsafe {
            if sys::rd_kafka_queue_length(queue) == 0 {
                return 0;
            }
            sys::rd_kafka_consume_batch_queue(queue, 0, self.taken.as_mut_ptr(), messages_max)
        };
        let got = usize::try_from(got).unwrap_or(0);
        for &message in &self.taken[..got] {
            // SAFETY: librdkafka filled the first `got` pointers with messages that are now ours; each is
            // read before it is destroyed, once.
            unsafe {
                read(&*message, batch, accept, errors);
                sys::rd_kafka_message_destroy(message);
            }
        }
        got
    }
}

const NO_PARTITION: i32 = -1;

/// One of librdkafka's queues, which rings a bell when it was empty and no longer is.
struct Queue {
    pointer: *mut sys::rd_kafka_queue_t,
    partition: i32,
}

impl Queue {
    /// The bell must outlive the queue.
    fn ringing(pointer: *mut sys::rd_kafka_queue_t, partition: i32, bell: &Arc<Bell>) -> Self {
        assert!(!pointer.is_null(), "a consumer with a group.id has queues");
        let bell = Arc::as_ptr(bell).cast_mut().cast();
        // SAFETY: `ring` gets the pointer of a bell that lives until the callback is taken off.
        unsafe { sys::rd_kafka_queue_cb_event_enable(pointer, Some(ring), bell) };
        Self { pointer, partition }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_get_*, given back once. librdkafka holds the queue's lock while it
        // rings, and takes it to take the callback off: afterwards the bell is not touched.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.pointer, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.pointer);
        }
    }
}

/// librdkafka's log lines for one client. On the queue of the consumer, taking messages would print them.
pub struct LogQueue {
    pointer: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's queues may be used from any thread; `&mut self` keeps it to one at a time.
unsafe impl Send for LogQueue {}

impl LogQueue {
    /// The lines of `consumer` from now on; it must outlive this.
    pub fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        // SAFETY: the client pointer is valid as long as the consumer lives.
        let pointer = unsafe {
            let client = consumer.client().native_ptr();
            let queue = sys::rd_kafka_queue_new(client);
            sys::rd_kafka_set_log_queue(client, queue);
            queue
        };
        Self { pointer }
    }

    /// Hands each line that is there to `tell`, with its level as of syslog and its facility.
    pub fn drain(&mut self, mut tell: impl FnMut(i32, &str, &str)) {
        // SAFETY: the queue lives as long as self; an event is read before it is destroyed, once.
        unsafe {
            while sys::rd_kafka_queue_length(self.pointer) > 0 {
                let event = sys::rd_kafka_queue_poll(self.pointer, 0);
                if event.is_null() {
                    return;
                }
                let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                let answer = sys::rd_kafka_event_log(
                    event,
                    &raw mut facility,
                    &raw mut line,
                    &raw mut level,
                );
                if answer == 0 {
                    tell(level, &text(facility), &text(line));
                }
                sys::rd_kafka_event_destroy(event);
            }
        }
    }
}

impl Drop for LogQueue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new, given back once; the client keeps a reference of its own.
        unsafe { sys::rd_kafka_queue_destroy(self.pointer) };
    }
}

/// # Safety
/// `bell` points to a [`Bell`].
unsafe extern "C" fn ring(_: *mut sys::rd_kafka_t, bell: *mut c_void) {
    // SAFETY: as the caller promises.
    unsafe { &*bell.cast_const().cast::<Bell>() }.ring();
}

/// # Safety
/// `message` was handed out by librdkafka and not yet destroyed.
#[inline]
unsafe fn read(
    message: &sys::rd_kafka_message_t,
    batch: &mut Batch,
    accept: &mut impl FnMut(i32, i64) -> bool,
    errors: &mut Vec<FetchError>,
) {
    if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: passed on from the caller.
        errors.push(unsafe { read_error(message) });
        return;
    }
    if !accept(message.partition, message.offset) {
        return;
    }
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is valid, and its key and payload pointers are valid for their lengths or null.
    unsafe {
        let timestamp_ms = sys::rd_kafka_message_timestamp(message, &raw mut kind);
        batch.push(Message {
            partition: message.partition,
            offset: message.offset,
            timestamp_us: if timestamp_ms < 0 { -1 } else { timestamp_ms.saturating_mul(1000) },
            key: bytes(message.key.cast(), message.key_len),
            payload: bytes(message.payload.cast(), message.len),
        });
        read_headers(message, batch);
    }
    if kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME {
        batch.mark_log_append_time();
    }
    batch.close_message();
}

/// # Safety
/// `start` is null or valid for `length` bytes during `'a`.
#[inline]
unsafe fn bytes<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    Some(unsafe { std::slice::from_raw_parts(start, length) })
}

/// # Safety
/// `message` was handed out by librdkafka and not yet destroyed.
unsafe fn read_headers(message: &sys::rd_kafka_message_t, batch: &mut Batch) {
    let mut headers = ptr::null_mut();
    // SAFETY: `message` is valid; headers, names and values belong to it and outlive this function.
    unsafe {
        if sys::rd_kafka_message_headers(message, &raw mut headers)
            != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            let answer = sys::rd_kafka_header_get_all(
                headers,
                index,
                &raw mut name,
                &raw mut value,
                &raw mut length,
            );
            if answer != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            batch.push_header(CStr::from_ptr(name).to_bytes(), bytes(value.cast(), length));
        }
    }
}

/// # Safety
/// `message` carries an error and was not yet destroyed.
unsafe fn read_error(message: &sys::rd_kafka_message_t) -> FetchError {
    // SAFETY: librdkafka gives a text for every error.
    let text = unsafe { text(sys::rd_kafka_message_errstr(message)) };
    FetchError {
        partition: (!message.rkt.is_null() && message.partition >= 0).then_some(message.partition),
        code: message.err.into(),
        text,
    }
}

/// # Safety
/// `start` is null or a C string.
unsafe fn text(start: *const c_char) -> String {
    if start.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned()
}

/// Kafka's id of `topic` (the nil id where the broker has none), or why it could not be learned.
///
/// # Errors
/// Kafka's code: `UnknownTopicOrPartition` when there is no such topic, `OperationTimedOut` and
/// transport errors when no broker answers within `wait`.
pub fn topic_id<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    wait: Duration,
) -> Result<Uuid, (RDKafkaErrorCode, String)> {
    let Ok(name) = CString::new(topic) else {
        return Err((RDKafkaErrorCode::InvalidTopic, "the name holds a NUL".into()));
    };
    let metadata = consumer.fetch_metadata(Some(topic), wait).map_err(|error| {
        (error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), error.to_string())
    })?;
    // The one that has just answered; its number is not known on a connection to a bootstrap address.
    let mut known = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id);
    let answered = Some(metadata.orig_broker_id()).filter(|&broker| broker >= 0);
    let Some(broker) = answered.or(known.next_back()) else {
        return Err((RDKafkaErrorCode::AllBrokersDown, "no broker is known".into()));
    };
    // SAFETY: all objects are made, used and destroyed here, in pairs; the client outlives the call.
    unsafe {
        let client = consumer.client().native_ptr();
        let queue = sys::rd_kafka_queue_new(client);
        let mut names = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut problem: [c_char; 128] = [0; 128];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            wait.as_millis() as i32,
            problem.as_mut_ptr(),
            problem.len(),
        );
        // Every broker answers, and not every cluster names a controller that can be asked.
        sys::rd_kafka_AdminOptions_set_broker(options, broker, problem.as_mut_ptr(), problem.len());
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, wait.as_millis() as i32 + 500);
        let answer = if event.is_null() {
            Err((RDKafkaErrorCode::OperationTimedOut, "no broker answered".into()))
        } else {
            described(event)
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` is a valid result of `DescribeTopics`.
unsafe fn described(event: *mut sys::rd_kafka_event_t) -> Result<Uuid, (RDKafkaErrorCode, String)> {
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    // SAFETY: everything read here belongs to the event.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code != fine {
            return Err((code.into(), text(sys::rd_kafka_event_error_string(event))));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count != 1 {
            return Err((RDKafkaErrorCode::UnknownTopicOrPartition, "not described".into()));
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code = sys::rd_kafka_error_code(error);
        if code != fine {
            return Err((code.into(), text(sys::rd_kafka_error_string(error))));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = sys::rd_kafka_Uuid_least_significant_bits(id) as u64;
        Ok(Uuid::from_u64_pair(high, low))
    }
}
