//! The relay of dead letters to a topic, as an outbox: what waits in the table is sent, and marked once the
//! brokers have acknowledged it. At least once, in the order of each partition, by one host at a time. Knows
//! neither lanes nor plugins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::backoff::Backoff;
use crate::fault::Fault;
use crate::settings::{Settings, SourceSettings};
use crate::sink::dead_letters::outbox::Outbox;
use crate::sink::dead_letters::read::DeadLetter;
use crate::sink::postgres::Options;

mod headers;
mod sender;
#[cfg(test)]
mod tests;
mod windows;

use headers::Origin;
use sender::{Answer, Sender};
use windows::Windows;

/// Dead letters sent before their answers are waited for.
const DEAD_LETTERS_MAX: i64 = 500;
/// Their bytes; a single dead letter may have more.
const BYTES_MAX: i64 = 4 << 20;
/// Pause when nothing waits.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause while another host relays.
const STANDBY_PAUSE: Duration = Duration::from_secs(1);
/// How often the lease is prolonged while answers are waited for.
const LEASE_PERIOD: Duration = Duration::from_secs(2);
/// Without an answer for so long, the brokers count as away.
const SILENCE: Duration = Duration::from_secs(5);
/// Then another host is given its chance, although what is under way may arrive twice by that.
const LONG_SILENCE: Duration = Duration::from_secs(30);
/// Others look for dead letters that nobody relays once a second.
const STAND_BACK: Duration = Duration::from_secs(3);
/// How often the lag is measured; not as often when that takes long, because very many dead letters wait.
const MEASURE_PERIOD: Duration = Duration::from_secs(5);
const MEASURE_SHARE: u32 = 20;
/// How often an outage that goes on is mentioned, and dead letters that cannot be relayed.
const MENTION_EVERY: Duration = Duration::from_mins(1);
/// How long a relay that is told to end may take to finish what is under way.
const END_WAIT: Duration = Duration::from_secs(5);

/// What a relay has done on this host, and how far it is behind.
#[derive(Debug, Default)]
pub struct Figures {
    /// Dead letters that the topic has acknowledged.
    pub relayed: AtomicU64,
    /// Dead letters that the topic does not take.
    pub refused: AtomicU64,
    /// Dead letters of all hosts that wait, when it was measured last.
    pub waiting: AtomicU64,
    /// Age of the one that waits longest, in seconds.
    pub oldest_seconds: AtomicU64,
}

/// A relay at work. Nothing else ever waits for it.
#[derive(Debug)]
pub struct RelayTask {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    runtime: Handle,
}

impl RelayTask {
    /// Starts the relay of a pipeline, if its settings name a topic for dead letters.
    pub fn start(
        settings: &Settings,
        options: &Options,
        owner: &str,
        figures: Arc<Figures>,
        runtime: &Handle,
    ) -> Option<Self> {
        let relay = Relay::new(settings, options, owner, figures)?;
        let (stop, stopped) = watch::channel(false);
        let task = runtime.spawn(relay.run(stopped));
        Some(Self { stop, task, runtime: runtime.clone() })
    }

    /// Finishes what is under way, but does not take long: what is not sent, another host or the next start sends. Not to
    /// be called on a thread of the runtime.
    pub fn end(self) {
        // Fails when the task has ended by itself.
        let _ = self.stop.send(true);
        if self.runtime.block_on(self.task).is_err() {
            tracing::error!(code = "SL-X001", "the relay has panicked; its message is in the log");
        }
    }
}

struct Relay {
    source: SourceSettings,
    topic: String,
    origin: Origin,
    outbox: Outbox,
    sender: Option<Sender>,
    figures: Arc<Figures>,
    /// Acknowledged and not yet marked: with these the next turn begins, or they would be sent again.
    acknowledged: Vec<i64>,
    /// Not taken by the topic, and not yet marked.
    refused: Vec<(i64, String)>,
    /// When the lease was prolonged; it is kept only while dead letters wait.
    leased: Option<Instant>,
    trouble: Trouble,
    refusals: Refusals,
    measure_at: Instant,
}

