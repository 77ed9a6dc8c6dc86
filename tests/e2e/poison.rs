//! Each kind of poison wherever it can stand in a batch: the bad message is a dead letter with its bytes, the good
//! ones beside it are rows, and nothing stops.

use std::collections::BTreeSet;

use anyhow::Result;
use sluice_tests::checker::Keep;
use sluice_tests::counts::{long, scaled};
use sluice_tests::kafka::{RawHeader, broker};
use sluice_tests::load::{Load, Mix};
use sluice_tests::poison::{self, CASTING, End, Kind, STRAIGHT, Sent, dead_letter};
use sluice_tests::scene::Scene;

use road::{Planned, Road, account, pipeline, reject};

mod road;

#[test]
fn each_poison_is_dead_lettered_in_a_batch_of_its_own() -> Result<()> {
    reject("poison_1", STRAIGHT, "", 1, &straight(false))
}

#[test]
fn each_poison_is_dead_lettered_first_and_last_of_two() -> Result<()> {
    reject("poison_2", STRAIGHT, "", 2, &straight(false))
}

#[test]
fn each_poison_is_dead_lettered_first_last_and_between_of_1000() -> Result<()> {
    reject("poison_1000", STRAIGHT, "", 1000, &straight(false))
}

#[test]
fn each_poison_is_dead_lettered_where_constraints_can_be_asked() -> Result<()> {
    let mut kinds = poison::for_straight();
    kinds.retain(|kind| kind.is_refused_by_postgres() && !kind.name.contains("\"state\""));
    reject("poison_checked_2", &checked(), "", 2, &kinds)?;
    reject("poison_checked_1000", &checked(), "", 1000, &kinds)
}

#[test]
fn each_poison_is_dead_lettered_first_last_and_between_of_10000() -> Result<()> {
    reject("poison_10000", STRAIGHT, "", 10_000, &straight(!long()))
}

fn straight(few: bool) -> Vec<Kind> {
    let mut kinds = poison::for_any_table();
    kinds.extend(poison::for_straight());
    if few { one_of_each_code(kinds) } else { kinds }
}

fn one_of_each_code(mut kinds: Vec<Kind>) -> Vec<Kind> {
    let mut seen = BTreeSet::new();
    kinds.retain(|kind| match kind.end {
        End::DeadLetter(dead_letter) => seen.insert((dead_letter.stage, dead_letter.code)),
        _ => seen.insert(("", "good")),
    });
    kinds
}

#[test]
fn each_text_that_cannot_be_cast_is_dead_lettered() -> Result<()> {
    let mut kinds = poison::for_casting();
    kinds.extend(one_of_each_code(poison::for_any_table()));
    reject("poison_cast_2", CASTING, "", 2, &kinds)?;
    reject("poison_cast_1000", CASTING, "", 1000, &kinds)
}

#[test]
fn each_poison_is_dead_lettered_where_rows_have_a_key() -> Result<()> {
    let mut kinds = poison::for_straight();
    kinds.extend(poison::for_any_table());
    // Two rows with one key are one row.
    kinds.retain(|kind| !matches!(kind.end, End::Rows(_)));
    let kinds = if long() { kinds } else { one_of_each_code(kinds) };
    for mode in ["upsert", "ignore"] {
        reject(&format!("poison_{mode}"), &keyed(), &format!("mode = \"{mode}\"\n"), 1000, &kinds)?;
    }
    Ok(())
}

#[test]
fn any_share_of_poison_is_dead_lettered() -> Result<()> {
    for (per_mille, table) in [(10, STRAIGHT), (100, &*checked()), (500, STRAIGHT)] {
        let scene = Scene::new(&format!("poison_mix_{per_mille}"), 3, table)?;
        let mut pipeline = pipeline(&scene, "")?;
        pipeline.batch_lines = "max_messages = 1000".to_owned();
        let sent = send_mix(&scene, scaled(60_000), per_mille)?;
        let host = scene.start("host", &pipeline)?;
        scene.wait_until_drained()?;
        host.drain()?;
        account(&scene, &sent)?;
    }
    Ok(())
}

/// Poison at random places of three partitions, always the same.
fn send_mix(scene: &Scene, count: usize, per_mille: u32) -> Result<Sent> {
    let (harmless, mut kinds) = (Kind::harmless(), straight(false));
    kinds.retain(|kind| long() || !kind.is_heavy());
    // Tables differ in their triggers.
    kinds.retain(|kind| !kind.name.contains("\"state\""));
    let (mut random, mut sent) = (fastrand::Rng::with_seed(per_mille.into()), Sent::default());
    let mut load = Load::new(&scene.topic, Mix::default())?;
    let mut next = [0; 3];
    for _ in 0..count / 500 {
        let mut messages = Vec::new();
        for _ in 0..500 {
            let partition = random.usize(0..3);
            let is_bad = random.u32(0..1000) < per_mille;
            let kind = if is_bad { &kinds[random.usize(0..kinds.len())] } else { &harmless };
            let (offset, partition_id) = (next[partition], i32::try_from(partition)?);
            next[partition] += 1;
            let number = i64::from(partition_id) * 1_000_000_000 + offset;
            sent.note(partition_id, offset, number, kind);
            messages.push((partition_id, kind.made(number)));
        }
        load.send_made(&messages)?;
    }
    Ok(sent)
}

