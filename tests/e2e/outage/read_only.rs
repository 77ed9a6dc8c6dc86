//! A server that takes no writes.

use super::*;

use sluice_tests::counts::scaled;
use sluice_tests::postgres::own_server;

#[test]
fn a_server_made_read_only_is_waited_for() -> Result<()> {
    let server = own_server()?;
    let work = Work::begin(Scene::on_server("read_only", 6, &server)?)?;
    for _ in 0..scaled(20) {
        let vigil = work.vigil()?;
        work.direct.execute("ALTER SYSTEM SET default_transaction_read_only = on")?;
        work.direct.execute("SELECT pg_reload_conf()")?;
        until_true("the server is read-only", SOON, || {
            work.direct.is_true("SELECT current_setting('transaction_read_only') = 'on'")
        })?;
        // Transactions that had begun may still end.
        work.pile_up(2000)?;
        let written = work.written()?;
        work.pile_up(4000)?;
        assert_eq!(work.written()?, written, "the server takes writes");
        work.direct.execute("ALTER SYSTEM RESET default_transaction_read_only")?;
        work.direct.execute("SELECT pg_reload_conf()")?;
        work.resumes()?;
        vigil.end(&work.host, LANES)?;
    }
    work.end()
}
