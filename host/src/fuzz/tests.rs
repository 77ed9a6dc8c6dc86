//! Every input that is kept passes, and so do some that are like them: what a fuzzer found stays mended, and a target
//! that does not suit the code any more is noticed without one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fastrand::Rng;

use super::{TARGETS, Target};

/// For each target; a fuzzer tries a hundred times as many a second.
const CHANGED: usize = 3_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let folder = corpus().join(target.name);
    let entries = std::fs::read_dir(&folder).expect("each target has a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} has few inputs", target.name);
    files.iter().map(|file| std::fs::read(file).expect("an input")).collect()
}

/// Some bytes of `input` replaced, left out, doubled, or taken from another one.
fn changed(random: &mut Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.choice(inputs).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=input.len());
        let end = (at + random.usize(0..8)).min(input.len());
        match random.u8(0..4) {
            0 => input.insert(at, random.u8(..)),
            1 => drop(input.drain(at..end)),
            2 => input.splice(at..at, input[at..end].to_vec()).for_each(drop),
            _ => {
                let other = random.choice(inputs).cloned().unwrap_or_default();
                let from = random.usize(..=other.len());
                input.splice(at..end, other[from..].iter().copied()).for_each(drop);
            }
        }
    }
    input.truncate(4096);
    input
}

#[test]
fn all_inputs_and_what_is_like_them_pass() {
    for target in &TARGETS {
        let inputs = inputs(target);
        for input in &inputs {
            (target.check)(input);
        }
        let mut random = Rng::with_seed(7);
        for _ in 0..CHANGED {
            (target.check)(&changed(&mut random, &inputs));
        }
        (target.check)(&[]);
    }
}

#[test]
fn each_folder_of_inputs_belongs_to_a_target() {
    let folders = std::fs::read_dir(corpus()).expect("the corpus");
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(folders, TARGETS.iter().map(|target| target.name.to_owned()).collect());
}
