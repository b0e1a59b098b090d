//! Sparse inner product of one row by in-register lookups (AVX-512).

use super::{check_indexed, footprint};
use crate::emit::{AUX, BIAS, COUNT, DST, SRC, TMP, WEI, entry, load_arg, load_args, store};
use crate::epilogue::Epilogue;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes,
};
use crate::{AlignedBuf, FcProblem, Footprint, KernelArgs};
use skimjit_jit::asm::{Avx512Asm, Cond, Gp, M, Mem, V, VectorAsm};
use skimjit_jit::{Features, Isa};
use skimjit_models::{ElementType, Pattern};
use std::mem::offset_of;
use std::ops::Range;

/// Sparse inner product of one row: `dst[o] = post(bias[o] + Σ wei[o][k]·src[col(k)])`.
///
/// Blocked ELLPACK: 64 inputs are held in four registers and looked up there; 16 outputs form a
/// slice, lane = output. Every (slice, block) has the same number of steps; non-zeros beyond it are
/// gathered from memory afterwards.
/// * src, dst: contiguous rows, never read or written beyond them.
/// * wei: per task, block and slice `steps` × (16 column indices `u8`, 16 weights), 5 bytes per slot, or
///   3 when every weight is a bfloat16 (then nothing is lost by storing its upper half); then per slice the overflow: its length, then 16 `u16` and 16 `f32` per step.
/// * scratch: the partial sums of the task's slices.
/// * task = some slices.
/// * refused: AVX2, more than 65 536 inputs, more steps than `MOST_STEPS`.
pub struct Ell;

/// Inputs of a block.
const BLOCK: u32 = 64;
/// Outputs of a slice.
const LANES: u32 = 16;
/// Bytes of one step: indices and weights.
fn step_bytes(format: ElementType) -> i32 {
    ((1 + format.bytes()) * LANES) as i32
}
/// Steps are unrolled.
const MOST_STEPS: u32 = 40;
const TASKS: u32 = 16;

impl TypedVariant for Ell {
    type Problem = FcProblem;
    const NAME: &'static str = "sparse_fc.ell";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const NEEDS: Features = Features::AVX512F;
    const EXAMPLE: &'static str = "fc in=128 out=20 relu=0 density=3 bias=1 scale=1 seed=1";

    fn supports(problem: &FcProblem, _isa: Isa) -> Result<(), Unsupported> {
        check_indexed(problem)
    }
    fn cost(problem: &FcProblem, pattern: &Pattern, _isa: Isa) -> Cost {
        let groups =
            f64::from(problem.outputs.div_ceil(LANES)) * f64::from(problem.inputs.div_ceil(BLOCK));
        // A fifth of the slots is padding; streams at six bytes a cycle, or two cycles a step.
        let steps = f64::from(pattern.nnz()) / f64::from(LANES) * 1.25;
        let step = f64::from(step_bytes(ElementType::F32)) / 6.0;
        Cost {
            cycles: steps * step.max(2.5) + groups * 4.0,
            code_bytes: 4096,
        }
    }
    fn build<A: VectorAsm>(
        problem: &FcProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let format = weights.element;
        let steps = choose_steps(problem, weights.pattern, 1 + u64::from(format.bytes()));
        if steps > MOST_STEPS {
            let reason = format!("{steps} steps in a block, expected at most {MOST_STEPS}");
            return Ok(refuse(reason)?);
        }
        Ok(build(problem, weights, steps, format))
    }
}

/// Non-zeros of a row in a block of inputs.
fn block_of(row: &[u32], block: u32) -> &[u32] {
    let at = |col: u32| row.partition_point(|&c| c < col);
    &row[at(block * BLOCK)..at((block + 1) * BLOCK)]
}

/// The number of steps that costs the fewest bytes, overflow included.
fn choose_steps(problem: &FcProblem, pattern: &Pattern, slot_bytes: u64) -> u32 {
    let blocks = problem.inputs.div_ceil(BLOCK);
    let mut histogram = [0u64; BLOCK as usize + 1];
    for row in 0..problem.outputs {
        for block in 0..blocks {
            histogram[block_of(pattern.row(row), block).len()] += 1;
        }
    }
    let slots = u64::from(problem.outputs.next_multiple_of(LANES)) * u64::from(blocks);
    let bytes = |steps: u64| {
        let overflow: u64 = (0u64..)
            .zip(&histogram)
            .map(|(n, &h)| h * n.saturating_sub(steps))
            .sum();
        // A gathered non-zero costs more than its six bytes.
        slots * steps * slot_bytes + overflow * 12
    };
    (0..=u64::from(BLOCK))
        .min_by_key(|&steps| bytes(steps))
        .unwrap_or(0) as u32
}

/// Positions in the packed data.
struct Packed {
    buf: AlignedBuf,
    masks: i32,
    bit: i32,
}

