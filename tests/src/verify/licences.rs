//! Licences and sources of the dependencies: asked of cargo-deny where it is installed, else compared with the lists in
//! `.deny.toml` here. Advisories beyond those lists are for `advisories`.

use std::process::Output;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::manifest::{Metadata, Package};
use super::versions::numbers;
use super::{advisories, run, tools};

/// Checks all dependencies.
pub(super) fn check() -> Result<()> {
    let consulted = if tools::answers("cargo", &["deny", "--version"]) {
        with_cargo_deny()?
    } else {
        by_the_lists()?;
        false
    };
    advisories::check(consulted)
}

fn by_the_lists() -> Result<()> {
    println!(
        "cargo-deny is not installed: licences, sources and the crates banned in .deny.toml are checked here"
    );
    let policy: Policy =
        toml::from_str(&std::fs::read_to_string(run::workspace().join(".deny.toml"))?)?;
    let packages = Metadata::read()?.used();
    let wrong = policy.violations(&packages);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n  "));
    }
    println!("{} packages: licences, sources and versions are allowed", packages.len());
    Ok(())
}

/// True when the database of advisories was asked; false where it is not reachable.
fn with_cargo_deny() -> Result<bool> {
    let deny = ["deny", "--config", ".deny.toml", "check", "--hide-inclusion-graph"];
    run::cargo(&[&deny[..], &["bans", "licenses", "sources"]].concat())?;
    let Output { status, stderr, .. } =
        run::command("cargo").args(deny).arg("advisories").output().context("start cargo deny")?;
    let said = String::from_utf8_lossy(&stderr);
    print!("{said}");
    if said.contains("failed to fetch advisory database")
        || said.contains("failed to load advisory database")
    {
        return Ok(false);
    }
    if !status.success() {
        bail!("cargo deny check advisories: {status}");
    }
    Ok(true)
}

/// What is read of `.deny.toml`.
#[derive(Debug, Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    /// `name`, `name@<1.2.3` or `name@>1.2.3`.
    #[serde(rename = "crate")]
    name: String,
    #[serde(rename = "deny-multiple-versions", default)]
    once: bool,
    reason: String,
}

impl Policy {
    fn violations(&self, packages: &[Package]) -> Vec<String> {
        let mut wrong = Vec::new();
        for package in packages {
            let Package { name, version, license, source } = package;
            let licence = license.as_deref().unwrap_or("none");
            if !is_allowed(licence, &self.licenses.allow) {
                wrong.push(format!("{name} {version} has the licence {licence}"));
            }
            if source.as_deref().is_some_and(|source| !source.starts_with("registry+")) {
                wrong.push(format!("{name} {version} does not come from a registry"));
            }
        }
        for ban in &self.bans.deny {
            let hits: Vec<&str> =
                packages.iter().filter(|it| ban.hits(it)).map(|it| it.version.as_str()).collect();
            if hits.len() > usize::from(ban.once) {
                wrong.push(format!("{} {}: {}", ban.crate_name(), hits.join(" and "), ban.reason));
            }
        }
        wrong
    }
}

impl Ban {
    fn crate_name(&self) -> &str {
        self.name.split('@').next().unwrap_or_default()
    }

    fn hits(&self, package: &Package) -> bool {
        let Some((name, bound)) = self.name.split_once('@') else {
            return package.name == self.name;
        };
        let version = numbers(&package.version);
        let fits = match bound.split_at(1) {
            ("<", bound) => version < numbers(bound),
            (">", bound) => version > numbers(bound),
            _ => true,
        };
        package.name == name && fits
    }
}

/// Whether an SPDX expression (or the older `MIT/Apache-2.0`) can be met with licences that are allowed.
fn is_allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(" WITH ", "_WITH_");
    let tokens: Vec<String> =
        spaced.split_whitespace().map(|token| token.replace("_WITH_", " WITH ")).collect();
    let mut rest = &tokens[..];
    either(&mut rest, allow) && rest.is_empty()
}

fn either(rest: &mut &[String], allow: &[String]) -> bool {
    let mut allowed = both(rest, allow);
    while rest.first().is_some_and(|token| token == "OR") {
        *rest = &rest[1..];
        allowed |= both(rest, allow);
    }
    allowed
}

fn both(rest: &mut &[String], allow: &[String]) -> bool {
    let mut allowed = one(rest, allow);
    while rest.first().is_some_and(|token| token == "AND") {
        *rest = &rest[1..];
        allowed &= one(rest, allow);
    }
    allowed
}

fn one(rest: &mut &[String], allow: &[String]) -> bool {
    let Some((token, behind)) = rest.split_first() else { return false };
    *rest = behind;
    if token != "(" {
        return allow.contains(token);
    }
    let allowed = either(rest, allow);
    let closed = rest.first().is_some_and(|token| token == ")");
    *rest = rest.get(1..).unwrap_or_default();
    allowed && closed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let text = r#"
            licenses.allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]
            [bans]
            deny = [
                { crate = "tokio", deny-multiple-versions = true, reason = "has one runtime" },
                { crate = "ring@<0.17.12", reason = "RUSTSEC-2025-0009" },
                { crate = "bincode@>1.3.3", reason = "another format" },
                { crate = "atty", reason = "is not maintained" },
            ]
        "#;
        toml::from_str(text).unwrap()
    }

    fn package(name: &str, version: &str, license: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            license: (!license.is_empty()).then(|| license.into()),
            source: Some("registry+https://example.org/index".into()),
        }
    }

    #[test]
    fn an_expression_needs_one_way_that_is_allowed() {
        for (expression, expected) in [
            ("MIT", true),
            ("MIT/GPL-3.0", true),
            ("GPL-3.0 OR Apache-2.0 WITH LLVM-exception", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("MIT AND (GPL-3.0 OR AGPL-3.0)", false),
            ("GPL-3.0", false),
            ("Apache-2.0 WITH other-exception", false),
            ("MIT MIT", false),
            ("(MIT", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &policy().licenses.allow), expected, "{expression}");
        }
    }

    #[test]
    fn each_violation_is_named() {
        let mut foreign = package("fork", "1.0.0", "MIT");
        foreign.source = Some("git+https://example.org/fork".into());
        let packages = [
            package("tokio", "1.40.0", "MIT"),
            package("tokio", "2.0.0", "MIT"),
            package("ring", "0.17.9", "Apache-2.0"),
            package("bincode", "1.3.3", "MIT"),
            package("bincode", "2.0.1", "MIT"),
            package("copyleft", "0.1.0", "GPL-3.0"),
            package("nothing", "0.1.0", ""),
            foreign,
        ];
        insta::assert_snapshot!(policy().violations(&packages).join("\n"), @r"
    copyleft 0.1.0 has the licence GPL-3.0
    nothing 0.1.0 has the licence none
    fork 1.0.0 does not come from a registry
    tokio 1.40.0 and 2.0.0: has one runtime
    ring 0.17.9: RUSTSEC-2025-0009
    bincode 2.0.1: another format
    ");
        let fine = [package("tokio", "1.40.0", "MIT"), package("ring", "0.17.14", "MIT")];
        assert!(policy().violations(&fine).is_empty());
    }
}
