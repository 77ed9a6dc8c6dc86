//! What a choice means for each partition: where it goes on, and what is lost, skipped or read again.
//! Pure reckoning.

use serde::Serialize;

use super::{Arguments, refuse};
use crate::cli::topic::{Ends, Topic};
use crate::fault::{Fault, broker};
use crate::sink::claims::Position;
use crate::sink::claims::blocks::Block;
use crate::sink::claims::resolve::Decision;
use crate::source::identity::is_another;

/// So many owners crashed at the position that it is blocked.
const DEADLY: i32 = 3;

/// A partition as it stands.
#[derive(Debug, Clone)]
pub(super) struct Stand {
    partition: i32,
    next_offset: i64,
    epoch: i64,
    /// The topic was deleted and created again.
    other_topic: bool,
    /// `None` when the topic no longer has the partition.
    ends: Option<Ends>,
    /// Why it is blocked; `None` when it is not.
    code: Option<String>,
}

/// What is done about a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Resolved {
    pub partition: i32,
    /// Why it was blocked.
    pub code: Option<String>,
    pub position_before: i64,
    pub position_after: i64,
    /// Offsets between the two that the topic no longer has.
    pub lost: i64,
    /// All offsets that are never read, those that are lost included.
    pub skipped: i64,
    pub read_again: i64,
    /// The position belonged to a topic that was deleted.
    pub other_topic: bool,
    #[serde(skip)]
    pub decision: Decision,
}

/// A partition that nothing is done about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    pub partition: i32,
    pub why: String,
}

impl Stand {
    /// Compares a position with the topic. What can be seen now counts, then what hosts have written down.
    pub fn new(position: &Position, topic: &Topic, block: Option<&Block>) -> Self {
        let ends = topic.ends.get(&position.partition).copied();
        let other_topic = is_another(position.topic_id, topic.id);
        let next = position.next_offset;
        let code = match ends {
            _ if other_topic => Some(broker::CREATED_AGAIN),
            None => Some(broker::UNKNOWN_TOPIC),
            Some((low, high)) if next < low || next > high => Some(broker::POSITION),
            Some(_) if position.crashes >= DEADLY => Some(broker::DEADLY),
            Some(_) => None,
        };
        let code = code.map(str::to_owned).or_else(|| block.map(|block| block.code.clone()));
        let (partition, epoch) = (position.partition, position.epoch);
        Self { partition, next_offset: next, epoch, other_topic, ends, code }
    }
}

/// Decides about all partitions that are blocked, or about those that were named.
pub(super) fn decide(
    stands: &[Stand],
    arguments: &Arguments,
) -> Result<(Vec<Resolved>, Vec<Left>), Fault> {
    let named = &arguments.partitions;
    for partition in named {
        let stand = stands.iter().find(|stand| stand.partition == *partition);
        let stand =
            stand.ok_or_else(|| refuse(format!("partition {partition} has no position")))?;
        if stand.code.is_none() && !arguments.force {
            let message =
                format!("partition {partition} is not blocked; --force sets it all the same");
            return Err(refuse(message));
        }
    }
    let (mut resolved, mut left) = (Vec::new(), Vec::new());
    for stand in stands {
        let is_named = named.contains(&stand.partition);
        if !is_named && (!named.is_empty() || stand.code.is_none()) {
            continue;
        }
        match stand.resolve(arguments) {
            Ok(one) if one.read_again > 0 && !is_named => {
                let why = format!(
                    "{} messages would be read again, name it if you mean it",
                    one.read_again
                );
                left.push(Left { partition: stand.partition, why });
            }
            Ok(one) => resolved.push(one),
            Err(why) if is_named => {
                return Err(refuse(format!("partition {}: {why}", stand.partition)));
            }
            Err(why) => left.push(Left { partition: stand.partition, why }),
        }
    }
    Ok((resolved, left))
}

