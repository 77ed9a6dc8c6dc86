//! As whom we log in, and where that stands: files are read again when Postgres refuses a login, so that a password
//! that was changed in both places needs no restart.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio_postgres::Config;

use super::environment::Environment;
use crate::settings;

/// Warnings that were logged: each comes once.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A connection string and how it came about.
#[derive(Clone)]
pub(super) struct Source {
    pub url: String,
    /// As it stands in the settings, when parts of it are in files.
    pub raw: Option<String>,
}

/// User and password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    user: Option<String>,
    password: Option<Vec<u8>>,
}

/// Shared by all sessions of a pipeline.
pub(super) struct Login {
    source: Source,
    environment: Environment,
    current: Mutex<Credentials>,
}

impl Source {
    /// The connection string with what its files contain now.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn now(&self) -> Result<String, String> {
        match &self.raw {
            Some(raw) => settings::filled(raw),
            None => Ok(self.url.clone()),
        }
    }
}

impl Credentials {
    pub fn of(config: &Config) -> Self {
        let password = config.get_password().map(<[u8]>::to_vec);
        Self { user: config.get_user().map(str::to_owned), password }
    }

    /// `config` with them.
    pub fn applied_to(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let Some(user) = &self.user {
            config.user(user);
        }
        if let Some(password) = &self.password {
            config.password(password);
        }
        config
    }
}

impl Login {
    pub fn new(source: Source, environment: Environment, config: &Config) -> Self {
        Self { source, environment, current: Mutex::new(Credentials::of(config)) }
    }

    pub fn current(&self) -> Credentials {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After `used` were refused: others, if they have changed.
    pub fn read_again(&self, used: &Credentials) -> Option<Credentials> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Another session may have read them already.
        if *current == *used {
            let read = self
                .source
                .now()
                .and_then(|url| self.environment.complete(&url).map_err(|fault| fault.message));
            match read {
                Ok(complete) => *current = Credentials::of(&complete.config),
                Err(reason) => tracing::warn!("cannot read the password again: {reason}"),
            }
        }
        Some(current.clone()).filter(|current| current != used)
    }
}

/// Logs what was not logged before.
pub(super) fn warn_once(warnings: &[String]) {
    for warning in warnings {
        let is_new = TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.clone());
        if is_new {
            tracing::warn!("{warning}");
        }
    }
}
