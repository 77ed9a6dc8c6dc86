//! One message of librdkafka, copied into a batch.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;

use super::{FetchError, text};
use crate::batch::{Batch, Message};
use crate::fault::{Remedy, broker};
use crate::source::position::{Doubt, Positions};

/// # Safety
/// `message` was handed out by librdkafka and not yet destroyed.
#[inline]
pub(super) unsafe fn read(
    message: &sys::rd_kafka_message_t,
    batch: &mut Batch,
    positions: &mut Positions,
    errors: &mut Vec<FetchError>,
) -> Option<Doubt> {
    match message.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
        // Everything in front of its offset was handed out before; what no message was made of, is none.
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
            return positions.reach(message.partition, message.offset);
        }
        _ => {
            // SAFETY: passed on from the caller.
            let error = unsafe { read_error(message) };
            if let Some(partition) = error.partition
                && broker::remedy(error.code).1 != Remedy::Retry
            {
                if broker::is_out_of_range(error.code)
                    && let Some(doubt) = positions.out_of_range(partition)
                {
                    return Some(doubt);
                }
                positions.fail(partition);
            }
            errors.push(error);
            return None;
        }
    }
    // SAFETY: the message is valid, and was made by a consumer.
    let leader_epoch = unsafe { sys::rd_kafka_message_leader_epoch(message) };
    if !positions.accept(message.partition, message.offset, leader_epoch) {
        return positions.turn_down(message.partition, message.offset, leader_epoch);
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
    None
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
    let mut code = message.err.into();
    // The same code for whatever reading cannot go on after; the text ends with that of the cause.
    if code == Code::AutoOffsetReset && text.contains(&truncation()) {
        code = Code::LogTruncation;
    }
    let partition = (!message.rkt.is_null() && message.partition >= 0).then_some(message.partition);
    FetchError { partition, code, text }
}

/// librdkafka's words for a log that was cut.
fn truncation() -> String {
    let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR__LOG_TRUNCATION;
    // SAFETY: librdkafka gives a text for every error, which lives as long as the process.
    unsafe { text(sys::rd_kafka_err2str(code)) }
}
