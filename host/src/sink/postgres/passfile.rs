//! libpq's password file: lines of `host:port:database:user:password`, of which the first that matches counts. Knows
//! neither where the file is nor what the password is for.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::files::{self, Unread};

/// More than any password file has.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Where libpq looks for the server's socket unless it is told otherwise; such a server is called `localhost` in the file.
const SOCKET_FOLDERS: [&str; 2] = ["/tmp", "/var/run/postgresql"];

/// The password for the first of the servers of `config` that has one in `file`.
///
/// # Errors
/// Why the file is ignored. One that is not there is no error.
pub(super) fn password(file: &str, config: &Config, user: &str) -> Result<Option<String>, String> {
    let ignored = |why: &str| format!("password file {file} is ignored: {why}");
    let (text, metadata) = match files::read_regular(Path::new(file), FILE_BYTES_MAX) {
        Ok(read) => read,
        Err(Unread::Failed(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(Unread::Failed(error)) => return Err(ignored(&error.to_string())),
        Err(Unread::NotRegular) => return Err(ignored("it is not a plain file")),
        Err(Unread::TooLarge(bytes)) => return Err(ignored(&format!("it has {bytes} bytes"))),
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(ignored("group or others have access; permissions should be 0600 or less"));
    }
    let text = String::from_utf8_lossy(&text);
    let database = config.get_dbname().unwrap_or(user);
    Ok(servers(config)
        .find_map(|(host, port)| find(&text, [host.as_str(), port.as_str(), database, user])))
}

/// Host and port of each server, as the file names them.
fn servers(config: &Config) -> impl Iterator<Item = (String, String)> {
    let ports = config.get_ports();
    config.get_hosts().iter().enumerate().map(move |(index, host)| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let host = match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => {
                let folder = folder.display().to_string();
                let is_default = SOCKET_FOLDERS.contains(&folder.as_str());
                if is_default { "localhost".to_owned() } else { folder }
            }
        };
        (host, port.to_string())
    })
}

/// The password of the first line whose fields are `wanted` or `*`.
fn find(text: &str, wanted: [&str; 4]) -> Option<String> {
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, is_any, after) = field(rest);
            // A line with too few fields has no password.
            rest = after.filter(|_| is_any || field == wanted)?;
        }
        let (password, ..) = field(rest);
        Some(password).filter(|password| !password.is_empty())
    })
}

/// What stands before the next colon, without its escapes; true when it is `*` alone; and what comes after the colon.
fn field(text: &str) -> (String, bool, Option<&str>) {
    let mut field = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (field, &text[..at] == "*", Some(&text[at + 1..])),
            '\\' => field.extend(characters.next().map(|(_, escaped)| escaped)),
            other => field.push(other),
        }
    }
    (field, text == "*", None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let found = find(text, ["db", "5432", "plant", "me"]);
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        check("", None);
        check("db:5432:plant:me:secret", Some("secret"));
        check("db:5432:plant:me:secret\r\n", Some("secret"));
        check(
            "\n# db:5432:plant:me:no\nother:*:*:*:no\n*:*:*:me:first\n*:*:*:*:second",
            Some("first"),
        );
        check("db:5433:plant:me:no\ndb:5432:*:you:no\ndb:5432:other:me:no", None);
        check("*:*:*:*:any", Some("any"));
        // An escaped star is a name, and so is one with more after it.
        check(r"\*:*:*:*:no", None);
        check("d*:*:*:*:no", None);
        check(r"\d\b:*:*:*:a\:b\\c", Some(r"a:b\c"));
        // libpq ends the password at a colon, takes none for an empty one, and a line for what it is.
        check("db:5432:plant:me:a:b", Some("a"));
        check("db:5432:plant:me:\n*:*:*:*:other", Some("other"));
        check("db:5432:plant\ndb:5432:plant:me", None);
        check(" db:5432:plant:me:no", None);
    }

    #[test]
    fn a_file_that_others_can_read_is_ignored() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(
            b"a:1:x:me:one\nb:5432:x:me:two\n/run:5432:x:me:three\nlocalhost:5432:x:me:four\n",
        )
        .unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let read = |path: &str, url: &str| password(path, &url.parse().unwrap(), "me");
        assert_eq!(read(&path, "host=a,b port=1,5432 dbname=x"), Ok(Some("one".into())));
        assert_eq!(read(&path, "host=a,b port=2,5432 dbname=x"), Ok(Some("two".into())));
        assert_eq!(read(&path, "host=/run dbname=x"), Ok(Some("three".into())));
        assert_eq!(read(&path, "host=/var/run/postgresql dbname=x"), Ok(Some("four".into())));
        assert_eq!(read(&path, "host=b"), Ok(None), "the database is called like the user");
        assert_eq!(read("/does/not/exist", "host=b"), Ok(None));
        assert_eq!(
            read("/dev", "host=b"),
            Err("password file /dev is ignored: it is not a plain file".into())
        );
        let readable = fs::Permissions::from_mode(0o640);
        fs::set_permissions(file.path(), readable).unwrap();
        let why = read(&path, "host=b dbname=x").unwrap_err();
        let expected =
            "is ignored: group or others have access; permissions should be 0600 or less";
        assert_eq!(why, format!("password file {path} {expected}"));
    }
}
