//! A role with the privileges that README.md lists, and no others: it can do all that a pipeline and its operator do, and
//! each privilege that is taken away is named.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_tests::folders;
use sluice_tests::kafka::Topic;
use sluice_tests::operator::{call, lag};
use sluice_tests::plugins::plugin;
use sluice_tests::wait::{SOON, until_true};

use super::tables::case::{Case, bad, good, table};

/// A key for the modes that need one, a constraint whose rows are dead-lettered, and one whose rows are tried again.
const CHANGES: &str = "ALTER TABLE readings ADD PRIMARY KEY (device_id, seq), \
     ADD CONSTRAINT counted CHECK (energy_wh >= 0), ADD CONSTRAINT known CHECK (seq < 1000000)";

/// One privilege as it is granted and revoked, and as `sluice validate` names it.
#[derive(Debug, Clone)]
struct Privilege {
    name: String,
    on: String,
    shown: String,
}

/// The statements of the README that a writer in `mode` needs, each without its role.
fn statements(mode: &str) -> Result<Vec<String>> {
    let readme = fs::read_to_string(folders::workspace().join("README.md"))?;
    let blocks = readme.split("```").filter_map(|block| block.strip_prefix("sql\n"));
    let block = blocks.into_iter().find(|block| block.starts_with("GRANT CONNECT"));
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in block.context("README.md lists privileges")?.lines() {
        statement.push_str(line);
        let Some((granted, comment)) = statement.split_once(';') else { continue };
        if comment.is_empty() || comment.contains(mode) {
            let granted = granted.strip_suffix(" TO sluice_writer").context(line.to_owned())?;
            statements.push(granted.trim().to_owned());
        }
        statement.clear();
    }
    ensure!(statements.len() > 7, "{statements:?}");
    Ok(statements)
}

/// What `statements` grant, one by one, in a database called `database`.
fn privileges(statements: &[String], database: &str) -> Result<Vec<Privilege>> {
    let mut privileges = Vec::new();
    for statement in statements {
        let granted = statement.strip_prefix("GRANT ").and_then(|it| it.split_once(" ON "));
        let (names, on) = granted.with_context(|| statement.clone())?;
        let (kind, things) = match on.split_once(' ') {
            Some((kind @ ("DATABASE" | "SCHEMA"), things)) => (kind, things),
            _ if on == "ALL FUNCTIONS IN SCHEMA sluice" => continue,
            _ => ("TABLE", on),
        };
        for (name, thing) in names.split(", ").flat_map(|name| {
            things.split(',').map(move |thing| (name, thing.trim().replace("energy", database)))
        }) {
            let shown = match kind {
                "TABLE" if !thing.contains('.') => format!("{name} on public.{thing}"),
                "TABLE" => format!("{name} on {thing}"),
                kind => format!("{name} on {} {thing}", kind.to_lowercase()),
            };
            privileges.push(Privilege {
                name: name.to_owned(),
                on: format!("{kind} {thing}"),
                shown,
            });
        }
    }
    let functions = ["advance", "expect_defined", "expect_unchanged", "join_hosts", "lives"];
    privileges.extend(functions.map(|function| Privilege {
        name: "EXECUTE".to_owned(),
        on: format!("FUNCTION {}", signature(function)),
        shown: format!("EXECUTE on function sluice.{function}"),
    }));
    Ok(privileges)
}

/// A function of schema `sluice` as REVOKE names it.
fn signature(function: &str) -> String {
    let arguments = match function {
        "advance" => {
            "text, text, uuid, text, text, text, integer[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], \
             bigint[], bigint[], bigint[], bigint[], integer[]"
        }
        "join_hosts" => "text, text, text, text, text, text",
        "lives" => "text",
        "expect_defined" => "regclass, text, bigint",
        _ => "boolean",
    };
    format!("sluice.{function}({arguments})")
}

/// A case whose host is a role with these statements granted, where nobody else is granted anything. The schema
/// `sluice` is made by another role.
fn least(name: &str, mode: &str, statements: &[String]) -> Result<Case> {
    let lines = format!(
        "mode = \"{mode}\"\n\n[retry]\nconstraints = [\"known\"]\nattempts = 1000\ndelay = \"200ms\"\nmultiplier = 1\n"
    );
    least_on(name, &table(CHANGES), &lines, statements)
}

/// As [`least`] makes it, with another table and other lines of `[sink]`.
fn least_on(name: &str, table: &str, sink_lines: &str, statements: &[String]) -> Result<Case> {
    let mut case = Case::new(name, table)?;
    case.pipeline.sink_lines.push_str(sink_lines);
    let migrated = call(&["migrate"], &case.file()?)?;
    ensure!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    case.log_in_as(name)?;
    case.execute(&format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC; \
         REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sluice FROM PUBLIC"
    ))?;
    for statement in statements {
        case.execute(&format!("{} TO {name}", statement.replace("energy", name)))?;
    }
    Ok(case)
}

