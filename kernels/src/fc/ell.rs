//! Sparse inner product of one row by in-register lookups (AVX-512).

use super::{footprint, problem};
use crate::emit::{AUX, BIAS, COUNT, DST, SRC, TMP, WEI, load_arg, load_args, relu};
use crate::variant::{Built, Cost, KernelError, Task, Unsupported, Variant, Weights, balanced};
use crate::{AlignedBuf, FcProblem, Footprint, KernelArgs, Problem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx512Asm, Avx512Ext, Cond, Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
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
const STEP_BYTES: i32 = 5 * LANES as i32;
/// The same with bfloat16 weights.
const HALF_STEP_BYTES: i32 = 3 * LANES as i32;
/// Steps are unrolled.
const MOST_STEPS: u32 = 40;
const TASKS: u32 = 16;

impl Variant for Ell {
    fn name(&self) -> &'static str {
        "sparse_fc.ell"
    }
    fn supports(&self, p: &Problem, isa: Isa) -> Result<(), Unsupported> {
        let problem = problem(p)?;
        if isa != Isa::Avx512 {
            return Err(Unsupported(format!("{isa}, expected avx512")));
        }
        if problem.inputs > 1 << 16 {
            return Err(Unsupported(format!(
                "{} inputs, expected at most 65536",
                problem.inputs
            )));
        }
        Ok(())
    }
    fn cost(&self, p: &Problem, pattern: &Pattern, _isa: Isa) -> Cost {
        let Problem::Fc(problem) = p else {
            unreachable!("supported")
        };
        let groups =
            f64::from(problem.outputs.div_ceil(LANES)) * f64::from(problem.inputs.div_ceil(BLOCK));
        // A fifth of the slots is padding; streams at six bytes a cycle, or two cycles a step.
        let steps = f64::from(pattern.nnz()) / f64::from(LANES) * 1.25;
        let cycles = steps * (f64::from(STEP_BYTES) / 6.0).max(2.5) + groups * 4.0;
        Cost {
            cycles,
            code_bytes: 4096,
        }
    }
    fn build(&self, p: &Problem, weights: Weights<'_>, isa: Isa) -> Result<Built, KernelError> {
        self.supports(p, isa)?;
        let problem = problem(p)?;
        let half = weights.values.iter().all(|&weight| is_bf16(weight));
        let steps = choose_steps(problem, weights.pattern, if half { 3 } else { 5 });
        if steps > MOST_STEPS {
            let reason = format!("{steps} steps in a block, expected at most {MOST_STEPS}");
            return Err(Unsupported(reason).into());
        }
        Ok(build(problem, weights, steps, half))
    }
}

