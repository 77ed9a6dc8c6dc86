//! Passwords stay where they were written: no output, no log, no list of processes and no table has them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sluice_tests::checker::Readings;
use sluice_tests::host::Host;
use sluice_tests::kafka::{PASSWORD, USER, broker};
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator;
use sluice_tests::plugins::sluice;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

/// Of the role in Postgres, from a variable.
const CANARY: &str = "canary-8c2e4";
const VARIABLE: &str = "SLUICE_TEST_SECRET";

/// Fails when one of the passwords is in `text`.
fn scan(place: &str, text: &str) -> Result<()> {
    for secret in [CANARY, PASSWORD] {
        ensure!(!text.contains(secret), "{secret} is in {place}:\n{text}");
    }
    Ok(())
}

/// Command lines of all processes.
fn scan_processes() -> Result<()> {
    let mut found = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        // Others come and go.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // The broker's own storage is formatted with its user's password.
        if !line.contains("StorageTool") {
            scan(&format!("{}", entry.path().display()), &line)?;
        }
        found += usize::from(line.contains("sluice") && line.contains(" run "));
    }
    ensure!(found > 0, "the host is not among the processes");
    Ok(())
}

/// All rows of all tables of schema `sluice`, as text.
fn scan_tables(database: &Database) -> Result<()> {
    let tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'sluice'::regnamespace AND relkind = 'r'";
    let tables = database.query(tables, &[])?;
    ensure!(tables.len() > 9, "only {} tables", tables.len());
    for row in tables {
        let table: String = row.get(0);
        let rows =
            database.text(&format!("SELECT string_agg(t::text, ' ') FROM sluice.{table} AS t"))?;
        scan(&table, &rows.unwrap_or_default())?;
    }
    Ok(())
}

/// What commands print, as text and as JSON.
fn scan_commands(file: &Path) -> Result<()> {
    for command in
        [&["validate"][..], &["lag"], &["lineage"], &["dlq", "list"], &["dlq", "show"], &["run"]]
    {
        // A second host would go on until it is ended.
        let settings = if command == ["run"] { Path::new("/no/such.toml") } else { file };
        for format in ["text", "json"] {
            let mut call = Command::new(sluice()?);
            call.args(["--format", format]).args(command).arg(settings).env(VARIABLE, CANARY);
            let output = call.output()?;
            for stream in [output.stdout, output.stderr] {
                scan(&format!("{command:?}"), &String::from_utf8_lossy(&stream))?;
            }
        }
    }
    Ok(())
}

#[test]
fn no_password_is_in_output_logs_processes_or_tables() -> Result<()> {
    let scene = Scene::new("secrets", 1, Readings::TABLE)?;
    let database = &scene.database;
    database.execute(&format!(
        "CREATE ROLE secrets LOGIN PASSWORD '{CANARY}'; GRANT CREATE ON DATABASE secrets TO secrets; \
         GRANT INSERT ON readings TO secrets"
    ))?;
    Load::new(&scene.topic, Mix { bad_per_mille: 200, long_per_mille: 0 })?.send(200)?;
    let broker = broker()?;
    let password = scene.folder.join("sasl");
    fs::write(&password, PASSWORD)?;
    let mut pipeline = scene
        .pipeline()?
        .property("security.protocol", "SASL_SSL")
        .property("sasl.mechanisms", "SCRAM-SHA-256")
        .property("sasl.username", USER)
        .property("sasl.password", &format!("${{file:{}}}", password.display()))
        .property("ssl.ca.location", &broker.certificate().to_string_lossy());
    broker.secure_address().clone_into(&mut pipeline.brokers);
    let port = database.port()?;
    pipeline.url = format!("postgres://secrets:${{{VARIABLE}}}@127.0.0.1:{port}/secrets");
    let file = pipeline.write(&scene.folder)?;
    let start = |name: &str| {
        Host::start_with_variable(
            name,
            &scene.folder,
            std::slice::from_ref(&file),
            (VARIABLE, CANARY),
        )
    };
    let host = start("host")?;
    scene.wait_until_drained()?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.pid()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.context("a limit of core files")?.split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "a core dump would have them");
    scan_processes()?;
    scan_commands(&file)?;
    // What fails is told with its reason.
    database.execute("REVOKE INSERT ON readings FROM secrets")?;
    Load::new(&scene.topic, Mix::default())?.counting_from(1000).send(10)?;
    host.wait_for("pipeline blocked", SOON)?;
    scan_commands(&file)?;
    scan_tables(database)?;
    host.terminate()?;
    database.execute("ALTER ROLE secrets PASSWORD 'another'")?;
    let refused = start("refused")?;
    let blocked = refused.wait_for("pipeline blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-P002"), "{}", blocked.line);
    scan_commands(&file)?;
    refused.terminate()?;
    for log in ["host.log", "refused.log"] {
        scan(log, &fs::read_to_string(scene.folder.join(log))?)?;
    }
    scan_tables(database)
}

/// Build scripts of plugins are code of others.
#[test]
fn cargo_is_not_given_the_passwords_of_the_environment() -> Result<()> {
    let folder = sluice_tests::folders::scratch_for("secrets_build")?;
    let (cargo, told) = (folder.join("cargo"), folder.join("told"));
    fs::write(&cargo, format!("#!/bin/sh\nenv > '{}'\nexit 1\n", told.display()))?;
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(sluice()?);
    command.args(["plugin", "build"]).current_dir(&folder).env("CARGO", &cargo);
    let built = command
        .envs([(VARIABLE, CANARY), ("DATABASE_URL", CANARY), ("CARGO_TERM_COLOR", "never")])
        .output()?;
    assert!(!built.status.success());
    let told = fs::read_to_string(&told)?;
    scan("the environment of cargo", &told)?;
    assert!(told.contains("PATH=") && told.contains("CARGO_TERM_COLOR=never"), "{told}");
    Ok(())
}

/// What stands in an argument itself, everybody on the machine can read; a file's name may.
#[test]
fn arguments_may_name_files_in_the_place_of_passwords() -> Result<()> {
    let database = Database::create("secrets_arguments")?;
    let folder = sluice_tests::folders::scratch_for("secrets_arguments")?;
    let url = folder.join("url");
    fs::write(&url, format!("{}\n", database.url()))?;
    let file = format!("${{file:{}}}", url.display());
    let migrated = operator::call(&["migrate", "--url"], Path::new(&file))?;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    assert!(database.is_true("SELECT to_regclass('sluice.positions') IS NOT NULL")?);
    let missing = operator::call(&["migrate", "--url"], Path::new("${file:/no/such}"))?;
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(text.contains("SL-C008") && text.contains("cannot be read"), "{text}");
    Ok(())
}
