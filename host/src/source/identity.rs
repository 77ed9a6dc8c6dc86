//! Whether the topic is still the one that was claimed: when it was deleted and created again, offsets mean other
//! messages, and those of the new one must not be taken for the old one's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use uuid::Uuid;

use crate::bell::{Bell, Post};
use crate::fault::{Fault, Remedy, broker};
use crate::source::member::Member;
use crate::source::rebalance::{Report, Shared};
use crate::threads::{self, Job, Turn, Work};

/// Brokers are asked for the topic's id when something was read so long after they were asked last.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// What was read so long after that is in doubt until they have answered: nothing of it is written.
const DOUBT_AFTER: Duration = Duration::from_millis(400);
/// How often they are asked although nothing is read.
const IDLE_PERIOD: Duration = Duration::from_secs(5);

/// What is known of the topic's id.
#[derive(Debug, Default)]
pub struct Identity {
    state: Mutex<State>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct State {
    /// The id under which partitions were claimed.
    claimed: Option<Uuid>,
    /// When brokers were asked that named this id, unless it is in doubt since.
    seen: Option<Instant>,
    /// When something last put it in doubt: what brokers were asked before then says nothing.
    doubted: Option<Instant>,
    /// When something was read for which they are to be asked again.
    read: Option<Instant>,
    /// Of those who wait for the answer.
    waiting: Vec<Arc<Bell>>,
    ends: bool,
}

impl Identity {
    /// Partitions are claimed under `topic_id`, which brokers named when they were asked at `asked`. Returns the id
    /// under which others were claimed if it is another one: nothing can be vouched for then.
    pub fn claimed(&self, topic_id: Uuid, asked: Instant) -> Option<Uuid> {
        let mut state = self.lock();
        if let Some(other) = state.claimed.filter(|&it| is_another(it, topic_id)) {
            (state.claimed, state.seen) = (None, None);
            return Some(other);
        }
        state.claimed = Some(topic_id);
        let waiting = state.named(asked);
        drop(state);
        for it in waiting {
            it.ring();
        }
        // It sleeps until there is something to ask for.
        self.bell.ring();
        None
    }

    /// The id under which partitions were claimed, if one is known.
    pub fn id(&self) -> Option<Uuid> {
        self.lock().claimed.filter(|it| !it.is_nil())
    }

    /// Something happened that may be the topic's end: what is read from now on is in doubt.
    pub fn doubt(&self) {
        let mut state = self.lock();
        (state.seen, state.doubted) = (None, Some(Instant::now()));
        drop(state);
        self.bell.ring();
    }

    /// True when what was `read` then is of the topic that was claimed. `bell` is rung when that can be said.
    pub fn vouches_for(&self, read: Instant, bell: &Arc<Bell>) -> bool {
        let mut state = self.lock();
        let Some(seen) = state.seen else {
            state.wait(bell);
            return false;
        };
        let asks = read >= seen + ASK_AFTER && state.read.is_none_or(|it| it < seen + ASK_AFTER);
        if asks {
            state.read = Some(read);
        }
        let doubtful = read >= seen + DOUBT_AFTER;
        if doubtful {
            state.wait(bell);
        }
        drop(state);
        if asks {
            self.bell.ring();
        }
        !doubtful
    }

    /// Nobody is asked any more.
    pub fn end(&self) {
        self.lock().ends = true;
        self.bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, bell: &Arc<Bell>) {
        if !self.waiting.iter().any(|it| Arc::ptr_eq(it, bell)) {
            self.waiting.push(bell.clone());
        }
    }

    /// Brokers that were asked then named the id that is claimed. Returns those who wait for that, unless it was put in
    /// doubt since: brokers are asked again then.
    fn named(&mut self, asked: Instant) -> Vec<Arc<Bell>> {
        if self.doubted.is_some_and(|it| it >= asked) {
            return Vec::new();
        }
        self.seen = Some(asked);
        std::mem::take(&mut self.waiting)
    }

    /// How long nobody needs to be asked.
    fn patience(&self, now: Instant) -> Duration {
        if self.claimed.is_none() {
            return Duration::MAX;
        }
        let Some(seen) = self.seen else { return Duration::ZERO };
        if self.read.is_some_and(|it| it >= seen + ASK_AFTER) {
            return Duration::ZERO;
        }
        (seen + IDLE_PERIOD).saturating_duration_since(now)
    }
}

/// Asks brokers for the topic's id.
pub struct Asking {
    identity: Arc<Identity>,
    member: Arc<Member>,
    reports: Post<Report>,
    /// Not before then: they did not answer.
    again: Option<Instant>,
}

impl Asking {
    /// Asks whenever there is need of it, until [`Identity::end`]; reports when the topic is another one.
    pub fn start(shared: &Shared, member: Arc<Member>, runtime: &Handle) -> Job<()> {
        let (identity, reports) = (shared.identity.clone(), shared.reports.clone());
        let bell = identity.bell.clone();
        threads::spawn(runtime, bell, Self { identity, member, reports, again: None })
    }