impl Stand {
    /// Or why the choice does not fit.
    fn resolve(&self, arguments: &Arguments) -> Result<Resolved, String> {
        let Some((low, high)) = self.ends else {
            return Err("the topic no longer has it".to_owned());
        };
        let (choice, before) = (arguments.choice, self.next_offset);
        let after = match choice.offset {
            Some(offset) => offset,
            None if choice.earliest => low,
            None if choice.latest => high,
            None if self.other_topic => {
                return Err("the topic is another one, there is nothing to retry".to_owned());
            }
            None => before,
        };
        if !choice.retry && !(low..=high).contains(&after) {
            return Err(format!("the topic has offsets {low} to {high}"));
        }
        // In a topic of its own, everything up to the new position is skipped.
        let stood = if self.other_topic { 0 } else { before };
        let skipped = (after > stood).then_some((stood, after));
        Ok(Resolved {
            partition: self.partition,
            code: self.code.clone(),
            position_before: before,
            position_after: after,
            lost: (after.min(low) - stood).max(0),
            skipped: skipped.map_or(0, |(from, to)| to - from),
            read_again: (stood - after).max(0),
            other_topic: self.other_topic,
            decision: Decision {
                partition: self.partition,
                epoch: self.epoch,
                position_before: before,
                position_after: after,
                skipped,
                code: self.code.clone(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use uuid::Uuid;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    const OLD: Uuid = Uuid::from_u128(1);
    const NOW: Uuid = Uuid::from_u128(2);

    /// Partition 0 is fine, 1 was overtaken by retention, 2 stands behind the end, 3 is of another topic, 4 is gone,
    /// 5 is deadly, 6 is blocked by a host.
    fn stands() -> Vec<Stand> {
        let position = |partition, next_offset, topic_id, crashes| Position {
            partition,
            topic_id,
            next_offset,
            epoch: 7,
            owner: "a".into(),
            owner_crashed: false,
            crashes,
        };
        let positions = [
            position(0, 50, NOW, 2),
            position(1, 100, NOW, 0),
            position(2, 300, NOW, 0),
            position(3, 300, OLD, 0),
            position(4, 10, NOW, 0),
            position(5, 160, NOW, 3),
            position(6, 160, NOW, 0),
        ];
        let ends = [
            (0, (0, 90)),
            (1, (150, 200)),
            (2, (0, 200)),
            (3, (10, 40)),
            (5, (150, 200)),
            (6, (0, 200)),
        ];
        let topic = Topic { id: NOW, ends: ends.into(), open: std::collections::BTreeMap::new() };
        let block = Block {
            partition: 6,
            owner: "a".into(),
            host: "h".into(),
            code: "SL-K012".into(),
            reason: "r".into(),
            blocked_since: jiff::Timestamp::UNIX_EPOCH,
            checked_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let block_of = |partition| (partition == 6).then_some(&block);
        positions.iter().map(|it| Stand::new(it, &topic, block_of(it.partition))).collect()
    }

    fn decided(line: &str) -> String {
        let words =
            ["sluice", "f.toml", "--reason", "r"].into_iter().chain(line.split_whitespace());
        let arguments =
            Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments;
        match decide(&stands(), &arguments) {
            Err(fault) => fault.to_string(),
            Ok((resolved, left)) => {
                let resolved = resolved.iter().map(|it| {
                    let code = it.code.as_deref().unwrap_or("-");
                    let (lost, over, again) = (it.lost, it.skipped, it.read_again);
                    let (from, to) = (it.position_before, it.position_after);
                    format!(
                        "{}: {code} {from} -> {to}, lost {lost}, skipped {over}, again {again}",
                        it.partition
                    )
                });
                let left = left.iter().map(|it| format!("{} left: {}", it.partition, it.why));
                resolved.chain(left).collect::<Vec<_>>().join("\n")
            }
        }
    }

    #[test]
    fn all_blocked_partitions_go_on_where_it_is_said() {
        insta::assert_snapshot!(decided("--earliest"), @"
        1: SL-K010 100 -> 150, lost 50, skipped 50, again 0
        3: SL-K015 300 -> 10, lost 10, skipped 10, again 0
        2 left: 300 messages would be read again, name it if you mean it
        4 left: the topic no longer has it
        5 left: 10 messages would be read again, name it if you mean it
        6 left: 160 messages would be read again, name it if you mean it
        ");
        insta::assert_snapshot!(decided("--latest"), @"
        1: SL-K010 100 -> 200, lost 50, skipped 100, again 0
        3: SL-K015 300 -> 40, lost 10, skipped 40, again 0
        5: SL-K017 160 -> 200, lost 0, skipped 40, again 0
        6: SL-K012 160 -> 200, lost 0, skipped 40, again 0
        2 left: 100 messages would be read again, name it if you mean it
        4 left: the topic no longer has it
        ");
        insta::assert_snapshot!(decided("--retry"), @"
        1: SL-K010 100 -> 100, lost 0, skipped 0, again 0
        2: SL-K010 300 -> 300, lost 0, skipped 0, again 0
        5: SL-K017 160 -> 160, lost 0, skipped 0, again 0
        6: SL-K012 160 -> 160, lost 0, skipped 0, again 0
        3 left: the topic is another one, there is nothing to retry
        4 left: the topic no longer has it
        ");
    }

    #[test]
    fn a_named_partition_goes_where_it_is_sent() {
        insta::assert_snapshot!(decided("--earliest --partition 5 --partition 6"), @"
        5: SL-K017 160 -> 150, lost 0, skipped 0, again 10
        6: SL-K012 160 -> 0, lost 0, skipped 0, again 160
        ");
        insta::assert_snapshot!(decided("--offset 180 --partition 5"), @"5: SL-K017 160 -> 180, lost 0, skipped 20, again 0");
        insta::assert_snapshot!(decided("--offset 10 --partition 0 --force"), @"0: - 50 -> 10, lost 0, skipped 0, again 40");
        insta::assert_snapshot!(decided("--retry --partition 5"), @"5: SL-K017 160 -> 160, lost 0, skipped 0, again 0");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        insta::assert_snapshot!(
            ["--offset 10 --partition 0", "--offset 149 --partition 1", "--latest --partition 4", "--retry --partition 3",
             "--earliest --partition 99"]
                .map(decided)
                .join("\n"),
            @"
        SL-K018: partition 0 is not blocked; --force sets it all the same
        SL-K018: partition 1: the topic has offsets 150 to 200
        SL-K018: partition 4: the topic no longer has it
        SL-K018: partition 3: the topic is another one, there is nothing to retry
        SL-K018: partition 99 has no position
        "
        );
    }

    #[test]
    fn the_command_line_wants_one_choice_and_a_reason() {
        let refused = |line: &str| {
            let words = ["sluice", "f.toml"].into_iter().chain(line.split_whitespace());
            Line::try_parse_from(words).is_err()
        };
        assert!(refused("--earliest"), "no reason");
        assert!(refused("--reason r"), "no choice");
        assert!(refused("--reason r --earliest --latest"), "two choices");
        assert!(refused("--reason r --offset 5"), "an offset of which partition");
        assert!(refused("--reason r --earliest --force"), "all partitions by force");
        assert!(!refused("--reason r --earliest"));
    }
}