/// With triggers that may change rows before they are checked, and without.
#[test]
fn of_two_rows_with_one_unique_value_the_first_good_one_stays() -> Result<()> {
    for (name, table) in [("poison_twins", STRAIGHT), ("poison_twins_checked", &*checked())] {
        let mut road = Road::new(name, table, "", 100)?;
        let twin = |number: u32, more: &str, end| {
            Kind::with("twin", &format!("\"unique_no\":{number}{more}"), end)
        };
        let (good, again) = (End::Row(""), dead_letter("sink", "23505", "number_once"));
        let odd = dead_letter("sink", "23514", "even_only");
        let batch =
            |odd: &[(usize, Kind)]| Planned { size: 100, odd: odd.iter().cloned().collect() };
        let three = |places: [usize; 3], number| {
            let kinds = [good, again, again].map(|end| twin(number, "", end));
            batch(&places.into_iter().zip(kinds).collect::<Vec<_>>())
        };
        // The first of two is refused for another reason, and so the second is not.
        let spoilt = |number| {
            let kinds = [(odd, ",\"even\":7"), (good, ""), (again, ",\"even\":2")];
            let kinds = kinds.map(|(end, more)| twin(number, more, end));
            batch(&[10, 20, 30].into_iter().zip(kinds).collect::<Vec<_>>())
        };
        // Two rows of one message, of which the first alone would be fine.
        let sisters =
            batch(&[(50, twin(700, ",\"act\":\"twice\"", again)), (60, twin(700, "", good))]);
        let both = batch(&[
            (1, twin(800, ",\"even\":7", odd)),
            (2, twin(1, "", again)),
            (3, twin(800, "", good)),
        ]);
        road.send(&[
            three([0, 1, 2], 100),
            three([0, 50, 99], 200),
            three([97, 98, 99], 300),
            spoilt(400),
            spoilt(500),
        ])?;
        road.send(&[both, sisters, spoilt(600)])?;
        road.end()?;
    }
    Ok(())
}

/// The table without the triggers that may change rows before they are checked: where Postgres can be asked for all
/// rows that a constraint refuses.
fn checked() -> String {
    format!("{STRAIGHT}; DROP TRIGGER refuse ON every_type")
}

/// The table with a primary key; no trigger of the rows in it may be pending.
fn keyed() -> String {
    format!(
        "{STRAIGHT}; SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE every_type ADD PRIMARY KEY (id)"
    )
}

#[test]
fn of_rows_with_one_key_the_last_good_one_stays() -> Result<()> {
    let scene = Scene::new("poison_keys", 1, &keyed())?;
    let mut bad = poison::for_straight();
    bad.retain(|kind| matches!(kind.end, End::DeadLetter(_)) && !kind.is_heavy());
    let good = ["small=1", "small=2"].map(|row| Kind::with(row, &member(row), End::Row(row)));
    let turns = [vec![good[0].clone()], vec![good[1].clone()], bad];
    let (mut sent, mut messages) = (Sent::keeping(Keep::Last), Vec::new());
    for kinds in &turns {
        for (number, kind) in (0..100).zip(kinds.iter().cycle()) {
            sent.note(0, i64::try_from(messages.len())?, number, kind);
            messages.push((0, kind.made(number)));
        }
    }
    Load::new(&scene.topic, Mix::default())?.send_made(&messages)?;
    let host = scene.start("host", &pipeline(&scene, "mode = \"upsert\"\n")?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    account(&scene, &sent)
}

/// `small=1` as a member of an object.
fn member(column: &str) -> String {
    column.split_once('=').map_or(String::new(), |(name, value)| format!("\"{name}\":{value}"))
}

/// No client library sends such names, and few read them.
#[test]
fn a_header_whose_name_is_no_text_is_kept() -> Result<()> {
    let scene = Scene::new("poison_names", 1, STRAIGHT)?;
    let headers: [RawHeader<'_>; 5] = [
        (b"\xff\xfe", Some(b"1")),
        (b"trace", Some(b"\x80\0")),
        (b"\xff\xfe", None),
        (b"\xc3", Some(b"")),
        (b"trace", Some(b"2")),
    ];
    let bad = scene.topic.append_raw(broker()?, 0, b"{\"id\":0", &headers)?;
    let good = scene.topic.append_raw(broker()?, 0, b"{\"id\":1}", &headers)?;
    assert_eq!((bad, good), (0, 1));
    let host = scene.start("host", &pipeline(&scene, "")?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    let sql = "SELECT \"offset\", payload, header_names, header_values FROM sluice.dead_letters";
    let dead_letters = scene.database.query(sql, &[])?;
    let [dead_letter] = &dead_letters[..] else {
        anyhow::bail!("{} dead letters", dead_letters.len())
    };
    assert_eq!(
        (dead_letter.get::<_, i64>(0), dead_letter.get::<_, &[u8]>(1)),
        (0, &b"{\"id\":0"[..])
    );
    let kept: Vec<RawHeader<'_>> = dead_letter
        .get::<_, Vec<&[u8]>>(2)
        .into_iter()
        .zip(dead_letter.get::<_, Vec<_>>(3))
        .collect();
    assert_eq!(kept, headers);
    assert_eq!(scene.database.text("SELECT line FROM written")?.as_deref(), Some("1"));
    Ok(())
}
