//! Every reader for a moment, on damaged seeds; and the seeds themselves, which are read well.
//!
//! `SKIMJIT_FUZZ_SECONDS` (per reader) and `SKIMJIT_FUZZ_SEED` make a run longer, or another one.

use skimjit_fuzz::{Mutator, Seeds, Target, run, targets};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A reader that takes longer for one input hangs, for all that a user can tell.
const LONGEST: Duration = Duration::from_secs(20);

fn number(name: &str, usual: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|value| value.parse().ok()).unwrap_or(usual)
}

fn hexadecimal(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads, and fails with the input if that panics or takes too long.
fn survive(target: &Target, data: &[u8]) {
    let started = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| run(target.name, data)));
    assert!(
        read.is_ok(),
        "{}: a panic; input {}",
        target.name,
        hexadecimal(data)
    );
    let time = started.elapsed();
    assert!(
        time < LONGEST,
        "{}: {time:?}; input {}",
        target.name,
        hexadecimal(data)
    );
}

#[test]
fn readers_survive_damaged_files() {
    let seeds = Seeds::new();
    let time = Duration::from_secs(number("SKIMJIT_FUZZ_SECONDS", 2));
    let seed = number("SKIMJIT_FUZZ_SEED", 1);
    for target in targets() {
        let inputs = (target.seeds)(&seeds);
        assert!(!inputs.is_empty(), "{}", target.name);
        inputs.iter().for_each(|input| survive(target, input));
        let mut mutator = Mutator::new(seed);
        let (started, mut count) = (Instant::now(), 0u64);
        while started.elapsed() < time {
            survive(target, &mutator.input(&inputs));
            count += 1;
        }
        println!("{}: {count} inputs", target.name);
    }
}

#[test]
fn every_target_has_a_program_for_cargo_fuzz() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in targets() {
        let name = target.name;
        assert!(
            folder.join(format!("targets/{name}.rs")).is_file(),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    let programs = std::fs::read_dir(folder.join("targets")).unwrap().count();
    assert_eq!(programs, targets().len());
}
