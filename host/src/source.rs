//! What a source promises: it fills batches with messages of the partitions it was given, each
//! partition in the order of its offsets, from exactly the offset it was told. Knows no SQL.

use std::time::Duration;

use uuid::Uuid;

use crate::batch::Batch;
use crate::fault::Fault;
use crate::sink::{KeyHash, LastRead};

pub mod claims;
mod clients;
pub mod handshake;
pub mod identity;
pub mod kafka;
pub mod loads;
pub mod log;
pub mod member;
pub mod native;
pub mod position;
pub mod properties;
pub mod reasons;
pub mod rebalance;
pub mod renewals;

use position::Positions;

/// How much a batch may contain.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Most messages.
    pub messages_max: usize,
    /// Most bytes of payloads, keys and headers; a batch ends with the message that passes it.
    pub bytes_max: usize,
}

impl Room {
    /// True when nothing more should be put into `batch`.
    pub fn is_full(&self, batch: &Batch) -> bool {
        batch.len() >= self.messages_max || batch.bytes() >= self.bytes_max
    }
}

/// A partition that cannot be read any further, or, with [`Remedy::Retry`](crate::fault::Remedy::Retry), for now.
#[derive(Debug)]
pub struct PartitionFault {
    /// The partition; `None` when the error concerns the whole topic.
    pub partition: Option<i32>,
    /// What happened, with its code.
    pub fault: Fault,
}

/// How soon the next message is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ease {
    /// At once, as far as there is any: nothing has come for a while.
    Idle,
    /// Not before this time is over, unless there are very many: fewer fetches will do. Zero when everything is needed
    /// as soon as it can be had.
    For(Duration),
}

/// Fills batches.
pub trait Source {
    /// Reads `partition` from `offset` on, also when it was read from elsewhere before.
    fn start(&mut self, partition: i32, offset: i64) -> Result<(), Fault>;

    /// Reads `partition` no more; what was fetched of it and not yet handed out is dropped. Nothing
    /// happens when it is not being read.
    fn stop(&mut self, partition: i32) -> Result<(), Fault>;

    /// Appends messages of the partitions in `positions` to `batch` until there is no more `room` or no more
    /// messages. Never waits.
    ///
    /// Returns the partitions that failed; what was read of others is in the batch all the same.
    fn fill(
        &mut self,
        batch: &mut Batch,
        room: Room,
        positions: &mut Positions,
    ) -> Vec<PartitionFault>;

    /// To be called before who fills batches goes to sleep; whoever the source was made with is woken by messages.
    /// Returns how long to sleep at most; then this is to be called once more.
    fn rest(&mut self, ease: Ease) -> Duration;

    /// To be called in the place of [`Source::rest`] while there is no room for messages: sees to it that not too much is
    /// fetched ahead. Returns when to call it again.
    fn rest_while_full(&mut self) -> Duration;

    /// Messages are needed as soon as they can be had, whatever was said before.
    fn hurry(&mut self);
}

/// A partition claimed for this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// The partition.
    pub partition: i32,
    /// Where to go on.
    pub next_offset: i64,
    /// Under which claim to write.
    pub epoch: i64,
    /// The last message before `next_offset`, as far as known.
    pub last: Option<LastRead>,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// The partition is ours.
    Claimed(Claimed),
    /// A position is stored for another incarnation of the topic.
    OtherTopic {
        /// The partition.
        partition: i32,
        /// Id of the old incarnation.
        stored: Uuid,
    },
}

/// A stored position and what is known of its last owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The partition.
    pub partition: i32,
    /// The incarnation of the topic that the position belongs to.
    pub topic_id: Uuid,
    /// The next offset to write.
    pub next_offset: i64,
    /// Raised by each claim.
    pub epoch: i64,
    /// Who claimed it last.
    pub owner: String,
    /// True when that owner has ended without a word, and nobody has taken note of it yet.
    pub owner_crashed: bool,
    /// How many owners have crashed since the position moved.
    pub crashes: i32,
    /// True when a person has set it and nobody has claimed it since.
    pub resolved: bool,
}

/// An owner that has crashed, and whether that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The partition it had.
    pub partition: i32,
    /// Its name.
    pub owner: String,
    /// False when there was no message to read that could have been the cause.
    pub counts: bool,
}

/// Is told the keys of messages that are parked in a partition, from any thread.
pub type KeysRead = Box<dyn Fn(i32, Result<Vec<KeyHash>, Fault>) + Send>;

/// Where positions are kept. Calls block; they are made by the claimer alone.
pub trait ClaimStore: Send {
    /// Lets others know that this host lives, for as long as it does, and sees that those which live mean the same by the
    /// pipeline. Nothing to do where they know.
    fn show_life(&mut self) -> Result<(), Fault>;

    /// True as long as [`ClaimStore::show_life`] has nothing to do. Never blocks.
    fn is_known_to_live(&self) -> bool;

    /// All positions, of whatever incarnation of the topic.
    fn positions(&mut self) -> Result<Vec<Stored>, Fault>;

    /// Stores where partitions begin that have no position yet; leaves all others alone.
    fn initialise(&mut self, topic_id: Uuid, starts: &[(i32, i64)]) -> Result<(), Fault>;

    /// Records owners that have crashed, each once.
    fn record_crashes(&mut self, owner_crashed: &[Crash]) -> Result<(), Fault>;

    /// Forgets what was counted for a partition.
    fn reset_crashes(&mut self, partition: i32) -> Result<(), Fault>;

    /// Makes this host the owner of `partitions`, fencing whoever was.
    fn claim(&mut self, topic_id: Uuid, partitions: &[i32]) -> Result<Vec<ClaimAnswer>, Fault>;

    /// Reads the keys of the messages that are parked in `partitions`, where later messages have to wait behind those of
    /// their key, and hands those of each partition to `read`, soon or after a while. To be asked after
    /// [`ClaimStore::claim`]: from then on nobody else parks messages of them.
    fn read_parked_keys(&mut self, topic_id: Uuid, partitions: Vec<i32>, read: KeysRead);

    /// Fences all writes in flight on `partitions`, ours included.
    fn fence(&mut self, partitions: &[i32]) -> Result<(), Fault>;

    /// Writes down for everybody that `partitions` are blocked.
    fn block(&mut self, partitions: &[i32], fault: &Fault) -> Result<(), Fault>;

    /// Strikes out that `partitions` are blocked: by this host, or by `anybody`.
    fn unblock(&mut self, partitions: &[i32], anybody: bool) -> Result<(), Fault>;

    /// Records that this host ends cleanly, with all that it claimed.
    fn release_cleanly(&mut self) -> Result<(), Fault>;
}
