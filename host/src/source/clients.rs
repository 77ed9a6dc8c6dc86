//! Clients that read messages, shared by all pipelines of this process that reach the same brokers in the same way: each
//! client costs threads, connections and fetches, whether there are messages or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rdkafka::ClientConfig;

use crate::fault::Fault;
use crate::source::log::refused;
use crate::source::native::FetchClient;
use crate::source::properties;
use crate::source::renewals::stamps;

/// Those that are in use.
static CLIENTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    properties: BTreeMap<String, String>,
    client: Weak<FetchClient>,
    /// What is read by it: a client reads each topic for one lane only, because a partition has one position in it.
    topics: BTreeSet<String>,
}

/// The use of a client for one topic.
pub struct Lease {
    client: Arc<FetchClient>,
    topic: String,
}

impl Lease {
    /// A client that nobody reads `topic` by, made if there is none.
    ///
    /// # Errors
    /// `SL-K001` when librdkafka refuses a property.
    pub fn take(config: &ClientConfig, topic: &str) -> Result<Self, Fault> {
        let properties = with_files(properties::entries(config));
        let mut entries = entries();
        entries.retain(|it| it.client.strong_count() > 0);
        let free = entries
            .iter_mut()
            .filter(|it| it.properties == properties && !it.topics.contains(topic))
            .find_map(|it| Some((it.client.upgrade()?, it)));
        if let Some((client, entry)) = free {
            entry.topics.insert(topic.to_owned());
            return Ok(Self { client, topic: topic.to_owned() });
        }
        let client = Arc::new(FetchClient::new(config).map_err(|error| refused(&error))?);
        entries.push(Entry {
            properties,
            client: Arc::downgrade(&client),
            topics: BTreeSet::from([topic.to_owned()]),
        });
        Ok(Self { client, topic: topic.to_owned() })
    }

    /// The client.
    pub fn client(&self) -> &Arc<FetchClient> {
        &self.client
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let ours = Arc::downgrade(&self.client);
        for entry in entries().iter_mut().filter(|it| it.client.ptr_eq(&ours)) {
            entry.topics.remove(&self.topic);
        }
    }
}

/// Properties, and what tells the files that they name from those that were there before: a client that was made before a
/// certificate was renewed is another client.
fn with_files<'a>(
    properties: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> BTreeMap<String, String> {
    let files = stamps(properties.clone());
    properties.map(|(key, value)| (key.to_owned(), value.to_owned())).chain(files).collect()
}

fn entries() -> MutexGuard<'static, Vec<Entry>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_share_a_client_and_lanes_of_one_topic_do_not() {
        let config = |brokers: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers);
            config
        };
        let (here, there) = (config("127.0.0.1:1"), config("127.0.0.1:2"));
        let lane_0 = Lease::take(&here, "a").unwrap();
        let lane_1 = Lease::take(&here, "a").unwrap();
        let other_topic = Lease::take(&here, "b").unwrap();
        let elsewhere = Lease::take(&there, "b").unwrap();
        assert!(!Arc::ptr_eq(lane_0.client(), lane_1.client()));
        assert!(Arc::ptr_eq(lane_0.client(), other_topic.client()));
        assert!(!Arc::ptr_eq(lane_0.client(), elsewhere.client()));
        let login = |password: &str| {
            let config = config("127.0.0.1:3").set("sasl.password", password).clone();
            Lease::take(&config, "a").unwrap()
        };
        let (old, new) = (login("old"), login("new"));
        let beside = Lease::take(config("127.0.0.1:3").set("sasl.password", "new"), "b").unwrap();
        assert!(Arc::ptr_eq(new.client(), beside.client()));
        assert!(!Arc::ptr_eq(old.client(), beside.client()), "its password is another one");
        let file = tempfile::NamedTempFile::new().unwrap();
        let secured = |content: &str| {
            std::fs::write(file.path(), content).unwrap();
            let location = file.path().display().to_string();
            with_files(
                [("ssl.key.location", location.as_str()), ("a.location", "/no/such")].into_iter(),
            )
        };
        let (first, renewed) = (secured("one"), secured("another"));
        assert_eq!((first.len(), renewed.len()), (3, 3));
        assert_ne!(first, renewed, "its file is another one");
        drop(lane_0);
        let again = Lease::take(&here, "a").unwrap();
        assert!(Arc::ptr_eq(again.client(), other_topic.client()), "its topic is free again");
    }
}
