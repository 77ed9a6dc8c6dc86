//! What the steps need beyond Rust: installed where that is possible, else named with the command that does it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::run;

/// Programs of the system: (program, arguments that it is content with, Debian packages, what for).
const PROGRAMS: [(&str, &[&str], &[&str], &str); 6] = [
    ("cc", &["--version"], &["build-essential"], "the C libraries"),
    ("c++", &["--version"], &["build-essential"], "the fuzzer"),
    ("pkg-config", &["--exists", "openssl"], &["pkg-config", "libssl-dev"], "the system's OpenSSL"),
    ("java", &["-version"], &["default-jre-headless"], "the broker of the tests"),
    ("mvn", &["--version"], &["maven"], "fetching the broker of the tests"),
    ("pgbouncer", &["--version"], &["pgbouncer"], "the pooler of the tests"),
];

/// Installs what is missing. Postgres and Kafka are fetched by the tests themselves.
pub(super) fn install() -> Result<()> {
    rust()?;
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, arguments, ..)| !answers(program, arguments)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (program, arguments, packages, purpose) in &missing {
        let (arguments, packages) = (arguments.join(" "), packages.join(" "));
        println!("{program} {arguments} fails: needed for {purpose}, package {packages}");
    }
    let packages: Vec<&str> =
        missing.iter().flat_map(|(_, _, packages, _)| *packages).copied().collect();
    let by_hand = format!("apt-get install --yes {}", packages.join(" "));
    if !is_root() || !answers("apt-get", &["--version"]) {
        bail!("install what is missing as root: {by_hand}");
    }
    println!("installing {}", packages.join(", "));
    run::finish(run::command("apt-get").arg("update").stdout(Stdio::null()))?;
    let mut install = run::command("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
    run::finish(install.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}

/// rustfmt, clippy and the target of the plugins.
fn rust() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !answers("cargo", &[subcommand, "--version"]) {
            println!("installing {component}");
            run::finish(run::command("rustup").args(["component", "add", component]))?;
        }
    }
    if !has_plugin_target() {
        println!("installing the target {PLUGIN_TARGET}");
        run::finish(run::command("rustup").args(["target", "add", PLUGIN_TARGET]))?;
    }
    Ok(())
}

const PLUGIN_TARGET: &str = "wasm32-unknown-unknown";

/// Asks the compiler, for not every Rust comes from rustup.
fn has_plugin_target() -> bool {
    let folder = run::command("rustc")
        .args(["--print", "target-libdir", "--target", PLUGIN_TARGET])
        .output();
    folder.is_ok_and(|output| {
        std::path::Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

/// True when `program` can be started and is content with `arguments`.
pub(super) fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command: Command = run::command(program);
    let status = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
