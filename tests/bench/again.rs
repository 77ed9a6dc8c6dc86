//! The benchmark as it should have been started.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use sluice_tests::folders;

const MARK: &str = "SLUICE_BENCH_STARTED_AGAIN";
const CLOSE: &str = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$@\"";

/// Replaces this process by itself, with two things changed. Files that its caller left open are closed: servers
/// that go on would inherit them and with them, for example, the lock under which this call was started. And the
/// plugins are built in the target folder that this binary came from.
pub fn start_again() -> Result<()> {
    if std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let mut again = Command::new("/bin/sh");
    again.args(["-c", CLOSE, "sh"]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    again.env(MARK, "1").env("CARGO_TARGET_DIR", folders::target()?);
    Err(again.exec()).context("start the benchmark again")
}
