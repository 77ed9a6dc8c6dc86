//! Which kinds of columns fit which types of Postgres, and whether a cell fits: checked here, before the
//! wire, so that a bad cell costs its message and not the batch.

use crate::columns::{Column, Kind, Values};
use numeric::Limits;

pub mod datetime;
pub mod json;
pub mod numeric;
mod uuid;

pub use uuid::parse as parse_uuid;

/// A type of Postgres that has an encoder here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Type {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric(Option<Limits>),
    /// text, varchar and char, with the most characters it takes.
    Text(Option<u32>),
    Uuid,
    Date,
    Time,
    Timestamp,
    Enum(Vec<String>),
    Json,
    Jsonb,
    Bytea,
    Int2List,
    Int4List,
    Int8List,
    Float4List,
    Float8List,
    /// Any other: given as text and cast by Postgres.
    Other,
}

impl Type {
    /// From the catalog's name of the type, its modifier, and an enum's labels.
    pub fn new(name: &str, typmod: i32, labels: Vec<String>) -> Self {
        // Length modifiers count their own four bytes.
        let length = u32::try_from(typmod - 4).ok();
        match name {
            "bool" => Self::Boolean,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "float4" => Self::Float4,
            "float8" => Self::Float8,
            "numeric" => Self::Numeric(Limits::from_typmod(typmod)),
            "text" => Self::Text(None),
            "varchar" | "bpchar" => Self::Text(length),
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "time" => Self::Time,
            // On the wire the two are the same: microseconds in UTC.
            "timestamp" | "timestamptz" => Self::Timestamp,
            "enum" => Self::Enum(labels),
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "bytea" => Self::Bytea,
            "_int2" => Self::Int2List,
            "_int4" => Self::Int4List,
            "_int8" => Self::Int8List,
            "_float4" => Self::Float4List,
            "_float8" => Self::Float8List,
            _ => Self::Other,
        }
    }
}

/// How the cells of a column are checked and written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Encoding {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    IntegerAsNumeric(Option<Limits>),
    FloatAsNumeric(Option<Limits>),
    TextAsNumeric(Option<Limits>),
    /// The text of a number that is passed through, whatever its kind.
    DigitsAsNumeric(Option<Limits>),
    Text(Option<u32>),
    Uuid,
    Date,
    Time,
    Enum(Vec<String>),
    /// `trusted` when the host's own decoder made the value, so that its syntax is known to be right.
    Json {
        binary: bool,
        trusted: bool,
    },
    Timestamp,
    TimestampAsDate,
    Bytes,
    Int2List,
    Int4List,
    Int8List,
    Float4List,
    Float8List,
    /// As text into a staging table; Postgres casts it.
    Cast,
}

impl Encoding {
    /// How to give a column of `kind` to `target`; `None` when they do not go together.
    pub fn new(kind: Kind, target: &Type, passed_through: bool) -> Option<Self> {
        Some(match (kind, target) {
            (Kind::Int64 | Kind::Float64, Type::Numeric(limits)) if passed_through => {
                Self::DigitsAsNumeric(*limits)
            }
            (Kind::Boolean, Type::Boolean) => Self::Boolean,
            (Kind::Int64, Type::Int2) => Self::Int2,
            (Kind::Int64, Type::Int4) => Self::Int4,
            (Kind::Int64, Type::Int8) => Self::Int8,
            (Kind::Int64, Type::Numeric(limits)) => Self::IntegerAsNumeric(*limits),
            (Kind::Float64, Type::Float4) => Self::Float4,
            (Kind::Float64, Type::Float8) => Self::Float8,
            (Kind::Float64, Type::Numeric(limits)) => Self::FloatAsNumeric(*limits),
            (Kind::Text | Kind::Json, Type::Text(characters_max)) => Self::Text(*characters_max),
            (Kind::Text, Type::Numeric(limits)) => Self::TextAsNumeric(*limits),
            (Kind::Text, Type::Uuid) => Self::Uuid,
            (Kind::Text, Type::Date) => Self::Date,
            (Kind::Text, Type::Time) => Self::Time,
            (Kind::Text, Type::Enum(labels)) => Self::Enum(labels.clone()),
            (Kind::Text, Type::Json) => Self::Json { binary: false, trusted: false },
            (Kind::Text, Type::Jsonb) => Self::Json { binary: true, trusted: false },
            (Kind::Json, Type::Json) => Self::Json { binary: false, trusted: passed_through },
            (Kind::Json, Type::Jsonb) => Self::Json { binary: true, trusted: passed_through },
            (Kind::Text, _) => Self::Cast,
            (Kind::Timestamp, Type::Timestamp) => Self::Timestamp,
            (Kind::Timestamp, Type::Date) => Self::TimestampAsDate,
            (Kind::Bytes, Type::Bytea) => Self::Bytes,
            (Kind::Int64List, Type::Int2List) => Self::Int2List,
            (Kind::Int64List, Type::Int4List) => Self::Int4List,
            (Kind::Int64List, Type::Int8List) => Self::Int8List,
            (Kind::Float64List, Type::Float4List) => Self::Float4List,
            (Kind::Float64List, Type::Float8List) => Self::Float8List,
            _ => return None,
        })
    }

