//! Order events: each order is created, paid and shipped, in this order, among those of its neighbours.

use super::text::{Instants, fixed, integer, padded};
use super::{Defect, Generator, Quality, chance};

/// Orders whose events are interleaved before the next ones begin.
const GROUP: usize = 8;
/// Orders that are created between one's own creation and its payment, and between payment and shipping.
const DELAY: usize = 2;
const EVENTS: usize = 3;

/// Which order of its group, and which of its events, each message of a group carries.
const SCHEDULE: [(u8, Event); GROUP * EVENTS] = schedule();

const CURRENCIES: [&[u8]; 3] = [b"EUR", b"USD", b"CHF"];
const CARRIERS: [&[u8]; 4] = [b"dhl", b"ups", b"dpd", b"gls"];

/// Order events, one a millisecond; the key is the order's id.
#[derive(Debug)]
pub struct Orders {
    bad_per_mille: u32,
    seed: u64,
    start_ms: i64,
    instants: Instants,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Created,
    Paid,
    Shipped,
}

struct Line {
    sku: u64,
    quantity: u64,
    unit_price_cents: u64,
}

impl Orders {
    /// Events of which the first happens `start_ms` milliseconds after 1970-01-01T00:00:00Z.
    pub fn new(bad_per_mille: u32, seed: u64, start_ms: i64) -> Self {
        Self { bad_per_mille, seed, start_ms, instants: Instants::default() }
    }
}

impl Generator for Orders {
    fn write(&mut self, index: u64, key: &mut Vec<u8>, payload: &mut Vec<u8>) -> Quality {
        let (group, slot) = (index / SCHEDULE.len() as u64, index % SCHEDULE.len() as u64);
        let (member, event) = SCHEDULE[slot as usize];
        let order = group * GROUP as u64 + u64::from(member);
        let mut random = chance(self.seed, index);
        let defect = (random.u32(0..1000) < self.bad_per_mille).then(|| pick_defect(&mut random));

        key.clear();
        key.extend_from_slice(b"o-");
        padded(key, order, 8);

        payload.clear();
        payload.extend_from_slice(b"{\"type\":\"");
        payload.extend_from_slice(event.name(defect));
        payload.push(b'"');
        if defect != Some(Defect::MissingOrderId) {
            payload.extend_from_slice(b",\"order_id\":\"");
            payload.extend_from_slice(key);
            payload.push(b'"');
        }
        payload.extend_from_slice(b",\"at\":\"");
        self.instants.write(payload, self.start_ms + index as i64);
        payload.push(b'"');
        self.details(order, event, payload);
        payload.push(b'}');
        if defect == Some(Defect::Truncated) {
            payload.truncate(payload.len() / 2);
        }
        defect.map_or(Quality::Good, Quality::Bad)
    }
}

impl Orders {
    /// What the event adds to type, order and time. All events of an order draw from the same chance,
    /// so that the payment is the sum of the lines.
    fn details(&self, order: u64, event: Event, out: &mut Vec<u8>) {
        let mut random = chance(!self.seed, order);
        let customer = random.u64(0..10_000);
        let currency = CURRENCIES[usize::from(random.u8(0..10).saturating_sub(7))];
        let carrier = CARRIERS[random.usize(0..CARRIERS.len())];
        let lines = random.u64(1..=4);
        match event {
            Event::Created => {
                out.extend_from_slice(b",\"customer\":\"c-");
                padded(out, customer, 4);
                out.extend_from_slice(b"\",\"currency\":\"");
                out.extend_from_slice(currency);
                out.extend_from_slice(b"\",\"lines\":[");
                for number in 0..lines {
                    if number > 0 {
                        out.push(b',');
                    }
                    Line::random(&mut random).write(out);
                }
                out.push(b']');
            }
            Event::Paid => {
                let total: u64 = (0..lines).map(|_| Line::random(&mut random).price_cents()).sum();
                out.extend_from_slice(b",\"amount\":\"");
                fixed(out, total as i64, 2);
                out.push(b'"');
            }
            Event::Shipped => {
                out.extend_from_slice(b",\"carrier\":\"");
                out.extend_from_slice(carrier);
                out.push(b'"');
            }
        }
    }
}

impl Event {
    fn name(self, defect: Option<Defect>) -> &'static [u8] {
        match (self, defect) {
            (_, Some(Defect::UnknownType)) => b"OrderVanished",
            (Self::Created, _) => b"OrderCreated",
            (Self::Paid, _) => b"OrderPaid",
            (Self::Shipped, _) => b"OrderShipped",
        }
    }
}

impl Line {
    fn random(random: &mut fastrand::Rng) -> Self {
        Self {
            sku: random.u64(0..1000),
            quantity: random.u64(1..=5),
            unit_price_cents: random.u64(99..20_000),
        }
    }

    fn price_cents(&self) -> u64 {
        self.quantity * self.unit_price_cents
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"sku\":\"sku-");
        padded(out, self.sku, 3);
        out.extend_from_slice(b"\",\"quantity\":");
        integer(out, self.quantity);
        out.extend_from_slice(b",\"unit_price\":\"");
        fixed(out, self.unit_price_cents as i64, 2);
        out.extend_from_slice(b"\"}");
    }
}

/// Half of what is bad is not even JSON, the rest is evenly spread.
fn pick_defect(random: &mut fastrand::Rng) -> Defect {
    match random.u32(0..4) {
        0 | 1 => Defect::Truncated,
        2 => Defect::UnknownType,
        _ => Defect::MissingOrderId,
    }
}

