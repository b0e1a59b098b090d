//! Mean 0 and variance 1 over channels.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, WEI, entry, load, load_args, store, vector_bytes};
use crate::planes::same_dims;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
    vector_tasks,
};
use crate::{AlignedBuf, Extent, Footprint, StandardizeProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// `dst = (src − mean) / √(variance + eps)`, mean and variance over the channels of each pixel.
///
/// The variance is the mean of squared distances from the mean, in a pass of its own: nothing cancels.
/// * src, dst: planes; layouts may differ; the gap of dst is not touched.
/// * task = some vectors of pixels.
/// * refused: an eps that is not positive.
pub struct Standardize;

const TASKS: u32 = 16;
/// Vectors of pixels side by side: sums that do not wait for each other.
const VECTORS: usize = 4;
/// Address of the constants; there are no weights.
const CONSTANTS: Gp = WEI;

impl TypedVariant for Standardize {
    type Problem = StandardizeProblem;
    const NAME: &'static str = "standardize";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "standardize src=5x9x9x96 dst=5x9x9x81 eps=0.00001 density=100 scale=1 seed=1";

    fn supports(problem: &StandardizeProblem, _isa: Isa) -> Result<(), Unsupported> {
        same_dims(&problem.src, &problem.dst)?;
        match problem.eps > 0.0 && problem.eps.is_finite() {
            true => Ok(()),
            false => refuse(format!("an eps of {}, expected more than 0", problem.eps)),
        }
    }
    fn cost(problem: &StandardizeProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = problem.dst.hw().div_ceil(isa.lanes());
        Cost {
            cycles: f64::from(vectors) * (f64::from(problem.dst.c) * 4.0 + 40.0),
            code_bytes: 1024,
        }
    }
    fn build<A: VectorAsm>(
        problem: &StandardizeProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (pixels, lanes) = (problem.dst.hw(), A::LANES as u32);
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(last_lanes(pixels, lanes)));
        let mut asm = A::new();
        let entries = [false, true].map(|last| emit(&mut asm, problem, last));
        let tasks = vector_tasks(pixels, lanes, TASKS);
        let footprint = Footprint::new(Extent::of(&problem.src), Extent::of(&problem.dst));
        Ok(Built::new(asm, entries, packed, tasks, footprint))
    }
}

/// `last`: one vector whose accesses are masked.
fn emit<A: VectorAsm>(asm: &mut A, problem: &StandardizeProblem, last: bool) -> usize {
    let mask = A::mask(1, V(A::VREGS - 1));
    entry(asm, &[], |asm| {
        load_args(asm);
        asm.lea_constants(CONSTANTS);
        if last {
            asm.load_mask(mask, Mem::new(AUX, 0));
            return asm.counted_loop(COUNT, |asm| emit_pixels(asm, problem, 1, Some(mask)));
        }
        asm.counted_loop_by(COUNT, VECTORS, |asm, count| {
            emit_pixels(asm, problem, count, None);
        });
    })
}

/// Some vectors of pixels, all channels.
fn emit_pixels<A: VectorAsm>(
    asm: &mut A,
    problem: &StandardizeProblem,
    count: usize,
    mask: Option<M>,
) {
    const TO: Gp = Gp::R10;
    // Of each vector: value, mean, sum of squares.
    let registers: Vec<[V; 3]> = (0..count as u8)
        .map(|i| [0, 1, 2].map(|r| V(3 * i + r)))
        .collect();
    let one = V(3 * VECTORS as u8);
    let at = |base, i: usize| Mem::new(base, i as i32 * vector_bytes::<A>());
    let number = |asm: &mut A, value: f32| asm.constant(CONSTANTS, value.to_bits());
    for &[_, mean, squares] in &registers {
        asm.zero(mean);
        asm.zero(squares);
    }
    let channels = |asm: &mut A, body: &dyn Fn(&mut A, usize, [V; 3])| {
        const FROM: Gp = Gp::R9;
        asm.mov(FROM, SRC);
        asm.mov(TO, DST);
        asm.mov_imm(TMP, i64::from(problem.src.c));
        asm.counted_loop(TMP, |asm| {
            for (i, &[x, ..]) in registers.iter().enumerate() {
                load(asm, x, at(FROM, i), mask);
            }
            registers
                .iter()
                .enumerate()
                .for_each(|(i, &own)| body(asm, i, own));
            asm.add_imm(FROM, problem.src.pitch as i32 * 4);
            asm.add_imm(TO, problem.dst.pitch as i32 * 4);
        });
    };
    let share = number(asm, 1.0 / problem.src.c as f32);
    channels(asm, &|asm, _, [x, mean, _]| asm.vadd(mean, mean, x));
    registers
        .iter()
        .for_each(|&[_, mean, _]| asm.vmul_mem(mean, mean, share));
    channels(asm, &|asm, _, [x, mean, squares]| {
        asm.vsub(x, x, mean);
        asm.fma(squares, x, x);
    });
    let [eps, first] = [problem.eps, 1.0].map(|value| number(asm, value));
    asm.load(one, first);
    for &[_, _, factor] in &registers {
        asm.vmul_mem(factor, factor, share);
        asm.vadd_mem(factor, factor, eps);
        asm.vsqrt(factor, factor);
        asm.vdiv(factor, one, factor);
    }
    channels(asm, &|asm, i, [x, mean, factor]| {
        asm.vsub(x, x, mean);
        asm.vmul(x, x, factor);
        store(asm, at(TO, i), x, mask);
    });
    for register in [SRC, DST] {
        asm.add_imm(register, count as i32 * vector_bytes::<A>());
    }
}
