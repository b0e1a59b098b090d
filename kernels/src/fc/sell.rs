//! Sparse inner product of one row.

use super::{check_indexed, footprint};
use crate::emit::{AUX, BIAS, COUNT, DST, SRC, TMP, WEI, entry, load_args, store, vector_bytes};
use crate::epilogue::Epilogue;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
    whole_and_last,
};
use crate::{AlignedBuf, FcProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Cond, Mem, V, VectorAsm};
use skimjit_models::Pattern;

/// Sparse inner product of one row: `dst[o] = post(bias[o] + Σ wei[o][k]·src[col(k)])`.
///
/// Sliced ELLPACK: LANES rows form a slice, lane = row; a slice is as long as its longest row.
/// * src, dst: contiguous rows, never read or written beyond them.
/// * wei: per slice its length, then per step LANES column indices (`u16`) and LANES weights (`f32`);
///   6 bytes per slot.
/// * task = some slices.
/// * refused: more than 65 536 inputs.
pub struct Sell;

const TASKS: u32 = 32;
/// Bytes before the first step of a slice: its length.
const HEADER: i32 = 64;

impl TypedVariant for Sell {
    type Problem = FcProblem;
    const NAME: &'static str = "sparse_fc.sell";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "fc in=100 out=20 relu=0 density=20 bias=1 scale=1 seed=1";

    fn supports(problem: &FcProblem, _isa: Isa) -> Result<(), Unsupported> {
        check_indexed(problem)
    }
    fn cost(problem: &FcProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let slices = f64::from(problem.outputs) / f64::from(isa.lanes());
        // A gather costs about a cycle per lane.
        let cycles = f64::from(pattern.nnz()) * 1.25 + slices * 40.0;
        Cost {
            cycles,
            code_bytes: 512,
        }
    }
    fn build<A: VectorAsm>(
        problem: &FcProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let lanes = A::LANES as u32;
        let slices = problem.outputs.div_ceil(lanes);
        let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 7);
        let table = packed.align(64);
        packed.extend(&A::first_lanes(last_lanes(problem.outputs, lanes)));
        let bias = weights.pack_bias(&mut packed, 0..slices * lanes);
        let starts: Vec<(u64, f32)> = (0..slices)
            .map(|slice| {
                let (start, steps) = pack_slice(&mut packed, weights, slice * lanes, lanes);
                (start, steps as f32 + 6.0)
            })
            .collect();
        let mut asm = A::new();
        let entries = [false, true].map(|last| emit(&mut asm, problem, last));
        let tasks = whole_and_last(slices, TASKS, |first, count| Task {
            dst: i64::from(first * lanes) * 4,
            wei: starts[first as usize].0,
            bias: bias + u64::from(first * lanes) * 4,
            aux: table,
            count: count.into(),
            cost: starts[first as usize..(first + count) as usize]
                .iter()
                .map(|(_, cost)| cost)
                .sum(),
            ..Task::default()
        });
        Ok(Built::new(asm, entries, packed, tasks, footprint(problem)))
    }
}

/// Packs rows `first..first + lanes`; returns the slice's offset and its number of steps.
fn pack_slice(
    packed: &mut AlignedBuf,
    weights: Weights<'_>,
    first: u32,
    lanes: u32,
) -> (u64, usize) {
    let rows = first..first + lanes;
    let rows: Vec<(u32, &[u32])> = rows.map(|row| (row, weights.cols(row))).collect();
    let steps = rows.iter().map(|(_, cols)| cols.len()).max().unwrap_or(0);
    let start = packed.align(64);
    packed.extend(&(steps as u64).to_le_bytes());
    packed.align(HEADER as usize);
    let mut step = Vec::with_capacity(lanes as usize * 6);
    for k in 0..steps {
        step.clear();
        for (_, cols) in &rows {
            let col = cols.get(k).copied().unwrap_or(0) as u16;
            step.extend_from_slice(&col.to_le_bytes());
        }
        for &(row, cols) in &rows {
            let weight = cols.get(k).map_or(0.0, |&col| weights.value(row, col));
            step.extend_from_slice(&weight.to_ne_bytes());
        }
        packed.extend(&step);
    }
    (start, steps)
}

/// `last`: one slice whose store is masked.
fn emit<A: VectorAsm>(asm: &mut A, problem: &FcProblem, last: bool) -> usize {
    let (acc, other, idx, x, zero, tmp, slope) = (V(0), V(1), V(2), V(3), V(4), V(5), V(6));
    let mask = A::mask(1, V(8));
    let step_bytes = 6 * A::LANES as i32;
    let step = |asm: &mut A, acc: V, at: i32| {
        asm.load_u16_i32(idx, Mem::new(WEI, at));
        asm.gather(x, SRC, idx, 4, mask);
        asm.fma_mem(acc, x, Mem::new(WEI, at + 2 * A::LANES as i32));
    };
    // Two accumulators; an odd last step goes to the first.
    let steps = |asm: &mut A| {
        let (pair, single, done) = (asm.new_label(), asm.new_label(), asm.new_label());
        asm.bind(pair);
        asm.cmp_imm(TMP, 2);
        asm.jcc(Cond::Less, single);
        step(asm, acc, 0);
        step(asm, other, step_bytes);
        asm.add_imm(WEI, 2 * step_bytes);
        asm.add_imm(TMP, -2);
        asm.jmp(pair);
        asm.bind(single);
        asm.cmp_imm(TMP, 0);
        asm.jcc(Cond::Equal, done);
        step(asm, acc, 0);
        asm.add_imm(WEI, step_bytes);
        asm.bind(done);
    };
    let epilogue = Epilogue::new(problem.post, [zero, tmp, slope]);
    entry(asm, &[], |asm| {
        load_args(asm);
        asm.zero(zero);
        asm.counted_loop(COUNT, |asm| {
            asm.load(acc, Mem::new(BIAS, 0));
            asm.zero(other);
            asm.load64(TMP, Mem::new(WEI, 0));
            asm.add_imm(WEI, HEADER);
            steps(asm);
            asm.vadd(acc, acc, other);
            epilogue.apply(asm, acc, None);
            if last {
                asm.load_mask(mask, Mem::new(AUX, 0));
            }
            store(asm, Mem::new(DST, 0), acc, last.then_some(mask));
            if !last {
                emit_next_slice(asm);
            }
        });
    })
}

/// Moves to the next slice; its header is 64-byte aligned.
fn emit_next_slice<A: VectorAsm>(asm: &mut A) {
    asm.add_imm(WEI, 63);
    asm.and_imm(WEI, -64);
    asm.add_imm(DST, vector_bytes::<A>());
    asm.add_imm(BIAS, vector_bytes::<A>());
}
