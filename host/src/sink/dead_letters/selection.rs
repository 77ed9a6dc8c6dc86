//! Which dead letters: a selection as plain data, and the condition that finds them.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use jiff::Timestamp;
use postgres_types::ToSql;

/// Dead letters of one pipeline. What is empty restricts nothing; a dead letter must fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Any of these ids.
    pub ids: Vec<RangeInclusive<i64>>,
    /// Of any of these stages.
    pub stages: Vec<String>,
    /// With any of these codes.
    pub codes: Vec<String>,
    /// From any of these partitions.
    pub partitions: Vec<RangeInclusive<i64>>,
    /// At any of these offsets.
    pub offsets: Vec<RangeInclusive<i64>>,
    /// First rejected at this time or later.
    pub since: Option<Timestamp>,
    /// First rejected before this time.
    pub until: Option<Timestamp>,
}

/// What stands behind WHERE, and its parameters, which begin with `$1`.
#[derive(Debug)]
pub(super) struct Condition {
    pub text: String,
    parameters: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Selection {
    pub(super) fn condition(&self, pipeline: &str) -> Condition {
        let mut condition = Condition { text: String::new(), parameters: Vec::new() };
        let pipeline = condition.parameter(pipeline.to_owned());
        condition.text = format!("pipeline = {pipeline}");
        condition.and_numbers("id", &self.ids);
        condition.and_any("stage", &self.stages);
        condition.and_any("code", &self.codes);
        condition.and_numbers("partition", &self.partitions);
        condition.and_numbers("\"offset\"", &self.offsets);
        if let Some(since) = self.since {
            condition.and("rejected_at >=", SystemTime::from(since));
        }
        if let Some(until) = self.until {
            condition.and("rejected_at <", SystemTime::from(until));
        }
        condition
    }
}

impl Condition {
    /// The name of one more parameter.
    pub fn parameter(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.parameters.push(Box::new(value));
        format!("${}", self.parameters.len())
    }

    /// One more condition: `left` of the value.
    pub fn and(&mut self, left: &str, value: impl ToSql + Sync + Send + 'static) {
        let name = self.parameter(value);
        self.text.push_str(&format!(" AND {left} {name}"));
    }

    pub fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }

    fn and_any(&mut self, column: &str, values: &[String]) {
        if !values.is_empty() {
            let name = self.parameter(values.to_vec());
            self.text.push_str(&format!(" AND {column} = ANY({name})"));
        }
    }

    fn and_numbers(&mut self, column: &str, ranges: &[RangeInclusive<i64>]) {
        let (single, wide): (Vec<_>, Vec<_>) =
            ranges.iter().partition(|range| range.start() == range.end());
        let mut any = Vec::new();
        if !single.is_empty() {
            let numbers: Vec<i64> = single.into_iter().map(|range| *range.start()).collect();
            any.push(format!("{column} = ANY({}::bigint[])", self.parameter(numbers)));
        }
        for range in wide {
            let (from, to) = (self.parameter(*range.start()), self.parameter(*range.end()));
            any.push(format!("{column} BETWEEN {from}::bigint AND {to}::bigint"));
        }
        if !any.is_empty() {
            self.text.push_str(&format!(" AND ({})", any.join(" OR ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selection: &Selection, expected: &str) {
        let condition = selection.condition("energy");
        assert_eq!(condition.text, expected);
        assert_eq!(condition.parameters.len(), expected.matches('$').count());
    }

    #[test]
    fn what_is_not_given_restricts_nothing() {
        check(&Selection::default(), "pipeline = $1");
    }

    #[test]
    fn all_that_is_given_must_fit() {
        let time = |second| Some(Timestamp::from_second(second).unwrap());
        let selection = Selection {
            ids: vec![5..=5, 10..=20, 7..=7],
            stages: vec!["plugin".into()],
            codes: vec!["a".into(), "b".into()],
            partitions: vec![3..=3],
            offsets: vec![100..=200],
            since: time(1),
            until: time(2),
        };
        check(
            &selection,
            "pipeline = $1 AND (id = ANY($2::bigint[]) OR id BETWEEN $3::bigint AND $4::bigint) \
             AND stage = ANY($5) AND code = ANY($6) AND (partition = ANY($7::bigint[])) \
             AND (\"offset\" BETWEEN $8::bigint AND $9::bigint) AND rejected_at >= $10 AND rejected_at < $11",
        );
    }
}
