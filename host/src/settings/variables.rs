//! `${NAME}` and `${NAME:-default}` inside strings. Filled in after the file was parsed, so that a value
//! is a value and never becomes a key.

use std::ops::Range;

/// Looks a variable up.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a string could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfilled {
    /// The bytes of the string at fault.
    pub(super) at: Range<usize>,
    /// Lower-case fragment; never tells a value.
    pub(super) message: String,
    /// The way out.
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
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        let message =
            "a variable's name is letters, digits and `_`, and does not begin with a digit"
                .to_owned();
        return Err(Unfilled {
            at,
            message,
            hint: "write `${NAME}` or `${NAME:-default}`".to_owned(),
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
            Err("a variable's name is letters, digits and `_`, and does not begin with a digit"),
        );
        check(
            "${A B}",
            Err("a variable's name is letters, digits and `_`, and does not begin with a digit"),
        );
        check("${HOSTILE}", Ok("\"\nmode = \"upsert\" ${HOST}"));
    }
}
