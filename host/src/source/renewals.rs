//! Certificates and keys that are renewed on disk: librdkafka reads the files that properties name when a client is made,
//! and never again.

use std::collections::BTreeMap;
use std::path::Path;

use crate::files::Stamp;
use crate::settings::SourceSettings;
use crate::source::native::FetchClient;
use crate::source::properties;

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

/// Looks whether the files of a running pipeline were renewed.
#[derive(Debug)]
pub struct Renewals {
    source: SourceSettings,
    /// When its clients were made.
    used: Stamps,
    /// At the look before.
    seen: Stamps,
}

impl Renewals {
    /// The files as they are now; `None` where properties name none.
    pub fn begin(source: &SourceSettings) -> Option<Self> {
        let used = stamps_of(source);
        (!used.is_empty()).then(|| Self { source: source.clone(), seen: used.clone(), used })
    }

    /// True when there are other files than when this began, nobody has written to them since the look before, and
    /// librdkafka takes them.
    pub fn look(&mut self) -> bool {
        let now = stamps_of(&self.source);
        if std::mem::replace(&mut self.seen, now.clone()) != now || now == self.used {
            return false;
        }
        match FetchClient::new(&properties::fetcher(&self.source, 1)) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("renewed certificates cannot be used: {error}; those of before are");
                // Told once; the next ones are looked at again.
                self.used = now;
                false
            }
        }
    }
}

fn stamps_of(source: &SourceSettings) -> Stamps {
    stamps(source.properties.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}
