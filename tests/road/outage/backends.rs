//! Sessions that are ended from outside, and with one of them, all.

use super::*;

use sluice_tests::child::{Signal, signal};
use sluice_tests::counts::scaled;
use sluice_tests::postgres::own_server;

const SESSIONS: &str = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'sluice/%'";

#[test]
#[ignore = "not seen to pass on a busy machine of two cores yet"]
fn sessions_ended_at_random_cost_nothing_but_time() -> Result<()> {
    let server = own_server()?;
    let mut work = Work::begin(Scene::on_server("backends", 6, &server)?)?;
    let vigil = work.vigil()?;
    let kills = scaled(100);
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..200)));
        let pids = work.direct.query(SESSIONS, &[])?;
        let Some(row) = fastrand::choice(&pids) else { continue };
        let pid: i32 = row.get(0);
        if kill % 4 == 3 {
            // The server takes this for a crash: it ends all sessions and recovers.
            signal(u32::try_from(pid)?, Signal::Kill)?;
            until_true("the server is back", SOON, || Ok(work.scene.database.again().is_ok()))?;
            work.direct.reconnect()?;
        } else {
            work.direct.execute(&format!("SELECT pg_terminate_backend({pid})"))?;
        }
        if kill % 10 == 9 {
            work.resumes()?;
        }
    }
    work.resumes()?;
    vigil.end(&work.host, LANES * kills)?;
    work.end()
}
