//! A client of librdkafka that reads partitions assigned to it by hand, in no group. Several may read by it, each
//! partitions of its own.

use std::collections::VecDeque;
use std::ffi::{CString, c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaResult;
use rdkafka::types::{RDKafkaRespErr, RDKafkaType};

use super::queues::{FetchedQueues, Queue};
use super::valve::{Need, Valve};
use super::verify::{Rejections, verify};
use super::{FetchError, text};
use crate::bell::Bell;
use crate::sink::LastRead;

/// So many errors that concern no partition are remembered for those who have not asked yet.
const ERRORS_MAX: usize = 16;

/// Those for whom nothing comes ask so often whether brokers are there; lanes look around every ten seconds.
const CHECK_PERIOD: Duration = Duration::from_secs(9);

/// The client.
pub struct FetchClient {
    // Dropped in this order: the queue calls back, and the client's threads use the sockets.
    news: Queue,
    client: Client<Sockets>,
    bells: Box<Bells>,
    told: Mutex<Told>,
    /// When brokers were asked last whether they are there.
    checked: Mutex<Instant>,
}

// SAFETY: librdkafka's clients and queues may be used from any thread.
unsafe impl Send for FetchClient {}
// SAFETY: as above.
unsafe impl Sync for FetchClient {}

/// Of everybody who reads by a client.
#[derive(Default)]
struct Bells(Mutex<Vec<Weak<Bell>>>);

/// Errors that concern no partition, and how many there were in all.
#[derive(Default)]
struct Told {
    errors: VecDeque<FetchError>,
    count: u64,
}

impl FetchClient {
    /// Connects in the background.
    ///
    /// # Errors
    /// When librdkafka refuses a property.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let native = config.create_native_config()?;
        // SAFETY: the configuration is not in use yet. librdkafka hands its opaque pointer to all of them, which
        // the wrapper makes that of the context, and calls them only as long as the client lives.
        unsafe {
            sys::rd_kafka_conf_set_events(native.ptr(), sys::RD_KAFKA_EVENT_ERROR);
            sys::rd_kafka_conf_set_socket_cb(native.ptr(), Some(open_socket));
            sys::rd_kafka_conf_set_closesocket_cb(native.ptr(), Some(close_socket));
            sys::rd_kafka_conf_set_ssl_cert_verify_cb(native.ptr(), Some(verify));
        }
        let kind = RDKafkaType::RD_KAFKA_CONSUMER;
        let client = Client::new(config, native, kind, Sockets::default())?;
        let bells = Box::<Bells>::default();
        let argument = (&raw const *bells).cast_mut().cast();
        // SAFETY: the client is valid, and the bells live as long as the queue.
        let news = unsafe {
            let main = sys::rd_kafka_queue_get_main(client.native_ptr());
            Queue::ringing(main, ring_all, argument)
        };
        let checked = Mutex::new(Instant::now());
        Ok(Self { news, client, bells, told: Mutex::default(), checked })
    }

    pub(super) fn native(&self) -> *mut sys::rd_kafka_t {
        self.client.native_ptr()
    }

    /// The client, to ask brokers for metadata.
    pub fn client(&self) -> &Client<impl ClientContext + use<>> {
        &self.client
    }

    /// Asks for the metadata of `topic` if nobody has done so for a while, and begins with `brokers` again if there is no
    /// answer within `wait`. For those who wait for the first message after silence: nothing else tells a topic without messages from a
    /// client that asks nobody any more.
    pub fn check(&self, topic: &str, brokers: &str, wait: Duration) {
        {
            let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.elapsed() < CHECK_PERIOD {
                return;
            }
            *checked = Instant::now();
        }
        if self.client.fetch_metadata(Some(topic), wait).is_err() {
            super::begin_again(&self.client, brokers);
        }
    }

    /// Somebody begins to read by this client; `bell` is rung when there are errors or lines of the log. Needs
    /// [`Need::Anything`] until told otherwise.
    pub fn join(&self, bell: &Arc<Bell>) {
        self.bells.lock().push(Arc::downgrade(bell));
        self.client.context().valve.join();
    }

    /// Whoever joined with `bell` and needed `need` reads no more.
    pub fn leave(&self, bell: &Arc<Bell>, need: Need) {
        let known = Arc::downgrade(bell);
        self.bells.lock().retain(|it| !it.ptr_eq(&known));
        self.client.context().valve.leave(need);
    }

    /// One of those who read needs `next` and no longer `before`.
    pub fn change_need(&self, before: Need, next: Need) {
        self.client.context().valve.change(before, next);
    }

    /// Bytes that brokers have sent so far, as they came over the network, and how many readers they are for.
    pub fn received(&self) -> (u64, usize) {
        let valve = &self.client.context().valve;
        (valve.received(), valve.readers())
    }

    /// True when somebody who reads would take whatever comes.
    pub fn has_idle(&self) -> bool {
        self.client.context().valve.has_idle()
    }

    /// Hands each line of the log to `tell`, with its level as of syslog and its facility, and returns the errors since
    /// `seen`, the number of those known to who asks; they concern no partition.
    pub fn news(&self, seen: &mut u64, tell: impl FnMut(i32, &str, &str)) -> Vec<FetchError> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.drain(&mut told, tell);
        let unseen = usize::try_from(told.count - *seen).unwrap_or(ERRORS_MAX);
        *seen = told.count;
        let errors = told.errors.iter();
        errors.skip(told.errors.len().saturating_sub(unseen)).cloned().collect()
    }

    fn drain(&self, told: &mut Told, mut tell: impl FnMut(i32, &str, &str)) {
        // SAFETY: the queue lives as long as self; an event is read before it is destroyed, once.
        unsafe {
            while sys::rd_kafka_queue_length(self.news.pointer) > 0 {
                let event = sys::rd_kafka_queue_poll(self.news.pointer, 0);
                if event.is_null() {
                    return;
                }
                match sys::rd_kafka_event_type(event) {
                    sys::RD_KAFKA_EVENT_ERROR => {
                        let code = sys::rd_kafka_event_error(event).into();
                        let text = text(sys::rd_kafka_event_error_string(event));
                        let text = self.client.context().rejections.explain(text);
                        told.count += 1;
                        told.errors.push_back(FetchError { partition: None, code, text });
                        if told.errors.len() > ERRORS_MAX {
                            told.errors.pop_front();
                        }
                    }
                    sys::RD_KAFKA_EVENT_LOG => {
                        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                        let (facility_at, line_at) = (&raw mut facility, &raw mut line);
                        sys::rd_kafka_event_log(event, facility_at, line_at, &raw mut level);
                        tell(level, &text(facility), &text(line));
                    }
                    _ => {}
                }
                sys::rd_kafka_event_destroy(event);
            }
        }
    }
}

