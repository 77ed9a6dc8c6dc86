//! `sluice demo`: see the main job work, with everything it needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::filled;
use super::plugin::build::build;
use crate::demo::{self, End, Options};
use crate::fault::Fault;

/// What to show.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// Real brokers instead of the embedded one, as host:port, comma-separated
    #[arg(long)]
    pub brokers: Option<String>,
    /// A real database instead of a throwaway Postgres, as `postgres://user:password@host/database`; with `${VARIABLE}` or
    /// `${file:/path}` in single quotes, the password is in no list of processes
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Messages to send at once, before the others follow one by one
    #[arg(long, default_value_t = demo::DEVICES)]
    pub messages: u64,
    /// Seconds during which devices send as they do in life, 8,333 readings a second
    #[arg(long, default_value_t = 40)]
    pub seconds: u64,
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Component of the plugin `readings` [default: built here]
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
}

const NOTES: &str = "\
On real brokers, the demo makes a topic of its own; in a real database, a schema sluice_demo. Both go
when it ends, however it ends, unless the process is killed.";

/// Shows it all.
///
/// # Errors
/// Whatever kept the demo from running, `SL-S009` when a number on its last screen is wrong.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let stop = stopped_by_signals()?;
    let plugin = match &arguments.plugin {
        Some(file) => file.clone(),
        None => build(Path::new("."), "readings")?,
    };
    let options = Options {
        brokers: arguments.brokers.clone(),
        database: arguments.database.as_deref().map(filled).transpose()?,
        messages: arguments.messages,
        live: Duration::from_secs(arguments.seconds),
        keep: arguments.keep,
        plugin,
    };
    match demo::run(&options, &stop)? {
        End::Accounted => Ok(()),
        End::NotAccounted => {
            Err(Fault::block("SL-S009", "the demo's books do not balance, see above").into())
        }
        End::Stopped => anyhow::bail!("the demo was stopped before its end"),
    }
}

/// The first signal ends the demo in good order, the second one at once.
fn stopped_by_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
