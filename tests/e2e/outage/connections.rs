//! Others take all connections that the server has.

use super::*;

use sluice_tests::counts::scaled;
use sluice_tests::postgres::own_server_with;

const ENDED: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE application_name LIKE 'sluice/%'";

/// All but those of the test itself; one that is just beginning has no name yet.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND usename IS DISTINCT FROM 'postgres'";

#[test]
fn a_server_without_a_free_connection_is_waited_for() -> Result<()> {
    let server = own_server_with(&[("max_connections", "20")])?;
    let scene = Scene::on_server("connections", 6, &server)?;
    // No superuser: those may have the last connections of a server.
    let others = scene.database.create_login("plain")?;
    scene.database.execute(
        "ALTER DATABASE connections OWNER TO plain; ALTER TABLE readings OWNER TO plain",
    )?;
    let mut pipeline = scene.pipeline()?;
    pipeline.url.clone_from(&others);
    let work = Work::begin_with(scene, &pipeline)?;
    for _ in 0..scaled(20) {
        let vigil = work.vigil()?;
        let mut taken: Vec<Database> = Vec::new();
        // The host tries to come back all the while, and sessions take their time to begin and to end: before and
        // after others were refused there must be none but theirs.
        until_true("others have all connections", SOON, || {
            work.direct.execute(ENDED)?;
            while let Ok(other) = Database::open(others.clone()) {
                taken.push(other);
            }
            let theirs = i64::try_from(taken.len())?;
            if work.direct.number(SESSIONS)? != theirs {
                return Ok(false);
            }
            // Two that ask for the last one at the same time are both refused.
            for _ in 0..10 {
                if let Ok(other) = Database::open(others.clone()) {
                    taken.push(other);
                    return Ok(false);
                }
            }
            Ok(work.direct.number(SESSIONS)? == theirs)
        })?;
        let written = work.written()?;
        work.pile_up(4000)?;
        assert_eq!(work.written()?, written, "the host has a connection");
        drop(taken);
        work.resumes()?;
        vigil.end(&work.host, 2 * LANES)?;
    }
    work.end()
}
