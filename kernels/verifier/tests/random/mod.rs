//! Convolutions, deconvolutions and inner products made up at random: every variant that can compute one is proved.

use crate::Case;
use crate::data::Random;
use crate::spec::Spec;
use crate::table::{Dims, Layout, conv, deconv};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{ConvProblem, FcProblem, Fused, Problem, Weighting, registry};
use skimjit_models::ops::{Activation, Window};
use skimjit_verifier::Scope;
use std::collections::HashMap;

const CONVOLUTIONS: u64 = 360;
const INNER_PRODUCTS: u64 = 90;
const DECONVOLUTIONS: u64 = 90;
/// Fewer proofs of a variant show little.
const LEAST_PROOFS: u32 = 20;

/// One of `choices`.
fn pick<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len())]
}

/// A number of `least ..= most`.
fn between(random: &mut Random, least: u32, most: u32) -> u32 {
    least + random.below((most - least + 1) as usize) as u32
}

fn pair(random: &mut Random, least: u32, most: u32) -> [u32; 2] {
    [0; 2].map(|_| between(random, least, most))
}

fn post(random: &mut Random) -> Option<Fused> {
    let clip = Activation::Clip { min: 0.0, max: 0.5 };
    let all = [
        None,
        Some(Fused::relu(0.0)),
        Some(Fused::relu(0.1)),
        Fused::of(clip),
        Fused::of(Activation::HardSwish),
        Fused::of(Activation::Swish { beta: 1.702 }),
    ];
    pick(random, &all)
}

/// Points, windows that keep the size, and windows with any stride, padding and dilation.
fn window(random: &mut Random) -> Window {
    match random.below(6) {
        0 => Window::square(1, 1, 0),
        1 | 2 => same_window(random),
        _ => Window {
            kernel: pair(random, 1, 5),
            stride: pair(random, 1, 4),
            pad_begin: pair(random, 0, 4),
            pad_end: pair(random, 0, 4),
            dilation: pair(random, 1, 3),
        },
    }
}

fn same_window(random: &mut Random) -> Window {
    let begin = pair(random, 0, 2);
    let end = match random.below(3) {
        0 => pair(random, 0, 2),
        _ => begin,
    };
    let dilation = pair(random, 1, 2);
    let times = |taps: [u32; 2]| [taps[0] * dilation[0], taps[1] * dilation[1]];
    Window {
        kernel: [begin[0] + end[0] + 1, begin[1] + end[1] + 1],
        stride: [1, 1],
        pad_begin: times(begin),
        pad_end: times(end),
        dilation,
    }
}

fn channels(random: &mut Random) -> (u32, u32, u32) {
    match random.below(4) {
        0 => (
            between(random, 2, 4),
            between(random, 1, 6),
            between(random, 1, 12),
        ),
        // Depthwise.
        1 => (between(random, 2, 20), 1, between(random, 1, 2)),
        _ => (1, between(random, 1, 24), between(random, 1, 70)),
    }
}

fn convolution(random: &mut Random) -> Problem {
    let window = window(random);
    let (groups, icg, ocg) = channels(random);
    let [h, w] = [0, 1].map(|axis| {
        let least = (window.extent(axis) as u32).saturating_sub(window.pads(axis) as u32);
        least.max(1) + between(random, 0, 20)
    });
    let (ic, oc) = (groups * icg, groups * ocg);
    let layouts = [0; 2].map(|_| pick(random, &Layout::ALL));
    let dims = Dims {
        ic,
        oc,
        h,
        w,
        groups,
    };
    Problem::Conv(ConvProblem {
        post: post(random),
        residual: random.below(4) == 0,
        ..conv(dims, window, layouts)
    })
}

/// None where its result is empty.
fn deconvolution(random: &mut Random) -> Option<Problem> {
    let window = Window {
        kernel: pair(random, 1, 9),
        stride: pair(random, 1, 9),
        pad_begin: pair(random, 0, 4),
        pad_end: pair(random, 0, 4),
        dilation: [1, 1],
    };
    let size = [3, 9, 9].map(|most| between(random, 1, most));
    let layouts = [0; 2].map(|_| pick(random, &Layout::ALL));
    deconv(size, window, layouts, post(random)).map(Problem::Deconv)
}

fn inner_product(random: &mut Random) -> Problem {
    let most = pick(random, &[70, 700, 3000]);
    Problem::Fc(FcProblem {
        inputs: between(random, 1, most),
        outputs: between(random, 1, 80),
        post: post(random),
    })
}

/// Densities of 2 % to 100 %, half of them below 30 %; bias and empty rows or not.
fn case(problem: Problem, random: &mut Random, seed: u64) -> Case {
    let most = pick(random, &[30, 100]);
    Case::new(Spec {
        density: between(random, 2, most),
        holes: random.below(4) == 0,
        bias: random.below(3) > 0,
        bf16: random.below(4) == 0,
        seed,
        ..Spec::new(problem)
    })
}

/// Proofs by variant and ISA.
type Counts = HashMap<(&'static str, Isa), u32>;

fn prove(case: &Case, counts: &mut Counts, failures: &mut Vec<String>) {
    for &variant in registry::VARIANTS {
        for isa in Isa::ALL {
            let Some(built) = case.build(variant, isa) else {
                continue;
            };
            match case.verify(isa, &built) {
                Ok(proof) if proof.scope == Scope::Values => {
                    *counts.entry((variant.name(), isa)).or_default() += 1
                }
                Ok(_) => {
                    failures.push(format!("{} {isa} {}: no values", variant.name(), case.spec))
                }
                Err(fault) => {
                    failures.push(format!("{} {isa} {}: {fault}", variant.name(), case.spec))
                }
            }
        }
    }
}

/// Code is decoded, not run: AVX-512 is proved on any computer.
#[test]
fn every_variant_is_proved_on_random_problems() {
    let (mut counts, mut failures) = (Counts::new(), Vec::new());
    const OTHERS: u64 = CONVOLUTIONS + INNER_PRODUCTS;
    for seed in 0..OTHERS + DECONVOLUTIONS {
        let random = &mut Random::new(seed);
        let problem = match seed {
            ..CONVOLUTIONS => Some(convolution(random)),
            CONVOLUTIONS..OTHERS => Some(inner_product(random)),
            OTHERS.. => deconvolution(random),
        };
        let case = problem.map(|problem| case(problem, random, seed));
        case.iter()
            .for_each(|case| prove(case, &mut counts, &mut failures));
    }
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
    let variants = registry::VARIANTS.iter();
    for variant in variants.filter(|variant| variant.weighting() != Weighting::Unweighted) {
        let name = variant.name();
        let has = |isa: &Isa| isa.descriptor().features.contains(variant.needs());
        for isa in Isa::ALL.into_iter().filter(has) {
            let count = counts.get(&(name, isa)).copied().unwrap_or(0);
            println!("{name} {isa}: {count} kernels");
            assert!(count >= LEAST_PROOFS, "{name} {isa}: {count} kernels");
        }
    }
}
