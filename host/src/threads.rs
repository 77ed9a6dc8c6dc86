//! Threads of the process, lent to whoever has something to do. Most of what a pipeline is made of sleeps most of the
//! time; with threads of their own, thirty pipelines would keep hundreds.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use tokio::time::timeout;

use crate::bell::Bell;
use crate::plugin::limits::THREAD_STACK_BYTES;

/// Threads that would be lent at the same time in the worst of cases; none exists before it is needed.
const THREADS_MAX: usize = 1 << 14;
/// How long a thread that nobody needs is kept. Not long: they are lent in turn, so that as many stay as are lent
/// within this time.
const KEEP: Duration = Duration::from_millis(100);

/// Works by turns.
pub trait Work: Send + 'static {
    /// What it ends with.
    type End: Send + 'static;

    /// How long a thread is kept although there is nothing to do: giving it back and lending another one costs
    /// some 20 µs.
    const LINGER: Duration = Duration::ZERO;

    /// How long there is still nothing to do, if that can be told at once, without a thread. Asked when a sleep is over
    /// and nobody has rung.
    fn glance(&mut self) -> Option<Duration> {
        None
    }

    /// Does what there is to do. May block, and take long.
    fn turn(&mut self) -> Turn<Self::End>;
}

/// What comes after a turn.
#[derive(Debug)]
pub enum Turn<E> {
    /// Nothing is to be done until somebody rings, or for so long.
    Sleep(Duration),
    /// Nothing is to be done any more.
    End(E),
}

/// Work under way.
#[derive(Debug)]
pub struct Job<E> {
    // The lock makes handles that hold a job usable from several threads; it is never taken.
    end: Mutex<Receiver<E>>,
}

impl<E> Job<E> {
    /// Waits until the work has ended. `None` when it has panicked, which the log tells.
    pub fn join(self) -> Option<E> {
        self.end.into_inner().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

/// The runtime that lends threads, and on which connections are served.
///
/// # Errors
/// When the system gives no thread.
pub fn runtime() -> std::io::Result<Runtime> {
    named("sluice")
}

fn named(name: &str) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .thread_stack_size(THREAD_STACK_BYTES)
        .thread_keep_alive(KEEP)
        .max_blocking_threads(THREADS_MAX)
        .enable_all()
        .build()
}

/// Lets `work` have turns until it ends; `bell` wakes it. Ends early, without a word, with the runtime.
pub fn spawn<W: Work>(runtime: &Handle, bell: Arc<Bell>, work: W) -> Job<W::End> {
    let (ended, end) = channel();
    runtime.spawn(async move {
        let mut work = work;
        loop {
            let on_thread = bell.clone();
            let turns = tokio::task::spawn_blocking(move || {
                let after = take_turns(&mut work, &on_thread);
                (matches!(after, Turn::Sleep(_)).then_some(work), after)
            });
            match turns.await {
                Ok((Some(again), Turn::Sleep(wait))) => {
                    work = again;
                    let mut wait = Some(wait);
                    while let Some(sleep) = wait {
                        let rung = timeout(sleep, bell.rung()).await.is_ok();
                        wait = if rung { None } else { work.glance() };
                    }
                }
                Ok((_, Turn::End(end))) => {
                    // Fails only when nobody waits for it.
                    let _ = ended.send(end);
                    return;
                }
                // A panic; dropping the sender tells of it.
                Ok((None, Turn::Sleep(_))) | Err(_) => return,
            }
        }
    });
    Job { end: Mutex::new(end) }
}

/// As many turns as there are without a long sleep between.
fn take_turns<W: Work>(work: &mut W, bell: &Bell) -> Turn<W::End> {
    loop {
        let wait = match work.turn() {
            Turn::Sleep(wait) => wait,
            end @ Turn::End(_) => return end,
        };
        let asleep = Instant::now();
        if bell.wait(wait.min(W::LINGER)) {
            continue;
        }
        let left = wait.saturating_sub(asleep.elapsed());
        if !left.is_zero() {
            return Turn::Sleep(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Counts its turns, up to some.
    struct Count {
        turns: usize,
        last: usize,
        sleep: Duration,
        all: Arc<AtomicUsize>,
    }

    impl Work for Count {
        type End = usize;

        fn turn(&mut self) -> Turn<usize> {
            self.turns += 1;
            self.all.fetch_add(1, Ordering::SeqCst);
            if self.turns == self.last { Turn::End(self.turns) } else { Turn::Sleep(self.sleep) }
        }
    }

    #[test]
    fn work_has_a_turn_at_once_when_its_time_has_come_and_when_somebody_rings() {
        let runtime = runtime().unwrap();
        let all = Arc::<AtomicUsize>::default();
        let count = |last, sleep| Count { turns: 0, last, sleep, all: all.clone() };
        let begin = Instant::now();
        let at_once = spawn(runtime.handle(), Arc::default(), count(1, LONG));
        assert_eq!(at_once.join(), Some(1));
        let by_time = spawn(runtime.handle(), Arc::default(), count(5, Duration::from_millis(5)));
        assert_eq!(by_time.join(), Some(5));
        let bell = Arc::<Bell>::default();
        let rung = spawn(runtime.handle(), bell.clone(), count(2, LONG));
        bell.ring();
        assert_eq!(rung.join(), Some(2));
        assert!(begin.elapsed() < LONG);
    }

    #[test]
    fn a_panic_ends_the_work_and_nothing_else() {
        struct Broken;
        impl Work for Broken {
            type End = ();

            fn turn(&mut self) -> Turn<()> {
                panic!("as planned")
            }
        }
        let runtime = runtime().unwrap();
        assert_eq!(spawn(runtime.handle(), Arc::default(), Broken).join(), None);
        let count = Count { turns: 0, last: 3, sleep: Duration::ZERO, all: Arc::default() };
        assert_eq!(spawn(runtime.handle(), Arc::default(), count).join(), Some(3));
    }

    #[test]
    fn whoever_sleeps_keeps_no_thread_and_is_woken_by_a_ring() {
        const SLEEPERS: usize = 200;
        let runtime = named("sleepers").unwrap();
        let bells: Vec<Arc<Bell>> = (0..SLEEPERS).map(|_| Arc::default()).collect();
        let all = Arc::<AtomicUsize>::default();
        let jobs: Vec<_> = bells
            .iter()
            .map(|bell| {
                let count = Count { turns: 0, last: 2, sleep: LONG * 10, all: all.clone() };
                spawn(runtime.handle(), bell.clone(), count)
            })
            .collect();
        let begin = Instant::now();
        while all.load(Ordering::SeqCst) < SLEEPERS || threads() > 3 {
            assert!(begin.elapsed() < LONG, "{} threads", threads());
            std::thread::sleep(Duration::from_millis(20));
        }
        for bell in bells {
            bell.ring();
        }
        assert!(jobs.into_iter().all(|job| job.join() == Some(2)));
        assert!(begin.elapsed() < LONG * 2);
    }

    /// Those of that runtime.
    fn threads() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks.filter_map(|task| name(task).ok()).filter(|name| name.trim() == "sleepers").count()
    }
}
