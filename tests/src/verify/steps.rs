//! The steps, in the order in which they fail fastest. All of them use the profile `dev`, so that
//! dependencies are compiled once.

use anyhow::Result;

use super::{fuzz, licences, run, tools};

/// One thing that is checked.
pub(super) struct Step {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    /// One line.
    pub(super) what: &'static str,
    /// Checks; `true` for the nightly numbers.
    pub(super) run: fn(long: bool) -> Result<()>,
}

/// All steps.
pub(super) const STEPS: &[Step] = &[
    Step {
        name: "tools",
        what: "what the other steps need is installed",
        run: |_| tools::install(),
    },
    Step {
        name: "format",
        what: "cargo fmt",
        run: |_| run::cargo(&["fmt", "--all", "--", "--check"]),
    },
    Step {
        name: "licences",
        what: "licences, sources and advisories of all dependencies",
        run: |_| licences::check(),
    },
    Step { name: "lints", what: "cargo clippy, warnings are errors", run: |_| lints() },
    Step { name: "plugins", what: "cargo plugins", run: |_| run::cargo(&["plugins"]) },
    Step { name: "tests", what: "all tests, with real Kafka and Postgres", run: run::tests },
    Step {
        name: "fuzz",
        what: "the fuzzer, a minute for all its targets; an hour with --long",
        run: fuzz::check,
    },
    Step { name: "docs", what: "cargo doc, warnings are errors", run: |_| documentation() },
];

fn lints() -> Result<()> {
    run::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

fn documentation() -> Result<()> {
    let arguments = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
    run::finish(run::command("cargo").args(arguments).env("RUSTDOCFLAGS", "--deny warnings"))
}
