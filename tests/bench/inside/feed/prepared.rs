//! Messages that lie ready for librdkafka, which sends them from where they are: a thousand in one call, without
//! a copy. Its Rust wrapper offers neither, so here is `unsafe`.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::raw::c_int;
use std::ptr;

use anyhow::{Result, ensure};
use rdkafka::bindings as sys;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use sluice::simulate::Shape;

use crate::inside::Feed;
use crate::load::Load;

const BATCHES: usize = 240;
const BATCH_MESSAGES: usize = 1000;

/// A topic of a producer.
pub struct Topic(*mut sys::rd_kafka_topic_t);

impl Topic {
    /// The topic `name` of `producer`, which must outlive it.
    pub fn of<C: ProducerContext>(producer: &BaseProducer<C>, name: &str) -> Result<Self> {
        let name = CString::new(name)?;
        // SAFETY: both pointers are valid during the call; with NULL the topic has the producer's settings.
        let topic = unsafe {
            let client = producer.client().native_ptr();
            sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut())
        };
        ensure!(!topic.is_null(), "librdkafka gives no topic");
        Ok(Self(topic))
    }
}

/// All messages, batch by batch, one after the other for each partition.
pub struct Batches {
    all: Vec<Batch>,
    partitions: usize,
    sent: usize,
}

struct Batch {
    messages: Vec<sys::rd_kafka_message_t>,
    bad: u64,
}

/// What was sent.
pub struct Sent {
    pub messages: u64,
    pub bad: u64,
}

impl Batches {
    /// Readings in batches.
    pub fn prepare(order: &Feed) -> Self {
        let load = Load {
            shape: Shape::Short,
            messages: (BATCHES * BATCH_MESSAGES) as u64,
            partitions: order.partitions,
            bad_per_mille: order.bad_per_mille,
        };
        let mut all = Vec::new();
        let mut batch = Batch { messages: Vec::new(), bad: 0 };
        let Ok(()) = load.each::<Infallible>(|key, payload, quality| {
            batch.messages.push(message(key, payload));
            batch.bad += u64::from(!quality.is_good());
            if batch.messages.len() == BATCH_MESSAGES {
                all.push(std::mem::replace(&mut batch, Batch { messages: Vec::new(), bad: 0 }));
            }
            Ok(())
        });
        Self { all, partitions: order.partitions as usize, sent: 0 }
    }

    /// Hands the next batch to librdkafka.
    pub fn send_next(&mut self, topic: &Topic) -> Result<Sent> {
        let partition = (self.sent % self.partitions) as i32;
        let batch = &mut self.all[self.sent % BATCHES];
        self.sent += 1;
        let messages = &mut batch.messages;
        // SAFETY: the topic lives as long as its producer, and what the messages point to lives as long as the
        // process (see `message`); librdkafka writes nothing but `err` into them and keeps none.
        let taken = unsafe {
            let count = messages.len() as c_int;
            sys::rd_kafka_produce_batch(topic.0, partition, 0, messages.as_mut_ptr(), count)
        };
        ensure!(taken as usize == messages.len(), "librdkafka took {taken} messages of a batch");
        Ok(Sent { messages: messages.len() as u64, bad: batch.bad })
    }
}

/// A message whose parts are never freed.
fn message(key: &[u8], payload: &[u8]) -> sys::rd_kafka_message_t {
    let (key, payload) = (key.to_vec().leak(), payload.to_vec().leak());
    sys::rd_kafka_message_t {
        err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: 0,
        payload: payload.as_mut_ptr().cast(),
        len: payload.len(),
        key: key.as_mut_ptr().cast(),
        key_len: key.len(),
        offset: 0,
        _private: ptr::null_mut(),
    }
}
