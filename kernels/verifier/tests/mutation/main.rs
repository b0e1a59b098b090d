//! Kernels with one byte changed: each is refused, or computes the same.
//!
//! The quick test takes a sample. All changes of every byte (hours):
//! `cargo test --release -p skimjit-verifier --test mutation -- --ignored --nocapture`.

#[path = "../../../tests/suite/data.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod data;
#[path = "../../../tests/suite/function.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod function;
#[path = "../../../tests/suite/guard.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod guard;
mod native;
#[path = "../../../tests/suite/spec.rs"]
#[allow(dead_code, reason = "shared with the kernel suite")]
mod spec;

use data::{Data, Random};
use native::{Bench, Outcome, mutant};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Values, Weights, registry};
use skimjit_testing::runs;
use skimjit_verifier::{Definition, Kind, Scope};
use spec::Spec;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Small layers of every family, with the parts of kernels that differ: tails, masks, residuals,
/// activations, strides, groups, empty rows. `special`: some inputs are NaN or infinite, where the
/// proof says what becomes of them.
const LAYERS: [&str; 17] = [
    "conv src=4x6x7x64 dst=9x6x7x64 k=3x3 s=1x1 p=1x1 d=1x1 g=1 relu=0 density=40 bias=1 scale=1 seed=3",
    "conv src=5x5x5x48 dst=17x5x5x48 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0.5 res=1 density=60 bias=1 scale=1 seed=4",
    "conv src=3x9x9x128 dst=8x5x5x48 k=5x5 s=2x2 p=2x2 d=1x1 g=1 density=50 scale=1 seed=5",
    "conv src=6x6x6x64 dst=6x6x6x64 k=3x3 s=1x1 p=1x1 d=1x1 g=6 relu=0 density=100 bias=1 scale=1 seed=6",
    "fc in=40 out=19 relu=0.5 density=100 bias=1 scale=1 seed=7",
    "fc in=40 out=19 relu=0 density=20 holes=1 bias=1 bf16=1 scale=1 seed=8",
    "pool src=3x7x7x80 dst=3x3x3x16 k=3x3 s=2x2 p=0x0 d=1x1 density=100 scale=1 seed=1",
    "pool src=3x7x7x80 dst=3x3x3x16 k=3x3 s=2x2 p=0x0 d=1x1 density=100 scale=1 special=1 seed=2",
    "pool src=2x7x7x80 dst=2x7x7x80 k=3x3 s=1x1 p=1x1 d=1x1 ave=1 density=100 scale=1 seed=1",
    "lrn src=6x5x5x25 size=5 alpha=0.1 beta=0.75 k0=1 density=100 scale=1 seed=1",
    "lrn src=3x4x5x48 size=3 alpha=0.5 beta=0.5 k0=2 density=100 scale=1 seed=1",
    "channelwise src=3x5x5x25 dst=3x5x5x25 affine=1 leaky=1 density=100 scale=1 seed=1",
    "eltwise n=37 of=3 sum=1,-2,0.5 relu=0 density=100 scale=1 seed=1",
    "eltwise n=37 of=2 product=1 density=100 scale=1 seed=1",
    "eltwise n=37 of=3 max=1 density=100 scale=1 special=1 seed=1",
    "softmax src=11x3x3x9 over=Channels density=100 scale=1 seed=1",
    "softmax src=21x1x1x1 over=Channels density=100 scale=1 seed=1",
];
/// Changes of each kernel in the quick test.
const SAMPLE: usize = 400;
/// Codes that one child process runs.
const BATCH: usize = 32;
/// Results may be rounded differently.
const TOLERANCE: f32 = 1e-4;

/// A kernel, its layer, and what it computes.
struct Subject {
    name: String,
    isa: Isa,
    spec: Spec,
    data: Data,
    built: Built,
}

impl Subject {
    fn weights(&self) -> Weights<'_> {
        Weights {
            values: Values::All(&self.data.values),
            pattern: &self.data.pattern,
            bias: &self.data.bias,
            element: self.spec.element(),
        }
    }
}