/// Walks over the orders of a group: step `n` creates order `n`, pays the one created [`DELAY`] steps
/// before and ships the one paid as many steps before.
const fn schedule() -> [(u8, Event); GROUP * EVENTS] {
    let mut slots = [(0, Event::Created); GROUP * EVENTS];
    let (mut filled, mut step) = (0, 0);
    while filled < slots.len() {
        if step < GROUP {
            slots[filled] = (step as u8, Event::Created);
            filled += 1;
        }
        if step >= DELAY && step < GROUP + DELAY {
            slots[filled] = ((step - DELAY) as u8, Event::Paid);
            filled += 1;
        }
        if step >= 2 * DELAY {
            slots[filled] = ((step - 2 * DELAY) as u8, Event::Shipped);
            filled += 1;
        }
        step += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use super::*;

    const START_MS: i64 = 1_795_403_045_123;

    fn messages(bad_per_mille: u32, count: u64) -> Vec<(String, String, Quality)> {
        let mut generator = Orders::new(bad_per_mille, 22, START_MS);
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        (0..count)
            .map(|index| {
                let quality = generator.write(index, &mut key, &mut payload);
                let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
                (text(&key), text(&payload), quality)
            })
            .collect()
    }

    #[test]
    fn events_look_like_those_of_a_shop() {
        let lines: Vec<_> =
            messages(0, 7).iter().map(|(key, payload, _)| format!("{key} {payload}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        o-00000000 {"type":"OrderCreated","order_id":"o-00000000","at":"2026-11-23T03:04:05.123Z","customer":"c-2296","currency":"EUR","lines":[{"sku":"sku-211","quantity":5,"unit_price":"25.43"},{"sku":"sku-316","quantity":3,"unit_price":"78.98"},{"sku":"sku-778","quantity":1,"unit_price":"147.36"},{"sku":"sku-066","quantity":3,"unit_price":"80.67"}]}
        o-00000001 {"type":"OrderCreated","order_id":"o-00000001","at":"2026-11-23T03:04:05.124Z","customer":"c-7092","currency":"EUR","lines":[{"sku":"sku-358","quantity":5,"unit_price":"140.95"}]}
        o-00000002 {"type":"OrderCreated","order_id":"o-00000002","at":"2026-11-23T03:04:05.125Z","customer":"c-7641","currency":"USD","lines":[{"sku":"sku-543","quantity":1,"unit_price":"40.73"},{"sku":"sku-268","quantity":5,"unit_price":"94.34"},{"sku":"sku-794","quantity":5,"unit_price":"27.84"}]}
        o-00000000 {"type":"OrderPaid","order_id":"o-00000000","at":"2026-11-23T03:04:05.126Z","amount":"753.46"}
        o-00000003 {"type":"OrderCreated","order_id":"o-00000003","at":"2026-11-23T03:04:05.127Z","customer":"c-7320","currency":"EUR","lines":[{"sku":"sku-324","quantity":3,"unit_price":"148.63"}]}
        o-00000001 {"type":"OrderPaid","order_id":"o-00000001","at":"2026-11-23T03:04:05.128Z","amount":"704.75"}
        o-00000004 {"type":"OrderCreated","order_id":"o-00000004","at":"2026-11-23T03:04:05.129Z","customer":"c-1785","currency":"USD","lines":[{"sku":"sku-415","quantity":5,"unit_price":"100.05"},{"sku":"sku-217","quantity":1,"unit_price":"82.80"},{"sku":"sku-728","quantity":4,"unit_price":"46.75"}]}
        "#);
    }

    #[test]
    fn each_order_is_created_paid_what_its_lines_cost_and_shipped() {
        let mut orders: HashMap<String, Vec<Value>> = HashMap::new();
        for (key, payload, quality) in messages(0, 24 * 100) {
            let event: Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(event["order_id"], key.as_str());
            assert!(quality.is_good());
            orders.entry(key).or_default().push(event);
        }
        assert_eq!(orders.len(), 800);
        for events in orders.values() {
            let types: Vec<_> =
                events.iter().map(|event| event["type"].as_str().unwrap()).collect();
            assert_eq!(types, ["OrderCreated", "OrderPaid", "OrderShipped"]);
            let cost: u64 = events[0]["lines"].as_array().unwrap().iter().map(cost_cents).sum();
            assert_eq!(cents(&events[1]["amount"]), cost);
        }
    }

    fn cost_cents(line: &Value) -> u64 {
        line["quantity"].as_u64().unwrap() * cents(&line["unit_price"])
    }

    fn cents(amount: &Value) -> u64 {
        amount.as_str().unwrap().replace('.', "").parse().unwrap()
    }

    #[test]
    fn bad_events_are_cut_or_nameless_or_of_no_known_type() {
        let messages = messages(500, 2000);
        let bad = messages.iter().filter(|(_, _, quality)| !quality.is_good()).count();
        assert!((900..1100).contains(&bad), "{bad} of 2,000 are bad");
        for (_, payload, quality) in &messages {
            let parsed = serde_json::from_str::<Value>(payload);
            let found = match &parsed {
                Err(_) => Quality::Bad(Defect::Truncated),
                Ok(event) if event["type"] == "OrderVanished" => Quality::Bad(Defect::UnknownType),
                Ok(event) if event["order_id"].is_null() => Quality::Bad(Defect::MissingOrderId),
                Ok(_) => Quality::Good,
            };
            assert_eq!(found, *quality, "{payload}");
        }
    }
}
