//! The events, as serde reads them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::error::Category;
use sluice_plugin::{Decimal, Rejection, Timestamp, reject};

/// What happened to an order.
#[derive(Deserialize)]
#[serde(tag = "type")]
pub enum Event<'a> {
    /// A customer ordered something.
    #[serde(rename = "OrderCreated")]
    Created {
        #[serde(borrow)]
        order_id: Cow<'a, str>,
        at: Timestamp,
        customer: Cow<'a, str>,
        currency: Cow<'a, str>,
        lines: Vec<Line<'a>>,
    },
    /// The money is there.
    #[serde(rename = "OrderPaid")]
    Paid { order_id: Cow<'a, str>, at: Timestamp, amount: Decimal },
    /// The goods are on their way.
    #[serde(rename = "OrderShipped")]
    Shipped { order_id: Cow<'a, str>, at: Timestamp, carrier: Cow<'a, str> },
}

/// One line of an order.
#[derive(Deserialize)]
pub struct Line<'a> {
    #[serde(borrow)]
    pub sku: Cow<'a, str>,
    pub quantity: i64,
    pub unit_price: Decimal,
}

impl<'a> Event<'a> {
    /// Reads a payload.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Rejection> {
        serde_json::from_slice(payload).or_else(|error| refuse(payload, &error))
    }
}

/// Says what is wrong with a payload that is no event.
#[cold]
fn refuse<T>(payload: &[u8], error: &serde_json::Error) -> Result<T, Rejection> {
    #[derive(Deserialize)]
    struct Tag<'a> {
        #[serde(borrow, rename = "type")]
        name: Cow<'a, str>,
    }

    if error.classify() != Category::Data {
        reject!("malformed-json", "{error}");
    }
    if let Ok(Tag { name }) = serde_json::from_slice(payload)
        && !matches!(&*name, "OrderCreated" | "OrderPaid" | "OrderShipped")
    {
        reject!("unknown-event", "type is {name:?}");
    }
    reject!("malformed-event", "{error}");
}
