//! What is asked of brokers through librdkafka's interface for administrators.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;
use uuid::Uuid;

use super::text;

const FINE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Kafka's code and a text.
type Refusal = (RDKafkaErrorCode, String);

/// Kafka's id of `topic` (the nil id where the broker has none), or why it could not be learned.
///
/// # Errors
/// Kafka's code: `UnknownTopicOrPartition` when there is no such topic, `OperationTimedOut` and
/// transport errors when no broker responds within `wait`.
pub fn topic_id<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    wait: Duration,
) -> Result<Uuid, Refusal> {
    let Ok(name) = CString::new(topic) else {
        return Err((RDKafkaErrorCode::InvalidTopic, "the name contains a NUL".into()));
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
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let mut names = [name.as_ptr()];
    // SAFETY: the collection is made, used and destroyed here; options and queue are valid, and so is the event.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let request = |client, options, queue| {
            // Every broker answers, and not every cluster names a controller that can be asked.
            sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        };
        let answer = ask(consumer, operation, wait, request, |event| described(event));
        sys::rd_kafka_TopicCollection_destroy(topics);
        answer
    }
}

/// What the end of a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Behind what can be read: an open transaction keeps what comes after its first message from being read.
    Readable,
    /// Behind all that was written.
    Written,
}

/// Offsets of the ends of `partitions` of `topic`. Each broker is asked once. Without partitions that gave no answer.
///
/// # Errors
/// As [`topic_id`].
pub fn ends<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    end: End,
    wait: Duration,
) -> Result<BTreeMap<i32, i64>, Refusal> {
    let Ok(name) = CString::new(topic) else {
        return Err((RDKafkaErrorCode::InvalidTopic, "the name contains a NUL".into()));
    };
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    // SAFETY: the list is made, used and destroyed here; options and queue are valid, and so is the event.
    unsafe {
        let list = sys::rd_kafka_topic_partition_list_new(partitions.len() as i32);
        for &partition in partitions {
            let added = sys::rd_kafka_topic_partition_list_add(list, name.as_ptr(), partition);
            (*added).offset = sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64;
        }
        let request = |client, options, queue| {
            use sys::rd_kafka_IsolationLevel_t as Level;
            let level = match end {
                End::Readable => Level::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                End::Written => Level::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
            };
            let refused = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
            if !refused.is_null() {
                sys::rd_kafka_error_destroy(refused);
            }
            sys::rd_kafka_ListOffsets(client, list, options, queue);
        };
        let answer = ask(consumer, operation, wait, request, |event| Ok(listed(event)));
        sys::rd_kafka_topic_partition_list_destroy(list);
        answer
    }
}

/// Makes a request and reads its answer.
///
/// # Safety
/// `request` is given a valid client, options and a queue, and enqueues one result of `operation`.
unsafe fn ask<C: ConsumerContext, T>(
    consumer: &BaseConsumer<C>,
    operation: sys::rd_kafka_admin_op_t,
    wait: Duration,
    request: impl FnOnce(
        *mut sys::rd_kafka_t,
        *mut sys::rd_kafka_AdminOptions_t,
        *mut sys::rd_kafka_queue_t,
    ),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX / 2);
    let mut problem: [c_char; 128] = [0; 128];
    // SAFETY: all objects are made, used and destroyed here, in pairs; the client outlives the call.
    unsafe {
        let client = consumer.client().native_ptr();
        let queue = sys::rd_kafka_queue_new(client);
        let options = sys::rd_kafka_AdminOptions_new(client, operation);
        let (text_at, size) = (problem.as_mut_ptr(), problem.len());
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, text_at, size);
        request(client, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, wait_ms + 500);
        let answer = if event.is_null() {
            Err((RDKafkaErrorCode::OperationTimedOut, "no broker answered".into()))
        } else {
            let code = sys::rd_kafka_event_error(event);
            let answer = if code == FINE {
                read(event)
            } else {
                Err((code.into(), text(sys::rd_kafka_event_error_string(event))))
            };
            sys::rd_kafka_event_destroy(event);
            answer
        };
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` is a valid result of `ListOffsets`.
unsafe fn listed(event: *mut sys::rd_kafka_event_t) -> BTreeMap<i32, i64> {
    // SAFETY: everything read here belongs to the event.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        (0..count)
            .map(|index| &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index)))
            .filter(|it| it.err == FINE)
            .map(|it| (it.partition, it.offset))
            .collect()
    }
}

/// # Safety
/// `event` is a valid result of `DescribeTopics`.
unsafe fn described(event: *mut sys::rd_kafka_event_t) -> Result<Uuid, Refusal> {
    // SAFETY: everything read here belongs to the event.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count != 1 {
            return Err((RDKafkaErrorCode::UnknownTopicOrPartition, "not described".into()));
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code = sys::rd_kafka_error_code(error);
        if code != FINE {
            return Err((code.into(), text(sys::rd_kafka_error_string(error))));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = sys::rd_kafka_Uuid_least_significant_bits(id) as u64;
        Ok(Uuid::from_u64_pair(high, low))
    }
}
