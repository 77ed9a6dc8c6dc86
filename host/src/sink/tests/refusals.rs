//! Ways in which Postgres can reject a write: each is tried with one bad row among 1,000 and with nothing but bad rows,
//! and what became of both stands in the manual (`host/docs/failures.md`). `UPDATE_MANUAL=1` writes it there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use page::{Line, Section};
use run::Rows;
use way::{End, Way};

mod constraints;
mod database;
mod page;
mod run;
mod server;
mod triggers;
mod types;
mod way;

/// Some wait for locks and need no processor in the meantime.
const THREADS: usize = 4;

fn groups() -> Vec<(&'static str, Vec<Way>)> {
    vec![
        ("Values that Sluice checks before it writes", types::found_by_sluice()),
        ("Texts that Sluice checks before it writes", types::texts_found_by_sluice()),
        ("Values that only Postgres can check", types::built_in()),
        ("Texts with a grammar of their own", types::with_a_grammar()),
        ("Types of extensions", types::extensions()),
        ("Constraints", constraints::constraints()),
        ("Generated columns, indexes and defaults", constraints::generated_and_indexes()),
        ("Partitions", constraints::partitions()),
        ("A trigger raises an error", triggers::raising()),
        ("A trigger fails", triggers::failing()),
        ("Row-level security", triggers::policies()),
        ("A privilege is revoked while the pipeline is running", server::privileges()),
        ("Another session holds a lock", server::locks()),
        ("The table changes while the pipeline is running", server::changes()),
        ("The state of the server", server::states()),
    ]
}

/// What became of both batches of a way.
#[derive(Debug, Default)]
struct Tried {
    one: Option<End>,
    all: Option<End>,
    failures: Vec<String>,
}

#[test]
fn every_way_to_reject_a_write_ends_as_the_manual_says() {
    let groups = groups();
    let ways: Vec<&Way> = groups.iter().flat_map(|(_, ways)| ways).collect();
    assert!(ways.len() >= 70, "{}", ways.len());
    let tried = try_all(&ways);
    let failures: Vec<&String> = tried.iter().flat_map(|it| &it.failures).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), join(&failures));
    let mut tried = tried.into_iter();
    let mut section = Section::default();
    for (title, ways) in &groups {
        let lines = ways.iter().zip(&mut tried).map(|(way, it)| Line::new(way, it.one, it.all));
        section.add(title, lines.collect());
    }
    section.compare_with_manual();
}

fn join(lines: &[&String]) -> String {
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

fn try_all(ways: &[&Way]) -> Vec<Tried> {
    let tried: Vec<Mutex<Tried>> = ways.iter().map(|_| Mutex::default()).collect();
    let mut jobs: Vec<(usize, Rows)> = Vec::new();
    for rows in [Rows::OneBad, Rows::All] {
        jobs.extend((0..ways.len()).map(|way| (way, rows)));
    }
    let (slow, quick): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|(way, _)| ways[*way].is_slow());
    let quick = Mutex::new(quick);
    let work = |(index, rows): (usize, Rows)| {
        let end = catch_unwind(AssertUnwindSafe(|| run::run(ways[index], rows)));
        let mut tried = tried[index].lock().unwrap();
        match (end, rows) {
            (Ok(end), Rows::OneBad) => tried.one = end,
            (Ok(end), Rows::All) => tried.all = end,
            (Err(panic), _) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                let text = text.unwrap_or_default();
                tried.failures.push(format!("{}, {rows:?}: {text}", ways[index].name));
            }
        }
    };
    std::thread::scope(|scope| {
        for job in slow {
            scope.spawn(move || work(job));
        }
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(job) = { quick.lock().unwrap().pop() } {
                    work(job);
                }
            });
        }
    });
    tried.into_iter().map(|it| it.into_inner().unwrap()).collect()
}
