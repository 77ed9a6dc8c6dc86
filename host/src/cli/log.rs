//! What is logged, and how: to standard error, as text or one JSON object a line.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

mod line;

use line::Line;

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "SLUICE_LOG_FORMAT", hide_env = true)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `sluice=debug,warn` [default: info for
    /// run, else warn]
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG", hide_env_values = true, value_parser = filter)]
    pub log_level: Option<String>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Logs from here on, at `level` unless another one was asked for. A second call changes nothing.
pub fn start(arguments: &Arguments, level: &str) {
    let filter = EnvFilter::new(arguments.log_level.as_deref().unwrap_or(level));
    // Somebody logs already when this runs inside of a test; theirs is as good.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours())
        .event_format(Line(arguments.log_format))
        .try_init();
}

/// Colours are for eyes: none in files and pipes, none for those who said so (<https://no-color.org>).
fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}
