//! Local response normalisation within a channel.

use super::{check, emit_power};
use crate::emit::{
    AUX, COUNT, DST, SRC, TMP, entry, load, load_arg, load_args, store, vector_bytes,
};
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes,
};
use crate::{AlignedBuf, Extent, Footprint, KernelArgs, LrnProblem, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::mem::offset_of;

/// LRN within a channel: `dst = src · (k + alpha/size² · Σ src²)^−beta`, the sum over a window of size × size pixels,
/// of which those outside the plane are 0.
///
/// The squares of the window's rows are added up in a padded line in scratch memory, then those of its columns. Each
/// sum is formed anew: no rounding error builds up.
/// * src, dst: planes of the same layout; nothing is read beside them.
/// * scratch: one padded line per thread.
/// * task = some channels.
/// * refused: beta other than 0.5, 0.75 and 1, windows over [`limits::UNROLLED_TAPS`], lines over
///   [`limits::POOL_LINE`].
pub struct WithinChannel;

const TASKS: u32 = 16;
/// Vectors of the line that are added up at once.
const LINE_BLOCK: u32 = 6;

impl TypedVariant for WithinChannel {
    type Problem = LrnProblem;
    const NAME: &'static str = "lrn.within";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str = "lrn src=3x5x21x112 size=3 within=1 alpha=0.5 beta=0.75 k0=1 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &LrnProblem, _isa: Isa) -> Result<(), Unsupported> {
        check(problem)?;
        if !problem.within_channel {
            return refuse("a window across channels, expected one within a channel".into());
        }
        let (size, width) = (problem.size, problem.planes.w);
        if size > limits::UNROLLED_TAPS || width > limits::POOL_LINE {
            return refuse(format!(
                "a window of {size} on lines of {width}, expected at most {} and {}",
                limits::UNROLLED_TAPS,
                limits::POOL_LINE
            ));
        }
        Ok(())
    }
    fn cost(problem: &LrnProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let planes = &problem.planes;
        let vectors = f64::from(planes.w.div_ceil(isa.lanes()));
        let rows = f64::from(planes.c) * f64::from(planes.h);
        Cost {
            cycles: rows * (vectors * (25.0 + 2.0 * f64::from(problem.size)) + 30.0),
            code_bytes: u64::from(planes.w.div_ceil(isa.lanes()) * (100 + 8 * problem.size)),
        }
    }
    fn build<A: VectorAsm>(
        problem: &LrnProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (planes, lanes) = (&problem.planes, A::LANES as u32);
        let mut packed = AlignedBuf::new();
        packed.extend(&A::first_lanes(last_lanes(planes.w, lanes)));
        let rows = write_rows(&mut packed, problem);
        let emitter = Emitter {
            problem,
            vectors: planes.w.div_ceil(lanes),
            rows,
            mask: A::mask(1, V(12)),
        };
        let mut asm = A::new();
        emitter.emit(&mut asm);
        let tasks = balanced(planes.c, planes.c.div_ceil(TASKS))
            .map(|channels| Task::of_channels(channels, planes, planes));
        let line = emitter.vectors * lanes + problem.size - 1;
        let footprint = Footprint {
            scratch_bytes: line as usize * 4,
            ..Footprint::new(Extent::of(planes), Extent::of(planes))
        };
        Ok(Built::new(asm, [0], packed, tasks.collect(), footprint))
    }
}

/// Bytes of the record of a row.
const ROW_RECORD: i32 = 8;

/// Appends a record per row: where the window's first row begins, in bytes, and how many rows it has.
fn write_rows(packed: &mut AlignedBuf, problem: &LrnProblem) -> i32 {
    let rows = packed.align(64) as i32;
    let (half, planes) = (problem.size / 2, &problem.planes);
    for y in 0..planes.h {
        let first = y.saturating_sub(half);
        packed.extend(&(first * planes.w * 4).to_le_bytes());
        packed.extend(&((y + half + 1).min(planes.h) - first).to_le_bytes());
    }
    rows
}

/// The padded line in scratch memory.
const LINE: Gp = Gp::R9;
/// Current row of the window.
const ROW: Gp = Gp::R10;
/// Its rows that are left.
const ROWS: Gp = Gp::R11;
/// Record of the current row of the result.
const RECORD: Gp = Gp::Rsi;
/// Rows of the result that are left.
const LEFT: Gp = Gp::Rbx;
/// Offset of the current row.
const HERE: Gp = Gp::R12;
/// alpha/size².
const ALPHAS: V = V(8);
/// k.
const K: V = V(9);

