//! The `sluice` schema: made once, however many want it.

use super::lab::{Database, wait_for};
use crate::sink::migrate::migrate;

#[test]
fn many_hosts_may_migrate_at_once() {
    let database = Database::without_schema();
    let reports = wait_for(async {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let options = database.options.clone();
                tokio::spawn(async move { migrate(&options).await.unwrap() })
            })
            .collect();
        let mut reports = Vec::new();
        for task in tasks {
            reports.push(task.await.unwrap());
        }
        reports
    });
    let working: Vec<_> = reports.iter().filter(|report| !report.applied.is_empty()).collect();
    assert_eq!(working.len(), 1, "{reports:?}");
    let applied = &working[0].applied;
    assert_eq!(applied[0], "V1__sluice");
    let last = database.ask("SELECT max(version) FROM sluice.migrations");
    assert!(reports.iter().all(|report| report.version.to_string() == last), "{reports:?}");
    assert_eq!(database.ask("SELECT count(*) FROM sluice.migrations"), applied.len().to_string());
}

#[test]
fn missing_rights_are_explained() {
    let database = Database::without_schema();
    let role = format!("weak_{}", database.name);
    let weak = database.create_role(&role);
    let fault = wait_for(migrate(&weak)).unwrap_err().to_string();
    insta::assert_snapshot!(fault.replace(&database.name, "lab"), @"SL-P013: create schema sluice: permission denied for database lab (42501)");
    // Once it is made, nothing more is asked for than to read and write it.
    wait_for(migrate(&database.options)).unwrap();
    database.run(&format!(
        "GRANT USAGE ON SCHEMA sluice TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA sluice TO {role}"
    ));
    assert!(wait_for(migrate(&weak)).unwrap().applied.is_empty());
}

#[test]
fn a_schema_made_by_a_newer_version_is_left_alone() {
    let database = Database::new();
    let known = database.ask("SELECT max(version) FROM sluice.migrations");
    database.run("INSERT INTO sluice.migrations SELECT 99, 'later', applied_on, checksum FROM sluice.migrations LIMIT 1");
    let fault = wait_for(migrate(&database.options)).unwrap_err().to_string();
    insta::assert_snapshot!(fault.replace(&format!("knows {known}"), "knows less"), @"SL-P012: schema sluice has version 99, made by a newer sluice; this one knows less");
}
