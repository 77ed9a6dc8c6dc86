//! Connects once by a client of its own, to find out what those that are at work were not told.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;

use super::{FetchClient, FetchError};

/// librdkafka's errors are looked at so often.
const LOOK_PERIOD: Duration = Duration::from_millis(200);

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// Brokers let the client in.
    Reached,
    /// The first error that was wanted.
    Met(FetchError),
    /// Neither within the time.
    Unknown,
}

/// Asks for `topic` by a client with `config`, at most for `wait`, until brokers answer or it meets an error that is `wanted`.
///
/// # Errors
/// When librdkafka refuses a property.
pub fn probe(
    config: &ClientConfig,
    topic: &str,
    wait: Duration,
    wanted: impl Fn(&FetchError) -> bool,
) -> KafkaResult<Answer> {
    let client = FetchClient::new(config)?;
    let (deadline, mut seen) = (Instant::now() + wait, 0);
    loop {
        let reached = client.client().fetch_metadata(Some(topic), LOOK_PERIOD).is_ok();
        let met = client.news(&mut seen, |_, _, _| {}).into_iter().find(&wanted);
        match met {
            _ if reached => return Ok(Answer::Reached),
            Some(error) => return Ok(Answer::Met(error)),
            None if Instant::now() >= deadline => return Ok(Answer::Unknown),
            None => {}
        }
    }
}