/// True for values whose lower half is zero.
fn is_bf16(value: f32) -> bool {
    value.to_bits() & 0xFFFF == 0
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

fn build(problem: &FcProblem, weights: Weights<'_>, steps: u32, half: bool) -> Built {
    let slices = problem.outputs.div_ceil(LANES);
    let mut packed = pack_tables(problem);
    let bias = packed.buf.align(64);
    packed.buf.extend_f32(
        (0..(slices * LANES) as usize).map(|o| weights.bias.get(o).copied().unwrap_or(0.0)),
    );
    let ranges: Vec<Range<u32>> = balanced(slices, slices.div_ceil(TASKS)).collect();
    let most = ranges.iter().map(Range::len).max().unwrap_or(0);
    let mut tasks = Vec::new();
    for slices_of_task in &ranges {
        let first = slices_of_task.start;
        let wei = pack_task(
            &mut packed.buf,
            problem,
            weights,
            slices_of_task.clone(),
            (steps, half),
        );
        tasks.push(Task {
            entry: u32::from(
                slices_of_task.end == slices && !problem.outputs.is_multiple_of(LANES),
            ),
            src: 0,
            dst: i64::from(first * LANES) * 4,
            wei,
            bias: bias + u64::from(first * LANES) * 4,
            aux: 0,
            count: slices_of_task.len() as u64,
            cost: slices_of_task.len() as f32,
        });
    }
    let mut asm = Avx512Asm::new();
    let entries = [false, true].map(|tail| {
        Emitter {
            problem,
            steps: steps as i32,
            half,
            packed: &packed,
            tail,
        }
        .emit(&mut asm)
    });
    Built {
        code: asm.finish(),
        entries: entries.to_vec(),
        packed: packed.buf.into(),
        tasks,
        staging: None,
        footprint: Footprint {
            scratch_bytes: most * 64,
            ..footprint(problem)
        },
    }
}

/// Masks of the last block's four vectors and of the last slice, and the constant 32.
fn pack_tables(problem: &FcProblem) -> Packed {
    let mut buf = AlignedBuf::new();
    let masks = buf.align(64) as i32;
    let rest = problem.inputs % BLOCK;
    for vector in 0..BLOCK / LANES {
        let lanes = rest.saturating_sub(vector * LANES).min(LANES);
        buf.extend(&Avx512Asm::mask_bytes(((1u64 << lanes) - 1) as u32));
    }
    let tail = (problem.outputs - 1) % LANES + 1;
    buf.extend(&Avx512Asm::mask_bytes(((1u64 << tail) - 1) as u32));
    let bit = buf.align(64) as i32;
    (0..LANES).for_each(|_| buf.extend(&32u32.to_le_bytes()));
    Packed { buf, masks, bit }
}

fn pack_task(
    buf: &mut AlignedBuf,
    problem: &FcProblem,
    weights: Weights<'_>,
    slices: Range<u32>,
    (steps, half): (u32, bool),
) -> u64 {
    let start = buf.align(64);
    let row = |row: u32| {
        if row < problem.outputs {
            weights.pattern.row(row)
        } else {
            &[]
        }
    };
    let value =
        |row: u32, col: u32| weights.values[row as usize * problem.inputs as usize + col as usize];
    let mut bytes = Vec::with_capacity(STEP_BYTES as usize);
    for block in 0..problem.inputs.div_ceil(BLOCK) {
        for slice in slices.clone() {
            let rows = (0..LANES).map(|lane| slice * LANES + lane);
            let cols: Vec<(u32, &[u32])> = rows.map(|r| (r, block_of(row(r), block))).collect();
            for step in 0..steps as usize {
                bytes.clear();
                let index = |cols: &[u32]| cols.get(step).map_or(0, |col| (col % BLOCK) as u8);
                bytes.extend(cols.iter().map(|(_, cols)| index(cols)));
                for &(row, cols) in &cols {
                    let weight = cols.get(step).map_or(0.0, |&col| value(row, col));
                    let stored = weight.to_le_bytes();
                    bytes.extend_from_slice(if half { &stored[2..] } else { &stored });
                }
                buf.extend(&bytes);
            }
        }
    }
    for slice in slices {
        pack_overflow(buf, problem, steps as usize, slice, row, value);
    }
    start
}

fn pack_overflow<'a>(
    buf: &mut AlignedBuf,
    problem: &FcProblem,
    steps: usize,
    slice: u32,
    row: impl Fn(u32) -> &'a [u32],
    value: impl Fn(u32, u32) -> f32,
) {
    let blocks = 0..problem.inputs.div_ceil(BLOCK);
    let overflow: Vec<(u32, Vec<u32>)> = (slice * LANES..(slice + 1) * LANES)
        .map(|r| {
            let cols = row(r);
            let rest = blocks
                .clone()
                .flat_map(|b| block_of(cols, b).iter().skip(steps));
            (r, rest.copied().collect())
        })
        .collect();
    let length = overflow
        .iter()
        .map(|(_, cols)| cols.len())
        .max()
        .unwrap_or(0);
    buf.extend(&(length as u64).to_le_bytes());
    for step in 0..length {
        for (_, cols) in &overflow {
            let col = cols.get(step).copied().unwrap_or(0) as u16;
            buf.extend(&col.to_le_bytes());
        }
        buf.extend_f32(
            overflow
                .iter()
                .map(|(r, cols)| cols.get(step).map_or(0.0, |&c| value(*r, c))),
        );
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
    /// Weights are bfloat16.
    half: bool,
    packed: &'a Packed,
    /// The last slice is stored masked.
    tail: bool,
}

impl Emitter<'_> {
    fn emit<A: Avx512Ext>(&self, asm: &mut A) -> usize {
        asm.align(64);
        let entry = asm.offset();
        asm.push(LEFT);
        asm.push(X);
        load_arg(asm, SUMS, Gp::Rdi, offset_of!(KernelArgs, scratch));
        load_args(asm);
        self.sums_from_bias(asm);
        if self.steps > 0 {
            self.blocks(asm);
        }
        self.finish_slices(asm);
        asm.pop(X);
        asm.pop(LEFT);
        asm.ret();
        entry
    }

    fn for_slices<A: Avx512Ext>(&self, asm: &mut A, body: impl FnOnce(&mut A)) {
        asm.mov(LEFT, COUNT);
        asm.mov(SUM, SUMS);
        asm.counted_loop(LEFT, |asm| {
            body(asm);
            asm.add_imm(SUM, 64);
        });
    }

    fn sums_from_bias<A: Avx512Ext>(&self, asm: &mut A) {
        self.for_slices(asm, |asm| {
            asm.load(V(0), Mem::new(BIAS, 0));
            asm.store(Mem::new(SUM, 0), V(0));
            asm.add_imm(BIAS, 64);
        });
    }

    fn blocks<A: Avx512Ext>(&self, asm: &mut A) {
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
    fn block<A: Avx512Ext>(&self, asm: &mut A, x: [V; 4]) {
        let (sum, other, bit) = (V(0), V(1), V(8));
        let step_bytes = if self.half {
            HALF_STEP_BYTES
        } else {
            STEP_BYTES
        };
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
                if self.half {
                    // The index is used up.
                    asm.load_u16_i32(idx, weights);
                    asm.shl_i32(idx, idx, 16);
                    asm.fma(acc, low, idx);
                } else {
                    asm.fma_mem(acc, low, weights);
                }
            }
            asm.add_imm(WEI, self.steps * step_bytes);
            asm.vadd(sum, sum, other);
            asm.store(Mem::new(SUM, 0), sum);
        });
    }

    /// Overflow, post-ops, store.
    fn finish_slices<A: Avx512Ext>(&self, asm: &mut A) {
        let (sum, idx, x, zero, tmp, slope) = (V(0), V(1), V(2), V(3), V(9), V(10));
        asm.zero(zero);
        let tail = self.tail;
        self.for_slices(asm, |asm| {
            let (next, done) = (asm.new_label(), asm.new_label());
            asm.load(sum, Mem::new(SUM, 0));
            asm.load64(TMP, Mem::new(WEI, 0));
            asm.add_imm(WEI, 8);
            asm.cmp_imm(TMP, 0);
            asm.jcc(Cond::Equal, done);
            asm.bind(next);
            asm.load_u16_i32(idx, Mem::new(WEI, 0));
            asm.gather(x, SRC, idx, 4, M(1));
            asm.fma_mem(sum, x, Mem::new(WEI, 2 * LANES as i32));
            asm.add_imm(WEI, 6 * LANES as i32);
            asm.dec(TMP);
            asm.jcc(Cond::NotEqual, next);
            asm.bind(done);
            if let Some(post) = self.problem.relu {
                relu(asm, sum, post, zero, tmp, slope);
            }
            if tail {
                let (whole, stored) = (asm.new_label(), asm.new_label());
                asm.cmp_imm(LEFT, 1);
                asm.jcc(Cond::NotEqual, whole);
                asm.load_mask(M(1), Mem::new(AUX, self.packed.masks + 8));
                asm.store_masked(Mem::new(DST, 0), sum, M(1));
                asm.jmp(stored);
                asm.bind(whole);
                asm.store(Mem::new(DST, 0), sum);
                asm.bind(stored);
            } else {
                asm.store(Mem::new(DST, 0), sum);
            }
            asm.add_imm(DST, 64);
        });
    }
}
