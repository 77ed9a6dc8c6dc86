//! What librdkafka offers and its Rust wrapper does not: taking many messages in one call from each partition
//! in turn, a client without a group, its log and its sockets, and the id of a topic. The only `unsafe` of the source;
//! offsets are taken from the messages alone, because release 2.12.1 moves its own position even on errors.

use std::ffi::{CStr, CString, c_char};

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

mod ask;
mod client;
mod message;
mod probe;
mod queues;
mod valve;
mod verify;

pub use ask::{End, ends, topic_id};
pub use client::{FetchClient, Topic};
pub use probe::{Answer, probe};
pub use queues::{FetchedQueues, Taken};
pub use valve::Need;
pub use verify::{REJECTED, broker_of, name};

/// An error that librdkafka delivers in place of a message.
#[derive(Debug, Clone)]
pub struct FetchError {
    /// The partition, where the error concerns one.
    pub partition: Option<i32>,
    /// Kafka's or librdkafka's code.
    pub code: RDKafkaErrorCode,
    /// librdkafka's text.
    pub text: String,
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

/// Lets a client begin with the addresses `brokers` again. Release 2.12.1 forgets each broker that the metadata lacks,
/// those it began with as well: after metadata without any, as a cluster has them whose brokers were all silent for a
/// moment, it never asks anybody again.
pub fn begin_again<C: ClientContext>(client: &Client<C>, brokers: &str) {
    let Ok(brokers) = CString::new(brokers) else { return };
    // SAFETY: client and list are valid, and librdkafka copies the list.
    let added = unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
    tracing::debug!(added, "brokers do not respond: trying the addresses of the settings again");
}

/// True when `consumer` is to be polled.
pub fn has_events<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: the client pointer is valid as long as the consumer lives, and the queue is given back once.
    unsafe {
        let mut queue = sys::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            // Without a group the wrapper polls this one, which always is there.
            queue = sys::rd_kafka_queue_get_main(client);
        }
        let length = sys::rd_kafka_queue_length(queue);
        sys::rd_kafka_queue_destroy(queue);
        length > 0
    }
}
