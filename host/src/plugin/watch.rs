//! Watches a plugin's file: a new version is loaded beside the running one and published once it has
//! passed every check; a bad one is refused, and the old one goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::runtime::Handle;

use super::fault::PluginFault;
use super::load::{Generation, Loader, digest_of};
use super::slot::Slot;
use crate::bell::{Mailbox, Post};
use crate::fault::{self, Fault, Remedy};
use crate::files::Stamp;
use crate::shutdown::Stop;
use crate::threads::{self, Job, Turn, Work};

/// Time between two looks at the file, and while something is going on with it.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
const LOOK_PERIOD_SOON: Duration = Duration::from_millis(250);

/// What a look found.
#[derive(Debug)]
pub enum Look {
    /// Nothing new.
    Same,
    /// New content, which may still be being written: it counts when the next look finds it again.
    Settling,
    /// The file is not there or cannot be read; it may be on its way.
    Missing,
    /// A new version is in the slot.
    Published(Arc<Generation>),
    /// A new version is not fit to run.
    Refused(Fault),
    /// Whether a new version is fit to run cannot be said during an outage; it is asked again at later looks.
    PutOff(Fault),
}

/// Most looks between two attempts to check a version that was put off: five seconds.
const PAUSE_LOOKS_MAX: u32 = 20;

/// A version that was loaded, and waits for an outage to end.
struct PutOff {
    generation: Arc<Generation>,
    pause_looks: u32,
    looks_left: u32,
}

/// What a watcher needs to know.
pub struct Watch<T, G> {
    file: PathBuf,
    loader: Loader,
    slot: Arc<Slot<T>>,
    gate: G,
    running: Arc<Generation>,
    seen: Seen,
    put_off: Option<PutOff>,
}

/// How far the present content of the file has been dealt with.
enum Seen {
    /// Nothing known; read it.
    Nothing,
    /// Read once; the digest must be the same at the next look.
    Once(String),
    /// Published, refused or put off; nothing to do until the file's metadata change.
    Done(Stamp, String),
}

impl<T, G> Watch<T, G>
where
    G: Fn(&Arc<Generation>) -> Result<T, Fault>,
{
    /// Watches `file`, whose version `running` is in `slot`. `gate` checks a loaded version (do its
    /// outputs fit the tables?) and makes what lanes work with.
    pub fn new(
        file: PathBuf,
        loader: Loader,
        slot: Arc<Slot<T>>,
        running: Arc<Generation>,
        gate: G,
    ) -> Self {
        Self { file, loader, slot, gate, running, seen: Seen::Nothing, put_off: None }
    }

    /// Forgets that a version was refused or put off: the next look checks the file again.
    pub fn again(&mut self) {
        self.seen = Seen::Nothing;
        self.put_off = None;
    }

    /// One look at the file; loads and publishes when there is something new.
    pub fn look(&mut self) -> Look {
        let Ok(metadata) = std::fs::metadata(&self.file) else {
            return Look::Missing;
        };
        let stamp = Stamp::from(&metadata);
        if matches!(&self.seen, Seen::Done(done, _) if *done == stamp) {
            return self.look_again();
        }
        let (bytes, stamp) = match self.loader.read(&self.file) {
            Ok(read) => read,
            Err(PluginFault::Read { .. }) => return Look::Missing,
            Err(fault) => {
                self.seen = Seen::Done(stamp, String::new());
                return self.refused(fault.into());
            }
        };
        let digest = digest_of(&bytes);
        self.consider(stamp, digest, &bytes)
    }

    fn consider(&mut self, stamp: Stamp, digest: String, bytes: &[u8]) -> Look {
        self.put_off.take_if(|put_off| put_off.generation.digest != digest);
        let known = match &self.seen {
            Seen::Done(_, done) => *done == digest,
            _ => digest == self.running.digest,
        };
        let settled = matches!(&self.seen, Seen::Once(once) if *once == digest);
        if known {
            self.seen = Seen::Done(stamp, digest);
            return Look::Same;
        }
        if !settled {
            self.seen = Seen::Once(digest);
            return Look::Settling;
        }
        self.seen = Seen::Done(stamp, digest);
        match self.loader.load(bytes) {
            Ok(generation) => self.check(generation, 1),
            Err(PluginFault::Interrupted) => Look::Same,
            Err(fault) => self.refused(fault.into()),
        }
    }

    /// An outage says nothing about a version: it must not be refused for good.
    fn check(&mut self, generation: Arc<Generation>, pause_looks: u32) -> Look {
        match (self.gate)(&generation) {
            Ok(next) => self.publish(generation, next),
            Err(fault) if fault.remedy == Remedy::Retry => {
                if pause_looks == 1 {
                    let (code, digest) = (fault.code, generation.short_digest());
                    tracing::warn!(code, digest, "plugin not replaced yet: {}", fault.message);
                }
                self.put_off = Some(PutOff { generation, pause_looks, looks_left: pause_looks });
                Look::PutOff(fault)
            }
            Err(fault) => self.refused(fault),
        }
    }

    fn look_again(&mut self) -> Look {
        let Some(mut put_off) = self.put_off.take() else { return Look::Same };
        put_off.looks_left -= 1;
        if put_off.looks_left > 0 {
            self.put_off = Some(put_off);
            return Look::Same;
        }
        self.check(put_off.generation, (put_off.pause_looks * 2).min(PAUSE_LOOKS_MAX))
    }

    fn publish(&mut self, generation: Arc<Generation>, next: T) -> Look {
        self.slot.publish(Arc::new(next));
        tracing::info!(
            plugin = generation.description.name,
            version = generation.description.version,
            digest = generation.short_digest(),
            replaced_version = self.running.description.version,
            replaced_digest = self.running.short_digest(),
            "plugin replaced"
        );
        self.running = Arc::clone(&generation);
        Look::Published(generation)
    }

    fn refused(&self, fault: Fault) -> Look {
        tracing::error!(
            code = fault.code,
            file = %self.file.display(),
            running_version = self.running.description.version,
            running_digest = self.running.short_digest(),
            "plugin refused: the running version stays in use: {}", fault.message
        );
        Look::Refused(fault)
    }
}

