//! What cargo knows about the dependencies of this machine's build.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::run;

/// A package that is compiled into something.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    /// `None` for our own.
    pub(super) source: Option<String>,
}

/// The answer of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Identified>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Identified {
    id: String,
    #[serde(flatten)]
    package: Package,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
}

impl Metadata {
    /// Asks cargo, for this machine's platform only: nothing is fetched that the build does not need.
    pub(super) fn read() -> Result<Self> {
        let platform = host()?;
        // With what only the fuzzer needs.
        let arguments = [
            "metadata",
            "--locked",
            "--all-features",
            "--format-version",
            "1",
            "--filter-platform",
            &platform,
        ];
        let output =
            run::command("cargo").args(arguments).output().context("start cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("read what cargo metadata says")
    }

    /// The packages that this platform uses.
    pub(super) fn used(self) -> Vec<Package> {
        let used: BTreeSet<String> = self.resolve.nodes.into_iter().map(|node| node.id).collect();
        self.packages.into_iter().filter(|it| used.contains(&it.id)).map(|it| it.package).collect()
    }
}

fn host() -> Result<String> {
    let output = run::command("rustc").arg("-vV").output().context("start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}
