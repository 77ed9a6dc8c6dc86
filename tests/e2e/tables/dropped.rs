//! Tables with a trigger that drops rows: the host's figures say what is there, and its log what is not.

use anyhow::{Context, Result};
use serde_json::json;
use sluice_tests::host::Host;

use super::case::{Case, bad, good, table};

const DROPS: &str = "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    RETURN CASE WHEN NEW.device_id <> 'third' THEN NEW END; END $$; \
    CREATE TRIGGER drops BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION drops()";

#[test]
fn rows_that_a_trigger_drops_are_counted_apart_and_logged() -> Result<()> {
    for mode in ["append", "upsert"] {
        let key = "ALTER TABLE readings ADD PRIMARY KEY (device_id, seq)";
        let name = format!("dropped_{mode}");
        let mut case = Case::new(&name, &table(&format!("{DROPS}; {key}")))?;
        case.pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\n"));
        let device = |name: &str| good(json!({ "device_id": name }));
        // The first batch is this message alone, so that what is logged at once is certain.
        case.send_each(&[device("third")])?;
        let host: Host = case.scene.start("host", &case.pipeline)?;
        case.drained()?;
        for _ in 0..20 {
            case.send_each(&["first", "second", "third"].map(device))?;
        }
        case.send_each(&[bad(json!({ "energy_wh": "none" }))])?;
        case.drained()?;
        let events = host.drain()?;
        let summary =
            events.iter().rev().find(|event| event.is("summary")).context("no summary")?;
        let figures = ["messages", "rows", "dropped", "rejected"];
        assert_eq!(
            figures.map(|name| summary.number(name).unwrap_or(-1)),
            [62, 40, 21, 1],
            "{mode}"
        );
        assert_eq!(case.scene.database.number("SELECT count(*) FROM readings")?, 40);
        let logged: Vec<&str> = (events.iter())
            .filter(|event| event.level == "WARN" && event.message.contains("drops rows"))
            .map(|event| event.message.as_str())
            .collect();
        let expected = "a trigger of table public.readings drops rows: 1 of 1 since the pipeline was started here";
        assert_eq!(logged.first(), Some(&expected), "{mode}: {logged:?}");
        // A busy machine may take longer than the minute after which it is logged once more.
        assert!(logged.len() <= 3, "{mode}: {logged:?}");
    }
    Ok(())
}