/// Looks at the file now and then. Ends when dropped.
#[derive(Debug)]
pub struct Watcher {
    orders: Post<Order>,
    stop: Stop,
    job: Option<Job<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Check,
    Stop,
}

impl Watcher {
    /// Starts watching.
    pub fn start<T, G>(mut watch: Watch<T, G>, runtime: &Handle) -> Self
    where
        T: Send + Sync + 'static,
        G: Fn(&Arc<Generation>) -> Result<T, Fault> + Send + 'static,
    {
        let (orders, Mailbox { things: given, bell }) = Post::new();
        let stop = watch.loader.stop.nested();
        watch.loader.stop = stop.clone();
        let job = Some(threads::spawn(runtime, bell, Looks { watch, given }));
        Self { orders, stop, job }
    }

    /// Checks the file again, also a version that was refused before; for SIGHUP.
    pub fn check_now(&self) {
        // Nobody is left to look at it after a panic, which is in the log.
        let _ = self.orders.send(Order::Check);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        self.stop.set();
        // Not before a look that is under way is over.
        self.job.take().and_then(Job::join);
    }
}

/// The watcher's turns.
struct Looks<T, G> {
    watch: Watch<T, G>,
    given: Receiver<Order>,
}

impl<T, G> Work for Looks<T, G>
where
    T: Send + Sync + 'static,
    G: Fn(&Arc<Generation>) -> Result<T, Fault> + Send + 'static,
{
    type End = ();

    fn turn(&mut self) -> Turn<()> {
        let orders: Vec<Order> = self.given.try_iter().collect();
        if orders.contains(&Order::Stop) {
            return Turn::End(());
        }
        if !orders.is_empty() {
            self.watch.again();
        }
        // The file is watched on whatever one version of it has done.
        let look = fault::caught("the loading of a plugin", || Ok(self.watch.look()));
        Turn::Sleep(match look.unwrap_or_else(|fault| self.watch.refused(fault)) {
            // Pipelines that began together do not look together.
            Look::Same | Look::Refused(_) if self.watch.put_off.is_none() => {
                LOOK_PERIOD.mul_f64(1.0 - fastrand::f64() / 4.0)
            }
            _ => LOOK_PERIOD_SOON,
        })
    }
}
