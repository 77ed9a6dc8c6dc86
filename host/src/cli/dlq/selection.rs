//! The options by which dead letters are selected, the same for all commands on them.

use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::{ArgGroup, Args};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::rows::Stage;
use crate::sink::dead_letters::Selection;

/// Which dead letters. What is given several times or comma-separated is one of these; all that is given must fit.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArgs {
    /// Ids, such as 17,20-25
    #[arg(long = "id", value_name = "IDS", value_delimiter = ',')]
    ids: Vec<Numbers>,
    /// Where they were rejected
    #[arg(long = "stage", value_name = "STAGE", value_delimiter = ',', value_parser = Stage::ALL.map(Stage::name))]
    stages: Vec<String>,
    /// Codes with which they were rejected
    #[arg(long = "code", value_name = "CODE", value_delimiter = ',')]
    codes: Vec<String>,
    /// Partitions, such as 0,4-7
    #[arg(long = "partition", value_name = "NUMBERS", value_delimiter = ',')]
    partitions: Vec<Numbers>,
    /// Offsets, such as 1200-1300
    #[arg(long = "offset", value_name = "NUMBERS", value_delimiter = ',')]
    offsets: Vec<Numbers>,
    /// First rejected at this time or later: 2026-11-22T08:30:00Z, 2026-11-22, or 90m (before now)
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// First rejected before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
}

/// All ways to select, and `--all`.
const WAYS: [&str; 8] =
    ["ids", "stages", "codes", "partitions", "offsets", "since", "until", "all"];

/// A selection that must be made: what changes dead letters does not take all of them by accident.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("dead_letters").required(true).multiple(true).args(WAYS))]
pub struct DeliberateArgs {
    #[command(flatten)]
    some: SelectionArgs,
    /// All dead letters of the pipeline
    #[arg(long, conflicts_with = "SelectionArgs")]
    all: bool,
}

impl SelectionArgs {
    /// As plain data.
    pub fn selection(&self) -> Selection {
        let ranges = |numbers: &[Numbers]| numbers.iter().map(|it| it.0.clone()).collect();
        Selection {
            ids: ranges(&self.ids),
            stages: self.stages.clone(),
            codes: self.codes.clone(),
            partitions: ranges(&self.partitions),
            offsets: ranges(&self.offsets),
            since: self.since,
            until: self.until,
        }
    }
}

impl DeliberateArgs {
    /// As plain data.
    pub fn selection(&self) -> Selection {
        self.some.selection()
    }
}

/// A number or a range that includes both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Numbers(RangeInclusive<i64>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let number = |digits: &str| {
            let number = digits.trim().parse().ok().filter(|number: &i64| *number >= 0);
            number.ok_or_else(|| format!("{text:?} is neither a number nor a range"))
        };
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(format!("the range {from}-{to} ends before it begins"));
        }
        Ok(Self(from..=to))
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, Timestamp::now())
}

/// A time, a day (its beginning in UTC), or how long before `now`.
fn time_at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(day) = text.parse::<Date>() {
        let begins = day.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(begins.timestamp());
    }
    let back = humantime::parse_duration(text).ok();
    back.and_then(|back| now.checked_sub(SignedDuration::try_from(back).ok()?).ok()).ok_or_else(
        || {
            "neither a time (2026-11-22T08:30:00Z), a day (2026-11-22), nor a while ago (90m)"
                .to_owned()
        },
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Some {
        #[command(flatten)]
        selection: SelectionArgs,
    }

    #[derive(Debug, Parser)]
    #[command(name = "replay")]
    struct Deliberate {
        #[command(flatten)]
        selection: DeliberateArgs,
    }

    fn refused(arguments: &str) -> String {
        let line = ["replay"].into_iter().chain(arguments.split_whitespace());
        Deliberate::try_parse_from(line).unwrap_err().to_string()
    }

    #[test]
    fn lists_and_repetitions_are_the_same() {
        let parse = |arguments: &str| {
            let line = ["list"].into_iter().chain(arguments.split_whitespace());
            Some::try_parse_from(line).unwrap().selection.selection()
        };
        let expected = Selection {
            ids: vec![17..=17, 20..=25],
            stages: vec!["decode".into(), "sink".into()],
            codes: vec!["malformed".into()],
            partitions: vec![0..=0],
            ..Selection::default()
        };
        assert_eq!(
            parse("--id 17,20-25 --stage decode,sink --code malformed --partition 0"),
            expected
        );
        assert_eq!(
            parse(
                "--id 17 --id 20-25 --stage decode --stage sink --code malformed --partition 0-0"
            ),
            expected
        );
        assert_eq!(parse(""), Selection::default());
    }

    #[test]
    fn all_is_said_or_something_is_selected() {
        insta::assert_snapshot!(refused(""), @"
        error: the following required arguments were not provided:
          <--id <IDS>|--stage <STAGE>|--code <CODE>|--partition <NUMBERS>|--offset <NUMBERS>|--since <TIME>|--until <TIME>|--all>

        Usage: replay <--id <IDS>|--stage <STAGE>|--code <CODE>|--partition <NUMBERS>|--offset <NUMBERS>|--since <TIME>|--until <TIME>|--all>

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(refused("--all --id 5"), @"
        error: the argument '--all' cannot be used with:
          --id <IDS>
          --stage <STAGE>
          --code <CODE>
          --partition <NUMBERS>
          --offset <NUMBERS>
          --since <TIME>
          --until <TIME>

        Usage: replay <--id <IDS>|--stage <STAGE>|--code <CODE>|--partition <NUMBERS>|--offset <NUMBERS>|--since <TIME>|--until <TIME>|--all>

        For more information, try '--help'.
        ");
        let all = Deliberate::try_parse_from(["replay", "--all"]).unwrap();
        assert_eq!(all.selection.selection(), Selection::default());
    }

    #[test]
    fn what_is_no_number_is_refused() {
        insta::assert_snapshot!(refused("--id seven"), @r#"
        error: invalid value 'seven' for '--id <IDS>': "seven" is neither a number nor a range

        For more information, try '--help'.
        "#);
        insta::assert_snapshot!(refused("--offset 9-3"), @"
        error: invalid value '9-3' for '--offset <NUMBERS>': the range 9-3 ends before it begins

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(refused("--partition=-1"), @r#"
        error: invalid value '-1' for '--partition <NUMBERS>': "-1" is neither a number nor a range

        For more information, try '--help'.
        "#);
        insta::assert_snapshot!(refused("--stage kafka"), @"
        error: invalid value 'kafka' for '--stage <STAGE>'
          [possible values: decode, plugin, sink]

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(refused("--since yesterday"), @"
        error: invalid value 'yesterday' for '--since <TIME>': neither a time (2026-11-22T08:30:00Z), a day (2026-11-22), nor a while ago (90m)

        For more information, try '--help'.
        ");
    }

    #[test]
    fn times_are_absolute_days_or_a_while_ago() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(time_at(text, now).unwrap().to_string(), expected, "{text}");
        };
        check("2026-11-22T08:30:00Z", "2026-11-22T08:30:00Z");
        check("2026-11-22T08:30:00+02:00", "2026-11-22T06:30:00Z");
        check("2026-11-21", "2026-11-21T00:00:00Z");
        check("90m", "2026-11-22T10:30:00Z");
        check("1day 1h", "2026-11-21T11:00:00Z");
    }
}