/// What a turn came to.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Dead letters were sent; there may be more.
    Sent,
    /// Nothing waits.
    Idle,
    /// Another host relays.
    Standby,
}

impl Relay {
    fn new(
        settings: &Settings,
        options: &Options,
        owner: &str,
        figures: Arc<Figures>,
    ) -> Option<Self> {
        let topic = settings.dead_letters.topic.clone()?;
        let pipeline = settings.pipeline.name.clone();
        let options = options.named(&pipeline, owner);
        Some(Self {
            outbox: Outbox::new(options, &pipeline, &topic, owner),
            trouble: Trouble::new(&pipeline, &topic),
            origin: Origin { pipeline, group: settings.source.group.clone() },
            source: settings.source.clone(),
            topic,
            sender: None,
            figures,
            acknowledged: Vec::new(),
            refused: Vec::new(),
            leased: None,
            refusals: Refusals::default(),
            measure_at: Instant::now(),
        })
    }

    async fn run(mut self, stop: watch::Receiver<bool>) {
        let told = async {
            let mut stop = stop.clone();
            // An error means that nobody is left to tell, which is the same.
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(END_WAIT).await;
        };
        tokio::select! {
            () = self.work(stop.clone()) => {}
            () = told => tracing::info!(pipeline = self.origin.pipeline, "relay stopped while it was waiting for its lease"),
        }
        if let Some(sender) = self.sender.take() {
            // Nothing more is sent once another host may; but brokers that are away are not waited for.
            let _ = tokio::time::timeout(END_WAIT, spawn_blocking(move || drop(sender))).await;
        }
        let last_words = async {
            let _ = self.settle().await;
            let _ = self.outbox.leave_lease(None).await;
            self.measure().await;
        };
        // Postgres may be away; the lease runs out by itself.
        let _ = tokio::time::timeout(END_WAIT / 2, last_words).await;
    }

