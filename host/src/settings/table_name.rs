//! Names of tables as the settings write them: `readings`, `telemetry.readings`, or as in SQL with quotes around what
//! has dots, quotes or blanks at its ends: `"Odd.Name"`, `app."My ""own"" table"`.

use std::fmt;

/// A table's name and, where it is written, that of its schema; both as Postgres stores them.
///
/// Displays quoted for SQL. A part without quotes is taken as it is written, capitals included: unlike in SQL, where
/// `Readings` is `readings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Of the schema.
    pub schema: Option<String>,
    /// Of the table.
    pub table: String,
}

impl TableName {
    /// Reads what the settings say; `None` when it is no name.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, rest) = part(text)?;
        let Some(rest) = rest else { return Some(Self { schema: None, table: first }) };
        let (table, rest) = part(rest)?;
        rest.is_none().then_some(Self { schema: Some(first), table })
    }

    /// The same for a text that was checked when the settings were read. Any other is the name of a table.
    pub(crate) fn read(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|| Self { schema: None, table: text.to_owned() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        if let Some(schema) = &self.schema {
            write!(formatter, "{}.", quoted(schema))?;
        }
        formatter.write_str(&quoted(&self.table))
    }
}

/// The first part of a path and, after a dot, what follows it.
fn part(text: &str) -> Option<(String, Option<&str>)> {
    let (part, rest) = match text.strip_prefix('"') {
        Some(quoted) => in_quotes(quoted)?,
        None => {
            let end = text.find('.').unwrap_or(text.len());
            let (part, rest) = text.split_at(end);
            if part.trim() != part {
                return None;
            }
            (part.to_owned(), rest)
        }
    };
    if part.is_empty() || part.contains('\0') {
        return None;
    }
    match rest.strip_prefix('.') {
        Some(rest) => Some((part, Some(rest))),
        None => rest.is_empty().then_some((part, None)),
    }
}

/// What stands before the closing quote, and what comes after it.
fn in_quotes(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        let Some(more) = after.strip_prefix('"') else { return Some((part, after)) };
        part.push('"');
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let found = TableName::parse(text).map(|name| name.to_string());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn names_are_read_as_before_and_in_quotes_as_in_sql() {
        check("readings", Some(r#""readings""#));
        check("telemetry.Readings", Some(r#""telemetry"."Readings""#));
        check("my table", Some(r#""my table""#));
        check(r#"we"ird"#, Some(r#""we""ird""#));
        check(r#""Odd.Name""#, Some(r#""Odd.Name""#));
        check(r#"app."My Table""#, Some(r#""app"."My Table""#));
        check(r#""a.b"."c.d""#, Some(r#""a.b"."c.d""#));
        check(r#""a""b".c"#, Some(r#""a""b"."c""#));
        check("\"\"\"\"", Some("\"\"\"\""));
        for wrong in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a.b.c",
            " a",
            "a. b",
            r#"""#,
            r#""""#,
            r#""a"#,
            r#""a"b"#,
            r#""a"."#,
            r#"a."b"#,
            r#""a".b."c""#,
            "a\0b",
            "\"a\0b\"",
        ] {
            check(wrong, None);
        }
    }
}
