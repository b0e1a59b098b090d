//! Pooling line by line through scratch memory.

use super::{
    OUTPUT_ROWS, RECORD, ROW, check, fill, for_output_rows, for_source_rows, tasks, window,
    write_rows,
};
use crate::emit::{AUX, TMP, load_arg, load_args, store, vector_bytes};
use crate::epilogue::store_whole_or_masked;
use crate::variant::{Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights};
use crate::{AlignedBuf, Extent, Footprint, KernelArgs, PoolProblem};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use skimjit_models::ops::PoolMethod;
use std::mem::offset_of;

/// Pooling with any kernel, stride and padding, Caffe's clipping and divisor.
///
/// A line of the window's rows is combined vertically into a padded line in scratch memory, then
/// horizontally; a lane permutation picks the strided results.
/// * src, dst: planes; may read one vector beyond the last source row.
/// * scratch: one padded line per thread.
/// * task = some channels.
/// * refused: kernels wider than [`crate::limits::POOL_KERNEL`], lines longer than [`crate::limits::POOL_LINE`].
pub struct Lines;

/// Vectors combined vertically at once.
const LINE_BLOCK: usize = 6;

impl TypedVariant for Lines {
    type Problem = PoolProblem;
    const NAME: &'static str = "pool.lines";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str =
        "pool src=3x7x7x64 dst=3x3x3x16 k=3x3 s=2x2 p=0x0 d=1x1 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &PoolProblem, _isa: Isa) -> Result<(), Unsupported> {
        check(problem)
    }
    fn cost(problem: &PoolProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let line = f64::from(problem.src.w) / f64::from(isa.lanes()) + 1.0;
        let window = f64::from(problem.window.kernel[0] + problem.window.kernel[1]);
        let lines = f64::from(problem.dst.c) * f64::from(problem.dst.h);
        Cost {
            cycles: lines * (line * window + 20.0),
            code_bytes: 2048,
        }
    }
    fn build<A: VectorAsm>(
        problem: &PoolProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let line = Line::new::<A>(problem);
        let mut packed = AlignedBuf::new();
        let tables = write_tables::<A>(&mut packed, problem, &line);
        let mut asm = A::new();
        emit(&mut asm, problem, &line, &tables);
        let read = problem.src.last_plane() + problem.src.hw() as usize + A::LANES;
        let footprint = Footprint {
            src: Extent::from_base(read),
            dst: Extent::of(&problem.dst),
            scratch_bytes: line.elems as usize * 4,
        };
        Ok(Built::new(asm, [0], packed, tasks(problem), footprint))
    }
}

/// Sizes of the horizontal step.
struct Line {
    /// Outputs of one vector.
    outputs: u32,
    /// Vectors of one output row.
    blocks: u32,
    /// Elements of the padded line, one vector of slack included.
    elems: u32,
}

impl Line {
    fn new<A: VectorAsm>(problem: &PoolProblem) -> Self {
        let (stride, lanes) = (problem.window.stride[1], A::LANES as u32);
        let outputs = lanes.div_ceil(stride);
        let blocks = problem.dst.w.div_ceil(outputs);
        let reach = (blocks - 1) * outputs * stride + problem.window.kernel[1] + lanes;
        let elems = reach.max(problem.window.pad_begin[1] + problem.src.w + 2 * lanes);
        Self {
            outputs,
            blocks,
            elems: elems.next_multiple_of(lanes),
        }
    }
}

/// Offsets into the tables.
struct Tables {
    /// Lane permutation, one vector.
    permutation: i32,
    /// Store mask of all blocks but the last, then of the last; 32 bytes each.
    masks: i32,
    /// Horizontal divisors, one vector per block (average only).
    divisors: i32,
    /// Per output row: source offset (bytes), rows, vertical divisor (`f32`), whole stores allowed.
    rows: i32,
}

fn write_tables<A: VectorAsm>(
    packed: &mut AlignedBuf,
    problem: &PoolProblem,
    line: &Line,
) -> Tables {
    let sizes = &problem.window;
    let stride = sizes.stride;
    let lanes = A::LANES as u32;
    let permutation = packed.align(64) as i32;
    (0..lanes).for_each(|lane| {
        let from = if lane < line.outputs {
            lane * stride[1]
        } else {
            0
        };
        packed.extend(&from.min(lanes - 1).to_le_bytes());
    });
    let masks = packed.align(64) as i32;
    for outputs in [
        line.outputs,
        problem.dst.w - (line.blocks - 1) * line.outputs,
    ] {
        packed.extend(&A::first_lanes(outputs));
        packed.align(32);
    }
    let divisors = packed.align(64) as i32;
    for block in 0..line.blocks {
        packed.extend_f32((0..lanes).map(|lane| {
            let ow = (block * line.outputs + lane).min(problem.dst.w - 1);
            window(problem, 1, ow).2 as f32
        }));
    }
    let rows = write_rows(packed, problem, (line.blocks - 1) * line.outputs + lanes);
    Tables {
        permutation,
        masks,
        divisors,
        rows,
    }
}