/// Every variant that builds one of the layers.
fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for line in LAYERS {
        for (&variant, isa) in registry::VARIANTS
            .iter()
            .flat_map(|v| Isa::ALL.map(|isa| (v, isa)))
        {
            let spec: Spec = line.parse().unwrap();
            let data = Data::new(&spec);
            let weights = Weights {
                values: Values::All(&data.values),
                pattern: &data.pattern,
                bias: &data.bias,
                element: spec.element(),
            };
            let supported = variant.supports(&spec.problem, isa).is_ok();
            let built = supported.then(|| variant.build(&spec.problem, weights, isa));
            if let Some(Ok(built)) = built {
                subjects.push(Subject {
                    name: format!("{} {isa} {line}", variant.name()),
                    isa,
                    spec,
                    data,
                    built,
                });
            }
        }
    }
    subjects
}

/// A change: offset and the new byte.
type Change = (usize, u8);

#[derive(Default)]
struct Tally {
    mutants: usize,
    refused: BTreeMap<String, usize>,
    proved: usize,
    ran: usize,
    failures: Vec<String>,
}

/// Proves the kernel with each of the changes, and runs what is proved.
fn check(subject: &Subject, changes: impl IntoIterator<Item = Change>, tally: &Mutex<Tally>) {
    let definition = Definition::new(&subject.spec.problem, subject.weights(), &subject.built);
    let original = definition.prove(subject.isa, &subject.built);
    let scope = original
        .unwrap_or_else(|fault| panic!("{}: {fault}", subject.name))
        .scope;
    let mut bench =
        runs(subject.isa).then(|| Bench::new(&subject.spec, &subject.data, &subject.built));
    let code = &subject.built.code.bytes;
    let wanted = bench.as_mut().map(|bench| {
        let [Outcome::Ran(wanted)] = &bench.run(&subject.built, std::slice::from_ref(code))[..]
        else {
            panic!("{}: the kernel itself does not run", subject.name)
        };
        wanted.clone()
    });
    let mut found = Tally::default();
    let mut proved = Vec::new();
    let mut flush = |proved: &mut Vec<(Change, Vec<u8>)>, found: &mut Tally| {
        let (Some(bench), Some(wanted)) = (&mut bench, &wanted) else {
            return proved.clear();
        };
        let codes: Vec<Vec<u8>> = proved.iter().map(|(_, code)| code.clone()).collect();
        found.ran += codes.len();
        for (outcome, (change, _)) in bench
            .run(&subject.built, &codes)
            .iter()
            .zip(proved.drain(..))
        {
            if let Err(what) = same(outcome, wanted, scope) {
                let (offset, byte) = change;
                let failure = format!(
                    "{}: byte {offset:#x} = {byte:#04x} is proved but {what}",
                    subject.name
                );
                println!("{failure}");
                found.failures.push(failure);
            }
        }
    };
    for (offset, byte) in changes {
        let mut changed = code.clone();
        changed[offset] = byte;
        found.mutants += 1;
        match definition.prove(subject.isa, &mutant(&subject.built, &changed)) {
            Err(fault) => {
                *found
                    .refused
                    .entry(format!("{:?}", fault.kind))
                    .or_default() += 1
            }
            Ok(_) => {
                found.proved += 1;
                proved.push(((offset, byte), changed));
                if proved.len() == BATCH {
                    flush(&mut proved, &mut found);
                }
            }
        }
    }
    flush(&mut proved, &mut found);
    let mut all = tally.lock().unwrap();
    all.mutants += found.mutants;
    all.proved += found.proved;
    all.ran += found.ran;
    all.failures.extend(found.failures);
    for (kind, count) in found.refused {
        *all.refused.entry(kind).or_default() += count;
    }
}

