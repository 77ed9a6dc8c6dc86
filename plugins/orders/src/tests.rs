//! Events in, rows out.

use super::*;

fn transform(payload: &str) -> Result<(OrderRow<'_>, Vec<LineRow<'_>>), Rejection> {
    Orders.transform(Envelope { payload: payload.as_bytes() })
}

fn rejects(payload: &str, code: &str, reason: &str) {
    let rejection = transform(payload).err().unwrap_or_else(|| panic!("{payload} is accepted"));
    assert_eq!((rejection.code(), rejection.reason()), (code, reason), "{payload}");
}

fn created(lines: &str) -> String {
    format!(
        r#"{{"type":"OrderCreated","order_id":"o-17","at":"2026-11-22T03:04:05.123Z","customer":"c-0042","currency":"EUR","lines":[{lines}]}}"#
    )
}

#[test]
fn a_new_order_becomes_one_row_and_one_per_line() {
    let payload = created(
        r#"{"sku":"sku-123","quantity":2,"unit_price":"19.99"},{"sku":"a\"b","quantity":3,"unit_price":"0.10"}"#,
    );
    let (order, lines) = transform(&payload).unwrap();
    assert_eq!((&*order.order_id, order.event), ("o-17", "OrderCreated"));
    assert_eq!(order.at.as_micros(), 1_795_316_645_123_000);
    assert_eq!(
        (order.customer.as_deref(), order.currency.as_deref()),
        (Some("c-0042"), Some("EUR"))
    );
    assert_eq!(order.amount.unwrap().to_string(), "40.28");
    assert!(order.carrier.is_none());
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            (&*line.order_id, line.line_no, &*line.sku, line.quantity, line.unit_price.to_string())
        })
        .collect();
    assert_eq!(
        lines,
        [("o-17", 1, "sku-123", 2, "19.99".to_owned()), ("o-17", 2, "a\"b", 3, "0.10".to_owned())]
    );
}

#[test]
fn payment_and_shipping_become_one_row_each() {
    let (order, lines) = transform(
        r#"{"type":"OrderPaid","order_id":"o-17","at":"2026-11-22T03:05:00Z","amount":"39.98"}"#,
    )
    .unwrap();
    assert_eq!(
        (order.event, order.amount.unwrap().to_string(), lines.len()),
        ("OrderPaid", "39.98".to_owned(), 0)
    );
    let (order, lines) = transform(
        r#"{"type":"OrderShipped","order_id":"o-17","at":"2026-11-23T08:00:00Z","carrier":"dhl"}"#,
    )
    .unwrap();
    assert_eq!(
        (order.event, order.carrier.as_deref(), lines.len()),
        ("OrderShipped", Some("dhl"), 0)
    );
}

#[test]
fn each_mistake_has_its_own_code() {
    let paid = |id: &str, amount: &str| {
        format!(
            r#"{{"type":"OrderPaid","order_id":"{id}","at":"2026-11-22T03:05:00Z","amount":{amount}}}"#
        )
    };
    rejects(&paid("", r#""1""#), "no-order-id", "order_id is empty");
    rejects(&paid("o", r#""-0.01""#), "negative-amount", "amount is -0.01");
    rejects(
        &paid("o", r#""1,5""#),
        "malformed-event",
        "\"1,5\" is not a decimal number such as `12.50`",
    );
    rejects(&created(""), "no-lines", "the order has no lines");
    let line = |quantity: &str, price: &str| {
        created(&format!(r#"{{"sku":"s","quantity":{quantity},"unit_price":"{price}"}}"#))
    };
    rejects(&line("0", "1"), "quantity-out-of-range", "line 1: quantity is 0");
    rejects(&line("1", "-1.00"), "negative-amount", "unit_price is -1.00");
    rejects(
        &line("2", "9999999999999999999999999999"),
        "total-out-of-range",
        "the total has too many digits",
    );
    rejects(r#"{"type":"OrderLost","order_id":"o"}"#, "unknown-event", "type is \"OrderLost\"");
    rejects(r#"{"order_id":"o"}"#, "malformed-event", "missing field `type` at line 1 column 16");
    rejects("not json", "malformed-json", "expected ident at line 1 column 2");
    rejects("", "malformed-json", "EOF while parsing a value at line 1 column 0");
}