/// Padded line in scratch memory.
const LINE: Gp = Gp::R9;
/// Result of the current output row.
const OUT: Gp = Gp::R12;

struct Emitter<'a> {
    problem: &'a PoolProblem,
    line: &'a Line,
    tables: &'a Tables,
    fill: V,
    tmp: V,
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &PoolProblem, line: &Line, tables: &Tables) {
    let emitter = Emitter {
        problem,
        line,
        tables,
        fill: V(15),
        tmp: V(14),
    };
    asm.push(OUTPUT_ROWS);
    asm.push(OUT);
    load_arg(asm, LINE, Gp::Rdi, offset_of!(KernelArgs, scratch));
    load_args(asm);
    asm.broadcast_imm(emitter.fill, fill(problem), TMP);
    for at in (0..line.elems as i32 * 4).step_by(4 * A::LANES) {
        asm.store(Mem::new(LINE, at), emitter.fill);
    }
    for_output_rows(asm, problem, tables.rows, OUT, |asm| {
        emitter.vertical(asm);
        emitter.horizontal(asm);
    });
    asm.pop(OUT);
    asm.pop(OUTPUT_ROWS);
    asm.ret();
}

impl Emitter<'_> {
    fn combine<A: VectorAsm>(&self, asm: &mut A, acc: V, mem: Mem) {
        match self.problem.method {
            // The second operand wins when either is NaN: as in Caffe, NaN is never the maximum.
            PoolMethod::Max => {
                asm.load(self.tmp, mem);
                asm.vmax(acc, self.tmp, acc);
            }
            _ => asm.vadd_mem(acc, acc, mem),
        }
    }

    /// Combines the window's rows into the padded line.
    fn vertical<A: VectorAsm>(&self, asm: &mut A) {
        let vectors = (self.problem.src.w as usize).div_ceil(A::LANES);
        let start = self.problem.window.pad_begin[1] as i32 * 4;
        for block in (0..vectors).step_by(LINE_BLOCK) {
            let accs: Vec<V> = (0..LINE_BLOCK.min(vectors - block) as u8).map(V).collect();
            for_source_rows(asm, self.problem, &accs, self.fill, |asm| {
                for (i, &acc) in accs.iter().enumerate() {
                    let at = (block + i) as i32 * vector_bytes::<A>();
                    self.combine(asm, acc, Mem::new(ROW, at));
                }
            });
            for (i, &acc) in accs.iter().enumerate() {
                let at = start + (block + i) as i32 * vector_bytes::<A>();
                asm.store(Mem::new(LINE, at), acc);
            }
        }
        // The last vector brought pixels of the next row along.
        asm.store(
            Mem::new(LINE, start + self.problem.src.w as i32 * 4),
            self.fill,
        );
    }

    /// Combines the window's columns and stores the strided results.
    fn horizontal<A: VectorAsm>(&self, asm: &mut A) {
        let harmless = Mem::new(RECORD, 12);
        store_whole_or_masked(asm, harmless, |asm, masked| self.blocks(asm, masked));
    }

    fn blocks<A: VectorAsm>(&self, asm: &mut A, masked: bool) {
        let (acc, permutation, divisor) = (V(0), V(1), V(2));
        let mask = A::mask(1, V(6));
        let (kw, stride) = (self.problem.window.kernel[1], self.problem.window.stride[1]);
        asm.load(permutation, Mem::new(AUX, self.tables.permutation));
        for block in 0..self.line.blocks {
            let at = |kx: u32| ((block * self.line.outputs * stride + kx) * 4) as i32;
            asm.load(acc, Mem::new(LINE, at(0)));
            (1..kw).for_each(|kx| self.combine(asm, acc, Mem::new(LINE, at(kx))));
            if stride > 1 {
                asm.permute(acc, permutation, acc);
            }
            if self.problem.method != PoolMethod::Max {
                asm.broadcast(divisor, Mem::new(RECORD, 8));
                let row = self.tables.divisors + block as i32 * vector_bytes::<A>();
                asm.vmul_mem(divisor, divisor, Mem::new(AUX, row));
                asm.vdiv(acc, acc, divisor);
            }
            let out = Mem::new(OUT, (block * self.line.outputs * 4) as i32);
            if masked {
                let last = i32::from(block + 1 == self.line.blocks);
                asm.load_mask(mask, Mem::new(AUX, self.tables.masks + 32 * last));
            }
            store(asm, out, acc, masked.then_some(mask));
        }
    }
}
