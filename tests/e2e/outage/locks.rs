//! Tables that somebody else has locked, and statements that somebody else cancels.

use super::*;

use sluice_tests::counts::{long, scaled};

/// Longer than a session waits for a lock, so that attempts fail.
fn blocked() -> Duration {
    Duration::from_secs(if long() { 60 } else { 12 })
}

#[test]
fn locks_held_for_a_minute_are_waited_for() -> Result<()> {
    let work = Work::begin(Scene::new("locks", 6, Readings::TABLE)?)?;
    for table in ["readings", "sluice.positions", "sluice.dead_letters"] {
        let vigil = work.vigil()?;
        let person = work.direct.again()?;
        person.execute(&format!("BEGIN; LOCK TABLE {table}"))?;
        // A batch without dead letters needs no lock on their table.
        work.pile_up(4000)?;
        let written = work.written_as(&person)?;
        std::thread::sleep(blocked());
        assert_eq!(work.written_as(&person)?, written, "{table} was not locked");
        person.execute("ROLLBACK")?;
        work.resumes()?;
        vigil.end(&work.host, LANES)?;
    }
    work.end()
}

/// A person, or a tool that looks after long statements.
#[test]
fn statements_cancelled_at_random_are_run_again() -> Result<()> {
    let work = Work::begin(Scene::new("cancels", 6, Readings::TABLE)?)?;
    let vigil = work.vigil()?;
    let cancel = "SELECT count(*) FILTER (WHERE state = 'active') \
        FROM (SELECT state, pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sluice/cancels/%') AS s";
    let wanted = i64::try_from(scaled(100))?;
    let mut cancelled = 0;
    until_true("statements were cancelled", 5 * SOON, || {
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
        cancelled += work.direct.number(cancel)?;
        Ok(cancelled >= wanted)
    })?;
    work.resumes()?;
    vigil.end(&work.host, LANES * usize::try_from(cancelled)?)?;
    work.end()
}

/// Time limits that are meant for people at a terminal.
#[test]
fn limits_of_the_server_do_not_stop_the_host() -> Result<()> {
    let work = Work::begin(Scene::new("limits", 6, Readings::TABLE)?)?;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'sluice/limits/%'";
    let vigil = work.vigil()?;
    // A trigger makes each statement longer than its limit.
    work.direct.execute(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
         CREATE TRIGGER dawdle AFTER INSERT ON readings FOR EACH STATEMENT EXECUTE FUNCTION dawdle();
         ALTER DATABASE limits SET statement_timeout = '100ms'",
    )?;
    work.direct.execute(end)?;
    work.resumes()?;
    vigil.end(&work.host, 2 * LANES)?;

    if work.direct.number("SHOW server_version_num")? >= 170_000 {
        let vigil = work.vigil()?;
        work.direct.execute("ALTER DATABASE limits SET transaction_timeout = '100ms'")?;
        work.direct.execute(end)?;
        work.pile_up(4000)?;
        work.direct.execute("ALTER DATABASE limits RESET transaction_timeout")?;
        work.resumes()?;
        vigil.end(&work.host, 2 * LANES)?;
    }
    work.end()
}
