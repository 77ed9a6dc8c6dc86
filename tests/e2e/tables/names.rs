//! Tables whose names have to be quoted.

use anyhow::Result;
use serde_json::json;
use sluice_tests::checker::ByValue;
use sluice_tests::operator::call;
use sluice_tests::wait::{SOON, until_true};

use super::case::{Case, bad, good, table, ten_good_around};

/// With capitals, dots, quotes and a blank, as SQL has it.
const ODD: &str = r#""A.b"."My.""odd"" Table""#;

fn case(name: &str, mode: &str) -> Result<Case> {
    let mut case = Case::new(
        name,
        &table(&format!(
            "ALTER TABLE readings ADD PRIMARY KEY (device_id, seq), ADD CONSTRAINT counted CHECK (energy_wh >= 0), \
             ADD CONSTRAINT known CHECK (seq < 1000000); CREATE SCHEMA \"A.b\"; ALTER TABLE readings SET SCHEMA \"A.b\"; \
             ALTER TABLE \"A.b\".readings RENAME TO \"My.\"\"odd\"\" Table\"; \
             COMMENT ON TABLE {ODD} IS 'found'"
        )),
    )?;
    case.pipeline.sink_lines = format!(
        "table = '{ODD}'\nmode = \"{mode}\"\n\n[retry]\nconstraints = [\"known\"]\nattempts = 1000\ndelay = \"200ms\"\n\
         multiplier = 1\n"
    );
    case.shape = ByValue { table: ODD, in_order: mode == "append", ..ByValue::all() };
    let validated = call(&["validate"], &case.file()?)?;
    let shown = String::from_utf8_lossy(&validated.stdout).into_owned();
    assert!(validated.status.success() && shown.contains(ODD), "{validated:?}");
    Ok(case)
}

#[test]
fn rows_and_dead_letters_of_a_table_with_an_odd_name() -> Result<()> {
    for mode in ["append", "ignore", "upsert"] {
        let mut case = case(&format!("names_{mode}"), mode)?;
        case.start()?;
        case.send(10)?;
        case.send_each(&ten_good_around(&bad(json!({ "energy_wh": -1 }))))?;
        case.drained()?;
        let dead_letters = case.dead_letters()?;
        assert!(dead_letters.len() == 1 && dead_letters[0].0 == "23514", "{dead_letters:?}");
        assert!(dead_letters[0].1.contains("counted"), "{dead_letters:?}");
        // A change of the table is noticed.
        case.execute(&format!("ALTER TABLE {ODD} ALTER COLUMN power_w TYPE numeric"))?;
        case.send(10)?;
        case.end()?;
    }
    Ok(())
}

#[test]
fn a_message_for_a_table_with_an_odd_name_is_tried_again() -> Result<()> {
    let mut case = case("names_retry", "append")?;
    case.start()?;
    case.send_each(&[good(json!({ "seq": 1_000_001 }))])?;
    let count = |sql: &str| case.scene.database.number(&format!("SELECT count(*) FROM {sql}"));
    case.drained()?;
    assert_eq!((count("sluice.parked")?, count(ODD)?), (1, 0));
    case.execute(&format!("ALTER TABLE {ODD} DROP CONSTRAINT known"))?;
    until_true("it is a row", SOON, || Ok(count("sluice.retried")? == 1))?;
    assert_eq!((count("sluice.parked")?, count(ODD)?), (0, 1));
    case.stop()
}

/// A name without quotes has the meaning that it always had: as it is written, and a dot ends a schema's name.
#[test]
fn a_name_in_the_role_s_path_may_be_quoted_as_well() -> Result<()> {
    let mut case = Case::new(
        "names_path",
        &table(
            "ALTER TABLE readings RENAME TO \"Odd.Name\"; CREATE TABLE \"Capital\" (LIKE \"Odd.Name\" INCLUDING ALL)",
        ),
    )?;
    for (name, shown) in [
        ("\"Odd.Name\"", Some("public.\"Odd.Name\"")),
        ("public.\"Odd.Name\"", Some("public.\"Odd.Name\"")),
        ("Capital", Some("public.\"Capital\"")),
        ("\"Capital\"", Some("public.\"Capital\"")),
        ("Odd.Name", None),
        ("\"capital\"", None),
    ] {
        case.pipeline.sink_lines = format!("table = '{name}'\n");
        let validated = call(&["validate"], &case.file()?)?;
        let text =
            String::from_utf8_lossy(&[validated.stdout, validated.stderr].concat()).into_owned();
        match shown {
            Some(shown) => {
                assert!(validated.status.success() && text.contains(shown), "{name}: {text}");
            }
            None => assert!(text.contains("there is no such table"), "{name}: {text}"),
        }
    }
    Ok(())
}
