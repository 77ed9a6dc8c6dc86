//! A private Postgres server in a folder of its own, for the demo and the tests: started in a second,
//! gone with the process that started it. Knows nothing of Sluice's tables.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};

pub use binaries::Binaries;

mod archive;
mod binaries;
mod standby;

/// How long a server may take to accept connections; crash recovery included.
const START_MAX: Duration = Duration::from_mins(1);
/// How long a polite stop may take before it becomes an immediate one.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Used where the machine has no user `postgres`: `nobody` nearly everywhere.
const NOBODY: u32 = 65534;

/// A Postgres server that ends, and whose folder goes, when this value is dropped or its process dies.
#[derive(Debug)]
pub struct Throwaway {
    binaries: Binaries,
    folder: Folder,
    user: Option<u32>,
    /// Of the superuser. Whoever may log in as that one runs programs as the user of the server.
    password: String,
    port: u16,
    server: Option<Child>,
    watchdog: Watchdog,
}

impl Throwaway {
    /// Starts a server with `settings` (`postgresql.conf`), on binaries found on the machine or fetched;
    /// `progress` hears what takes long.
    pub fn start(settings: &[(&str, &str)], progress: &mut dyn FnMut(&str)) -> Result<Self> {
        Self::start_with(Binaries::find_or_fetch(progress)?, settings)
    }

    /// The same with the binaries given.
    pub fn start_with(binaries: Binaries, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(&env::temp_dir(), binaries, settings)
    }

    /// The same with its folder in `parent`, which may be a file system of its own.
    pub fn start_in(parent: &Path, binaries: Binaries, settings: &[(&str, &str)]) -> Result<Self> {
        let mut throwaway = Self::in_folder(Folder::new_in(parent)?, binaries)?;
        throwaway.initialise()?;
        throwaway.configure(settings)?;
        throwaway.listen()?;
        Ok(throwaway)
    }

    fn in_folder(folder: Folder, binaries: Binaries) -> Result<Self> {
        let user = other_user(&folder.path)?;
        chown(&folder.path, user, None).context("hand the folder to Postgres' user")?;
        let watchdog = Watchdog::start(&folder.path)?;
        let password = random_password()?;
        Ok(Self { binaries, folder, user, password, port: 0, server: None, watchdog })
    }

