//! Child processes: cargo as it is, and the tests with their output cut to what is worth reading.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A command in the workspace's root, without what `cargo run` left in the environment for its child.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    for (name, _) in std::env::vars_os() {
        // A build script that watches one of these would run again and again.
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name == "CARGO_BIN_NAME"
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// The workspace's root.
pub(super) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Runs cargo and lets it speak for itself.
pub(super) fn cargo(arguments: &[&str]) -> Result<()> {
    finish(command("cargo").args(arguments))
}

/// Runs a command to its end.
pub(super) fn finish(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

/// Runs all tests. Lines are shown as they come, but of those that pass only the sums.
pub(super) fn tests(long: bool) -> Result<()> {
    let mut command = command("cargo");
    command
        // Not the examples: they are guests, which link for WebAssembly alone.
        .args(["test", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"])
        // Its tests are some of the host's, for Miri.
        .args(["--exclude", "sluice-fuzz"])
        .env("INSTA_UPDATE", "no")
        .stdout(Stdio::piped());
    if long {
        command.env("SLUICE_LONG", "1");
    }
    let mut child = command.spawn().context("start cargo test")?;
    let output = child.stdout.take().context("cargo test has an output")?;
    let mut failing = false;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if is_shown(&line, &mut failing) {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{line}").and_then(|()| stdout.flush())?;
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo test: {status}");
    }
    // The examples in the documentation of what plugin authors use.
    cargo(&["test", "--quiet", "--package", "sluice-plugin", "--doc"])
}

/// True for sums, failures and all that is said about them, and tests that take long.
fn is_shown(line: &str, failing: &mut bool) -> bool {
    if line.starts_with("test result:") {
        *failing = false;
        // Crates without tests say so once per kind of test.
        return !line.contains(" 0 passed; 0 failed; 0 ignored");
    }
    *failing |= line == "failures:";
    *failing || line.ends_with("FAILED") || line.contains("has been running for over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_tests_that_pass_only_the_sums_are_shown() {
        let output = "\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\ntest c has been running for over 60 seconds\n\
            \nfailures:\n\n---- b stdout ----\nboom\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n\
            test d ... ok\ntest result: ok. 0 passed; 0 failed; 0 ignored\ntest result: ok. 1 passed; 0 failed; 0 ignored";
        let mut failing = false;
        let shown: Vec<&str> = output.lines().filter(|line| is_shown(line, &mut failing)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
    test b ... FAILED
    test c has been running for over 60 seconds
    failures:

    ---- b stdout ----
    boom

    failures:
        b

    test result: FAILED. 1 passed; 1 failed; 0 ignored
    test result: ok. 1 passed; 0 failed; 0 ignored
    ");
    }
}
