//! The book of held partitions: since when and why, when each is tried again, and when it goes on. Pure
//! book-keeping; the time is told to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::source::Stored;

/// A partition that was claimed and not held again within this time goes on, also when there is nothing to write.
const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// A partition that does not go on.
#[derive(Debug)]
struct Hold {
    code: &'static str,
    since: Instant,
    backoff: Backoff,
    /// Where its position stood when it was last looked at: another epoch means that somebody has done something.
    epoch: Option<i64>,
    /// Since when it is tried.
    claimed: Option<Instant>,
}

/// Partitions that were held and are not yet known to go on.
#[derive(Debug, Default)]
pub struct Holds {
    held: BTreeMap<i32, Hold>,
}

impl Holds {
    /// Holds `partition`. Says when to try it again, and whether this is news: it was not held, or for another reason.
    pub fn hold(&mut self, partition: i32, code: &'static str, now: Instant) -> (Instant, bool) {
        let mut is_news = false;
        let hold = self.held.entry(partition).or_insert_with(|| {
            is_news = true;
            let backoff = Backoff::for_mending();
            Hold { code, since: now, backoff, epoch: None, claimed: None }
        });
        is_news |= hold.code != code;
        (hold.code, hold.epoch, hold.claimed) = (code, None, None);
        (now + hold.backoff.pause(), is_news)
    }

    /// `partition` was claimed: whether it goes on, the next seconds tell.
    pub fn claimed(&mut self, partition: i32, now: Instant) {
        if let Some(hold) = self.held.get_mut(&partition) {
            (hold.epoch, hold.claimed) = (None, Some(now));
        }
    }

    /// Takes out partitions that have `committed` and those that were claimed long enough ago, each with the time
    /// for which it was held.
    pub fn gone_on(
        &mut self,
        committed: impl Fn(i32) -> bool,
        now: Instant,
    ) -> Vec<(i32, Duration)> {
        let proven = |partition: &i32, hold: &mut Hold| {
            hold.claimed.is_some_and(|at| committed(*partition) || now - at >= PROVEN_AFTER)
        };
        let proven = self.held.extract_if(.., proven);
        proven.map(|(partition, hold)| (partition, now - hold.since)).collect()
    }

    /// Partitions whose positions somebody has set since they were last looked at: to be tried at once.
    pub fn resolved(&mut self, stored: &[Stored]) -> Vec<i32> {
        let mut resolved = Vec::new();
        for position in stored {
            let Some(hold) = self.held.get_mut(&position.partition) else { continue };
            let known = hold.epoch.replace(position.epoch);
            if hold.claimed.is_none() && known.is_some_and(|epoch| epoch != position.epoch) {
                hold.backoff = Backoff::for_mending();
                resolved.push(position.partition);
            }
        }
        resolved
    }

    /// Forgets partitions that are no longer this host's, and says which.
    pub fn keep(&mut self, assigned: impl Fn(i32) -> bool) -> Vec<i32> {
        let lost = self.held.extract_if(.., |partition, _| !assigned(*partition));
        lost.map(|(partition, _)| partition).collect()
    }

    /// Partitions that do not go on, and why: those that are being tried again count.
    pub fn all(&self) -> impl Iterator<Item = (i32, &'static str, Instant)> {
        self.held.iter().map(|(&partition, hold)| (partition, hold.code, hold.since))
    }

    /// True when `partition` was held and is not yet known to go on.
    pub fn has(&self, partition: i32) -> bool {
        self.held.contains_key(&partition)
    }

    /// True when everything goes on.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
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
            vanished: false,
            deaths: 0,
            resolved: false,
        }
    }

    const NOBODY: fn(i32) -> bool = |_| false;

    #[test]
    fn a_reason_is_news_once_and_the_pauses_grow() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let (first, is_news) = holds.hold(3, "SL-K010", now);
        assert!(is_news && first <= now + Duration::from_secs(1));
        let mut again = first;
        for _ in 0..10 {
            holds.claimed(3, now);
            let (next, is_news) = holds.hold(3, "SL-K010", now);
            assert!(!is_news);
            again = next;
        }
        assert!(again >= now + Duration::from_secs(30) && again <= now + Duration::from_secs(60));
        assert!(holds.hold(3, "SL-K011", now).1, "another reason");
        assert_eq!(
            holds.all().map(|(partition, code, _)| (partition, code)).collect::<Vec<_>>(),
            [(3, "SL-K011")]
        );
    }

    #[test]
    fn a_partition_goes_on_when_it_commits_or_stays_quiet() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for partition in [1, 2, 3] {
            holds.hold(partition, "SL-K010", now);
        }
        let later = now + Duration::from_secs(60);
        assert!(holds.gone_on(|_| true, later).is_empty(), "none of them was claimed");
        holds.claimed(1, later);
        holds.claimed(2, later);
        assert_eq!(holds.gone_on(|it| it == 2, later), [(2, Duration::from_secs(60))]);
        assert_eq!(holds.gone_on(NOBODY, later + PROVEN_AFTER), [(1, Duration::from_secs(70))]);
        assert!(!holds.is_empty());
        assert_eq!(holds.keep(NOBODY), [3]);
        assert!(holds.is_empty());
    }

    #[test]
    fn a_position_that_somebody_has_set_is_tried_at_once() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for _ in 0..9 {
            holds.hold(3, "SL-K010", now);
        }
        let both = [stored(3, 5), stored(4, 9)];
        assert!(holds.resolved(&both).is_empty(), "seen for the first time");
        assert!(holds.resolved(&[stored(3, 5)]).is_empty());
        assert_eq!(holds.resolved(&[stored(3, 6)]), [3]);
        assert!(holds.resolved(&[stored(3, 6)]).is_empty());
        // What a claim of our own does to the epoch is no news.
        holds.claimed(3, now);
        assert!(holds.resolved(&[stored(3, 7)]).is_empty());
        let (again, _) = holds.hold(3, "SL-K010", now);
        assert!(again <= now + Duration::from_secs(1), "the pauses begin anew");
    }
}
