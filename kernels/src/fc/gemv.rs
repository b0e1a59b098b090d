//! Dense inner product of one row.

use super::{footprint, problem};
use crate::emit::{AUX, BIAS, COUNT, DST, SRC, TMP, WEI, load_args, relu, vector_bytes};
use crate::variant::{Built, Cost, KernelError, Task, Unsupported, Variant, Weights};
use crate::{AlignedBuf, FcProblem, Problem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Avx2Asm, Avx512Asm, Cond, Gp, M, Mem, V, VectorAsm};
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

impl Variant for Gemv {
    fn name(&self) -> &'static str {
        "dense_fc.gemv"
    }
    fn supports(&self, p: &Problem, _isa: Isa) -> Result<(), Unsupported> {
        problem(p).map(|_| ())
    }
    fn cost(&self, p: &Problem, _pattern: &Pattern, _isa: Isa) -> Cost {
        let Problem::Fc(problem) = p else {
            unreachable!("supported")
        };
        // Six bytes a cycle from memory.
        let bytes = f64::from(problem.inputs) * f64::from(problem.outputs) * 4.0;
        Cost {
            cycles: bytes / 6.0,
            code_bytes: 1024,
        }
    }
    fn build(&self, p: &Problem, weights: Weights<'_>, isa: Isa) -> Result<Built, KernelError> {
        let problem = problem(p)?;
        Ok(match isa {
            Isa::Avx2 => build::<Avx2Asm>(problem, weights),
            Isa::Avx512 => build::<Avx512Asm>(problem, weights),
        })
    }
}

fn build<A: VectorAsm>(problem: &FcProblem, weights: Weights<'_>) -> Built {
    let row = problem.inputs as usize;
    let pitch = row.next_multiple_of(A::LANES);
    let blocks = problem.outputs.div_ceil(BLOCK_ROWS);
    let mut packed = AlignedBuf::with_capacity(pitch * problem.outputs as usize * 4);
    let tail = (row % A::LANES) as u32;
    let table = packed.align(64);
    packed.extend(&A::mask_bytes((1u32 << tail) - 1));
    let bias = packed.align(64);
    let padded_rows = blocks * BLOCK_ROWS;
    packed
        .extend_f32((0..padded_rows as usize).map(|o| weights.bias.get(o).copied().unwrap_or(0.0)));
    let wei = packed.align(64);
    for values in weights.values.chunks_exact(row) {
        packed.extend_f32(values.iter().copied());
        packed.extend_f32((row..pitch).map(|_| 0.0));
    }
    packed.extend_f32((0..(padded_rows - problem.outputs) as usize * pitch).map(|_| 0.0));
    let mut asm = A::new();
    let entries = vec![
        emit(&mut asm, problem, BLOCK_ROWS),
        emit(&mut asm, problem, (problem.outputs - 1) % BLOCK_ROWS + 1),
    ];
    let task = |entry: u32, first: u32, count: u32| Task {
        entry,
        src: 0,
        dst: i64::from(first * BLOCK_ROWS) * 4,
        wei: wei + u64::from(first * BLOCK_ROWS) * pitch as u64 * 4,
        bias: bias + u64::from(first * BLOCK_ROWS) * 4,
        aux: table,
        count: u64::from(count),
        cost: count as f32,
    };
    // The last block may have fewer rows.
    let whole = blocks - 1;
    let mut tasks: Vec<Task> = crate::variant::balanced(whole, whole.div_ceil(TASKS))
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

fn emit<A: VectorAsm>(asm: &mut A, problem: &FcProblem, rows: u32) -> usize {
    const X: Gp = Gp::R9;
    let pitch = (problem.inputs as usize).next_multiple_of(A::LANES) as i32 * 4;
    let accs: Vec<V> = (0..rows as u8).map(V).collect();
    let x = V(8);
    asm.align(64);
    let entry = asm.offset();
    load_args(asm);
    let top = asm.new_label();
    asm.bind(top);
    accs.iter().for_each(|&acc| asm.zero(acc));
    asm.mov(X, SRC);
    let step = |asm: &mut A| {
        for (j, &acc) in accs.iter().enumerate() {
            asm.fma_mem(acc, x, Mem::new(WEI, j as i32 * pitch));
        }
        asm.add_imm(WEI, vector_bytes::<A>());
    };
    let vectors = problem.inputs as usize / A::LANES;
    if vectors > 0 {
        asm.mov_imm(TMP, vectors as i64);
        asm.counted_loop(TMP, |asm| {
            asm.load(x, Mem::new(X, 0));
            step(asm);
            asm.add_imm(X, vector_bytes::<A>());
        });
    }
    if !problem.inputs.is_multiple_of(A::LANES as u32) {
        let mask = if A::ISA == Isa::Avx512 { M(1) } else { M(9) };
        asm.load_mask(mask, Mem::new(AUX, 0));
        asm.load_masked(x, Mem::new(X, 0), mask);
        step(asm);
    }
    asm.add_imm(WEI, pitch * (rows as i32 - 1));
    emit_results(asm, problem, &accs);
    asm.add_imm(DST, 4 * BLOCK_ROWS as i32);
    asm.add_imm(BIAS, 4 * BLOCK_ROWS as i32);
    asm.dec(COUNT);
    asm.jcc(Cond::NotEqual, top);
    asm.ret();
    entry
}

/// Sums each accumulator, adds the bias, applies post-ops, stores.
fn emit_results<A: VectorAsm>(asm: &mut A, problem: &FcProblem, accs: &[V]) {
    let (zero, tmp, slope) = (V(10), V(11), V(12));
    asm.zero(zero);
    for (j, &acc) in accs.iter().enumerate() {
        asm.sum_lanes(acc, acc, tmp);
        asm.load_lane0(tmp, Mem::new(BIAS, 4 * j as i32));
        asm.vadd(acc, acc, tmp);
        if let Some(post) = problem.relu {
            relu(asm, acc, post, zero, tmp, slope);
        }
        asm.store_lane0(Mem::new(DST, 4 * j as i32), acc);
    }
}
