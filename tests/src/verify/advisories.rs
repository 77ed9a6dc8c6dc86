//! Whether the dependencies were lately compared with what is known to be wrong in them: with the database of
//! advisories where it is reachable, else by the review that the repository carries. Neither is a failure.

use std::fs;

use anyhow::{Context as _, Result, bail};
use jiff::civil::Date;

use super::versions;
use crate::folders;

/// So long counts a comparison with the database.
const DATABASE_DAYS: i32 = 7;

/// Fails unless a comparison is recent; `consulted` when the database was consulted just now, and names none of them.
pub(super) fn check(consulted: bool) -> Result<()> {
    let wrong = versions::too_old();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n  "));
    }
    let today = jiff::Zoned::now().date();
    let stamp = folders::cache()?.join("advisories-checked");
    if consulted {
        fs::create_dir_all(folders::cache()?)?;
        fs::write(&stamp, today.to_string())
            .with_context(|| format!("write {}", stamp.display()))?;
    }
    let database = fs::read_to_string(&stamp).ok().and_then(|text| text.trim().parse().ok());
    let unchecked = std::env::var("SLUICE_ADVISORIES").is_ok_and(|value| value == "unchecked");
    println!("{}", recent(today, database, unchecked)?);
    Ok(())
}

/// What makes the comparison recent, or what to do.
fn recent(today: Date, database: Option<Date>, unchecked: bool) -> Result<String> {
    let days_since = |date: Date| today.since(date).map_or(i32::MAX, |span| span.get_days());
    if let Some(days) = database.map(days_since).filter(|days| (0..=DATABASE_DAYS).contains(days)) {
        return Ok(format!("advisories: compared with the database {days} days ago"));
    }
    match versions::days_since_review(today) {
        Ok(days) => Ok(format!(
            "advisories: the database was not consulted; read by hand {days} days ago, good for {}",
            versions::REVIEW_DAYS
        )),
        Err(_) if unchecked => Ok("\
WARNING: ADVISORIES ARE NOT CHECKED, because SLUICE_ADVISORIES=unchecked says so.
WARNING: what is known to be wrong in the dependencies is not known here; do not release this."
            .to_owned()),
        Err(overdue) => bail!(
            "{overdue}; or let cargo-deny consult the database (cargo install --locked cargo-deny); \
             SLUICE_ADVISORIES=unchecked goes on without, and says so"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_recent_fails_unless_it_is_told_not_to() {
        let day = |days: i64| versions::REVIEWED.checked_add(jiff::Span::new().days(days)).unwrap();
        let check = |today: i64, database: Option<i64>, unchecked: bool, expected: &str| {
            let said = recent(day(today), database.map(day), unchecked);
            let said = said.unwrap_or_else(|error| format!("failed: {error}"));
            assert!(said.starts_with(expected), "{today} {database:?} {unchecked}: {said}");
        };
        let (by_hand, database) =
            ("advisories: the database was not consulted", "advisories: compared");
        check(0, None, false, by_hand);
        check(90, None, false, by_hand);
        check(91, None, false, "failed: advisories were last read on");
        check(91, None, true, "WARNING: ADVISORIES ARE NOT CHECKED");
        check(200, Some(193), false, database);
        check(200, Some(200), false, database);
        check(200, Some(192), false, "failed: ");
        // A stamp from the future says nothing.
        check(200, Some(201), false, "failed: ");
        check(10, Some(0), true, by_hand);
    }
}