    /// True when the column keeps all digits of a number.
    pub fn is_numeric(&self) -> bool {
        matches!(
            self,
            Self::IntegerAsNumeric(_)
                | Self::FloatAsNumeric(_)
                | Self::TextAsNumeric(_)
                | Self::DigitsAsNumeric(_)
        )
    }

    /// Whether cell `index` of `values` fits; it must not be a missing one.
    pub fn check(&self, values: &Values, index: usize) -> Result<(), Misfit> {
        match (self, values) {
            (Self::Int2, Values::Int64(values)) => integer::<i16>(values[index], "smallint"),
            (Self::Int4, Values::Int64(values)) => integer::<i32>(values[index], "integer"),
            (Self::IntegerAsNumeric(limits), Values::Int64(values)) => {
                numeric::check_integer(values[index], *limits)
            }
            (Self::Float4, Values::Float64(values)) => real(values[index]),
            (Self::FloatAsNumeric(limits), Values::Float64(values)) => {
                numeric::check_float(values[index], *limits)
            }
            (Self::Timestamp | Self::TimestampAsDate, Values::Timestamp(values)) => {
                datetime::check_timestamp(values[index])
            }
            (Self::Int2List, Values::Int64List(lists)) => {
                lists.get(index).iter().try_for_each(|item| integer::<i16>(*item, "smallint"))
            }
            (Self::Int4List, Values::Int64List(lists)) => {
                lists.get(index).iter().try_for_each(|item| integer::<i32>(*item, "integer"))
            }
            (Self::Float4List, Values::Float64List(lists)) => {
                lists.get(index).iter().try_for_each(|item| real(*item))
            }
            (_, Values::Text(spans) | Values::Json(spans)) => self.check_text(spans.get(index)),
            _ => Ok(()),
        }
    }

    fn check_text(&self, text: &[u8]) -> Result<(), Misfit> {
        match self {
            Self::Text(characters_max) => plain_text(text, *characters_max),
            Self::Cast => plain_text(text, None),
            Self::TextAsNumeric(limits) => numeric::check_text(text, *limits),
            Self::DigitsAsNumeric(limits) => numeric::check_digits(text, *limits),
            Self::Uuid => uuid::parse(text)
                .map(drop)
                .ok_or_else(|| Misfit::of("bad-uuid", "is not a UUID", text)),
            Self::Date => datetime::parse_date(text)
                .map(drop)
                .ok_or_else(|| Misfit::of("bad-date", "is not a date like 2026-11-22", text)),
            Self::Time => datetime::parse_time(text)
                .map(drop)
                .ok_or_else(|| Misfit::of("bad-time", "is not a time like 23:59:59.5", text)),
            Self::Enum(labels) if labels.iter().any(|label| label.as_bytes() == text) => Ok(()),
            Self::Enum(labels) => Err(Misfit::of(
                "unknown-enum-value",
                &format!("is none of {}", first_of(labels)),
                text,
            )),
            Self::Json { binary, trusted } => json::check(text, *binary, *trusted),
            _ => Ok(()),
        }
    }

    /// True when some cell of the column may not fit, checked over the column at once; the usual
    /// answer, no, costs a fraction of looking at each cell.
    pub fn may_reject(&self, column: &Column) -> bool {
        match (self, &column.values) {
            (Self::Int2, Values::Int64(values)) => {
                values.iter().any(|value| i64::from(*value as i16) != *value)
            }
            (Self::Int4, Values::Int64(values)) => {
                values.iter().any(|value| i64::from(*value as i32) != *value)
            }
            (Self::IntegerAsNumeric(limits), _) => limits.is_some(),
            (Self::Float4, Values::Float64(values)) => {
                values.iter().any(|value| real(*value).is_err())
            }
            (Self::Timestamp | Self::TimestampAsDate, Values::Timestamp(values)) => {
                values.iter().any(|value| datetime::check_timestamp(*value).is_err())
            }
            (Self::Text(None) | Self::Cast, Values::Text(spans) | Values::Json(spans)) => {
                spans.data.contains(&0)
            }
            (
                Self::Boolean
                | Self::Int8
                | Self::Float8
                | Self::Bytes
                | Self::Int8List
                | Self::Float8List,
                _,
            ) => false,
            _ => true,
        }
    }
}

/// Why a cell does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Code of the rejection.
    pub code: &'static str,
    /// Follows the column's name: `"2026-13-01" is not a date`.
    pub reason: String,
}

impl Misfit {
    fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Quotes the cell, cut short.
    fn of(code: &'static str, reason: &str, text: &[u8]) -> Self {
        let (shown, more) = shortened(text);
        Self::new(code, format!("{shown:?}{more} {reason}"))
    }

