//! Which numbers of a message must keep all their digits, because a column of Postgres would: said by the
//! plan of the tables, obeyed by the decoder. Knows neither JSON nor Postgres.

use std::collections::BTreeMap;

use crate::columns::Kind;
use crate::description::{FieldSource, OutputField};

/// What the tables need of the numbers in the input fields. By default nothing special: each number is
/// what its kind makes of it, a double or a signed integer of 64 bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExactInputs {
    /// By input field: where a number that is passed through goes.
    passed: BTreeMap<usize, Passed>,
    /// True when the plugin computes doubles for a column that keeps all digits: digits that a double drops
    /// would be missing there without a word.
    pub doubles_become_numerics: bool,
}

/// Where a number that is passed through goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Passed {
    /// To a column that keeps all digits.
    exactly: bool,
    /// To a column that takes what the kind makes of it.
    by_kind: bool,
}

impl ExactInputs {
    /// Takes an output field into account; `exactly` is true when its column keeps all digits.
    pub fn add(&mut self, field: &OutputField, exactly: bool) {
        match (field.source, field.kind) {
            (FieldSource::Field(input), Kind::Int64 | Kind::Float64) => {
                let passed = self.passed.entry(input).or_default();
                passed.exactly |= exactly;
                passed.by_kind |= !exactly;
            }
            (FieldSource::Computed, Kind::Float64) => self.doubles_become_numerics |= exactly,
            _ => {}
        }
    }

    /// True when the digits of this input field are needed.
    pub fn has(&self, input: usize) -> bool {
        self.passed.get(&input).is_some_and(|passed| passed.exactly)
    }

    /// True when they are all that the tables need of it.
    pub fn has_only(&self, input: usize) -> bool {
        self.passed.get(&input).is_some_and(|passed| passed.exactly && !passed.by_kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: Kind, source: FieldSource) -> OutputField {
        OutputField { name: String::new(), kind, nullable: false, source }
    }

    #[test]
    fn digits_are_needed_where_a_number_is_passed_to_a_column_that_keeps_them() {
        let mut exact = ExactInputs::default();
        exact.add(&field(Kind::Float64, FieldSource::Field(0)), true);
        exact.add(&field(Kind::Int64, FieldSource::Field(1)), true);
        exact.add(&field(Kind::Int64, FieldSource::Field(1)), false);
        exact.add(&field(Kind::Float64, FieldSource::Field(2)), false);
        exact.add(&field(Kind::Text, FieldSource::Field(3)), true);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|input| exact.has(input)),
            [true, true, false, false, false]
        );
        assert_eq!([0, 1, 2].map(|input| exact.has_only(input)), [true, false, false]);
        assert!(!exact.doubles_become_numerics);
    }

    #[test]
    fn computed_doubles_are_told_from_other_computed_values() {
        for (kind, exactly, expected) in [
            (Kind::Float64, true, true),
            (Kind::Float64, false, false),
            (Kind::Int64, true, false),
            (Kind::Text, true, false),
        ] {
            let mut exact = ExactInputs::default();
            exact.add(&field(kind, FieldSource::Computed), exactly);
            assert_eq!(exact.doubles_become_numerics, expected, "{kind:?} {exactly}");
        }
    }
}