    /// Where to connect: the database `postgres` as the superuser `postgres`, with the password that only this value
    /// and whoever is told the URL know.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The same for another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Password of the superuser.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Port on 127.0.0.1; stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of the Unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder.path
    }

    /// Process id of the postmaster; `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path.join("log")).unwrap_or_default()
    }

    /// Ends the server the orderly way: sessions are closed, a checkpoint is written. The folder stays
    /// until the value is dropped.
    pub fn stop(&mut self) -> Result<()> {
        self.end("INT")
    }

    /// Ends the server as a crash would: the next start goes through recovery.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.end("QUIT")
    }

    /// Starts the server again, on the same port and data.
    pub fn start_again(&mut self) -> Result<()> {
        self.end("QUIT")?;
        self.launch()
    }

    /// Leaves the server running, and its folder there, beyond the end of this process.
    pub fn keep(mut self) {
        self.watchdog.dismiss();
        self.folder.kept = true;
        self.server = None;
    }

    fn initialise(&self) -> Result<()> {
        let password = self.folder.path.join("password");
        fs::write(&password, &self.password)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        chown(&password, self.user, None).context("hand the password to Postgres' user")?;
        let output = self
            .command("initdb")
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(self.data())
            .output()
            .context("run initdb")?;
        fs::remove_file(&password)?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn configure(&self, settings: &[(&str, &str)]) -> Result<()> {
        let mut text = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n",
            self.folder.path.display()
        );
        for (name, value) in settings {
            writeln!(text, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        let mut file =
            fs::OpenOptions::new().append(true).open(self.data().join("postgresql.conf"))?;
        file.write_all(text.as_bytes()).context("write postgresql.conf")
    }

    /// Finds a free port; another process may take it first, hence the attempts.
    fn listen(&mut self) -> Result<()> {
        let mut attempts = 0;
        loop {
            self.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let result = self.launch();
            attempts += 1;
            if result.is_ok() || attempts == 3 || !self.log().contains("already in use") {
                return result;
            }
        }
    }

    fn launch(&mut self) -> Result<()> {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.path.join("log"))?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg(format!("--port={}", self.port))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start postgres")?;
        self.watchdog.guard(Some(child.id()))?;
        self.server = Some(child);
        self.wait_until_ready()
    }

    /// The last line of `postmaster.pid` says `ready` once connections are accepted (`pg_ctl -w` does the same).
    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        let pid = self.pid().map(|pid| pid.to_string()).unwrap_or_default();
        loop {
            let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            if state.lines().next() == Some(&pid) && state.contains("ready") {
                return Ok(());
            }
            let ended = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            if let Some(status) = ended {
                self.server = None;
                self.watchdog.guard(None)?;
                bail!("postgres ended with {status}: {}", last_lines(&self.log()));
            }
            if Instant::now() > deadline {
                bail!("postgres is not ready after {START_MAX:?}: {}", last_lines(&self.log()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self, signal: &str) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        send_signal(server.id(), signal)?;
        let deadline = Instant::now() + STOP_MAX;
        while server.try_wait()?.is_none() {
            if Instant::now() > deadline {
                send_signal(server.id(), "QUIT")?;
                server.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.watchdog.guard(None)
    }

    fn data(&self) -> PathBuf {
        self.folder.path.join("data")
    }

    /// A program of the server, as the user that Postgres accepts, deaf to the terminal's Ctrl-C.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.folder().join(program));
        command.process_group(0).current_dir(&self.folder.path).env("LC_ALL", "C");
        // Ours may point at another server or data folder.
        for name in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if let Some(user) = self.user {
            command.uid(user).gid(group_of(user));
        }
        command
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // Errors are of no use to anyone here; the watchdog tries the same once more.
        let _ = self.end("INT");
    }
}

/// The server's folder; short, because a Unix socket's path may have only 107 bytes.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn new_in(parent: &Path) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("sluice-pg-")
            .tempdir_in(parent)
            .context("make a folder for Postgres")?
            .keep();
        // Log and socket are in it, too: nobody else has to do with either.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self { path, kept: false })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A shell that outlives us by a moment: when our end of its pipe closes, however we died, it ends the
/// server it was told of and removes the folder. A parent-death signal would not do: the kernel sends
/// it when the *thread* that started the server ends.
#[derive(Debug)]
struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

const WATCHDOG: &str = r#"
trap '' INT TERM HUP
server=
while read -r line; do server=$line; done
if [ "$server" = dismissed ]; then exit 0; fi
if [ -n "$server" ]; then
    kill -QUIT "$server" 2>/dev/null
    i=0
    while kill -0 "$server" 2>/dev/null && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done
fi
rm -rf "$1"
"#;

impl Watchdog {
    fn start(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "sluice-watchdog"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("start the watchdog of Postgres")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Names the process to end. It is our child, so its id is not reused before we have waited for it.
    fn guard(&mut self, server: Option<u32>) -> Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let line = server.map_or(String::new(), |pid| pid.to_string());
        writeln!(pipe, "{line}").context("talk to the watchdog of Postgres")
    }

    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = writeln!(pipe, "dismissed");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}

/// 128 bits of the system's chance, in characters that a URL takes as they are.
fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Postgres refuses to run as root; then, another user's id. `folder` was made by us, so its owner is us.
fn other_user(folder: &Path) -> Result<Option<u32>> {
    if fs::metadata(folder)?.uid() != 0 {
        return Ok(None);
    }
    Ok(Some(passwd_entry(|fields| fields[0] == "postgres").map_or(NOBODY, |(user, _)| user)))
}

fn group_of(user: u32) -> u32 {
    passwd_entry(|fields| fields[2] == user.to_string()).map_or(user, |(_, group)| group)
}

fn passwd_entry(wanted: impl Fn(&[&str]) -> bool) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 4 && wanted(&fields))
            .then(|| Some((fields[2].parse().ok()?, fields[3].parse().ok()?)))
            .flatten()
    })
}

/// Through the shell, whose `kill` is built in: the standard library can only send SIGKILL.
fn send_signal(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "sh", signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("send SIG{signal} to {pid}");
    }
    Ok(())
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}

#[cfg(test)]
mod tests;