/// The same results, up to rounding; of what is proved for its bounds only, that it ran.
fn same(outcome: &Outcome, wanted: &[f32], scope: Scope) -> Result<(), String> {
    let found = match outcome {
        Outcome::Died(status) => return Err(format!("does not run (wait status {status:#x})")),
        Outcome::Ran(_) if scope == Scope::BoundsOnly => return Ok(()),
        Outcome::Ran(found) => found,
    };
    let close = |a: f32, b: f32| {
        a.to_bits() == b.to_bits()
            || a == b
            || (a.is_nan() && b.is_nan())
            || (a - b).abs() <= TOLERANCE * b.abs().max(1.0)
    };
    let pairs = found.iter().zip(wanted).enumerate();
    match pairs
        .into_iter()
        .find(|(_, (found, wanted))| !close(**found, **wanted))
    {
        None => Ok(()),
        Some((at, (found, wanted))) => {
            Err(format!("element {at} is {found:e} instead of {wanted:e}"))
        }
    }
}

fn report(tally: &Tally) {
    println!(
        "{} mutants: refused {:?}; {} proved, {} of them ran and were compared",
        tally.mutants, tally.refused, tally.proved, tally.ran
    );
    let shown = tally.failures.iter().take(30).cloned().collect::<Vec<_>>();
    assert!(
        shown.is_empty(),
        "{} mutants:\n{}",
        tally.failures.len(),
        shown.join("\n")
    );
}

/// Half of the changes are of one bit: those leave more of an instruction as it was.
fn sample(code: &[u8], random: &mut Random) -> Vec<Change> {
    let change = |_| {
        let offset = random.below(code.len());
        let byte = match random.below(2) {
            0 => code[offset] ^ 1 << random.below(8),
            _ => random.next() as u8,
        };
        (offset, byte)
    };
    let changes = (0..SAMPLE).map(change);
    changes
        .filter(|&(offset, byte)| code[offset] != byte)
        .collect()
}

#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    let tally = Mutex::default();
    for (number, subject) in subjects().iter().enumerate() {
        let random = &mut Random::new(number as u64);
        check(subject, sample(&subject.built.code.bytes, random), &tally);
    }
    let tally = tally.into_inner().unwrap();
    report(&tally);
    assert!(
        tally.proved > 0 && tally.refused.len() == 4,
        "every kind is found"
    );
}

/// Every value of every byte; `SKIMJIT_MUTANTS=NAME` restricts it to kernels with NAME in their name.
#[test]
#[ignore = "takes hours"]
fn every_changed_byte_is_refused_or_changes_nothing() {
    let only = std::env::var("SKIMJIT_MUTANTS").unwrap_or_default();
    let mut subjects = subjects();
    subjects.retain(|subject| subject.name.contains(&only));
    let (tally, next) = (Mutex::new(Tally::default()), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let code = &subject.built.code.bytes;
                    let changes = (0..code.len()).flat_map(|offset| {
                        (0..=u8::MAX)
                            .filter(move |&byte| byte != code[offset])
                            .map(move |byte| (offset, byte))
                    });
                    check(subject, changes, &tally);
                    let tally = tally.lock().unwrap();
                    println!("{}: {} mutants so far", subject.name, tally.mutants);
                }
            });
        }
    });
    report(&tally.into_inner().unwrap());
}

/// The proof of a mutant ends, with a fault and not a panic, whatever the bytes are.
#[test]
fn random_bytes_are_no_kernel() {
    let subjects = subjects();
    let random = &mut Random::new(99);
    for subject in subjects.iter().step_by(5) {
        let definition = Definition::new(&subject.spec.problem, subject.weights(), &subject.built);
        for _ in 0..40 {
            let mut code = subject.built.code.bytes.clone();
            let start = random.below(code.len());
            for byte in &mut code[start..] {
                *byte = random.next() as u8;
            }
            if let Err(fault) = definition.prove(subject.isa, &mutant(&subject.built, &code)) {
                assert!(fault.kind != Kind::Refused || fault.offset.is_some());
            }
        }
    }
}
