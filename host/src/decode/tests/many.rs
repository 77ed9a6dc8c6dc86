//! As many pointers as a description may have: found all, at a cost that does not grow with their number.

use std::time::{Duration, Instant};

use super::*;

const POINTERS_MAX: usize = 1600;

fn fields(pointers: impl Iterator<Item = String>) -> Vec<InputField> {
    pointers.map(|pointer| field(&pointer, Kind::Int64, false)).collect()
}

#[test]
fn each_of_many_members_and_items_is_found_in_whatever_order() {
    let of_members = (0..POINTERS_MAX).map(|number| format!("/o/m{number}"));
    let of_items = (0..POINTERS_MAX).rev().step_by(3).map(|number| format!("/a/{number}"));
    let fields = fields(of_members.chain(of_items));
    let members: Vec<String> =
        (0..POINTERS_MAX).rev().map(|number| format!("\"m{number}\":{number}")).collect();
    let items: Vec<String> = (0..POINTERS_MAX).map(|number| number.to_string()).collect();
    // Of the first member `o` nothing stays.
    let payload = format!(
        "{{\"o\":{{\"m7\":-1,\"m8\":-1}},\"a\":[{}],\"o\":{{{}}}}}",
        items.join(","),
        members.join(",").replace("\"m7\":7,", "")
    );
    let (decoded, rejected) = decode(&fields, &[Some(payload.as_bytes())]);
    assert!(rejected.is_empty(), "{rejected:?}");
    for (InputField { pointer, .. }, column) in fields.iter().zip(&decoded.columns) {
        let number = pointer.trim_start_matches(|it: char| !it.is_ascii_digit());
        let expected = if pointer == "/o/m7" { "missing" } else { number };
        assert_eq!(cell(column, 0), expected, "{pointer}");
    }
}

/// The least of some measurements: neighbours only make them longer.
fn time(fields: &[InputField], payload: &str) -> Duration {
    let batch = batch(&[Some(payload.as_bytes())]);
    let none = ExactInputs::default();
    let mut decoder = Decoder::using(Method::Scanner, fields, &none).expect("they are pointers");
    let times = (0..5).map(|_| {
        let (mut into, mut rejected) = (Decoded::default(), Vec::new());
        let begin = Instant::now();
        decoder.decode(&batch, &mut into, &mut rejected);
        assert!(rejected.is_empty(), "{rejected:?}");
        begin.elapsed()
    });
    times.min().unwrap_or_default()
}

#[test]
fn a_hundred_times_as_many_pointers_do_not_take_a_hundred_times_as_long() {
    const LENGTH: usize = 200_000;
    let items = format!("[{}]", vec!["1"; LENGTH].join(","));
    let members: Vec<String> = (0..LENGTH).map(|number| format!("\"x{number}\":1")).collect();
    let members = format!("{{{}}}", members.join(","));
    // The same member again and again, each time with one of the wanted fields in it.
    let member = format!("\"o\":{{\"m{}\":1}}", LENGTH - 1);
    let again = format!("{{{}}}", vec![member.as_str(); LENGTH / 4].join(","));
    for (what, payload, pointer) in
        [("items", items, "/"), ("members", members, "/m"), ("again", again, "/o/m")]
    {
        // The last items of the array, so that each item is compared with all of them.
        let all = |count: usize| {
            let numbers = (LENGTH - count..LENGTH).map(|number| number % LENGTH);
            fields(numbers.map(|number| format!("{pointer}{number}")))
        };
        let (few, many) = (time(&all(16), &payload), time(&all(POINTERS_MAX), &payload));
        assert!(many < few * 20, "{what}: {few:?} for 16, {many:?} for {POINTERS_MAX}");
    }
}