fn build(problem: &FcProblem, weights: Weights<'_>, steps: u32, format: ElementType) -> Built {
    let slices = problem.outputs.div_ceil(LANES);
    let mut packed = pack_tables(problem);
    let bias = weights.pack_bias(&mut packed.buf, 0..slices * LANES);
    let ranges: Vec<Range<u32>> = balanced(slices, slices.div_ceil(TASKS)).collect();
    let most = ranges.iter().map(Range::len).max().unwrap_or(0);
    let mut tasks = Vec::new();
    for slices_of_task in &ranges {
        let first = slices_of_task.start;
        let shape = (problem.inputs.div_ceil(BLOCK), steps, format);
        let partial = slices_of_task.end == slices && !problem.outputs.is_multiple_of(LANES);
        tasks.push(Task {
            entry: partial.into(),
            dst: i64::from(first * LANES) * 4,
            wei: pack_task(&mut packed.buf, weights, slices_of_task.clone(), shape),
            bias: bias + u64::from(first * LANES) * 4,
            count: slices_of_task.len() as u64,
            cost: slices_of_task.len() as f32,
            ..Task::default()
        });
    }
    let mut asm = Avx512Asm::new();
    let entries = [false, true].map(|tail| {
        Emitter {
            problem,
            steps: steps as i32,
            format,
            packed: &packed,
            tail,
        }
        .emit(&mut asm)
    });
    let footprint = Footprint {
        scratch_bytes: most * 64,
        ..footprint(problem)
    };
    Built::new(asm, entries, packed.buf, tasks, footprint)
}

/// Masks of the last block's four vectors and of the last slice, and the constant 32.
fn pack_tables(problem: &FcProblem) -> Packed {
    let mut buf = AlignedBuf::new();
    let masks = buf.align(64) as i32;
    let rest = problem.inputs % BLOCK;
    for vector in 0..BLOCK / LANES {
        let lanes = rest.saturating_sub(vector * LANES).min(LANES);
        buf.extend(&Avx512Asm::first_lanes(lanes));
    }
    buf.extend(&Avx512Asm::first_lanes(last_lanes(problem.outputs, LANES)));
    let bit = buf.align(64) as i32;
    (0..LANES).for_each(|_| buf.extend(&32u32.to_le_bytes()));
    Packed { buf, masks, bit }
}

/// Packs some slices, of a number of blocks with `steps` steps each.
fn pack_task(
    buf: &mut AlignedBuf,
    weights: Weights<'_>,
    slices: Range<u32>,
    (blocks, steps, format): (u32, u32, ElementType),
) -> u64 {
    let start = buf.align(64);
    let mut bytes = Vec::with_capacity(step_bytes(format) as usize);
    for block in 0..blocks {
        for slice in slices.clone() {
            let rows = slice * LANES..(slice + 1) * LANES;
            let cols: Vec<(u32, &[u32])> = rows
                .map(|row| (row, block_of(weights.cols(row), block)))
                .collect();
            for step in 0..steps as usize {
                bytes.clear();
                let index = |cols: &[u32]| cols.get(step).map_or(0, |col| (col % BLOCK) as u8);
                bytes.extend(cols.iter().map(|(_, cols)| index(cols)));
                for &(row, cols) in &cols {
                    let weight = cols.get(step).map_or(0.0, |&col| weights.value(row, col));
                    // A narrower format is the upper part.
                    bytes.extend_from_slice(&weight.to_le_bytes()[4 - format.bytes() as usize..]);
                }
                buf.extend(&bytes);
            }
        }
    }
    for slice in slices {
        pack_overflow(buf, weights, blocks, steps as usize, slice);
    }
    start
}

fn pack_overflow(
    buf: &mut AlignedBuf,
    weights: Weights<'_>,
    blocks: u32,
    steps: usize,
    slice: u32,
) {
    let overflow: Vec<(u32, Vec<u32>)> = (slice * LANES..(slice + 1) * LANES)
        .map(|row| {
            let cols = weights.cols(row);
            let rest = (0..blocks).flat_map(|block| block_of(cols, block).iter().skip(steps));
            (row, rest.copied().collect())
        })
        .collect();
    let lengths = overflow.iter().map(|(_, cols)| cols.len());
    let length = lengths.max().unwrap_or(0);
    buf.extend(&(length as u64).to_le_bytes());
    for step in 0..length {
        for (_, cols) in &overflow {
            let col = cols.get(step).copied().unwrap_or(0) as u16;
            buf.extend(&col.to_le_bytes());
        }
        let rows = overflow.iter();
        buf.extend_f32(rows.map(|(row, cols)| {
            let col = cols.get(step);
            col.map_or(0.0, |&col| weights.value(*row, col))
        }));
    }
}

/// Partial sums.
const SUMS: Gp = Gp::R9;
/// Current slice's partial sums.
const SUM: Gp = Gp::R11;
/// Slices left.
const LEFT: Gp = Gp::Rbx;
/// Current block's inputs.
const X: Gp = Gp::R12;

struct Emitter<'a> {
    problem: &'a FcProblem,
    steps: i32,
    format: ElementType,
    packed: &'a Packed,
    /// The last slice is stored masked.
    tail: bool,
}

