//! Tables that cannot keep what the pipeline promises: each row once, also after a crash of the server.

use anyhow::Result;
use sluice_tests::operator::call;

use super::case::{COLUMNS, Case, table, table_with};

#[test]
fn a_table_that_cannot_keep_every_row_is_named_by_validate_and_not_written() -> Result<()> {
    let mut case = Case::new("storage", &table(""))?;
    let partitioned = table_with("PARTITION BY RANGE (seq)", "");
    let files = "CREATE EXTENSION IF NOT EXISTS file_fdw; CREATE SERVER IF NOT EXISTS files FOREIGN DATA WRAPPER file_fdw";
    let (upsert, append) = ("mode = \"upsert\"\nkey = [\"seq\"]\n", "");
    let unique =
        "ALTER TABLE readings ADD UNIQUE (seq); CREATE PUBLICATION all_of_it FOR TABLE readings";
    let cases = [
        ("unlogged", append, table("ALTER TABLE readings SET UNLOGGED")),
        (
            "unlogged",
            append,
            format!("{partitioned}; CREATE UNLOGGED TABLE part PARTITION OF readings DEFAULT"),
        ),
        (
            "foreign",
            append,
            format!(
                "{files}; {}; DROP TABLE readings; \
                 CREATE FOREIGN TABLE readings ({COLUMNS}) SERVER files OPTIONS (filename '/dev/null')",
                table("")
            ),
        ),
        (
            "foreign",
            append,
            format!(
                "{files}; {partitioned}; CREATE FOREIGN TABLE part PARTITION OF readings DEFAULT \
                 SERVER files OPTIONS (filename '/dev/null')"
            ),
        ),
        ("rule", append, table("CREATE RULE nothing AS ON INSERT TO readings DO INSTEAD NOTHING")),
        ("replica identity", upsert, table(unique)),
    ];
    for (word, mode, create) in cases {
        case.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")?;
        case.execute(&create)?;
        case.pipeline.sink_lines = format!("table = \"readings\"\n{mode}");
        let validated = call(&["validate"], &case.file()?)?;
        let said = String::from_utf8_lossy(&validated.stderr).into_owned();
        assert_eq!(validated.status.code(), Some(1), "{create}: {said}");
        assert!(said.starts_with("error SL-P010"), "{create}: {said}");
        assert!(said.to_lowercase().contains(word), "{create}: {said}");
    }
    // What is published only needs an identity where rows are updated.
    case.pipeline.sink_lines = "table = \"readings\"\n".to_owned();
    let validated = call(&["validate"], &case.file()?)?;
    assert!(validated.status.success(), "{}", String::from_utf8_lossy(&validated.stderr));
    case.start()?;
    case.send(10)?;
    case.end()
}

#[test]
fn a_pipeline_whose_table_is_unlogged_is_blocked_until_it_is_logged() -> Result<()> {
    let mut case = Case::new("storage_unlogged", &table("ALTER TABLE readings SET UNLOGGED"))?;
    case.send(10)?;
    case.start_blocked()?;
    let reason = case.wait_until_blocked("SL-P010")?;
    assert!(reason.to_lowercase().contains("unlogged"), "{reason}");
    case.execute("ALTER TABLE readings SET LOGGED")?;
    case.resumed()?;
    case.end()
}