struct Emitter<'a> {
    problem: &'a LrnProblem,
    /// Vectors of a row.
    vectors: u32,
    /// Where the records of rows are.
    rows: i32,
    /// Lanes of a row's last vector.
    mask: M,
}

impl Emitter<'_> {
    fn emit<A: VectorAsm>(&self, asm: &mut A) {
        let planes = &self.problem.planes;
        entry(asm, &[LEFT, HERE], |asm| {
            load_arg(asm, LINE, Gp::Rdi, offset_of!(KernelArgs, scratch));
            load_args(asm);
            asm.load_mask(self.mask, Mem::new(AUX, 0));
            self.prepare(asm);
            asm.counted_loop(COUNT, |asm| {
                asm.lea(RECORD, Mem::new(AUX, self.rows));
                asm.mov_imm(HERE, 0);
                asm.mov_imm(LEFT, i64::from(planes.h));
                asm.counted_loop(LEFT, |asm| {
                    self.vertical(asm);
                    self.horizontal(asm);
                    asm.add_imm(RECORD, ROW_RECORD);
                    asm.add_imm(HERE, planes.w as i32 * 4);
                });
                asm.add_imm(SRC, planes.pitch as i32 * 4);
                asm.add_imm(DST, planes.pitch as i32 * 4);
            });
        });
    }

    /// Byte offset of an element of the padded line.
    fn in_line(&self, element: u32) -> Mem {
        Mem::new(LINE, element as i32 * 4)
    }

    /// Elements from a row's vector to the next.
    fn lanes<A: VectorAsm>(vector: u32) -> u32 {
        vector * A::LANES as u32
    }

    /// Constants, and the zeros that sums of columns read beside the row; lanes behind it are 0 as its last vector is
    /// masked.
    fn prepare<A: VectorAsm>(&self, asm: &mut A) {
        let &LrnProblem { size, alpha, k, .. } = self.problem;
        asm.broadcast_imm(ALPHAS, alpha / (size as f32 * size as f32), TMP);
        asm.broadcast_imm(K, k, TMP);
        let (zero, half) = (V(0), size / 2);
        asm.zero(zero);
        for start in [0, half + Self::lanes::<A>(self.vectors)] {
            (start..start + half).for_each(|element| asm.store_lane0(self.in_line(element), zero));
        }
    }

    fn masked(&self, vector: u32) -> Option<M> {
        (vector + 1 == self.vectors).then_some(self.mask)
    }

    /// Adds up the squares of the window's rows.
    fn vertical<A: VectorAsm>(&self, asm: &mut A) {
        let (x, half) = (V(6), self.problem.size / 2);
        for first in (0..self.vectors).step_by(LINE_BLOCK as usize) {
            let block = first..(first + LINE_BLOCK).min(self.vectors);
            let sum = |vector: u32| V((vector - first) as u8);
            asm.load32(ROW, Mem::new(RECORD, 0));
            asm.add(ROW, SRC);
            asm.load32(ROWS, Mem::new(RECORD, 4));
            block.clone().for_each(|vector| asm.zero(sum(vector)));
            asm.counted_loop(ROWS, |asm| {
                for vector in block.clone() {
                    let at = Mem::new(ROW, vector as i32 * vector_bytes::<A>());
                    load(asm, x, at, self.masked(vector));
                    asm.fma(sum(vector), x, x);
                }
                asm.add_imm(ROW, self.problem.planes.w as i32 * 4);
            });
            for vector in block {
                let at = self.in_line(half + Self::lanes::<A>(vector));
                asm.store(at, sum(vector));
            }
        }
    }

    /// Adds up the window's columns and stores the results of a row.
    fn horizontal<A: VectorAsm>(&self, asm: &mut A) {
        let (sum, root, x) = (V(0), V(1), V(2));
        for vector in 0..self.vectors {
            let bytes = vector as i32 * vector_bytes::<A>();
            let column = |column: u32| self.in_line(Self::lanes::<A>(vector) + column);
            asm.load(sum, column(0));
            (1..self.problem.size).for_each(|i| asm.vadd_mem(sum, sum, column(i)));
            asm.vmov(root, K);
            asm.fma(root, sum, ALPHAS);
            load(
                asm,
                x,
                Mem::indexed(SRC, HERE, 1, bytes),
                self.masked(vector),
            );
            emit_power(asm, self.problem.beta, root, sum);
            asm.vdiv(x, x, root);
            store(
                asm,
                Mem::indexed(DST, HERE, 1, bytes),
                x,
                self.masked(vector),
            );
        }
    }
}