    async fn work(&mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let pause = match self.turn().await {
                Ok(turn) => {
                    self.trouble.over();
                    match turn {
                        Turn::Sent => Duration::ZERO,
                        Turn::Idle => IDLE_PAUSE,
                        Turn::Standby => STANDBY_PAUSE,
                    }
                }
                Err(fault) => {
                    self.trouble.goes_on(&fault);
                    let stands_back = self.leased.is_some() && !fault.code.starts_with("SL-P");
                    // With whatever is under way: what was not acknowledged is sent again.
                    self.stop_sending();
                    let pause = self.trouble.backoff.pause();
                    if stands_back { pause.max(self.stand_back().await) } else { pause }
                }
            };
            if Instant::now() >= self.measure_at {
                self.measure().await;
            }
            // An error means that nobody is left to tell.
            let _ = tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await;
        }
    }

    async fn turn(&mut self) -> Result<Turn, Fault> {
        self.settle().await?;
        if self.leased.is_none() {
            if !self.outbox.has_dead_letters().await? {
                self.outbox.close();
                return Ok(Turn::Idle);
            }
            if self.outbox.is_leased_elsewhere().await? {
                self.outbox.close();
                return Ok(Turn::Standby);
            }
        }
        if !self.keep_lease().await? {
            return Ok(Turn::Standby);
        }
        let dead_letters = self.next().await?;
        if dead_letters.is_empty() {
            self.settle().await?;
            self.outbox.leave_lease(None).await?;
            self.leased = None;
            return Ok(Turn::Idle);
        }
        let sent = self.send(&dead_letters).await;
        self.settle().await?;
        sent
    }

    /// True when the lease is this host's for a while.
    async fn keep_lease(&mut self) -> Result<bool, Fault> {
        if self.leased.is_some_and(|at| at.elapsed() < LEASE_PERIOD) {
            return Ok(true);
        }
        let now = Instant::now();
        let taken = self.outbox.take_lease(self.trouble.told()).await?;
        if taken {
            self.leased = Some(now);
        } else {
            self.stop_sending();
            self.outbox.close();
        }
        Ok(taken)
    }

    /// Another host may reach the brokers that this one does not. Returns for how long it has its chance.
    async fn stand_back(&mut self) -> Duration {
        // Postgres may be away as well; the lease runs out by itself.
        let leaving = self.outbox.leave_lease(self.trouble.told());
        let _ = tokio::time::timeout(END_WAIT / 2, leaving).await;
        STAND_BACK
    }

    /// Drops the producer, whose end may block.
    fn stop_sending(&mut self) {
        self.leased = None;
        if let Some(sender) = self.sender.take() {
            spawn_blocking(move || drop(sender));
        }
    }

    async fn next(&mut self) -> Result<Vec<DeadLetter>, Fault> {
        let mut dead_letters = Vec::new();
        for next in self.outbox.next(DEAD_LETTERS_MAX, BYTES_MAX).await? {
            match next {
                Ok(dead_letter) => dead_letters.push(dead_letter),
                Err((id, fault)) => self.refused.push((id, fault.to_string())),
            }
        }
        Ok(dead_letters)
    }

    /// Marks what is known of dead letters.
    async fn settle(&mut self) -> Result<(), Fault> {
        if !self.acknowledged.is_empty() {
            self.outbox.mark_relayed(&self.acknowledged).await?;
            let count = std::mem::take(&mut self.acknowledged).len();
            self.figures.relayed.fetch_add(count as u64, Ordering::Relaxed);
        }
        if !self.refused.is_empty() {
            self.outbox.mark_refused(&self.refused).await?;
            let refused = std::mem::take(&mut self.refused);
            self.figures.refused.fetch_add(refused.len() as u64, Ordering::Relaxed);
            self.refusals.mention(&self.origin.pipeline, &self.topic, &refused);
        }
        Ok(())
    }

    async fn send(&mut self, dead_letters: &[DeadLetter]) -> Result<Turn, Fault> {
        if self.sender.is_none() {
            let (source, topic) = (self.source.clone(), self.topic.clone());
            let connecting = spawn_blocking(move || Sender::connect(&source, &topic));
            self.sender = Some(connecting.await.expect("connecting does not panic")?);
        }
        if self.deliver(dead_letters).await? { Ok(Turn::Sent) } else { Ok(Turn::Standby) }
    }

    /// Sends `dead_letters` and waits for their answers, however long that takes. Brokers refuse requests, not dead letters: each
    /// dead letter of a refused one is tried alone. False when another host relays now.
    async fn deliver(&mut self, dead_letters: &[DeadLetter]) -> Result<bool, Fault> {
        let mut windows = Windows::default();
        for (number, dead_letter) in dead_letters.iter().enumerate() {
            windows.add(number, self.sender().partition(dead_letter), dead_letter.bytes());
        }
        let mut answered_at = Instant::now();
        loop {
            let mut numbers = windows.take();
            while !numbers.is_empty() {
                for number in numbers {
                    let sent = self.sender().send(number, &dead_letters[number], &self.origin);
                    if let Some(answer) = sent {
                        self.note(&mut windows, &dead_letters[number], number, answer)?;
                    }
                }
                // Answers that came at once make room.
                numbers = windows.take();
            }
            if windows.is_done() {
                return Ok(true);
            }
            let sender = self.sender.as_mut().expect("connected before");
            match tokio::time::timeout(LEASE_PERIOD / 4, sender.answer()).await {
                Ok((number, answer)) => {
                    answered_at = Instant::now();
                    self.note(&mut windows, &dead_letters[number], number, answer)?;
                }
                Err(_) if answered_at.elapsed() > SILENCE => {
                    sender.begin_again();
                    let topic = &self.topic;
                    let text = format!("no broker acknowledges dead letters for topic {topic}");
                    let fault = Fault::retry("SL-K002", text);
                    if answered_at.elapsed() > LONG_SILENCE {
                        return Err(fault);
                    }
                    self.trouble.goes_on(&fault);
                }
                Err(_) => {}
            }
            if !self.keep_lease().await? {
                return Ok(false);
            }
        }
    }

    fn sender(&self) -> &Sender {
        self.sender.as_ref().expect("connected before")
    }

    /// Takes note of the answer to `dead_letter`.
    fn note(
        &mut self,
        windows: &mut Windows,
        dead_letter: &DeadLetter,
        number: usize,
        answer: Answer,
    ) -> Result<(), Fault> {
        let partition = self.sender().partition(dead_letter);
        match answer {
            Answer::Acknowledged => {
                windows.acknowledged(partition);
                self.acknowledged.push(dead_letter.id);
            }
            Answer::Refused(reason) => {
                if windows.refused(partition, number) {
                    self.refused.push((dead_letter.id, format!("SL-D303: {reason}")));
                }
            }
            Answer::Failed(fault) => return Err(fault),
        }
        Ok(())
    }

    async fn measure(&mut self) {
        let began = Instant::now();
        // An outage is told by the turns.
        if let Ok(lag) = self.outbox.lag().await {
            self.figures.waiting.store(lag.waiting, Ordering::Relaxed);
            self.figures.oldest_seconds.store(lag.oldest_seconds, Ordering::Relaxed);
        }
        self.measure_at = Instant::now() + MEASURE_PERIOD.max(began.elapsed() * MEASURE_SHARE);
    }
}