    /// False when nothing was learned.
    fn ask(&self) -> bool {
        let Some(claimed) = self.identity.lock().claimed else { return true };
        let asked = Instant::now();
        let fault = match self.member.topic_id() {
            Ok(found) if !is_another(claimed, found) => None,
            Ok(found) => Some(created_again(claimed, found)),
            Err(fault) if fault.remedy == Remedy::Retry => return false,
            Err(fault) => Some(fault),
        };
        let mut state = self.identity.lock();
        if state.claimed != Some(claimed) {
            return true;
        }
        let Some(fault) = fault else {
            let waiting = state.named(asked);
            drop(state);
            for it in waiting {
                it.ring();
            }
            return true;
        };
        (state.claimed, state.seen) = (None, None);
        state.waiting.clear();
        drop(state);
        // Fails only when the pipeline is ending.
        drop(self.reports.send(Report::OtherTopic(fault)));
        true
    }
}

impl Work for Asking {
    type End = ();

    fn turn(&mut self) -> Turn<()> {
        loop {
            let now = Instant::now();
            let patience = {
                let state = self.identity.lock();
                if state.ends {
                    return Turn::End(());
                }
                state.patience(now)
            };
            let again = self.again.map_or(Duration::ZERO, |it| it.saturating_duration_since(now));
            let wait = patience.max(again);
            if !wait.is_zero() {
                return Turn::Sleep(wait);
            }
            self.again = (!self.ask()).then(|| Instant::now() + ASK_AFTER);
        }
    }
}

/// True when these are ids of two topics. Brokers before version 2.8, and some that only speak Kafka's protocol, name none,
/// which says nothing.
pub fn is_another(known: Uuid, found: Uuid) -> bool {
    known != found && !known.is_nil() && !found.is_nil()
}

/// `SL-K015`
pub(super) fn created_again(claimed: Uuid, found: Uuid) -> Fault {
    let message = format!("the topic was deleted and created again (id {claimed}, now {found})");
    Fault::block(broker::CREATED_AGAIN, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_read_long_after_the_id_was_seen_is_in_doubt() {
        let (identity, bell) = (Identity::default(), Arc::<Bell>::default());
        let now = Instant::now();
        assert!(!identity.vouches_for(now, &bell), "nothing is claimed");
        assert_eq!(identity.claimed(TOPIC, now), None);
        assert!(identity.bell.wait(Duration::ZERO));
        assert!(identity.vouches_for(now + ASK_AFTER / 2, &bell));
        assert!(!identity.bell.wait(Duration::ZERO), "nobody is asked yet");
        assert!(identity.vouches_for(now + ASK_AFTER, &bell));
        assert!(identity.bell.wait(Duration::ZERO), "asked in good time");
        assert_eq!(identity.lock().patience(now), Duration::ZERO);
        assert!(identity.vouches_for(now + ASK_AFTER + MS, &bell));
        assert!(!identity.bell.wait(Duration::ZERO), "once is enough");
        assert!(!identity.vouches_for(now + DOUBT_AFTER, &bell));
        assert_eq!(identity.claimed(TOPIC, now + DOUBT_AFTER), None);
        assert!(identity.vouches_for(now + DOUBT_AFTER, &bell));
        assert!(identity.lock().patience(now) > IDLE_PERIOD);
    }

    #[test]
    fn nothing_is_vouched_for_after_another_id_was_seen() {
        let (identity, bell) = (Identity::default(), Arc::<Bell>::default());
        let now = Instant::now();
        identity.claimed(TOPIC, now);
        assert_eq!(identity.claimed(OTHER, now), Some(TOPIC));
        assert!(!identity.vouches_for(now, &bell));
        assert_eq!(identity.claimed(OTHER, now), None, "everything was released before");
        assert!(identity.vouches_for(now, &bell));
        identity.doubt();
        assert!(!identity.vouches_for(now, &bell));
        assert_eq!(identity.lock().patience(now), Duration::ZERO);
    }

    #[test]
    fn no_id_is_that_of_no_other_topic() {
        let (identity, bell) = (Identity::default(), Arc::<Bell>::default());
        let now = Instant::now();
        assert_eq!(identity.claimed(Uuid::nil(), now), None);
        assert_eq!(identity.id(), None);
        assert_eq!(identity.claimed(TOPIC, now), None);
        assert_eq!(identity.id(), Some(TOPIC));
        assert!(identity.vouches_for(now, &bell));
        assert!(!is_another(TOPIC, Uuid::nil()) && !is_another(Uuid::nil(), TOPIC));
        assert!(!is_another(TOPIC, TOPIC) && is_another(TOPIC, OTHER));
    }

    #[test]
    fn an_answer_to_what_was_asked_before_does_not_end_a_doubt() {
        let (identity, bell) = (Identity::default(), Arc::<Bell>::default());
        let asked = Instant::now();
        identity.claimed(TOPIC, asked);
        identity.doubt();
        let read = Instant::now();
        assert!(!identity.vouches_for(read, &bell));
        assert_eq!(identity.claimed(TOPIC, asked), None);
        assert!(!bell.wait(Duration::ZERO), "nothing is known yet");
        assert!(!identity.vouches_for(read, &bell));
        assert_eq!(identity.lock().patience(read), Duration::ZERO, "asked again");
        assert_eq!(identity.claimed(TOPIC, read + MS), None);
        assert!(bell.wait(Duration::ZERO));
        assert!(identity.vouches_for(read, &bell));
    }
}
