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
fn missing_privileges_are_explained() {
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

/// The SQL is that of the version before, which a host keeps until it is replaced.
#[test]
fn hosts_of_the_version_before_find_what_was_renamed() {
    let database = Database::new();
    let block = "WITH gone AS (DELETE FROM sluice.holds WHERE pipeline = 'p' AND owner <> 'old' AND partition = ANY ('{1}')) \
        INSERT INTO sluice.holds AS h (pipeline, topic, owner, host, partition, code, reason) \
        SELECT 'p', 't', 'old', 'h', partition, 'SL-K010', 'why' FROM unnest('{1,2}'::integer[]) AS p (partition) \
        ON CONFLICT (pipeline, topic, partition, owner) DO UPDATE \
        SET code = excluded.code, reason = 'again', checked_at = now()";
    database.run(block);
    database.run(block);
    let seen =
        "SELECT partition, reason, blocked_since <= checked_at FROM sluice.blocks ORDER BY 1";
    assert_eq!(database.ask(seen), "1|again|t\n2|again|t");
    database.run("DELETE FROM sluice.holds WHERE held_since <= now() AND partition = 1");
    assert_eq!(database.ask("SELECT partition, held_since IS NOT NULL FROM sluice.holds"), "2|t");
    database.run(
        "INSERT INTO sluice.replayed_letters (id, pipeline, topic, topic_id, partition, \"offset\", digest, plugin, \
         version, rows) VALUES (7, 'p', 't', gen_random_uuid(), 0, 1, 'd', 'n', '1', 2)",
    );
    database.run("UPDATE sluice.replayed_letters SET rows = 3 WHERE id = 7");
    let replayed = "SELECT id, rows, replayed_at IS NOT NULL FROM sluice.replayed_dead_letters";
    assert_eq!(database.ask(replayed), "7|3|t");
    assert_eq!(database.ask("SELECT count(*) FROM sluice.discarded_letters"), "0");
}

#[test]
fn privileges_that_were_granted_before_a_table_was_renamed_are_granted_on_its_old_name() {
    let database = Database::new();
    let granted = "SELECT string_agg(privilege_type, ' ' ORDER BY privilege_type) FROM pg_class, aclexplode(relacl) AS acl \
        WHERE oid = 'sluice.holds'::regclass AND acl.grantee <> relowner";
    assert_eq!(database.ask(granted), "NULL");
    // As at the upgrade of a schema whose tables were granted.
    database.run(
        "CREATE ROLE renamed_writer; DROP VIEW sluice.holds, sluice.discarded_letters, sluice.replayed_letters; \
         GRANT SELECT, INSERT ON sluice.blocks TO renamed_writer; \
         ALTER TABLE sluice.blocks RENAME TO holds; ALTER TABLE sluice.holds RENAME COLUMN blocked_since TO held_since; \
         ALTER INDEX sluice.blocks_pkey RENAME TO holds_pkey; \
         ALTER TABLE sluice.discarded_dead_letters RENAME TO discarded_letters; \
         ALTER INDEX sluice.discarded_dead_letters_pkey RENAME TO discarded_letters_pkey; \
         ALTER TABLE sluice.replayed_dead_letters RENAME TO replayed_letters; \
         ALTER INDEX sluice.replayed_dead_letters_pkey RENAME TO replayed_letters_pkey",
    );
    database.run(include_str!("../../../../migrations/V11__blocks.sql"));
    assert_eq!(database.ask(granted), "INSERT SELECT");
    database.run("DROP OWNED BY renamed_writer; DROP ROLE renamed_writer");
}
