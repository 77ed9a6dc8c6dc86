//! What is renewed on disk while a pipeline runs or is blocked: certificates and keys in files that properties name, which
//! librdkafka reads when a client is made and never again, and passwords that the settings take from files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::fault::broker;
use crate::files::Stamp;
use crate::settings::SourceSettings;
use crate::source::native::{self, Answer, FetchClient, FetchError};
use crate::source::properties;

/// How long brokers may take to say what they think of a new password.
const LOGIN_WAIT: Duration = Duration::from_secs(5);

/// What tells files from those that were there before, by the property that names them.
type Stamps = BTreeMap<String, String>;

/// The stamps of all files that `properties` name.
pub(super) fn stamps<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Stamps {
    let stamp = |(key, value): (&'a str, &'a str)| {
        let stamp = Stamp::of(Path::new(value)).filter(|_| key.ends_with(".location"))?;
        Some((format!("{key} on disk"), format!("{stamp:?}")))
    };
    properties.filter_map(stamp).collect()
}

/// What files contain at one time. Passwords are among it: it is never shown.
#[derive(Clone, PartialEq, Eq)]
struct Content {
    files: Stamps,
    properties: BTreeMap<String, String>,
}

/// What was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Files that librdkafka reads.
    Certificates,
    /// Properties whose values are in files.
    Properties,
}

impl Renewed {
    fn tell_refusal(self, reason: &str) {
        match self {
            Self::Certificates => {
                tracing::warn!(
                    "cannot use renewed certificates: {reason}; the previous ones are used"
                );
            }
            Self::Properties => tracing::warn!(
                code = broker::LOGIN,
                "cannot use a renewed password yet: {reason}; the previous one is used"
            ),
        }
    }
}

/// Looks whether the files of a pipeline were renewed.
pub struct Renewals {
    source: SourceSettings,
    /// When its clients were made.
    used: Content,
    /// At the look before.
    seen: Content,
    /// True when it was logged that what was seen cannot be used.
    told: bool,
}

impl Renewals {
    /// The files as they are now, from which `source` was filled in; `None` where properties name none.
    pub fn begin(source: &SourceSettings) -> Option<Self> {
        let used = Content::of(source);
        let has_files = !used.files.is_empty() || !source.properties_raw.is_empty();
        has_files.then(|| Self { source: source.clone(), seen: used.clone(), used, told: false })
    }

    /// True when there is something else than when this began, and nobody has written to it since the look before.
    pub fn has_settled(&mut self) -> bool {
        self.settled().is_some()
    }

    /// The same where it can be used: librdkafka takes it, and brokers a new password.
    pub fn look(&mut self) -> Option<Renewed> {
        let source = self.settled()?;
        let renewed = if source.properties == self.used.properties {
            Renewed::Certificates
        } else {
            Renewed::Properties
        };
        let usable = match renewed {
            Renewed::Certificates => takes(&source),
            Renewed::Properties => logs_in(&source),
        };
        if let Err(reason) = &usable
            && !std::mem::replace(&mut self.told, true)
        {
            renewed.tell_refusal(reason);
        }
        usable.is_ok_and(|usable| usable).then_some(renewed)
    }

    fn settled(&mut self) -> Option<SourceSettings> {
        // A file that is being replaced may be missing for a moment.
        let source = self.source.now().ok()?;
        let now = Content::of(&source);
        if now != self.seen {
            (self.seen, self.told) = (now, false);
            return None;
        }
        (now != self.used).then_some(source)
    }
}

impl Content {
    fn of(source: &SourceSettings) -> Self {
        let properties = source.properties.iter();
        let files = stamps(properties.map(|(key, value)| (key.as_str(), value.as_str())));
        Self { files, properties: source.properties.clone() }
    }
}

/// Whether librdkafka takes the files.
fn takes(source: &SourceSettings) -> Result<bool, String> {
    let client = FetchClient::new(&properties::fetcher(source, 1));
    client.map(|_| true).map_err(|error| error.to_string())
}

/// Whether brokers let a client in; false when they do not answer. The pipeline that runs has connections which may outlive
/// a password that is not valid yet.
fn logs_in(source: &SourceSettings) -> Result<bool, String> {
    let config = properties::reaching(&properties::fetcher(source, 1));
    let refused = |error: &FetchError| broker::remedy(error.code).0 == broker::LOGIN;
    match native::probe(&config, &source.topic, LOGIN_WAIT, refused) {
        Ok(Answer::Reached) => Ok(true),
        Ok(Answer::Met(error)) => Err(error.text),
        Ok(Answer::Unknown) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
