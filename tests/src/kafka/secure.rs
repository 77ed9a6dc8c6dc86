//! The broker's second listener: TLS with a certificate signed by itself, and SCRAM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// User of the secure listener.
pub const USER: &str = "sluice";
/// Password of [`USER`].
pub const PASSWORD: &str = "canary-5d1c7";

const KEYSTORE_PASSWORD: &str = "keystore";

/// Makes a key and a certificate for `localhost` in `folder`; returns the certificate's file.
pub(super) fn make_keystore(folder: &Path) -> Result<PathBuf> {
    let keystore = folder.join("keystore.p12");
    if !keystore.exists() {
        keytool(
            &keystore,
            &[
                "-genkeypair",
                "-keyalg",
                "EC",
                "-dname",
                "CN=localhost",
                "-ext",
                "SAN=DNS:localhost,IP:127.0.0.1",
            ],
        )?;
    }
    let certificate = folder.join("certificate.pem");
    fs::write(&certificate, keytool(&keystore, &["-exportcert", "-rfc"])?)?;
    Ok(certificate)
}

pub(super) fn properties(folder: &Path) -> String {
    format!(
        "ssl.keystore.type=PKCS12
ssl.keystore.location={keystore}
ssl.keystore.password={KEYSTORE_PASSWORD}
ssl.key.password={KEYSTORE_PASSWORD}
sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
",
        keystore = folder.join("keystore.p12").display(),
    )
}

/// The password goes by a file: lists of processes have arguments.
pub(super) fn change_password(brokers: &str, folder: &Path, password: &str) -> Result<()> {
    let file = folder.join("credentials");
    fs::write(&file, format!("SCRAM-SHA-256=password={password}\n"))?;
    let output = Command::new("java")
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-cp", &super::class_path()?, "kafka.admin.ConfigCommand"])
        .args(["--bootstrap-server", brokers, "--alter"])
        .args(["--entity-type", "users", "--entity-name", USER, "--add-config-file"])
        .arg(&file)
        .output()
        .context("run java")?;
    if !output.status.success() {
        bail!("changing the password failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn keytool(keystore: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("keytool")
        .args(arguments)
        .args([
            "-alias",
            "broker",
            "-storetype",
            "PKCS12",
            "-storepass",
            KEYSTORE_PASSWORD,
            "-keystore",
        ])
        .arg(keystore)
        .output()
        .context("run keytool, which comes with java")?;
    if !output.status.success() {
        bail!("keytool failed: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(output.stdout)
}