/// Calls `sluice`, which must succeed.
fn succeed(case: &Case, arguments: &[&str]) -> Result<String> {
    let output = call(arguments, &case.file()?)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_listed_privileges_are_enough_for_all_that_a_pipeline_and_its_operator_do() -> Result<()> {
    for mode in ["append", "ignore", "upsert"] {
        let name = format!("least_{mode}");
        let mut case = least(&name, mode, &statements(mode)?)?;
        let dead = Topic::create(&format!("{name}_dead"), 1)?;
        case.pipeline.dead_letter_lines = format!("topic = \"{}\"\n", dead.name);
        succeed(&case, &["validate"])?;
        case.start()?;
        case.send(10)?;
        case.send_each(&[bad(json!({ "energy_wh": -1 })), bad(json!({ "energy_wh": -2 }))])?;
        case.drained()?;
        case.send_each(&[good(json!({ "seq": 1_000_001 }))])?;
        case.drained()?;
        let count =
            |what: &str| case.scene.database.number(&format!("SELECT count(*) FROM {what}"));
        assert_eq!(lag(&case.file()?)?["parked"]["messages"], 1);
        assert_eq!((count("readings")?, count("sluice.dead_letters")?), (10, 2));
        until_true("dead letters are relayed", SOON, || {
            Ok(count("sluice.dead_letters WHERE relayed_at IS NOT NULL")? == 2)
        })?;
        case.execute("ALTER TABLE readings DROP CONSTRAINT known, DROP CONSTRAINT counted")?;
        until_true("what was parked is a row", SOON, || Ok(count("sluice.retried")? == 1))?;
        operate(&case)?;
        assert_eq!(count("readings")?, 12);
        // A decision about the partition, and a host that goes on after it.
        case.stop()?;
        case.send(1)?;
        succeed(
            &case,
            &["resolve", "--partition", "0", "--offset", "14", "--force", "--reason", "a test"],
        )?;
        case.start()?;
        case.send(1)?;
        case.drained()?;
        case.stop()?;
        let case_count =
            |what: &str| case.scene.database.number(&format!("SELECT count(*) FROM {what}"));
        assert_eq!((case_count("readings")?, case_count("sluice.gaps")?), (13, 1));
    }
    Ok(())
}

/// Looks at everything, discards the first of two dead letters and replays the second.
fn operate(case: &Case) -> Result<()> {
    succeed(case, &["lineage"])?;
    assert!(succeed(case, &["dlq", "list"])?.contains("23514"));
    assert!(succeed(case, &["dlq", "show", "--offset", "10"])?.contains("counted"));
    succeed(case, &["dlq", "discard", "--offset", "10", "--reason", "a test"])?;
    succeed(case, &["dlq", "replay", "--all", "--dry-run"])?;
    succeed(case, &["dlq", "replay", "--all"])?;
    let count = |what: &str| case.scene.database.number(&format!("SELECT count(*) FROM {what}"));
    let left = [
        count("sluice.dead_letters")?,
        count("sluice.discarded_dead_letters")?,
        count("sluice.replayed_dead_letters")?,
    ];
    assert_eq!(left, [0, 1, 1]);
    Ok(())
}

/// Exit code, and what is named as missing.
fn validate(case: &Case) -> Result<(Option<i32>, BTreeSet<String>)> {
    let output = call(&["validate"], &case.file()?)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let missing = text.lines().find_map(|line| line.split_once("privileges are missing: "));
    let missing: BTreeSet<String> =
        missing.into_iter().flat_map(|(_, list)| list.split(", ")).map(str::to_owned).collect();
    let refused = !output.status.success();
    ensure!(refused != missing.is_empty() && refused == text.contains("error SL-P008"), "{text}");
    ensure!(!text.contains("SL-P010"), "{text}");
    Ok((output.status.code(), missing))
}

/// `newer_than` makes it one more statement: all columns of both are read.
#[test]
fn the_listed_privileges_are_enough_for_rows_that_are_deleted() -> Result<()> {
    let name = "least_deletes";
    let statements = statements("upsert")?;
    let table = table("ALTER TABLE readings ADD PRIMARY KEY (device_id)");
    let mut case =
        least_on(name, &table, "mode = \"upsert\"\nnewer_than = \"seq\"\n", &statements)?;
    case.pipeline.plugin = plugin("hostile-deletes")?;
    succeed(&case, &["validate"])?;
    case.start()?;
    // Each device seven messages apart: the second round deletes rows of the first, the third brings one back.
    case.send(7)?;
    case.drained()?;
    case.send_each(&vec![good(json!({ "status": "offline" })); 5])?;
    case.drained()?;
    case.send_each(&[good(json!({ "device_id": "dev-1" }))])?;
    // Older than the row, which stays.
    case.send_each(&[good(json!({ "device_id": "dev-0", "seq": 0, "status": "offline" }))])?;
    case.drained()?;
    let rows = |case: &Case| {
        let sql = "SELECT device_id || ' ' || seq || ' ' || power_w FROM readings ORDER BY 1";
        let rows = case.scene.database.query(sql, &[])?;
        Ok::<_, anyhow::Error>(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>())
    };
    assert_eq!(rows(&case)?, ["dev-0 7 107", "dev-1 13 113", "dev-6 6 106"]);
    case.execute(&format!("REVOKE DELETE ON readings FROM {name}"))?;
    case.send_each(&[good(json!({ "device_id": "dev-6", "status": "offline" }))])?;
    let reason = case.wait_until_blocked("SL-P008")?;
    assert!(reason.contains("permission denied for table readings"), "{reason}");
    case.execute(&format!("GRANT DELETE ON readings TO {name}"))?;
    case.resumed()?;
    case.stop()?;
    assert_eq!(rows(&case)?, ["dev-0 7 107", "dev-1 13 113"]);
    assert!(case.dead_letters()?.is_empty());
    Ok(())
}

#[test]
fn validate_names_exactly_what_was_taken_away() -> Result<()> {
    let name = "least_named";
    let statements = statements("upsert")?;
    let case = least(name, "upsert", &statements)?;
    assert_eq!(validate(&case)?, (Some(0), BTreeSet::new()));
    let privileges = privileges(&statements, name)?;
    assert!(privileges.len() > 40, "{privileges:?}");
    for Privilege { name: privilege, on, shown } in &privileges {
        case.execute(&format!("REVOKE {privilege} ON {on} FROM {name}"))?;
        match (privilege.as_str(), shown.as_str()) {
            ("CONNECT", _) => {
                let refused = call(&["validate"], &case.file()?)?;
                let text = String::from_utf8_lossy(&refused.stderr).into_owned();
                assert!(
                    text.contains("SL-P008") && text.contains("permission denied for database"),
                    "{text}"
                );
            }
            // Not needed by all.
            ("DELETE", "DELETE on public.readings") => {
                let warned = call(&["validate"], &case.file()?)?;
                let text = String::from_utf8_lossy(&warned.stderr).into_owned();
                assert!(
                    warned.status.success() && text.contains(&format!("{shown} is missing")),
                    "{text}"
                );
            }
            _ => assert_eq!(validate(&case)?, (Some(1), BTreeSet::from([shown.clone()])), "{on}"),
        }
        case.execute(&format!("GRANT {privilege} ON {on} TO {name}"))?;
    }
    // All at once, although without USAGE the role cannot look into the schema of its table.
    let mut expected = BTreeSet::new();
    for Privilege { name: privilege, on, shown } in &privileges {
        if privilege != "CONNECT" {
            case.execute(&format!("REVOKE {privilege} ON {on} FROM {name}"))?;
            expected.insert(shown.clone());
        }
    }
    expected.remove("DELETE on public.readings");
    assert_eq!(validate(&case)?, (Some(1), expected));
    Ok(())
}

#[test]
fn a_sequence_and_columns_are_named_where_they_are_what_is_missing() -> Result<()> {
    let name = "least_columns";
    let case = least(name, "append", &statements("append")?)?;
    case.execute(&format!(
        "REVOKE USAGE ON SEQUENCE arrivals FROM PUBLIC; REVOKE INSERT ON readings FROM {name}; \
         GRANT INSERT (device_id, measured_at, seq, power_w, voltage_v, current_a, status) ON readings TO {name}"
    ))?;
    let missing = [
        "INSERT (\"energy_wh\"",
        "\"temperature_c\") on public.readings",
        "USAGE on sequence public.arrivals",
    ];
    assert_eq!(validate(&case)?, (Some(1), missing.map(str::to_owned).into()));
    Ok(())
}

#[test]
fn a_pipeline_without_a_privilege_is_blocked_and_resumes_when_it_is_granted() -> Result<()> {
    let name = "least_blocked";
    let mut case = least(name, "append", &statements("append")?)?;
    case.start()?;
    for on in [
        "INSERT ON readings".to_owned(),
        "INSERT ON sluice.dead_letters".to_owned(),
        "UPDATE ON sluice.lineage".to_owned(),
        format!("EXECUTE ON FUNCTION {}", signature("advance")),
    ] {
        case.execute(&format!("REVOKE {on} FROM {name}"))?;
        case.send_each(&[good(json!({})), bad(json!({ "energy_wh": -1 }))])?;
        let reason = case.wait_until_blocked("SL-P008")?;
        assert!(
            reason.contains("privileges are missing") || reason.contains("permission denied"),
            "{reason}"
        );
        assert_eq!(case.shown_by_lag()?, "SL-P008");
        case.execute(&format!("GRANT {on} TO {name}"))?;
        case.resumed()?;
    }
    assert_eq!(case.dead_letters()?.len(), 4);
    case.end()
}