impl Emitter<'_> {
    fn emit(&self, asm: &mut Avx512Asm) -> usize {
        entry(asm, &[LEFT, X], |asm| {
            load_arg(asm, SUMS, Gp::Rdi, offset_of!(KernelArgs, scratch));
            load_args(asm);
            self.sums_from_bias(asm);
            if self.steps > 0 {
                self.blocks(asm);
            }
            self.finish_slices(asm);
        })
    }

    fn for_slices(&self, asm: &mut Avx512Asm, body: impl FnOnce(&mut Avx512Asm)) {
        asm.mov(LEFT, COUNT);
        asm.mov(SUM, SUMS);
        asm.counted_loop(LEFT, |asm| {
            body(asm);
            asm.add_imm(SUM, 64);
        });
    }

    fn sums_from_bias(&self, asm: &mut Avx512Asm) {
        self.for_slices(asm, |asm| {
            asm.load(V(0), Mem::new(BIAS, 0));
            asm.store(Mem::new(SUM, 0), V(0));
            asm.add_imm(BIAS, 64);
        });
    }

    fn blocks(&self, asm: &mut Avx512Asm) {
        let x = [4, 5, 6, 7].map(V);
        asm.load(V(8), Mem::new(AUX, self.packed.bit));
        asm.mov(X, SRC);
        let whole = self.problem.inputs / BLOCK;
        if whole > 0 {
            asm.mov_imm(TMP, i64::from(whole));
            asm.counted_loop(TMP, |asm| {
                for (i, &x) in x.iter().enumerate() {
                    asm.load(x, Mem::new(X, 64 * i as i32));
                }
                self.block(asm, x);
                asm.add_imm(X, 4 * BLOCK as i32);
            });
        }
        if !self.problem.inputs.is_multiple_of(BLOCK) {
            for (i, &x) in x.iter().enumerate() {
                asm.load_mask(M(1), Mem::new(AUX, self.packed.masks + 2 * i as i32));
                asm.load_masked(x, Mem::new(X, 64 * i as i32), M(1));
            }
            self.block(asm, x);
        }
    }

    /// All slices of one block. Two accumulators per slice hide the latency.
    fn block(&self, asm: &mut Avx512Asm, x: [V; 4]) {
        let (sum, other, bit) = (V(0), V(1), V(8));
        let step_bytes = step_bytes(self.format);
        self.for_slices(asm, |asm| {
            asm.load(sum, Mem::new(SUM, 0));
            asm.zero(other);
            for step in 0..self.steps {
                let at = step * step_bytes;
                let turn = (step % 4) as u8;
                let (idx, low, high) = (V(9 + turn), V(13 + turn), V(17 + turn));
                asm.load_u8_i32(idx, Mem::new(WEI, at));
                asm.vmov(low, idx);
                asm.vmov(high, idx);
                asm.permute2(low, x[0], x[1]);
                asm.permute2(high, x[2], x[3]);
                asm.test_mask(M(1 + turn), idx, bit);
                asm.blend(low, low, high, M(1 + turn));
                let acc = if step % 2 == 0 { sum } else { other };
                let weights = Mem::new(WEI, at + LANES as i32);
                match self.format {
                    ElementType::F32 => asm.fma_mem(acc, low, weights),
                    ElementType::Bf16 => {
                        // The index is used up.
                        asm.load_u16_i32(idx, weights);
                        asm.shl_i32(idx, idx, 16);
                        asm.fma(acc, low, idx);
                    }
                }
            }
            asm.add_imm(WEI, self.steps * step_bytes);
            asm.vadd(sum, sum, other);
            asm.store(Mem::new(SUM, 0), sum);
        });
    }

    /// Overflow, post-ops, store.
    fn finish_slices(&self, asm: &mut Avx512Asm) {
        let (sum, idx, x, zero, tmp, slope) = (V(0), V(1), V(2), V(3), V(9), V(10));
        asm.zero(zero);
        let epilogue = Epilogue::new(self.problem.post, [zero, tmp, slope]);
        let (tail, to) = (self.tail, Mem::new(DST, 0));
        self.for_slices(asm, |asm| {
            asm.load(sum, Mem::new(SUM, 0));
            asm.load64(TMP, Mem::new(WEI, 0));
            asm.add_imm(WEI, 8);
            asm.counted_loop_if_any(TMP, |asm| {
                asm.load_u16_i32(idx, Mem::new(WEI, 0));
                asm.gather(x, SRC, idx, 4, M(1));
                asm.fma_mem(sum, x, Mem::new(WEI, 2 * LANES as i32));
                asm.add_imm(WEI, 6 * LANES as i32);
            });
            epilogue.apply(asm, sum, None);
            if tail {
                let (whole, stored) = (asm.new_label(), asm.new_label());
                asm.cmp_imm(LEFT, 1);
                asm.jcc(Cond::NotEqual, whole);
                asm.load_mask(M(1), Mem::new(AUX, self.packed.masks + 8));
                store(asm, to, sum, Some(M(1)));
                asm.jmp(stored);
                asm.bind(whole);
                store(asm, to, sum, None);
                asm.bind(stored);
            } else {
                store(asm, to, sum, None);
            }
            asm.add_imm(DST, 64);
        });
    }
}
