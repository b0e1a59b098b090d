//! Which instruction multiplies with which weight.
//!
//! The kernel is built a second time with weights that are all different, and walked: the bits that a
//! multiply-add takes as a factor tell the weight. Nothing has to be recorded while code is emitted.

use crate::extremes::Extremes;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::program::Program;
use crate::{arguments, budget, layer};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Problem, Values, Variant, Weights};
use skimjit_models::ElementType;
use std::collections::{HashMap, HashSet};

/// An instruction of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Byte offset in the code.
    pub offset: u32,
    /// The instruction.
    pub text: String,
    /// What it does for the layer, where that is known.
    pub note: String,
}

/// Bits of the first weight: about 0.5.
const FIRST: u32 = 0x3F00_0000;

/// Bits of weight number `index`: all different, and none of them a bfloat16 number, of which kernels
/// may store only half.
fn probe(index: u32) -> u32 {
    FIRST + index / 0xFFFF * 0x1_0000 + index % 0xFFFF + 1
}

/// The instructions of a kernel, multiply-adds with the weight (of the first lane) they multiply with.
pub fn annotate(
    variant: &dyn Variant,
    isa: Isa,
    problem: &Problem,
    weights: Weights<'_>,
    built: &Built,
) -> Vec<Line> {
    let program = Program::decode(&built.code, isa);
    let factors = factors(variant, isa, problem, weights, built, &program).unwrap_or_default();
    let line = |(offset, text): (u64, String)| {
        let weight = factors.get(&offset).and_then(|bits| {
            // Undoes `probe`.
            let number = bits.checked_sub(FIRST)?;
            let (block, rest) = (number >> 16, number & 0xFFFF);
            Some(block * 0xFFFF + rest.checked_sub(1)?)
        });
        Line {
            offset: offset as u32,
            text,
            note: weight
                .map(|weight| describe(problem, weight))
                .unwrap_or_default(),
        }
    };
    program.listing().map(line).collect()
}

/// Bits that each multiply-add takes as a factor; `None` where the probe's code is another.
fn factors(
    variant: &dyn Variant,
    isa: Isa,
    problem: &Problem,
    weights: Weights<'_>,
    built: &Built,
    program: &Program<'_>,
) -> Option<HashMap<u64, u32>> {
    if !problem.is_weighted_sum() {
        return None;
    }
    let cols = weights.pattern.cols();
    let mut values = vec![0.0; weights.elems()];
    for row in 0..weights.pattern.rows() {
        for &col in weights.pattern.row(row) {
            let index = row * cols + col;
            values[index as usize] = f32::from_bits(probe(index));
        }
    }
    let weights = Weights {
        values: Values::All(&values),
        element: ElementType::F32,
        ..weights
    };
    let again = variant.build(problem, weights, isa).ok()?;
    if again.code.bytes != built.code.bytes {
        return None;
    }
    Some(walk(problem, &again, program))
}

/// Walks one task of each entry.
fn walk(problem: &Problem, built: &Built, program: &Program<'_>) -> HashMap<u64, u32> {
    let footprint = &built.footprint;
    let operands = layer::operands(problem, built);
    let packed = built.packed.bytes();
    let mut memory = Memory::new(
        &operands,
        footprint.dst,
        footprint.scratch_bytes,
        [packed, built.code.constants()],
    );
    let mut extremes = Extremes::default();
    let mut seen = HashSet::new();
    let mut all = HashMap::new();
    let budget = budget(problem, built);
    for task in built.tasks.iter().filter(|task| seen.insert(task.entry)) {
        let Some(&entry) = built.entries.get(task.entry as usize) else {
            continue;
        };
        extremes.forget();
        memory.begin(0, arguments(task, operands.len()));
        let mut machine = Machine::new(program, &mut memory, &mut extremes, budget);
        machine.factors = Some(HashMap::new());
        // Code that is wrong has fewer notes; proving is another matter.
        let _ = machine.call(entry as u64);
        all.extend(machine.factors.unwrap_or_default());
    }
    all
}

/// Output channel, input channel and tap of a weight.
fn describe(problem: &Problem, weight: u32) -> String {
    match problem {
        Problem::Conv(p) => {
            let (oc, col) = (weight / p.cols(), weight % p.cols());
            let ic = oc / p.ocg() * p.icg() + col / p.taps();
            let [y, x] = [
                col % p.taps() / p.window.kernel[1],
                col % p.window.kernel[1],
            ];
            format!("oc {oc}, ic {ic}, tap {y},{x}")
        }
        Problem::Fc(p) => format!("output {}, input {}", weight / p.inputs, weight % p.inputs),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_different_and_no_bfloat16_numbers() {
        let all: HashSet<u32> = (0..200_000).map(probe).collect();
        assert_eq!(all.len(), 200_000);
        assert!(
            all.iter()
                .all(|bits| bits & 0xFFFF != 0 && f32::from_bits(*bits).is_normal())
        );
    }
}
