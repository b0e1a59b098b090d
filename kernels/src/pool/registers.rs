//! Pooling with the lines of a window in registers.

use super::{
    OUTPUT_ROWS, RECORD, ROW, check, fill, for_output_rows, for_source_rows, tasks, window,
    write_rows,
};
use crate::emit::{AUX, TMP, load_args, store, vector_bytes};
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, TypedVariant, Unsupported, Weighting, Weights, last_lanes,
};
use crate::{AlignedBuf, Extent, Footprint, PoolProblem};
use skimjit_jit::asm::{Avx512Asm, Gp, M, Mem, V, VectorAsm};
use skimjit_jit::{Features, Isa};
use skimjit_models::Pattern;
use skimjit_models::ops::PoolMethod;

/// Pooling, AVX-512: the rows of a window are combined in registers, columns by shifting lanes of
/// neighbouring registers, so nothing goes through memory.
///
/// * src, dst: planes; may read one vector beyond the last source row.
/// * task = some channels.
/// * refused: AVX2 (no shift across lanes), strides beyond 2, kernels or padding wider than a vector,
///   rows of more than `MOST_VECTORS` vectors.
pub struct Registers;

/// Source vectors of a row.
const MOST_VECTORS: u32 = 16;
const LANES: u32 = 16;

impl TypedVariant for Registers {
    type Problem = PoolProblem;
    const NAME: &'static str = "pool.registers";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const NEEDS: Features = Features::AVX512F;
    const EXAMPLE: &'static str =
        "pool src=3x7x7x64 dst=3x3x3x16 k=3x3 s=2x2 p=0x0 d=1x1 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &PoolProblem, _isa: Isa) -> Result<(), Unsupported> {
        check(problem)?;
        let window = &problem.window;
        let (kernel, stride, pad) = (window.kernel[1], window.stride[1], window.pad_begin[1]);
        if kernel > LANES || pad >= LANES || stride > 2 {
            return refuse(format!(
                "a kernel {kernel} wide, stride {stride}, pad {pad}, expected at most {LANES}, 2 and less than {LANES}"
            ));
        }
        let (width, most) = (problem.src.w, MOST_VECTORS * LANES);
        if width > most {
            return refuse(format!("rows of {width} elements, expected at most {most}"));
        }
        Ok(())
    }
    fn cost(problem: &PoolProblem, _pattern: &Pattern, _isa: Isa) -> Cost {
        let vectors = f64::from(problem.src.w.div_ceil(LANES));
        let [kh, kw] = problem.window.kernel.map(f64::from);
        let lines = f64::from(problem.dst.c) * f64::from(problem.dst.h);
        Cost {
            cycles: lines * (vectors * (kh + kw) * 0.7 + 6.0),
            code_bytes: 2048,
        }
    }
    fn build<A: VectorAsm>(
        problem: &PoolProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let mut packed = AlignedBuf::new();
        let tables = write_tables(&mut packed, problem);
        let mut asm = Avx512Asm::new();
        Emitter::new(problem, &tables).emit(&mut asm);
        let read = problem.src.last_plane() + (problem.src.hw() + LANES) as usize;
        let footprint = Footprint::new(Extent::from_base(read), Extent::of(&problem.dst));
        Ok(Built::new(asm, [0], packed, tasks(problem), footprint))
    }
}

/// Offsets into the tables.
struct Tables {
    /// Lane masks of a row's last source vector and last result vector, 32 bytes each.
    masks: i32,
    /// Even lanes of two vectors.
    even: i32,
    /// Horizontal divisors, one vector per result vector (average only).
    divisors: i32,
    /// Records of the output rows.
    rows: i32,
}

fn write_tables(packed: &mut AlignedBuf, problem: &PoolProblem) -> Tables {
    let masks = packed.align(64) as i32;
    for width in [problem.src.w, problem.dst.w] {
        packed.extend(&Avx512Asm::first_lanes(last_lanes(width, LANES)));
        packed.align(32);
    }
    let even = packed.align(64) as i32;
    (0..LANES).for_each(|lane| packed.extend(&(2 * lane).to_le_bytes()));
    let divisors = packed.align(64) as i32;
    let results = problem.dst.w.next_multiple_of(LANES);
    packed.extend_f32((0..results).map(|ow| {
        let ow = ow.min(problem.dst.w - 1);
        window(problem, 1, ow).2 as f32
    }));
    Tables {
        masks,
        even,
        divisors,
        rows: write_rows(packed, problem, results),
    }
}

/// Result of the current output row.
const OUT: Gp = Gp::R9;
/// Lane masks of the last source vector and the last result vector.
const SOURCE_MASK: M = M(1);
const RESULT_MASK: M = M(2);