    /// Repeats the cell, a number, cut short.
    fn of_number(code: &'static str, reason: &str, text: &[u8]) -> Self {
        let (shown, more) = shortened(text);
        Self::new(code, format!("{shown}{more} {reason}"))
    }
}

/// The first labels of an enum, which may have any number of them.
fn first_of(labels: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let mut shown = labels[..labels.len().min(SHOWN_MAX)].join(", ");
    if labels.len() > SHOWN_MAX {
        shown.push_str(&format!(" and {} more", labels.len() - SHOWN_MAX));
    }
    shown
}

/// The first characters of a text, and whether there are more.
fn shortened(text: &[u8]) -> (String, &'static str) {
    let text = String::from_utf8_lossy(text);
    let shown: String = text.chars().take(40).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    (shown, more)
}

fn integer<T: TryFrom<i64>>(value: i64, name: &str) -> Result<(), Misfit> {
    match T::try_from(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(Misfit::new("out-of-range", format!("{value} does not fit in {name}"))),
    }
}

fn real(value: f64) -> Result<(), Misfit> {
    if (value as f32).is_infinite() && value.is_finite() {
        return Err(Misfit::new("out-of-range", format!("{value:e} does not fit in real")));
    }
    Ok(())
}

/// Postgres cuts spaces beyond the length silently, and so does not refuse them.
fn plain_text(text: &[u8], characters_max: Option<u32>) -> Result<(), Misfit> {
    if text.contains(&0) {
        return Err(Misfit::new(
            "nul-character",
            "contains the character U+0000, which Postgres cannot store in text",
        ));
    }
    let Some(characters_max) = characters_max else { return Ok(()) };
    if text.len() <= characters_max as usize {
        return Ok(());
    }
    // Every character begins with a byte that is not a continuation.
    let characters = |text: &[u8]| text.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
    let spaces = text.iter().rev().take_while(|byte| **byte == b' ').count();
    let needed = characters(&text[..text.len() - spaces]);
    if needed > characters_max as usize {
        return Err(Misfit::new(
            "too-long",
            format!("has {} characters of {characters_max}", characters(text)),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_measured_in_characters_and_spaces_may_hang_over() {
        let fits =
            |text: &str, max| plain_text(text.as_bytes(), Some(max)).map_err(|misfit| misfit.code);
        assert_eq!(fits("äöü", 3), Ok(()));
        assert_eq!(fits("äöüx", 3), Err("too-long"));
        assert_eq!(fits("abc    ", 3), Ok(()));
        assert_eq!(fits("abc  d", 3), Err("too-long"));
        assert_eq!(fits("a\0", 3), Err("nul-character"));
    }

    #[test]
    fn reasons_name_only_the_first_labels_of_an_enum() {
        let check = |count: usize, expected: &str| {
            let labels = (0..count).map(|label| format!("l{label}")).collect();
            let misfit = Encoding::Enum(labels).check_text(b"x").unwrap_err();
            assert_eq!(misfit.reason, format!("\"x\" is none of {expected}"));
        };
        check(2, "l0, l1");
        check(10, "l0, l1, l2, l3, l4, l5, l6, l7, l8, l9");
        check(5000, "l0, l1, l2, l3, l4, l5, l6, l7, l8, l9 and 4990 more");
    }

    #[test]
    fn reasons_quote_a_long_cell_only_in_part() {
        let misfit = Misfit::of("bad-uuid", "is not a UUID", &[b'x'; 5000]);
        assert_eq!(misfit.reason, format!("{:?}... is not a UUID", "x".repeat(40)));
    }

    #[test]
    fn numbers_keep_their_digits_where_they_are_only_passed_on() {
        let numeric = Type::Numeric(None);
        for kind in [Kind::Int64, Kind::Float64] {
            let passed = Encoding::new(kind, &numeric, true);
            assert_eq!(passed, Some(Encoding::DigitsAsNumeric(None)));
            assert_ne!(Encoding::new(kind, &numeric, false), passed);
        }
        assert_eq!(Encoding::new(Kind::Float64, &Type::Float8, true), Some(Encoding::Float8));
        assert_eq!(Encoding::new(Kind::Text, &numeric, true), Some(Encoding::TextAsNumeric(None)));
    }

    #[test]
    fn kinds_without_a_way_into_a_type_are_refused() {
        assert_eq!(Encoding::new(Kind::Boolean, &Type::Text(None), false), None);
        assert_eq!(Encoding::new(Kind::Int64, &Type::Float8, false), None);
        assert_eq!(Encoding::new(Kind::Bytes, &Type::Text(None), false), None);
        assert_eq!(Encoding::new(Kind::Text, &Type::Other, false), Some(Encoding::Cast));
        assert_eq!(Encoding::new(Kind::Text, &Type::Int8, false), Some(Encoding::Cast));
    }
}