/// What keeps the relay from its work: told in one line at its beginning, one a minute, and one at its end.
#[derive(Debug)]
struct Trouble {
    pipeline: String,
    topic: String,
    backoff: Backoff,
    began: Option<Instant>,
    mentioned: Option<(Instant, &'static str)>,
    text: Option<String>,
}

impl Trouble {
    fn new(pipeline: &str, topic: &str) -> Self {
        let (pipeline, topic) = (pipeline.to_owned(), topic.to_owned());
        let backoff = Backoff::default();
        Self { pipeline, topic, backoff, began: None, mentioned: None, text: None }
    }

    /// The fault, for others to see.
    fn told(&self) -> Option<&str> {
        self.text.as_deref()
    }

    fn goes_on(&mut self, fault: &Fault) {
        let began = *self.began.get_or_insert_with(Instant::now);
        self.text = Some(fault.to_string());
        let due = |(at, code): (Instant, &str)| at.elapsed() >= MENTION_EVERY || code != fault.code;
        if self.mentioned.is_none_or(due) {
            self.mentioned = Some((Instant::now(), fault.code));
            tracing::warn!(
                pipeline = self.pipeline,
                topic = self.topic,
                code = fault.code,
                seconds = began.elapsed().as_secs(),
                "dead letters wait for their relay: {}",
                fault.message
            );
        }
    }

    fn over(&mut self) {
        if let Some(began) = self.began.take() {
            let seconds = began.elapsed().as_secs();
            tracing::info!(pipeline = self.pipeline, topic = self.topic, seconds, "relay resumed");
            *self = Self::new(&self.pipeline, &self.topic);
        }
    }
}

/// Dead letters that the topic does not take, told at most once a minute.
#[derive(Debug, Default)]
struct Refusals {
    untold: usize,
    mentioned: Option<Instant>,
}

impl Refusals {
    fn mention(&mut self, pipeline: &str, topic: &str, refused: &[(i64, String)]) {
        self.untold += refused.len();
        let Some((dead_letter, reason)) = refused.first() else { return };
        if self.mentioned.is_some_and(|at| at.elapsed() < MENTION_EVERY) {
            return;
        }
        self.mentioned = Some(Instant::now());
        let dead_letters = std::mem::take(&mut self.untold);
        let (code, reason) = reason.split_once(": ").unwrap_or(("SL-D303", reason));
        tracing::warn!(
            pipeline,
            topic,
            code,
            dead_letters,
            dead_letter,
            "dead letters cannot be relayed: {reason}"
        );
    }
}
