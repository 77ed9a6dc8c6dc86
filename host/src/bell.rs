//! What wakes somebody who waits for several others: whoever has something for it rings.

use std::future::poll_fn;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Remembers a ring until it is waited for, so that none is missed between looking around and falling asleep.
/// One waits, on a thread or in a task; any may ring.
#[derive(Debug, Default)]
pub struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    /// Of the task that waits.
    waker: Option<Waker>,
}

impl Bell {
    /// Wakes who waits, or lets it not fall asleep next time.
    pub fn ring(&self) {
        let waker = {
            let mut state = self.lock();
            state.rung = true;
            state.waker.take()
        };
        match waker {
            Some(waker) => waker.wake(),
            None => self.changed.notify_one(),
        }
    }

    /// Sleeps until the bell is rung, at most for `wait`; not at all if it was rung since the last time. Returns whether
    /// it was.
    pub fn wait(&self, wait: Duration) -> bool {
        let mut state = self.lock();
        // Of a task that gave up waiting: whoever rings would wake that one, and not this thread.
        state.waker = None;
        let waited = self.changed.wait_timeout_while(state, wait, |state| !state.rung);
        std::mem::take(&mut waited.unwrap_or_else(PoisonError::into_inner).0.rung)
    }

    /// The same in a task, for as long as it takes.
    pub async fn rung(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if std::mem::take(&mut state.rung) {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends something to somebody, and rings. It rings as well when the last one that could send is gone.
#[derive(Debug)]
pub struct Post<T> {
    /// None only while this is dropped.
    sender: Option<Sender<T>>,
    bell: Arc<Bell>,
}

/// Where a [`Post`] arrives, and the bell that is rung with each thing sent.
#[derive(Debug)]
pub struct Mailbox<T> {
    /// What has arrived.
    pub things: Receiver<T>,
    /// For others to ring as well.
    pub bell: Arc<Bell>,
}

impl<T> Post<T> {
    /// A post and where it arrives.
    pub fn new() -> (Self, Mailbox<T>) {
        let bell = Arc::default();
        let (post, things) = Self::ringing(&bell);
        (post, Mailbox { things, bell })
    }

    /// A post and where it arrives; `bell` is rung with each thing sent.
    pub fn ringing(bell: &Arc<Bell>) -> (Self, Receiver<T>) {
        let (sender, receiver) = channel();
        (Self { sender: Some(sender), bell: bell.clone() }, receiver)
    }

    /// Sends `thing`.
    ///
    /// # Errors
    /// When nobody is there any more to take it.
    pub fn send(&self, thing: T) -> Result<(), SendError<T>> {
        match &self.sender {
            Some(sender) => sender.send(thing)?,
            None => return Err(SendError(thing)),
        }
        self.bell.ring();
        Ok(())
    }
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> Drop for Post<T> {
    fn drop(&mut self) {
        // First, so that who is woken finds it gone.
        self.sender = None;
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::TryRecvError;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_ring_before_the_wait_is_not_missed_and_counts_once() {
        let bell = Bell::default();
        let begin = Instant::now();
        bell.ring();
        bell.ring();
        assert!(bell.wait(LONG));
        assert!(begin.elapsed() < LONG);
        let begin = Instant::now();
        assert!(!bell.wait(Duration::from_millis(20)));
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_ring_wakes_the_thread_that_waits() {
        let bell = Arc::new(Bell::default());
        let other = bell.clone();
        let waiting = std::thread::spawn(move || other.wait(LONG));
        bell.ring();
        assert!(waiting.join().expect("no panic"));
    }

    #[tokio::test]
    async fn a_ring_wakes_the_task_that_waits_and_one_before_is_not_missed() {
        let bell = Arc::new(Bell::default());
        bell.ring();
        tokio::time::timeout(LONG, bell.rung()).await.expect("it was rung before");
        let other = bell.clone();
        let waiting = tokio::spawn(async move { other.rung().await });
        tokio::task::yield_now().await;
        bell.ring();
        tokio::time::timeout(LONG, waiting).await.expect("it was rung").expect("no panic");
    }

    #[tokio::test]
    async fn a_ring_wakes_the_thread_that_waits_after_a_task_gave_up() {
        let bell = Arc::new(Bell::default());
        let gave_up = tokio::time::timeout(Duration::from_millis(1), bell.rung()).await;
        assert!(gave_up.is_err());
        let other = bell.clone();
        let waiting = std::thread::spawn(move || (other.wait(LONG), Instant::now()));
        // Most likely it waits by then; rung before, it would not wait at all.
        std::thread::sleep(Duration::from_millis(50));
        let rung = Instant::now();
        bell.ring();
        let (was_rung, woken) = waiting.join().expect("no panic");
        assert!(was_rung);
        assert!(woken - rung < LONG / 2, "{:?}", woken - rung);
    }

    #[test]
    fn whoever_waits_for_post_is_woken_when_no_more_can_come() {
        let (post, Mailbox { things, bell }) = Post::new();
        let (taken, seen) = channel();
        let waiting = std::thread::spawn(move || {
            loop {
                match things.try_recv() {
                    Ok(thing) => taken.send(thing).expect("somebody looks"),
                    Err(TryRecvError::Empty) => assert!(bell.wait(LONG), "nobody has rung"),
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        });
        let other = post.clone();
        other.send(1).expect("somebody waits");
        post.send(2).expect("somebody waits");
        assert_eq!((seen.recv(), seen.recv()), (Ok(1), Ok(2)));
        drop(other);
        // The ring of that is taken as well, sooner or later: what is left is that of the last one.
        std::thread::sleep(Duration::from_millis(50));
        drop(post);
        let dropped = Instant::now();
        waiting.join().expect("no panic");
        assert!(dropped.elapsed() < LONG / 2);
    }
}
