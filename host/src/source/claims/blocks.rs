//! The book of blocked partitions: since when and why, when each is tried again, and when it goes on. Pure
//! book-keeping; the time is told to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::source::Stored;

/// A partition that was claimed and not blocked again within this time goes on, also when there is nothing to write.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// A partition that does not go on.
#[derive(Debug)]
struct Block {
    code: &'static str,
    since: Instant,
    backoff: Backoff,
    /// Where its position stood when it was last looked at: another epoch means that somebody has done something.
    epoch: Option<i64>,
    /// Since when it is tried.
    claimed: Option<Instant>,
}

/// Partitions that were blocked and are not yet known to go on.
#[derive(Debug, Default)]
pub struct Blocks {
    blocked: BTreeMap<i32, Block>,
}

impl Blocks {
    /// Blocks `partition`. Says when to try it again, and whether this is news: it was not blocked, or for another reason.
    pub fn block(&mut self, partition: i32, code: &'static str, now: Instant) -> (Instant, bool) {
        let mut is_news = false;
        let block = self.blocked.entry(partition).or_insert_with(|| {
            is_news = true;
            let backoff = Backoff::for_mending();
            Block { code, since: now, backoff, epoch: None, claimed: None }
        });
        is_news |= block.code != code;
        (block.code, block.epoch, block.claimed) = (code, None, None);
        (now + block.backoff.pause(), is_news)
    }

    /// `partition` was claimed: whether it goes on, the next seconds tell.
    pub fn claimed(&mut self, partition: i32, now: Instant) {
        if let Some(block) = self.blocked.get_mut(&partition) {
            (block.epoch, block.claimed) = (None, Some(now));
        }
    }

    /// Takes out partitions that have `committed` and those that were claimed long enough ago, each with the time
    /// for which it was blocked.
    pub fn resumed(
        &mut self,
        committed: impl Fn(i32) -> bool,
        now: Instant,
    ) -> Vec<(i32, Duration)> {
        let proven = |partition: &i32, block: &mut Block| {
            block.claimed.is_some_and(|at| committed(*partition) || now - at >= PROVEN_AFTER)
        };
        let proven = self.blocked.extract_if(.., proven);
        proven.map(|(partition, block)| (partition, now - block.since)).collect()
    }

    /// Partitions whose positions somebody has set since they were last looked at: to be tried at once.
    pub fn resolved(&mut self, stored: &[Stored]) -> Vec<i32> {
        let mut resolved = Vec::new();
        for position in stored {
            let Some(block) = self.blocked.get_mut(&position.partition) else { continue };
            let known = block.epoch.replace(position.epoch);
            if block.claimed.is_none() && known.is_some_and(|epoch| epoch != position.epoch) {
                block.backoff = Backoff::for_mending();
                resolved.push(position.partition);
            }
        }
        resolved
    }

    /// Forgets partitions that are no longer this host's, and says which.
    pub fn keep(&mut self, assigned: impl Fn(i32) -> bool) -> Vec<i32> {
        let lost = self.blocked.extract_if(.., |partition, _| !assigned(*partition));
        lost.map(|(partition, _)| partition).collect()
    }

    /// Partitions that do not go on, and why: those that are being tried again count.
    pub fn all(&self) -> impl Iterator<Item = (i32, &'static str, Instant)> {
        self.blocked.iter().map(|(&partition, block)| (partition, block.code, block.since))
    }

    /// True when `partition` was blocked and is not yet known to go on.
    pub fn has(&self, partition: i32) -> bool {
        self.blocked.contains_key(&partition)
    }

    /// True when everything goes on.
    pub fn is_empty(&self) -> bool {
        self.blocked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn stored(partition: i32, epoch: i64) -> Stored {
        Stored {
            partition,
            topic_id: Uuid::nil(),
            next_offset: 7,
            epoch,
            owner: "a".to_owned(),
            owner_crashed: false,
            crashes: 0,
            resolved: false,
        }
    }

    const NOBODY: fn(i32) -> bool = |_| false;

    #[test]
    fn a_reason_is_news_once_and_the_pauses_grow() {
        let (mut blocks, now) = (Blocks::default(), Instant::now());
        let (first, is_news) = blocks.block(3, "SL-K010", now);
        assert!(is_news && first <= now + Duration::from_secs(1));
        let mut again = first;
        for _ in 0..10 {
            blocks.claimed(3, now);
            let (next, is_news) = blocks.block(3, "SL-K010", now);
            assert!(!is_news);
            again = next;
        }
        assert!(again >= now + Duration::from_secs(30) && again <= now + Duration::from_secs(60));
        assert!(blocks.block(3, "SL-K011", now).1, "another reason");
        assert_eq!(
            blocks.all().map(|(partition, code, _)| (partition, code)).collect::<Vec<_>>(),
            [(3, "SL-K011")]
        );
    }

    #[test]
    fn a_partition_goes_on_when_it_commits_or_stays_quiet() {
        let (mut blocks, now) = (Blocks::default(), Instant::now());
        for partition in [1, 2, 3] {
            blocks.block(partition, "SL-K010", now);
        }
        let later = now + Duration::from_secs(60);
        assert!(blocks.resumed(|_| true, later).is_empty(), "none of them was claimed");
        blocks.claimed(1, later);
        blocks.claimed(2, later);
        assert_eq!(blocks.resumed(|it| it == 2, later), [(2, Duration::from_secs(60))]);
        assert_eq!(blocks.resumed(NOBODY, later + PROVEN_AFTER), [(1, Duration::from_secs(70))]);
        assert!(!blocks.is_empty());
        assert_eq!(blocks.keep(NOBODY), [3]);
        assert!(blocks.is_empty());
    }

    #[test]
    fn a_position_that_somebody_has_set_is_tried_at_once() {
        let (mut blocks, now) = (Blocks::default(), Instant::now());
        for _ in 0..9 {
            blocks.block(3, "SL-K010", now);
        }
        let both = [stored(3, 5), stored(4, 9)];
        assert!(blocks.resolved(&both).is_empty(), "seen for the first time");
        assert!(blocks.resolved(&[stored(3, 5)]).is_empty());
        assert_eq!(blocks.resolved(&[stored(3, 6)]), [3]);
        assert!(blocks.resolved(&[stored(3, 6)]).is_empty());
        // What a claim of our own does to the epoch is no news.
        blocks.claimed(3, now);
        assert!(blocks.resolved(&[stored(3, 7)]).is_empty());
        let (again, _) = blocks.block(3, "SL-K010", now);
        assert!(again <= now + Duration::from_secs(1), "the pauses begin again");
    }
}
