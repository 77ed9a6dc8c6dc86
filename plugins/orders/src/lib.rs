//! Order and payment events: every event becomes a row of `orders`, and each line of a new order
//! one of `order_lines`.
//!
//! Messages are keyed by order id. Money is a decimal number in a string; `at` is RFC 3339:
//!
//! ```json
//! {"type":"OrderCreated","order_id":"o-00000017","at":"2026-11-22T03:04:05.123Z","customer":"c-0042",
//!  "currency":"EUR","lines":[{"sku":"sku-123","quantity":2,"unit_price":"19.99"}]}
//! {"type":"OrderPaid","order_id":"o-00000017","at":"2026-11-22T03:05:00Z","amount":"39.98"}
//! {"type":"OrderShipped","order_id":"o-00000017","at":"2026-11-23T08:00:00Z","carrier":"dhl"}
//! ```
//!
//! The tables:
//!
//! ```sql
//! CREATE TABLE orders (order_id text NOT NULL, event text NOT NULL, at timestamptz NOT NULL,
//!                      customer text, currency text, amount numeric, carrier text);
//! CREATE TABLE order_lines (order_id text NOT NULL, line_no integer NOT NULL, sku text NOT NULL,
//!                           quantity bigint NOT NULL, unit_price numeric NOT NULL);
//! ```

mod event;

use std::borrow::Cow;

use event::{Event, Line};
use sluice_plugin::{Decimal, Message, Rejection, Row, Settings, Timestamp, Transform, reject};

/// These rules have no settings.
#[derive(Settings)]
struct Orders;

/// Events differ too much for a list of fields: the payload comes as it is.
#[derive(Message)]
struct Envelope<'a> {
    #[message(payload)]
    payload: &'a [u8],
}

/// One event of one order.
#[derive(Row, Default)]
#[row(output = "orders")]
struct OrderRow<'a> {
    order_id: Cow<'a, str>,
    event: &'static str,
    at: Timestamp,
    customer: Option<Cow<'a, str>>,
    currency: Option<Cow<'a, str>>,
    /// What was ordered, or what was paid.
    amount: Option<Decimal>,
    carrier: Option<Cow<'a, str>>,
}

/// One line of a new order, counted from 1.
#[derive(Row)]
#[row(output = "order_lines")]
struct LineRow<'a> {
    order_id: Cow<'a, str>,
    line_no: u32,
    sku: Cow<'a, str>,
    quantity: i64,
    unit_price: Decimal,
}

impl Transform for Orders {
    type Message<'a> = Envelope<'a>;
    type Rows<'a> = (OrderRow<'a>, Vec<LineRow<'a>>);

    fn transform<'a>(&'a self, message: Envelope<'a>) -> Result<Self::Rows<'a>, Rejection> {
        let (order, lines) = match Event::parse(message.payload)? {
            Event::Created { order_id, at, customer, currency, lines } => {
                let amount = Some(total(&lines)?);
                let (customer, currency) = (Some(customer), Some(currency));
                let rows = line_rows(&order_id, lines);
                let event = "OrderCreated";
                (OrderRow { order_id, event, at, customer, currency, amount, carrier: None }, rows)
            }
            Event::Paid { order_id, at, amount } => {
                let amount = Some(not_negative(amount, "amount")?);
                (
                    OrderRow { order_id, event: "OrderPaid", at, amount, ..OrderRow::default() },
                    vec![],
                )
            }
            Event::Shipped { order_id, at, carrier } => {
                let carrier = Some(carrier);
                (
                    OrderRow {
                        order_id,
                        event: "OrderShipped",
                        at,
                        carrier,
                        ..OrderRow::default()
                    },
                    vec![],
                )
            }
        };
        if order.order_id.is_empty() {
            reject!("no-order-id", "order_id is empty");
        }
        Ok((order, lines))
    }
}

/// What the lines cost together; checks each on the way.
fn total(lines: &[Line<'_>]) -> Result<Decimal, Rejection> {
    if lines.is_empty() {
        reject!("no-lines", "the order has no lines");
    }
    let mut total = Decimal::ZERO;
    for (index, line) in lines.iter().enumerate() {
        if line.quantity < 1 {
            reject!("quantity-out-of-range", "line {}: quantity is {}", index + 1, line.quantity);
        }
        let price = not_negative(line.unit_price, "unit_price")?;
        let sum = price.checked_mul(line.quantity.into()).and_then(|cost| total.checked_add(cost));
        total = sum
            .ok_or_else(|| Rejection::new("total-out-of-range", "the total has too many digits"))?;
    }
    Ok(total)
}

fn not_negative(amount: Decimal, name: &str) -> Result<Decimal, Rejection> {
    if amount.is_negative() {
        reject!("negative-amount", "{name} is {amount}");
    }
    Ok(amount)
}

fn line_rows<'a>(order_id: &Cow<'a, str>, lines: Vec<Line<'a>>) -> Vec<LineRow<'a>> {
    let row = |(line_no, line): (u32, Line<'a>)| LineRow {
        order_id: order_id.clone(),
        line_no,
        sku: line.sku,
        quantity: line.quantity,
        unit_price: line.unit_price,
    };
    (1..).zip(lines).map(row).collect()
}

sluice_plugin::export!(Orders);

#[cfg(test)]
mod tests;