struct Emitter<'a> {
    problem: &'a PoolProblem,
    tables: &'a Tables,
    /// Source vectors of a row.
    vectors: usize,
    fill: V,
    even: V,
    tmp: V,
}

impl<'a> Emitter<'a> {
    fn new(problem: &'a PoolProblem, tables: &'a Tables) -> Self {
        Self {
            problem,
            tables,
            vectors: problem.src.w.div_ceil(LANES) as usize,
            fill: V(31),
            even: V(30),
            tmp: V(29),
        }
    }

    fn emit(&self, asm: &mut Avx512Asm) {
        asm.push(OUTPUT_ROWS);
        load_args(asm);
        asm.broadcast_imm(self.fill, fill(self.problem), TMP);
        asm.load(self.even, Mem::new(AUX, self.tables.even));
        asm.load_mask(SOURCE_MASK, Mem::new(AUX, self.tables.masks));
        asm.load_mask(RESULT_MASK, Mem::new(AUX, self.tables.masks + 32));
        for_output_rows(asm, self.problem, self.tables.rows, OUT, |asm| {
            self.vertical(asm);
            self.horizontal(asm);
        });
        asm.pop(OUTPUT_ROWS);
        asm.ret();
    }

    /// Combines `x` into `acc`.
    fn combine(&self, asm: &mut Avx512Asm, acc: V, x: V) {
        match self.problem.method {
            // The second operand wins when either is NaN: as in Caffe, NaN is never the maximum.
            PoolMethod::Max => asm.vmax(acc, x, acc),
            _ => asm.vadd(acc, acc, x),
        }
    }

    /// Combines the window's rows: vector i of the line goes to register i.
    fn vertical(&self, asm: &mut Avx512Asm) {
        let line: Vec<V> = (0..self.vectors as u8).map(V).collect();
        for_source_rows(asm, self.problem, &line, self.fill, |asm| {
            for &acc in &line {
                asm.load(self.tmp, Mem::new(ROW, i32::from(acc.0) * 64));
                self.combine(asm, acc, self.tmp);
            }
        });
        if !self.problem.src.w.is_multiple_of(LANES) {
            // The last vector brought pixels of the next row along.
            let last = V(self.vectors as u8 - 1);
            asm.blend(last, self.fill, last, SOURCE_MASK);
        }
    }

    /// The line's vector i; beyond its ends there is nothing.
    fn vector(&self, i: i32) -> V {
        match usize::try_from(i) {
            Ok(i) if i < self.vectors => V(i as u8),
            _ => self.fill,
        }
    }

    /// Windows that start at 16 consecutive positions from vector i of the padded line on.
    fn windows(&self, asm: &mut Avx512Asm, acc: V, i: i32) {
        let sizes = &self.problem.window;
        for kx in 0..sizes.kernel[1] as i32 {
            let shift = kx - sizes.pad_begin[1] as i32;
            let (first, lanes) = (i + shift.div_euclid(16), shift.rem_euclid(16) as u8);
            let (lo, hi) = (self.vector(first), self.vector(first + 1));
            let x = match (lanes, kx) {
                (0, 0) => {
                    asm.vmov(acc, lo);
                    continue;
                }
                (0, _) => lo,
                (_, 0) => {
                    asm.align_lanes(acc, hi, lo, lanes);
                    continue;
                }
                _ => {
                    asm.align_lanes(self.tmp, hi, lo, lanes);
                    self.tmp
                }
            };
            self.combine(asm, acc, x);
        }
    }

    /// Combines the window's columns and stores the results of a row.
    fn horizontal(&self, asm: &mut Avx512Asm) {
        let [acc, odd, divisor] = [V(28), V(27), V(26)];
        let blocks = self.problem.dst.w.div_ceil(LANES) as i32;
        for block in 0..blocks {
            let mut result = acc;
            if self.problem.window.stride[1] == 1 {
                self.windows(asm, acc, block);
            } else {
                self.windows(asm, acc, 2 * block);
                self.windows(asm, odd, 2 * block + 1);
                // The lane numbers are overwritten by the result.
                asm.vmov(divisor, self.even);
                asm.permute2(divisor, acc, odd);
                result = divisor;
            }
            let bytes = block * vector_bytes::<Avx512Asm>();
            if self.problem.method != PoolMethod::Max {
                asm.broadcast(odd, Mem::new(RECORD, 8));
                asm.vmul_mem(odd, odd, Mem::new(AUX, self.tables.divisors + bytes));
                asm.vdiv(result, result, odd);
            }
            let partial = block + 1 == blocks && !self.problem.dst.w.is_multiple_of(LANES);
            let mask = partial.then_some(RESULT_MASK);
            store(asm, Mem::new(OUT, bytes), result, mask);
        }
    }
}
