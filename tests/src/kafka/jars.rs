//! Kafka's jars, fetched once through Maven into the user's cache folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const KAFKA: &str = "4.1.1";

/// Class path of the broker and its tools. Fetched by the first call on a machine.
pub fn class_path() -> Result<String> {
    let folder = crate::folders::cache()?.join(format!("kafka-{KAFKA}"));
    if !folder.join("complete").exists() {
        fetch(&folder)?;
    }
    Ok(format!("{}/*", folder.join("jars").display()))
}

fn fetch(folder: &Path) -> Result<()> {
    ensure("java", "default-jre-headless")?;
    ensure("mvn", "maven")?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("pom.xml"), pom())?;
    eprintln!("fetching Kafka {KAFKA} into {}", folder.display());
    let status = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
        .args(["-DincludeScope=runtime", "-DoutputDirectory=jars"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .status()
        .context("run mvn")?;
    if !status.success() {
        bail!("mvn could not fetch Kafka {KAFKA}: {status}");
    }
    // Written last: an interrupted fetch is repeated.
    fs::write(folder.join("complete"), "").context("mark the jars as complete")
}

/// Installs `package` when `program` is missing and we may, else says what to do.
fn ensure(program: &str, package: &str) -> Result<()> {
    let found = |program: &str| {
        Command::new(program)
            .arg("--help")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    if found(program).is_ok() {
        return Ok(());
    }
    eprintln!("installing {package}");
    let installed =
        Command::new("apt-get").args(["install", "--yes", package]).stdout(Stdio::null()).status();
    if installed.is_ok_and(|status| status.success()) && found(program).is_ok() {
        return Ok(());
    }
    bail!(
        "`{program}` is needed to run Kafka and could not be installed: install it first (Debian: apt-get install {package})"
    )
}

fn pom() -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"#
    )
}
