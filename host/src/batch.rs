//! Messages of one topic in columns: one arena of payload bytes, keys, timestamps, positions, headers.
//! Does not know where they come from or what is in them.

use crate::columns::{Blobs, Spans};

/// One message as a source hands it over; borrowed until it is copied into the batch's arena.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Partition of the batch's topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Microseconds since 1970-01-01T00:00:00Z; -1 when the message carries none.
    pub timestamp_us: i64,
    /// `None` for a null key, which is not the same as an empty one.
    pub key: Option<&'a [u8]>,
    /// `None` for a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// Headers of all messages: message `i` has those from `ends[i - 1]` to `ends[i]`, in their order.
#[derive(Debug, Default)]
pub struct Headers {
    /// Where each message's headers end.
    pub ends: Vec<u32>,
    /// Names; Kafka does not promise that they are UTF-8 or unique.
    pub names: Spans,
    /// Values; a header may have none.
    pub values: Blobs,
}

impl Headers {
    /// Indexes of the headers of message `index`.
    pub fn of(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        start..self.ends[index] as usize
    }
}

/// Messages of one topic; those of one partition are in the order of their offsets.
#[derive(Debug, Default)]
pub struct Batch {
    /// Name of the topic.
    pub topic: String,
    /// Payloads; the bytes lie end to end in one arena.
    pub payloads: Blobs,
    /// Keys.
    pub keys: Blobs,
    /// Microseconds since 1970-01-01T00:00:00Z; -1 where there is none.
    pub timestamps: Vec<i64>,
    /// Whether the time is that of the broker's append and not the producer's.
    pub log_append_times: Vec<bool>,
    /// Partition of each message.
    pub partitions: Vec<i32>,
    /// Offset of each message.
    pub offsets: Vec<i64>,
    /// Headers of all messages.
    pub headers: Headers,
}

impl Batch {
    /// An empty batch of messages of `topic`.
    pub fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), ..Self::default() }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// True when there is no message.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Bytes of payloads, keys and headers.
    pub fn bytes(&self) -> usize {
        self.payloads.values.data.len()
            + self.keys.values.data.len()
            + self.headers.names.data.len()
            + self.headers.values.values.data.len()
    }

    /// Copies a message into the columns; its headers follow with [`Batch::push_header`], and
    /// [`Batch::close_message`] ends it.
    #[inline]
    pub fn push(&mut self, message: Message<'_>) {
        self.payloads.push(message.payload);
        self.keys.push(message.key);
        self.timestamps.push(message.timestamp_us);
        self.log_append_times.push(false);
        self.partitions.push(message.partition);
        self.offsets.push(message.offset);
    }

    /// Says that the time of the message that was pushed last is that of the broker's append.
    #[inline]
    pub fn mark_log_append_time(&mut self) {
        if let Some(last) = self.log_append_times.last_mut() {
            *last = true;
        }
    }

    /// Appends a header to the message that was pushed last.
    pub fn push_header(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.headers.names.push(name);
        self.headers.values.push(value);
    }

    /// Ends the message that was pushed last.
    #[inline]
    pub fn close_message(&mut self) {
        self.headers.ends.push(self.headers.names.len() as u32);
    }

    /// Forgets all messages and keeps the memory.
    pub fn clear(&mut self) {
        self.payloads.clear();
        self.keys.clear();
        self.timestamps.clear();
        self.log_append_times.clear();
        self.partitions.clear();
        self.offsets.clear();
        self.headers.ends.clear();
        self.headers.names.clear();
        self.headers.values.clear();
    }
}
