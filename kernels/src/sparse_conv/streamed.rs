//! Direct sparse convolution with the pattern read from memory.

use crate::emit::{
    BIAS, COUNT, SRC, TMP, WEI, WEI_START, accumulators, last_registers, load_args,
    start_from_bias, vector_bytes,
};
use crate::flat::Flat;
use crate::variant::{
    Built, Cost, KernelError, TASK_CYCLES, Task, TypedVariant, Unsupported, Weighting, Weights,
};
use crate::{AlignedBuf, ConvProblem, Footprint};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, VectorAsm};
use skimjit_models::Pattern;

/// Direct sparse convolution, pattern streamed: one output channel at a time, many vectors of its
/// plane in accumulators, a table of (source offset, weight) pairs.
///
/// Formula, layouts and tasks as [`super::baked::Baked`], with one output channel per chunk.
/// * wei: per output channel the byte offset of each non-zero's tap (`i32`) and its weight (`f32`),
///   8 bytes per non-zero. Code does not depend on the pattern.
/// * refused: operands beyond the limits.
pub struct Streamed;

/// Accumulators: all registers but the weight's and three for the store; the plane cut evenly.
fn geometry(problem: &ConvProblem, isa: Isa) -> Flat {
    let most = u32::from(isa.descriptor().vector_registers) - 4;
    let vectors = Flat::unmasked(problem, isa, 1, 1).vectors();
    let per_step = vectors.div_ceil(vectors.div_ceil(most));
    Flat::unmasked(problem, isa, per_step, problem.dst.c)
}

impl TypedVariant for Streamed {
    type Problem = ConvProblem;
    const NAME: &'static str = "sparse_conv.streamed";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "conv src=2x9x9x112 dst=2x5x5x48 k=3x3 s=2x2 p=1x1 d=1x1 g=1 density=30 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, _isa: Isa) -> Result<(), Unsupported> {
        problem.check()
    }
    fn cost(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let flat = geometry(problem, isa);
        let vectors = f64::from(flat.per_step);
        // A 512-bit unaligned load takes both load ports; half of the 256-bit ones cross a line.
        let per_vector = if isa == Isa::Avx512 { 1.6 } else { 0.95 };
        // With few vectors the latency of a multiply-add shows.
        let step = f64::from(pattern.nnz()) * (vectors * per_vector).max(5.0)
            + f64::from(problem.dst.c) * (30.0 + 3.0 * vectors);
        Cost {
            cycles: step * f64::from(flat.steps())
                + f64::from(problem.dst.c) * TASK_CYCLES
                + problem.post_cycles(isa, 6)
                + flat.staging_cycles(),
            code_bytes: 2048,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let flat = geometry(problem, A::ISA);
        let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 8);
        let table = flat.write_table::<A>(&mut packed);
        let mut tasks = Vec::new();
        for row in 0..problem.dst.c {
            let wei = packed.align(64);
            pack_row(&mut packed, problem, &flat, weights, row);
            let task = Task {
                wei,
                bias: wei,
                aux: table,
                cost: weights.pattern.row(row).len() as f32 + 4.0,
                ..Task::of_rows(problem, flat.channel_elems(), row)
            };
            flat.push_tasks::<A>(&mut tasks, task);
        }
        let mut asm = A::new();
        emit(&mut asm, &flat);
        let footprint = Footprint::new(flat.src_extent(false), flat.dst_extent());
        Ok(Built {
            staging: flat.staging(),
            ..Built::new(asm, [0], packed, tasks, footprint)
        })
    }
}

/// Row record: bias (`f32`), number of non-zeros (`u32`), then the pairs.
fn pack_row(
    packed: &mut AlignedBuf,
    problem: &ConvProblem,
    flat: &Flat,
    weights: Weights<'_>,
    row: u32,
) {
    let cols = weights.pattern.row(row);
    packed.extend_f32([weights.bias_of(row)]);
    packed.extend(&(cols.len() as u32).to_le_bytes());
    let kw = problem.window.kernel[1];
    for &col in cols {
        let (ic, tap) = (col / problem.taps(), col % problem.taps());
        let elems = ic as i32 * flat.channel_elems() as i32 + flat.tap(tap / kw, tap % kw);
        packed.extend(&(elems * 4).to_le_bytes());
        packed.extend_f32([weights.value(row, col)]);
    }
}

fn emit<A: VectorAsm>(asm: &mut A, flat: &Flat) {
    const NNZ: Gp = WEI_START;
    let accs = accumulators(1, flat.per_step);
    let spare = last_registers::<A>();
    let weight = spare[0];
    load_args(asm);
    asm.counted_loop(COUNT, |asm| {
        start_from_bias(asm, &accs);
        asm.load32(NNZ, Mem::new(BIAS, 4));
        asm.lea(WEI, Mem::new(BIAS, 8));
        asm.counted_loop_if_any(NNZ, |asm| {
            asm.load_i32(TMP, Mem::new(WEI, 0));
            asm.broadcast(weight, Mem::new(WEI, 4));
            for (t, &acc) in accs[0].iter().enumerate() {
                let at = t as i32 * vector_bytes::<A>();
                asm.fma_mem(acc, weight, Mem::indexed(SRC, TMP, 1, at));
            }
            asm.add_imm(WEI, 8);
        });
        flat.store(asm, &accs, &[0], spare);
        flat.advance(asm);
    });
    asm.ret();
}
