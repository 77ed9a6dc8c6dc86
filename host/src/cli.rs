//! The command line, one file per command. Each has `Arguments` and `run`; none knows the others.

use clap::{Parser, Subcommand, ValueEnum};

use crate::fault::Fault;
use crate::settings;

pub mod completions;
mod connections;
mod database;
pub mod demo;
pub mod dlq;
pub mod explain;
pub mod lag;
pub mod lineage;
pub mod log;
pub mod migrate;
pub mod output;
pub mod plugin;
pub mod report;
pub mod resolve;
pub mod run;
pub mod simulate;
pub mod table;
mod topic;
pub mod validate;

/// Moves Kafka messages into Postgres at bulk speed, exactly once, through sandboxed WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, long_version = crate::versions::long(), max_term_width = 100, after_help = EXIT_CODES)]
pub struct CommandLine {
    /// What is logged, and how.
    #[command(flatten)]
    pub log: log::Arguments,
    /// How results and errors are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 Kafka or Postgres not reachable.
Results go to standard output, logs and errors to standard error.";

/// How results and errors are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one JSON value.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run pipelines until SIGTERM
    Run(run::Arguments),
    /// See it work: embedded broker, throwaway Postgres, simulated devices, a plugin replaced
    Demo(demo::Arguments),
    /// Send messages that look like the real ones
    Simulate(simulate::Arguments),
    /// Check settings, plugin, tables and the way to the brokers; nothing moves
    Validate(validate::Arguments),
    /// Create the `sluice` schema or bring it up to date
    Migrate(migrate::Arguments),
    /// Show which plugin version made which range of offsets
    Lineage(lineage::Arguments),
    /// Show how far each partition is behind
    Lag(lag::Arguments),
    /// Decide where blocked partitions go on
    Resolve(resolve::Arguments),
    /// Show, replay and discard dead letters
    Dlq(dlq::DlqArgs),
    /// Build plugins, and look into one
    Plugin(plugin::PluginArgs),
    /// Explain an error code
    Explain(explain::Arguments),
    /// Print completions for a shell
    Completions(completions::Arguments),
}

impl Command {
    /// What is logged unless another level is asked for. The demo has the screen for itself, and commands that
    /// only look say all they have to say themselves.
    pub fn log_level(&self) -> &'static str {
        if matches!(self, Self::Run(_)) { "info" } else { "warn" }
    }
}

/// Does what the line says.
pub fn run(line: &CommandLine) -> anyhow::Result<()> {
    let format = line.format;
    match &line.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments, format),
        Command::Validate(arguments) => validate::run(arguments, format),
        Command::Migrate(arguments) => migrate::run(arguments, format),
        Command::Lineage(arguments) => lineage::run(arguments, format),
        Command::Lag(arguments) => lag::run(arguments, format),
        Command::Resolve(arguments) => resolve::run(arguments, format),
        Command::Dlq(arguments) => dlq::run(arguments, format),
        Command::Plugin(arguments) => plugin::run(arguments, format),
        Command::Explain(arguments) => explain::run(arguments, format),
        Command::Completions(arguments) => completions::run(arguments),
    }
}

/// Drives the one future of a command.
/// An argument with its variables and files, as in settings: what stands in it itself, every user of the machine can read.
fn filled(argument: &str) -> Result<String, Fault> {
    settings::filled(argument).map_err(|reason| Fault::exit("SL-C008", reason))
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn help_shows_all_commands() {
        let help = CommandLine::command().term_width(100).render_help().to_string();
        insta::assert_snapshot!(help, @r"
    Moves Kafka messages into Postgres at bulk speed, exactly once, through sandboxed WebAssembly
    plugins

    Usage: sluice [OPTIONS] <COMMAND>

    Commands:
      run          Run pipelines until SIGTERM
      demo         See it work: embedded broker, throwaway Postgres, simulated devices, a plugin
                   replaced
      simulate     Send messages that look like the real ones
      validate     Check settings, plugin, tables and the way to the brokers; nothing moves
      migrate      Create the `sluice` schema or bring it up to date
      lineage      Show which plugin version made which range of offsets
      lag          Show how far each partition is behind
      resolve      Decide where blocked partitions go on
      dlq          Show, replay and discard dead letters
      plugin       Build plugins, and look into one
      explain      Explain an error code
      completions  Print completions for a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
          --log-format <LOG_FORMAT>  How log lines are written [default: text] [possible values: text,
                                     json]
          --log-level <LEVEL>        What is logged: error, warn, info, debug, trace, or a filter such
                                     as `sluice=debug,warn` [default: info for run, else warn] [env:
                                     RUST_LOG]
          --format <FORMAT>          How results and errors are printed [default: text] [possible
                                     values: text, json]
      -h, --help                     Print help (see more with '--help')
      -V, --version                  Print version

    Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 Kafka or Postgres not reachable.
    Results go to standard output, logs and errors to standard error.
    ");
    }
}
