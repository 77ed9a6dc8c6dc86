//! Sessions that are ended from outside, and with one of them, all.

use super::*;

use anyhow::Context as _;
use sluice_tests::child::{Signal, signal};
use sluice_tests::counts::scaled;
use sluice_tests::postgres::own_server;
use sluice_tests::wait::{until, until_true};

#[test]
fn sessions_ended_at_random_cost_nothing_but_time() -> Result<()> {
    let server = own_server()?;
    let mut work = Work::begin(Scene::on_server("backends", 6, &server)?)?;
    let vigil = work.vigil()?;
    let kills = scaled(100);
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..200)));
        let pid = fastrand::choice(sessions(&mut work)?).context("no session")?;
        if kill % 4 == 3 {
            // The server takes this for a crash: it ends all sessions, ours too, and recovers.
            signal(u32::try_from(pid)?, Signal::Kill)?;
            until_true("all sessions end", SOON, || Ok(work.direct.execute("SELECT 1").is_err()))?;
        } else {
            work.direct.execute(&format!("SELECT pg_terminate_backend({pid})"))?;
        }
        if kill % 10 == 9 {
            sessions(&mut work)?;
            work.resumes()?;
        }
    }
    work.resumes()?;
    vigil.end(&work.host, LANES * kills)?;
    work.end()
}

/// The host's sessions, as soon as the server answers and has some.
fn sessions(work: &mut Work) -> Result<Vec<i32>> {
    let sessions = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'sluice/%'";
    until("the host has sessions", SOON, || match work.direct.query(sessions, &[]) {
        Ok(rows) if rows.is_empty() => Ok(None),
        Ok(rows) => Ok(Some(rows.iter().map(|row| row.get(0)).collect())),
        Err(_) => {
            // The server may still be recovering.
            drop(work.direct.reconnect());
            Ok(None)
        }
    })
}