/// A topic that is read by a client.
pub struct Topic {
    pointer: *mut sys::rd_kafka_topic_t,
    name: CString,
    // Dropped after the topic.
    client: Arc<FetchClient>,
}

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl Send for Topic {}

impl Topic {
    /// A topic for `client` to read.
    ///
    /// # Panics
    /// When its name contains a NUL.
    pub fn new(client: &Arc<FetchClient>, name: &str) -> Self {
        let name = CString::new(name).expect("a topic that was found has no NUL in its name");
        // SAFETY: client and name are valid; without a configuration the client's counts.
        let pointer =
            unsafe { sys::rd_kafka_topic_new(client.native(), name.as_ptr(), ptr::null_mut()) };
        assert!(!pointer.is_null(), "the client took the same configuration");
        Self { pointer, name, client: client.clone() }
    }

    /// The client that reads it.
    pub fn client(&self) -> &FetchClient {
        &self.client
    }

    /// Reads `partition` from `offset` on, into a queue of its own among `queues`.
    ///
    /// # Errors
    /// librdkafka's text.
    pub fn start(
        &self,
        queues: &mut FetchedQueues,
        partition: i32,
        offset: i64,
    ) -> Result<(), String> {
        let queue = queues.add(&self.client, partition).pointer;
        // SAFETY: topic and queue are valid.
        let answer =
            unsafe { sys::rd_kafka_consume_start_queue(self.pointer, partition, offset, queue) };
        if answer == 0 {
            return Ok(());
        }
        queues.remove(partition);
        Err(last_error())
    }

