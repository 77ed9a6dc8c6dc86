//! The proxy against a real server.

use super::*;
use crate::postgres::Database;
use crate::wait::{SOON, until_true};

fn through(proxy: &Proxy, direct: &Database) -> Result<Database> {
    Database::open(proxy.url(direct.url(), direct.port()?))
}

#[test]
fn a_commit_is_lost_on_the_side_asked_for() -> Result<()> {
    let direct = Database::create("proxy_cuts")?;
    direct.execute("CREATE TABLE t (n int)")?;
    let proxy = Proxy::start(direct.port()?)?;
    for (cut, expected) in [(Cut::BeforeCommit, 0), (Cut::AfterCommit, 1)] {
        let database = through(&proxy, &direct)?;
        proxy.arm(cut);
        database.execute("BEGIN; INSERT INTO t VALUES (1)")?;
        assert!(database.execute("COMMIT").is_err(), "{cut:?}");
        assert!(!proxy.armed());
        assert_eq!(direct.number("SELECT count(*) FROM t")?, expected, "{cut:?}");
    }
    assert_eq!(proxy.cuts(), (1, 1));
    through(&proxy, &direct)?.execute("BEGIN; INSERT INTO t VALUES (1); COMMIT")?;
    assert_eq!(direct.number("SELECT count(*) FROM t")?, 2);
    Ok(())
}

#[test]
fn nothing_passes_a_black_hole_until_it_closes() -> Result<()> {
    let direct = Database::create("proxy_black_hole")?;
    direct.execute("CREATE TABLE t (n int)")?;
    let proxy = Proxy::start(direct.port()?)?;
    let database = through(&proxy, &direct)?;
    proxy.black_hole(true);
    let writer = std::thread::spawn(move || database.execute("INSERT INTO t VALUES (1)"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!writer.is_finished());
    assert_eq!(direct.number("SELECT count(*) FROM t")?, 0);
    proxy.black_hole(false);
    until_true(
        "the insert has passed",
        SOON,
        || Ok(direct.number("SELECT count(*) FROM t")? == 1),
    )?;
    assert!(writer.join().is_ok_and(|result| result.is_ok()));
    Ok(())
}
