//! Sparse inner product of one row.

use super::{footprint, problem};
use crate::emit::{AUX, BIAS, COUNT, DST, SRC, TMP, WEI, load_args, relu, vector_bytes};
use crate::variant::{Built, Cost, KernelError, Task, Unsupported, Variant, Weights, balanced};
use crate::{AlignedBuf, FcProblem, Problem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, Cond, M, Mem, V, VectorAsm};
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

impl Variant for Sell {
    fn name(&self) -> &'static str {
        "sparse_fc.sell"
    }
    fn supports(&self, p: &Problem, _isa: Isa) -> Result<(), Unsupported> {
        let problem = problem(p)?;
        if problem.inputs > 1 << 16 {
            return Err(Unsupported(format!(
                "{} inputs, expected at most 65536",
                problem.inputs
            )));
        }
        Ok(())
    }
    fn cost(&self, p: &Problem, pattern: &Pattern, isa: Isa) -> Cost {
        let Problem::Fc(problem) = p else {
            unreachable!("supported")
        };
        let slices = f64::from(problem.outputs) / lanes(isa) as f64;
        // A gather costs about a cycle per lane.
        let cycles = f64::from(pattern.nnz()) * 1.25 + slices * 40.0;
        Cost {
            cycles,
            code_bytes: 512,
        }
    }
    fn build(&self, p: &Problem, weights: Weights<'_>, isa: Isa) -> Result<Built, KernelError> {
        self.supports(p, isa)?;
        let problem = problem(p)?;
        Ok(match isa {
            Isa::Avx2 => build::<Avx2Asm>(problem, weights),
            Isa::Avx512 => build::<Avx512Asm>(problem, weights),
        })
    }
}

fn lanes(isa: Isa) -> usize {
    if isa == Isa::Avx512 { 16 } else { 8 }
}

fn build<A: VectorAsm>(problem: &FcProblem, weights: Weights<'_>) -> Built {
    let lanes = A::LANES as u32;
    let slices = problem.outputs.div_ceil(lanes);
    let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 7);
    let table = packed.align(64);
    let tail = (problem.outputs - 1) % lanes + 1;
    packed.extend(&A::mask_bytes(((1u64 << tail) - 1) as u32));
    let bias = packed.align(64);
    packed.extend_f32(
        (0..(slices * lanes) as usize).map(|o| weights.bias.get(o).copied().unwrap_or(0.0)),
    );
    let starts: Vec<(u64, f32)> = (0..slices)
        .map(|slice| {
            let steps = pack_slice(&mut packed, problem, weights, slice * lanes, lanes);
            (steps.0, steps.1 as f32 + 6.0)
        })
        .collect();
    let mut asm = A::new();
    let entries = vec![
        emit(&mut asm, problem, false),
        emit(&mut asm, problem, true),
    ];
    let task = |entry: u32, first: u32, count: u32| Task {
        entry,
        src: 0,
        dst: i64::from(first * lanes) * 4,
        wei: starts[first as usize].0,
        bias: bias + u64::from(first * lanes) * 4,
        aux: table,
        count: u64::from(count),
        cost: starts[first as usize..(first + count) as usize]
            .iter()
            .map(|s| s.1)
            .sum(),
    };
    let whole = slices - 1;
    let mut tasks: Vec<Task> = balanced(whole, whole.div_ceil(TASKS))
        .map(|range| task(0, range.start, range.len() as u32))
        .collect();
    tasks.push(task(1, whole, 1));
    Built {
        code: asm.finish(),
        entries,
        packed: packed.into(),
        tasks,
        staging: None,
        footprint: footprint(problem),
    }
}

/// Packs rows `first..first + lanes`; returns the slice's offset and its number of steps.
fn pack_slice(
    packed: &mut AlignedBuf,
    problem: &FcProblem,
    weights: Weights<'_>,
    first: u32,
    lanes: u32,
) -> (u64, usize) {
    let rows: Vec<&[u32]> = (first..first + lanes)
        .map(|row| {
            if row < problem.outputs {
                weights.pattern.row(row)
            } else {
                &[]
            }
        })
        .collect();
    let steps = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let start = packed.align(64);
    packed.extend(&(steps as u64).to_le_bytes());
    packed.align(HEADER as usize);
    let mut step = Vec::with_capacity(lanes as usize * 6);
    for k in 0..steps {
        step.clear();
        for row in &rows {
            let col = row.get(k).copied().unwrap_or(0) as u16;
            step.extend_from_slice(&col.to_le_bytes());
        }
        for (row, cols) in (first as usize..).zip(&rows) {
            let weight = cols.get(k).map_or(0.0, |&col| {
                weights.values[row * problem.inputs as usize + col as usize]
            });
            step.extend_from_slice(&weight.to_ne_bytes());
        }
        packed.extend(&step);
    }
    (start, steps)
}

/// `last`: one slice whose store is masked.
fn emit<A: VectorAsm>(asm: &mut A, problem: &FcProblem, last: bool) -> usize {
    let (acc, other, idx, x, zero, tmp, slope) = (V(0), V(1), V(2), V(3), V(4), V(5), V(6));
    let mask = if A::ISA == Isa::Avx512 { M(1) } else { M(8) };
    let step_bytes = 6 * A::LANES as i32;
    asm.align(64);
    let entry = asm.offset();
    load_args(asm);
    asm.zero(zero);
    let top = asm.new_label();
    asm.bind(top);
    asm.load(acc, Mem::new(BIAS, 0));
    asm.zero(other);
    asm.load64(TMP, Mem::new(WEI, 0));
    asm.add_imm(WEI, HEADER);
    let (pair, single, done) = (asm.new_label(), asm.new_label(), asm.new_label());
    let step = |asm: &mut A, acc: V, at: i32| {
        asm.load_u16_i32(idx, Mem::new(WEI, at));
        asm.gather(x, SRC, idx, 4, mask);
        asm.fma_mem(acc, x, Mem::new(WEI, at + 2 * A::LANES as i32));
    };
    // Two accumulators; an odd last step goes to the first.
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
    asm.vadd(acc, acc, other);
    if let Some(post) = problem.relu {
        relu(asm, acc, post, zero, tmp, slope);
    }
    if last {
        asm.load_mask(mask, Mem::new(AUX, 0));
        asm.store_masked(Mem::new(DST, 0), acc, mask);
    } else {
        asm.store(Mem::new(DST, 0), acc);
        emit_next_slice(asm);
    }
    asm.dec(COUNT);
    asm.jcc(Cond::NotEqual, top);
    asm.ret();
    entry
}

/// Moves to the next slice; its header is 64-byte aligned.
fn emit_next_slice<A: VectorAsm>(asm: &mut A) {
    asm.add_imm(WEI, 63);
    asm.and_imm(WEI, -64);
    asm.add_imm(DST, vector_bytes::<A>());
    asm.add_imm(BIAS, vector_bytes::<A>());
}
