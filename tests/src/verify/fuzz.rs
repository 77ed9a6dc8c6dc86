//! Runs the fuzzer over each of its targets for some seconds, from the inputs that are kept in the repository. What
//! the targets promise they know themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use super::run;
use crate::folders;

/// Seconds for all targets, which run two at a time: a minute, or an hour.
const SECONDS: u64 = 60;
const SECONDS_LONG: u64 = 3600;
const AT_ONCE: usize = 2;

/// Builds the fuzzer and runs it.
pub(super) fn check(long: bool) -> Result<()> {
    let mut build = run::command("cargo");
    build.args(["build", "--quiet", "--package", "sluice-fuzz", "--features", "fuzzer"]);
    // Only the crates of the workspace get counters: dependencies are those of the other steps.
    build.env("RUSTC_WORKSPACE_WRAPPER", run::workspace().join("host/fuzz/instrument"));
    run::finish(&mut build)?;
    let targets = targets()?;
    let rounds = targets.len().div_ceil(AT_ONCE) as u64;
    let all = if long { SECONDS_LONG } else { SECONDS };
    let seconds = (all / rounds).max(1);
    let (waiting, failures) = (Mutex::new(targets.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = next(&waiting) {
                    match fuzz(&target, seconds, long) {
                        Ok(line) => println!("{target:<10} {line}"),
                        Err(error) => lock(&failures).push(format!("{target}: {error:#}")),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

/// Each has a folder of inputs; a test of the host sees to that.
fn targets() -> Result<Vec<String>> {
    let entries = fs::read_dir(corpus()).context("read the folder of inputs")?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn corpus() -> PathBuf {
    run::workspace().join("host/fuzz/corpus")
}

fn next(waiting: &Mutex<std::vec::IntoIter<String>>) -> Option<String> {
    lock(waiting).next()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs one target; what it ran comes back, or what it found.
fn fuzz(target: &str, seconds: u64, long: bool) -> Result<String> {
    let found = folders::target()?.join("fuzz").join(target);
    let new_inputs = found.join("corpus");
    fs::create_dir_all(&new_inputs).with_context(|| format!("create {}", new_inputs.display()))?;
    let output = Command::new(folders::binaries()?.join("fuzz"))
        .env("SLUICE_FUZZ", target)
        .args([&new_inputs, &corpus().join(target)])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        // A slow input is a bug, too; a neighbour may keep the processor busy for seconds.
        .args(["-max_len=4096", "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"])
        // Each change is blocked against the same inputs; an hour looks for others: 0 is a seed by chance.
        .arg(format!("-seed={}", u8::from(!long)))
        .stdin(Stdio::null())
        .output()
        .context("start the fuzzer")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let kept = Path::new("host/fuzz/corpus").join(target);
        bail!(
            "a promise is broken; the input is named below. Mend the bug, and keep the input in {}\n{}",
            kept.display(),
            what_was_found(&said)
        );
    }
    let runs = statistic(&said, "number_of_executed_units").unwrap_or(0);
    if runs == 0 {
        bail!("the fuzzer ran nothing:\n{said}");
    }
    Ok(format!("{runs} inputs in {seconds} s, all pass"))
}

fn statistic(said: &str, name: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.starts_with("stat::") && line.contains(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The panic and where its input was written, without libFuzzer's progress and stack.
fn what_was_found(said: &str) -> String {
    const LINES_MAX: usize = 40;
    let is_progress = |line: &str| line.starts_with('#') || line.starts_with("\tNEW_FUNC");
    let from = said.lines().position(|line| line.contains("panicked at"));
    let lines = said.lines().skip(from.unwrap_or(0)).filter(|line| !is_progress(line));
    lines.take(LINES_MAX).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_the_fuzzer_says_the_panic_is_shown_and_the_runs_are_counted() {
        let said = "INFO: Seed: 1\n#2\tINITED cov: 7\n\nthread '<unnamed>' panicked at host/src/fuzz/copy.rs:1:2:\nboom\n\
            #3\tNEW    cov: 8\nTest unit written to target/fuzz/copy/crash-1\nstat::number_of_executed_units: 1234\n";
        insta::assert_snapshot!(what_was_found(said), @r"
    thread '<unnamed>' panicked at host/src/fuzz/copy.rs:1:2:
    boom
    Test unit written to target/fuzz/copy/crash-1
    stat::number_of_executed_units: 1234
    ");
        assert_eq!(statistic(said, "number_of_executed_units"), Some(1234));
        assert_eq!(statistic("#2\tINITED", "number_of_executed_units"), None);
    }
}
