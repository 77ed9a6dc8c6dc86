//! What is lent is what was asked for, and everything comes back.

use super::*;
use crate::batch::Message;
use crate::columns::Kind;
use crate::description::{InputField, Payload};

const ALL: Attributes =
    Attributes { payload: true, key: true, timestamp: true, position: true, headers: true };

/// One field of every kind; every second one is read.
fn description(reads: Attributes) -> Description {
    let field = |(index, kind): (usize, Kind)| InputField {
        pointer: format!("/{index}"),
        kind,
        required: false,
        read: index % 2 == 0,
    };
    Description {
        name: "test".into(),
        version: "1.0.0".into(),
        reads,
        payload: Payload::Json(Kind::ALL.into_iter().enumerate().map(field).collect()),
        outputs: Vec::new(),
        settings_schema: String::new(),
    }
}

fn batch() -> Batch {
    let mut batch = Batch::new("readings");
    for (offset, key) in [(10, Some(&b"k"[..])), (11, None), (12, Some(b""))] {
        let payload = format!("payload {offset}");
        batch.push(Message {
            partition: 3,
            offset,
            timestamp_us: offset * 1_000,
            key,
            payload: Some(payload.as_bytes()),
        });
        for header in 10..offset {
            batch.push_header(format!("h{header}").as_bytes(), (header == 10).then_some(b"v"));
        }
        batch.close_message();
    }
    batch
}

/// A row of gaps per decoded message.
fn decoded(messages: &[u32]) -> Decoded {
    let column = |kind| {
        let mut column = Column::new(kind);
        for _ in messages {
            column.push_null();
        }
        column
    };
    Decoded {
        messages: messages.to_vec(),
        columns: Kind::ALL.map(column).into(),
        ..Decoded::default()
    }
}

/// Lends, looks, restores; batch and columns must be what they were.
fn check(messages: &[u32], reads: Attributes, look: impl FnOnce(&wit::Batch)) {
    let (mut batch, mut decoded) = (batch(), decoded(messages));
    let before = format!("{batch:?} {decoded:?}");
    let description = description(reads);
    let mut loan = Loan::default();
    loan.lend(&mut batch, &mut decoded, &description);
    assert_eq!(loan.batch.count as usize, messages.len());
    assert_eq!(loan.batch.fields.len(), 5, "every second of nine");
    assert!(loan.batch.fields.iter().all(|field| field.nulls.len() == messages.len()));
    look(&loan.batch);
    loan.restore(&mut batch, &mut decoded, &description);
    assert_eq!(format!("{batch:?} {decoded:?}"), before);
    let empty = format!("{:?}", Loan::default().batch.payloads);
    assert_eq!(format!("{:?}", loan.batch.payloads), empty);
    assert!(loan.batch.fields.is_empty() && loan.batch.offsets.is_empty());
}

#[test]
fn only_what_is_asked_for_is_lent() {
    check(&[0, 1, 2], Attributes::default(), |lent| {
        assert!(lent.payloads.values.ends.is_empty() && lent.keys.values.ends.is_empty());
        assert!(lent.timestamps.is_empty() && lent.offsets.is_empty());
        assert!(lent.partitions.is_empty() && lent.headers.ends.is_empty());
        assert_eq!(lent.topic, "readings");
    });
    check(&[0, 1, 2], ALL, |lent| {
        assert_eq!(lent.payloads.values.data, b"payload 10payload 11payload 12");
        assert_eq!(lent.keys.nulls, [0, 1, 0]);
        assert_eq!(lent.timestamps, [10_000, 11_000, 12_000]);
        assert_eq!((&lent.partitions[..], &lent.offsets[..]), (&[3; 3][..], &[10, 11, 12][..]));
        assert_eq!(lent.headers.ends, [0, 1, 3]);
    });
}

#[test]
fn attributes_of_messages_that_were_not_decoded_stay_behind() {
    check(&[1, 2], ALL, |lent| {
        assert_eq!(lent.payloads.values.data, b"payload 11payload 12");
        assert_eq!(lent.payloads.values.ends, [10, 20]);
        assert_eq!(lent.keys.nulls, [1, 0]);
        assert_eq!(lent.offsets, [11, 12]);
        assert_eq!(lent.headers.ends, [1, 3]);
        assert_eq!(lent.headers.names.data, b"h10h10h11");
        assert_eq!(lent.headers.values.nulls, [0, 0, 1]);
    });
    check(&[0], ALL, |lent| assert_eq!(lent.headers.ends, [0]));
}

#[test]
fn every_kind_keeps_its_case_both_ways() {
    for kind in Kind::ALL {
        let mut column = Column::new(kind);
        column.push_null();
        let original = column.clone();
        let guest = column_to_guest(&mut column);
        assert!(column.is_empty(), "{}: moved, not copied", kind.name());
        assert_eq!(column_to_host(guest), original);
    }
}
