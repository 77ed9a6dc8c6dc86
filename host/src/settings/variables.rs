//! `${NAME}`, `${NAME:-default}` and `${file:/path}` inside strings. Filled in after the file was parsed, so that a value
//! is a value and never becomes a key.

use std::ops::Range;
use std::path::Path;

use crate::files::{self, Unread};

/// Begins the name of a file in the place of a variable's.
pub(super) const FILE: &str = "file:";
/// More than any password or certificate has, and far less than a wrong file may.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Looks a variable up.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a string could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfilled {
    /// The bytes of the string at fault.
    pub(super) at: Range<usize>,
    /// Lower-case fragment; never tells a value.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: String,
}

/// `text` with its variables; `$${` stands for `${` itself.
pub(super) fn fill(text: &str, lookup: Lookup<'_>) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    let mut done = 0;
    while let Some(found) = text[done..].find("${").map(|offset| done + offset) {
        if text[done..found].ends_with('$') {
            filled.push_str(&text[done..found - 1]);
            filled.push_str("${");
            done = found + 2;
            continue;
        }
        filled.push_str(&text[done..found]);
        let Some(length) = text[found..].find('}') else {
            let hint = "close it with `}`, or write `$${` for the characters themselves".to_owned();
            return Err(Unfilled {
                at: found..text.len(),
                message: "`${` is not closed".to_owned(),
                hint,
            });
        };
        done = found + length + 1;
        filled.push_str(&value(&text[found + 2..done - 1], found..done, lookup)?);
    }
    filled.push_str(&text[done..]);
    Ok(filled)
}

fn value(inside: &str, at: Range<usize>, lookup: Lookup<'_>) -> Result<String, Unfilled> {
    if let Some(path) = inside.strip_prefix(FILE) {
        return content(path).map_err(|(reason, hint)| Unfilled {
            at,
            message: format!("the file `{}` {reason}", path.escape_debug()),
            hint: hint.to_owned(),
        });
    }
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        let message =
            "a variable's name is ASCII letters, digits and `_`, and does not begin with a digit"
                .to_owned();
        return Err(Unfilled {
            at,
            message,
            hint: "write `${NAME}`, `${NAME:-default}` or `${file:/path}`".to_owned(),
        });
    }
    // As in a shell: `:-` also steps in for a variable that is set and empty.
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let hint = format!("set it, or give a default: `${{{name}:-...}}`");
            Err(Unfilled {
                at,
                message: format!("the environment variable `{name}` is not set"),
                hint,
            })
        }
    }
}

/// What a file contains, without its last newline, which editors and `echo` add; or what is wrong with it, and the hint.
fn content(path: &str) -> Result<String, (String, &'static str)> {
    let readable = "name a file that exists and may be read by the user that runs sluice";
    let read =
        files::read_regular(Path::new(path), FILE_BYTES_MAX).map_err(|unread| match unread {
            Unread::Failed(error) => (format!("cannot be read: {error}"), readable),
            Unread::NotRegular => ("is not a plain file".to_owned(), "name a plain file"),
            Unread::TooLarge(_) => (
                format!("is larger than {} KiB", FILE_BYTES_MAX >> 10),
                "name a file that contains the value and nothing else",
            ),
        });
    let (bytes, _) = read?;
    let text = String::from_utf8(bytes)
        .map_err(|_| ("is not UTF-8".to_owned(), "name a file that contains text"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let lookup = |name: &str| match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "HOSTILE" => Some("\"\nmode = \"upsert\" ${HOST}".to_owned()),
            _ => None,
        };
        let filled = fill(text, &lookup).map_err(|unfilled| unfilled.message);
        assert_eq!(filled.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn variables_are_filled_in_once() {
        check("plain", Ok("plain"));
        check("${HOST}", Ok("db"));
        check("postgres://${HOST}:${PORT:-5432}/x", Ok("postgres://db:5432/x"));
        check("${EMPTY}", Ok(""));
        check("${EMPTY:-full}", Ok("full"));
        check("$HOST $5 ${HOST", Err("`${` is not closed"));
        check("$HOST $5", Ok("$HOST $5"));
        check("$${HOST}", Ok("${HOST}"));
        check("${GONE}", Err("the environment variable `GONE` is not set"));
        check(
            "${}",
            Err(
                "a variable's name is ASCII letters, digits and `_`, and does not begin with a digit",
            ),
        );
        check(
            "${A B}",
            Err(
                "a variable's name is ASCII letters, digits and `_`, and does not begin with a digit",
            ),
        );
        check("${HOSTILE}", Ok("\"\nmode = \"upsert\" ${HOST}"));
    }

    #[test]
    fn files_are_filled_in_without_their_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        for (content, expected) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            (" two\nlines \n\n", " two\nlines \n"),
            ("${HOST}", "${HOST}"),
            ("", ""),
        ] {
            let path = file("value", content.as_bytes());
            check(&format!("a ${{file:{path}}}@${{HOST}}"), Ok(&format!("a {expected}@db")));
        }
        let largest = "x".repeat(64 << 10);
        check(&format!("${{file:{}}}", file("largest", largest.as_bytes())), Ok(&largest));
        let large = file("large", format!("{largest}x").as_bytes());
        check(
            &format!("${{file:{large}}}"),
            Err(&format!("the file `{large}` is larger than 64 KiB")),
        );
        let binary = file("binary", b"\xff");
        check(&format!("${{file:{binary}}}"), Err(&format!("the file `{binary}` is not UTF-8")));
        check("${file:/dev/zero}", Err("the file `/dev/zero` is not a plain file"));
        check("${file:/dev}", Err("the file `/dev` is not a plain file"));
        let missing = "the file `/no/such` cannot be read: No such file or directory (os error 2)";
        check("${file:/no/such}", Err(missing));
        check(
            "${file:}",
            Err("the file `` cannot be read: No such file or directory (os error 2)"),
        );
        check("$${file:/no/such}", Ok("${file:/no/such}"));
    }
}
