//! Which row Postgres speaks of: the line of the COPY in the context of an error.

use tokio_postgres::Error;

/// Classes of errors that come up while many rows are stored at once: the line is then that of the last one read.
const WITHOUT_LINE: [&str; 4] = ["53", "54", "58", "XX"];

/// The line that COPY was at, counted from 1.
pub(super) fn line_of(error: &Error, relation: &str) -> Option<usize> {
    let state = error.code()?.code();
    if WITHOUT_LINE.iter().any(|class| state.starts_with(class)) {
        return None;
    }
    let context = error.as_db_error()?.where_()?;
    context.lines().find_map(|line| line_in(line, relation))
}

/// The number in `COPY readings, line 302, column power_w`. The words depend on the server's language.
fn line_in(context: &str, relation: &str) -> Option<usize> {
    let behind = context.strip_prefix("COPY ")?.strip_prefix(relation)?;
    let start = behind.find(|it: char| it.is_ascii_digit())?;
    let digits = behind[start..].split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|line| *line > 0)
}

/// The last name in `schema."Table"`, without quotes.
pub(super) fn relation_of(name: &str) -> String {
    let mut quoted = false;
    let last = name.rfind(|it: char| {
        quoted ^= it == '"';
        it == '.' && !quoted
    });
    let last = last.map_or(name, |dot| &name[dot + 1..]);
    match last.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => last.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_what_postgres_says() {
        let check = |context: &str, line| {
            assert_eq!(line_in(context, "readings_2026"), line, "{context}");
        };
        check("COPY readings_2026, line 302", Some(302));
        check("COPY readings_2026, line 302, column power_w", Some(302));
        check("COPY readings_2026, Zeile 302, Spalte power_w2", Some(302));
        check("COPY readings_2026, line 302, column note: \"a, line 5\"", Some(302));
        check("COPY readings, line 302", None);
        check("PL/pgSQL function f() line 3 at RAISE", None);
        check("COPY readings_2026, line 0", None);
        check("COPY readings_2026", None);
    }

    #[test]
    fn a_relation_is_named_without_schema_and_quotes() {
        let check = |name: &str, relation| assert_eq!(relation_of(name), relation);
        check("public.readings", "readings");
        check("public.\"Read.ings\"", "Read.ings");
        check("\"a.b\".\"say \"\"hi\"\"\"", "say \"hi\"");
        check("sluice_stage_1_0", "sluice_stage_1_0");
    }
}
