//! Databases whose encoding lacks characters that messages have.

use anyhow::Result;
use serde_json::json;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;

use super::case::{Case, bad, bad_at, good, table, ten_good_around};

/// A case in a database with another encoding than UTF-8.
fn case_in(encoding: &str) -> Result<Case> {
    let name = format!("encoding_{}", encoding.to_lowercase());
    let mut scene = Scene::new(&name, 1, "")?;
    let url = scene.database.url().to_owned();
    let maintenance = Database::open(url.replace(&format!("/{name}"), "/postgres"))?;
    drop(scene.database);
    maintenance.execute(&format!("DROP DATABASE {name} WITH (FORCE)"))?;
    maintenance.execute(&format!(
        "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    ))?;
    scene.database = Database::open(url)?;
    scene.database.execute(&table(""))?;
    Case::on(scene)
}

#[test]
fn a_dead_letter_is_kept_whatever_characters_its_reason_quotes() -> Result<()> {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let mut case = case_in(encoding)?;
        case.start()?;
        let umlaut = good(json!({ "device_id": "dev-\u{fc}" }));
        case.send_as_one_batch(&ten_good_around(&umlaut))?;
        assert_eq!(case.dead_letters()?, []);
        let wrong_status = bad_at("plugin", json!({ "status": "\u{20ac}" }));
        case.send_as_one_batch(&ten_good_around(&wrong_status))?;
        let wrong_time = bad_at("decode", json!({ "measured_at": "2026-\u{20ac}" }));
        case.send_as_one_batch(&ten_good_around(&wrong_time))?;
        // To SQL_ASCII bytes are all the same.
        let stored = if encoding == "LATIN1" { "?" } else { "\u{20ac}" };
        let kept = case.dead_letters()?;
        for (code, quoted) in [("unknown-status", "\""), ("bad-timestamp", "\"2026-")] {
            let reason = kept.iter().find(|(found, _)| found == code).map(|(_, reason)| reason);
            let expected = format!("{quoted}{stored}\"");
            assert!(reason.is_some_and(|it| it.contains(&expected)), "{encoding}: {kept:?}");
        }

        let euro = json!({ "device_id": "dev-\u{20ac}" });
        // Bytes are all the same to SQL_ASCII.
        let euro = if encoding == "LATIN1" { bad(euro) } else { good(euro) };
        case.send_as_one_batch(&ten_good_around(&euro))?;
        case.end()?;
    }
    Ok(())
}