    /// Reads `partition` from behind `last` on, once brokers have said that the log was not cut before it; if it was,
    /// there is an error among what is fetched. What was fetched and not taken yet is forgotten.
    ///
    /// # Errors
    /// librdkafka's text.
    pub fn go_on_behind(&self, partition: i32, last: LastRead) -> Result<(), String> {
        // SAFETY: client, list and name are valid; the list and an error are given back once. Without a time to wait
        // librdkafka returns at once and keeps nothing of the list.
        unsafe {
            let partitions = sys::rd_kafka_topic_partition_list_new(1);
            let one =
                sys::rd_kafka_topic_partition_list_add(partitions, self.name.as_ptr(), partition);
            (*one).offset = last.offset + 1;
            sys::rd_kafka_topic_partition_set_leader_epoch(one, last.leader_epoch);
            let error = sys::rd_kafka_seek_partitions(self.client.native(), partitions, 0);
            let mut answer = Ok(());
            if !error.is_null() {
                answer = Err(text(sys::rd_kafka_error_string(error)));
                sys::rd_kafka_error_destroy(error);
            } else if (*one).err != RDKafkaRespErr::RD_KAFKA_RESP_ERR__IN_PROGRESS {
                answer = Err(text(sys::rd_kafka_err2str((*one).err)));
            }
            sys::rd_kafka_topic_partition_list_destroy(partitions);
            answer
        }
    }

    /// Reads `partition` no more.
    ///
    /// # Errors
    /// librdkafka's text.
    pub fn stop(&self, queues: &mut FetchedQueues, partition: i32) -> Result<(), String> {
        // SAFETY: the topic is valid.
        let answer = unsafe { sys::rd_kafka_consume_stop(self.pointer, partition) };
        queues.remove(partition);
        if answer == 0 { Ok(()) } else { Err(last_error()) }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_topic_new, given back once.
        unsafe { sys::rd_kafka_topic_destroy(self.pointer) };
    }
}

/// Of the call that this thread made last.
fn last_error() -> String {
    // SAFETY: librdkafka gives a text for every error, which lives as long as the process.
    unsafe { text(sys::rd_kafka_err2str(sys::rd_kafka_last_error())) }
}

impl Bells {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Bell>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Safety
/// `bells` points to [`Bells`].
unsafe extern "C" fn ring_all(_: *mut sys::rd_kafka_t, bells: *mut c_void) {
    // SAFETY: as the caller promises.
    let bells = unsafe { &*bells.cast_const().cast::<Bells>() };
    bells.lock().iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
}

/// What our functions are given that librdkafka calls for a connection.
#[derive(Default)]
pub(super) struct Sockets {
    valve: Valve,
    pub(super) rejections: Rejections,
}

impl ClientContext for Sockets {}

/// # Safety
/// `sockets` points to [`Sockets`].
unsafe extern "C" fn open_socket(
    domain: c_int,
    kind: c_int,
    protocol: c_int,
    sockets: *mut c_void,
) -> c_int {
    // SAFETY: as the caller promises; socket(2) takes any numbers.
    unsafe {
        let socket = libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol);
        if socket >= 0 {
            (*sockets.cast_const().cast::<Sockets>()).valve.add(socket);
        }
        socket
    }
}

/// # Safety
/// `sockets` points to [`Sockets`], and `socket` came from [`open_socket`].
unsafe extern "C" fn close_socket(socket: c_int, sockets: *mut c_void) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        (*sockets.cast_const().cast::<Sockets>()).valve.remove(socket);
        libc::close(socket)
    }
}
