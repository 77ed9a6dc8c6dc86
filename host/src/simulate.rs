//! Messages that look like the real ones, the same ones for the same seed, and a producer that sends
//! them. Does not know what a plugin makes of them: it only says which ones are good.

pub mod devices;
pub mod orders;
pub mod producer;
mod text;

pub use devices::{Devices, Shape};
pub use orders::Orders;
pub use producer::{Ledger, Partitioner, Producer, Target};

/// Writes messages by number. Each depends on the seed and its number alone, so that a checker can ask
/// for message 4,711 again without the 4,710 before it.
pub trait Generator: Send {
    /// Replaces `key` and `payload` with those of message `index`, and says what a pipeline should
    /// make of it.
    fn write(&mut self, index: u64, key: &mut Vec<u8>, payload: &mut Vec<u8>) -> Quality;
}

/// Whether a message is good, and if not, what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quality {
    /// Becomes rows.
    Good,
    /// Becomes a dead letter.
    Bad(Defect),
}

impl Quality {
    /// True for a message that becomes rows.
    pub fn is_good(self) -> bool {
        self == Self::Good
    }
}

/// What is wrong with a bad message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The payload is cut in half: not JSON.
    Truncated,
    /// `power_w` is 99,999,999.
    PowerOutOfRange,
    /// `status` is none of the known ones.
    UnknownStatus,
    /// There is no `device_id`.
    MissingDeviceId,
    /// `voltage_v` is above 300.
    VoltageOutOfRange,
    /// `type` is none of the known ones.
    UnknownType,
    /// There is no `order_id`.
    MissingOrderId,
}

/// Chance of its own for each message, from the seed and the message's number.
fn chance(seed: u64, index: u64) -> fastrand::Rng {
    // Neighbouring numbers must not give neighbouring states.
    fastrand::Rng::with_seed(seed ^ (index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
