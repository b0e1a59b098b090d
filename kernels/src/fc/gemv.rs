//! Dense inner product of one row.

use super::{check, footprint};
use crate::emit::{AUX, BIAS, COUNT, DST, SRC, TMP, WEI, entry, load_args, vector_bytes};
use crate::epilogue::Epilogue;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
    whole_and_last,
};
use crate::{AlignedBuf, FcProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// Dense inner product of one row: `dst[o] = post(bias[o] + Σ wei[o][i]·src[i])`.
///
/// * src, dst: contiguous rows, never read or written beyond them.
/// * wei: row-major `f32`, read once; rows are zero-padded to whole blocks.
/// * task = some blocks of `BLOCK_ROWS` outputs.
pub struct Gemv;

/// Rows computed together: that many streams of weights.
const BLOCK_ROWS: u32 = 8;
/// Tasks per kernel, for the partition over threads.
const TASKS: u32 = 32;

impl TypedVariant for Gemv {
    type Problem = FcProblem;
    const NAME: &'static str = "dense_fc.gemv";
    const WEIGHTING: Weighting = Weighting::Dense;
    const EXAMPLE: &'static str = "fc in=100 out=9 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &FcProblem, _isa: Isa) -> Result<(), Unsupported> {
        check(problem)
    }
    fn cost(problem: &FcProblem, _pattern: &Pattern, _isa: Isa) -> Cost {
        // Six bytes a cycle from memory.
        let bytes = f64::from(problem.inputs) * f64::from(problem.outputs) * 4.0;
        Cost {
            cycles: bytes / 6.0,
            code_bytes: 1024,
        }
    }
    fn build<A: VectorAsm>(
        problem: &FcProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let row = problem.inputs as usize;
        let pitch = row.next_multiple_of(A::LANES);
        let blocks = problem.outputs.div_ceil(BLOCK_ROWS);
        let mut packed = AlignedBuf::with_capacity(pitch * problem.outputs as usize * 4);
        let table = packed.align(64);
        packed.extend(&A::first_lanes((row % A::LANES) as u32));
        let padded_rows = blocks * BLOCK_ROWS;
        let bias = weights.pack_bias(&mut packed, 0..padded_rows);
        let wei = packed.align(64);
        for values in weights.all().chunks_exact(row) {
            packed.extend_f32(values.iter().copied());
            packed.extend_f32((row..pitch).map(|_| 0.0));
        }
        packed.extend_f32((0..(padded_rows - problem.outputs) as usize * pitch).map(|_| 0.0));
        let mut asm = A::new();
        // The last block may have fewer rows.
        let entries = [BLOCK_ROWS, last_lanes(problem.outputs, BLOCK_ROWS)]
            .map(|rows| emit(&mut asm, problem, rows));
        let tasks = whole_and_last(blocks, TASKS, |first, count| Task {
            dst: i64::from(first * BLOCK_ROWS) * 4,
            wei: wei + u64::from(first * BLOCK_ROWS) * pitch as u64 * 4,
            bias: bias + u64::from(first * BLOCK_ROWS) * 4,
            aux: table,
            count: count.into(),
            cost: count as f32,
            ..Task::default()
        });
        Ok(Built::new(asm, entries, packed, tasks, footprint(problem)))
    }
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &FcProblem, rows: u32) -> usize {
    const X: Gp = Gp::R9;
    let pitch = (problem.inputs as usize).next_multiple_of(A::LANES) as i32 * 4;
    let accs: Vec<V> = (0..rows as u8).map(V).collect();
    let x = V(8);
    let step = |asm: &mut A| {
        for (j, &acc) in accs.iter().enumerate() {
            asm.fma_mem(acc, x, Mem::new(WEI, j as i32 * pitch));
        }
        asm.add_imm(WEI, vector_bytes::<A>());
    };
    let vectors = problem.inputs as usize / A::LANES;
    let row = |asm: &mut A| {
        accs.iter().for_each(|&acc| asm.zero(acc));
        asm.mov(X, SRC);
        if vectors > 0 {
            asm.mov_imm(TMP, vectors as i64);
            asm.counted_loop(TMP, |asm| {
                asm.load(x, Mem::new(X, 0));
                step(asm);
                asm.add_imm(X, vector_bytes::<A>());
            });
        }
        if !problem.inputs.is_multiple_of(A::LANES as u32) {
            let mask = A::mask(1, V(9));
            asm.load_mask(mask, Mem::new(AUX, 0));
            asm.load_masked(x, Mem::new(X, 0), mask);
            step(asm);
        }
        asm.add_imm(WEI, pitch * (rows as i32 - 1));
        emit_results(asm, problem, &accs);
        asm.add_imm(DST, 4 * BLOCK_ROWS as i32);
        asm.add_imm(BIAS, 4 * BLOCK_ROWS as i32);
    };
    entry(asm, &[], |asm| {
        load_args(asm);
        asm.counted_loop(COUNT, row);
    })
}

/// Sums each accumulator, adds the bias, applies post-ops, stores.
fn emit_results<A: VectorAsm>(asm: &mut A, problem: &FcProblem, accs: &[V]) {
    let (zero, tmp, slope) = (V(10), V(11), V(12));
    asm.zero(zero);
    let epilogue = Epilogue::new(problem.post, [zero, tmp, slope]);
    for (j, &acc) in accs.iter().enumerate() {
        asm.sum_lanes(acc, acc, tmp);
        asm.load_lane0(tmp, Mem::new(BIAS, 4 * j as i32));
        asm.vadd(acc, acc, tmp);
        epilogue.apply(asm, acc, None);
        asm.store_lane0(Mem::new(DST, 4 * j as i32), acc);
    }
}
