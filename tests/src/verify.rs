//! `cargo verify`: everything CI checks, step by step. Installs what it misses; knows nothing of what is tested.

use std::process::ExitCode;
use std::time::Instant;

mod advisories;
mod fuzz;
mod licences;
mod manifest;
mod run;
mod steps;
mod tools;
mod versions;

use steps::{STEPS, Step};

const HELP: &str = "\
Checks everything that CI checks.

Usage: cargo verify [--long] [STEP]...

  --long   repeat each fault as often as the nightly run does (about ten times as often)
  STEP     only these steps:";

/// Reads the arguments and takes the steps.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|it| it.starts_with('-'));
    if options.iter().any(|option| matches!(*option, "-h" | "--help")) {
        println!("{HELP}");
        for step in STEPS {
            println!("             {:<12}{}", step.name, step.what);
        }
        return ExitCode::SUCCESS;
    }
    let unknown = |name: &&&str| !STEPS.iter().any(|step| step.name == **name);
    if let Some(wrong) =
        options.iter().find(|option| **option != "--long").or(names.iter().find(unknown))
    {
        eprintln!("error: `{wrong}` is neither an option nor a step; see cargo verify --help");
        return ExitCode::from(2);
    }
    let chosen = STEPS.iter().filter(|step| names.is_empty() || names.contains(&step.name));
    if verify(chosen, options.contains(&"--long")) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes all steps, also behind one that failed: a line too long must not hide a test that fails.
fn verify<'s>(steps: impl Iterator<Item = &'s Step>, long: bool) -> bool {
    let start = Instant::now();
    let mut lines = Vec::new();
    let mut all_passed = true;
    for step in steps {
        println!("\n== {}: {}", step.name, step.what);
        let step_start = Instant::now();
        let result = (step.run)(long);
        let time = time(step_start);
        let result_text = match &result {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        println!("== {}: {result_text} ({time})", step.name);
        all_passed &= result.is_ok();
        lines.push(format!("{:<12}{time:>10}  {result_text}", step.name));
    }
    println!(
        "\n{}\n{:<12}{:>10}  {}",
        lines.join("\n"),
        "verify",
        time(start),
        if all_passed { "ok" } else { "FAILED" }
    );
    all_passed
}

fn time(start: Instant) -> String {
    let seconds = start.elapsed().as_secs();
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}
