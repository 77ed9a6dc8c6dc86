//! Disks of the server that are full to the last byte.

use super::*;

use sluice_tests::counts::scaled;
use sluice_tests::postgres::{SmallDisk, own_server, own_server_in};

/// The table's disk is full, that of the log is not: the server goes on and refuses.
#[test]
fn a_table_on_a_full_disk_is_waited_for() -> Result<()> {
    let Some(disk) = SmallDisk::mount("disk_of_table", 96)? else { return Ok(()) };
    let server = own_server()?;
    disk.give_to(&server)?;
    let scene = Scene::on_server("disk_of_table", 6, &server)?;
    let folder = disk.folder().display();
    scene.database.execute(&format!("CREATE TABLESPACE small LOCATION '{folder}'"))?;
    scene.database.execute("ALTER TABLE readings SET TABLESPACE small")?;
    let work = Work::begin(scene)?;
    for _ in 0..scaled(20) {
        let vigil = work.vigil()?;
        disk.fill()?;
        vigil.hears(&work.host, "SL-P005")?;
        work.pile_up(6000)?;
        disk.free()?;
        work.resumes()?;
        // A small batch may still find room where a larger one found none.
        vigil.end(&work.host, 4 * LANES)?;
    }
    work.end()
}

/// All of the server is on the disk: without room for its log it ends.
#[test]
fn a_server_on_a_full_disk_is_waited_for() -> Result<()> {
    let Some(disk) = SmallDisk::mount("disk_of_server", 320)? else { return Ok(()) };
    let small = [("max_wal_size", "48MB"), ("min_wal_size", "32MB")];
    let mut server = own_server_in(disk.folder(), &small)?;
    let mut work = Work::begin(Scene::on_server("disk_of_server", 6, &server)?)?;
    for _ in 0..scaled(20) {
        let vigil = work.vigil()?;
        disk.fill()?;
        let log = "SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))";
        while work.direct.execute(log).is_ok() {}
        work.pile_up(6000)?;
        disk.free()?;
        server.start_again()?;
        work.direct.reconnect()?;
        work.resumes()?;
        vigil.end(&work.host, 2 * LANES)?;
    }
    work.end()
}
