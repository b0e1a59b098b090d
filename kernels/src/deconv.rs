//! Deconvolutions of each channel by itself, as FCN enlarges its scores.

use crate::emit::{
    AUX, BIAS, COUNT, DST, SRC, WEI, entry, load_arg, load_args, store, vector_bytes,
};
use crate::epilogue::Epilogue;
use crate::problem::{check_elems, check_planes, refuse};
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes,
};
use crate::{AlignedBuf, DeconvProblem, Extent, Footprint, KernelArgs, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Cond, Gp, M, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::mem::offset_of;
use std::ops::Range;

/// Deconvolution of each channel by itself.
///
/// With strides s, row y of the result is the sum over taps i of source rows ⌊(y + pad) / s⌋ − i: the same rows for a
/// *band* of s rows. These are written into lines of scratch memory, each element as often as the stride says; then a
/// tap of the kernel's columns is a line at a constant displacement, times weights that repeat with the stride.
/// * src, dst: planes; layouts may differ; may read less than two vectors and a stride beyond the last source row.
/// * weights: c × kh·kw, row-major.
/// * scratch: ⌈kh / sh⌉ lines per thread, twice that where the stride does not divide the kernel.
/// * task = some channels.
/// * refused: dilation, strides over [`limits::DECONV_STRIDE`], more than [`limits::UNROLLED_TAPS`] taps for a pixel.
pub struct Depthwise;

const TASKS: u32 = 16;
/// Vectors whose sums are in registers at once.
const SUMS: u32 = 8;
/// Vectors of one pattern of weights that are computed together at least.
const TOGETHER: u32 = 4;

impl TypedVariant for Depthwise {
    type Problem = DeconvProblem;
    const NAME: &'static str = "deconv.depthwise";
    const WEIGHTING: Weighting = Weighting::Dense;
    const EXAMPLE: &'static str = "deconv src=2x5x5x25 dst=2x10x10x112 k=4x4 s=2x2 p=1x1 d=1x1 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &DeconvProblem, _isa: Isa) -> Result<(), Unsupported> {
        check_planes(&problem.src)?;
        check_planes(&problem.dst)?;
        let (src, dst, window) = (&problem.src, &problem.dst, &problem.window);
        let size = |axis, input| window.transposed_output_size(axis, input).ok();
        let size = [size(0, src.h), size(1, src.w)];
        if src.c != dst.c || size != [Some(dst.h), Some(dst.w)] {
            return refuse(format!("{src:?} to {dst:?}, expected sizes of {size:?}"));
        }
        let longest = window.stride.into_iter().max();
        if window.dilation != [1, 1] || longest > Some(limits::DECONV_STRIDE) {
            return refuse(format!(
                "{window:?}, expected no dilation and strides of at most {}",
                limits::DECONV_STRIDE
            ));
        }
        let [rows, columns] = taps(problem);
        if rows.saturating_mul(columns) > limits::UNROLLED_TAPS {
            return refuse(format!(
                "{rows} × {columns} taps for a pixel, expected at most {}",
                limits::UNROLLED_TAPS
            ));
        }
        let [sh, sw] = window.stride.map(u64::from);
        let line = (u64::from(src.w) + u64::from(columns)) * sw;
        check_elems(line + u64::from(window.pad_begin[1]), "a padded line")?;
        // As many as a vector and a stride have together, at most.
        let repeated = u64::from(src.c) * sh * u64::from(rows * columns) * sw * 16;
        check_elems(repeated, "repeated weights")
    }
    fn cost(problem: &DeconvProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let [rows, columns] = taps(problem);
        let vectors = f64::from(problem.dst.w.div_ceil(isa.lanes()));
        let lines = f64::from(problem.dst.c) * f64::from(problem.dst.h);
        let of_source = f64::from(rows) / f64::from(problem.window.stride[0]);
        let each = 1.5 * f64::from(rows * columns) + 2.0 + 2.0 * of_source;
        Cost {
            cycles: lines * (vectors * each + 10.0),
            code_bytes: 4096,
        }
    }
    fn build<A: VectorAsm>(
        problem: &DeconvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let (src, dst) = (&problem.src, &problem.dst);
        let lines = Lines::new(problem, A::LANES as u32);
        let mut packed = AlignedBuf::new();
        let values = lines.pack_weights(&mut packed, problem, weights);
        let bias = weights.pack_bias(&mut packed, 0..dst.c);
        let start = packed.align(64);
        let tables = lines.write_tables::<A>(&mut packed, problem);
        let mut asm = A::new();
        Emitter {
            problem,
            lines: &lines,
            tables,
        }
        .emit(&mut asm);
        let tasks = balanced(dst.c, dst.c.div_ceil(TASKS)).map(|channels| Task {
            wei: values + u64::from(channels.start * lines.channel_bytes),
            bias: bias + u64::from(channels.start) * 4,
            aux: start,
            ..Task::of_channels(channels, src, dst)
        });
        let read = src.last_plane() + ((src.h - 1) * src.w + lines.read) as usize;
        let footprint = Footprint {
            src: Extent::from_base(read),
            dst: Extent::of(dst),
            scratch_bytes: (lines.count * lines.elems) as usize * 4,
        };
        Ok(Built::new(asm, [0], packed, tasks.collect(), footprint))
    }
}

/// Source rows and columns that an element of the result is a sum over at most.
fn taps(problem: &DeconvProblem) -> [u32; 2] {
    let window = &problem.window;
    [0, 1].map(|axis| window.kernel[axis].div_ceil(window.stride[axis]))
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Lines of source rows whose elements are repeated, and what they are multiplied by.
struct Lines {
    lanes: u32,
    taps: [u32; 2],
    /// Elements that count of a stride at the last column tap; the others are 0 in lines of their own.
    last_column: u32,
    /// Rows of a band that have the last row tap.
    last_row: u32,
    /// Vectors after which stride and vector begin together again.
    period: u32,
    /// Source elements of a period.
    sources: u32,
    /// Periods of a line.
    periods: u32,
    /// Source elements that are read from the start of a row.
    read: u32,
    /// Zeros in front of a line's first element.
    front: u32,
    /// Elements of a line.
    elems: u32,
    /// Lines.
    count: u32,
    /// Vectors of a row of the result.
    vectors: u32,
    /// Bytes of the weights of a row of the result, and of a channel.
    row_bytes: u32,
    channel_bytes: u32,
}

impl Lines {
    fn new(problem: &DeconvProblem, lanes: u32) -> Self {
        let (window, taps) = (&problem.window, taps(problem));
        let [sh, sw] = window.stride;
        let period = sw / gcd(sw, lanes);
        let sources = period * lanes / sw;
        let periods = problem.src.w.div_ceil(sources);
        let vectors = problem.dst.w.div_ceil(lanes);
        let front = (taps[1] - 1) * sw;
        let last_column = window.kernel[1] - front;
        let used = window.pad_begin[1] + front + vectors * lanes;
        let written = front + (periods * period + 1) * lanes;
        let row_bytes = taps[0] * taps[1] * period * lanes * 4;
        Self {
            lanes,
            taps,
            last_column,
            last_row: window.kernel[0] - (taps[0] - 1) * sh,
            period,
            sources,
            periods,
            read: (periods - 1) * sources + (period - 1) * lanes / sw + lanes,
            front,
            elems: used.max(written).next_multiple_of(16),
            count: taps[0] * if last_column == sw { 1 } else { 2 },
            vectors,
            row_bytes,
            channel_bytes: sh * row_bytes,
        }
    }

    /// Where the line for a row tap and a column tap begins.
    fn line(&self, row: u32, column: u32) -> u32 {
        let of_last = self.count > self.taps[0] && column + 1 == self.taps[1];
        (row + if of_last { self.taps[0] } else { 0 }) * self.elems
    }

    /// For each channel and row of a band, by taps of rows and columns: a period of vectors.
    fn pack_weights(
        &self,
        packed: &mut AlignedBuf,
        problem: &DeconvProblem,
        weights: Weights<'_>,
    ) -> u64 {
        let start = packed.align(64);
        let (window, all) = (&problem.window, weights.all());
        let ([kh, kw], [sh, sw]) = (window.kernel, window.stride);
        for (channel, row) in (0..problem.src.c).flat_map(|c| (0..sh).map(move |row| (c, row))) {
            for (i, j) in (0..self.taps[0]).flat_map(|i| (0..self.taps[1]).map(move |j| (i, j))) {
                let lane = |lane: u32| {
                    let (y, x) = (row + i * sh, (lane + window.pad_begin[1]) % sw + j * sw);
                    let inside = y < kh && x < kw;
                    let at = ((channel * kh + y) * kw + x) as usize;
                    if inside { all[at] } else { 0.0 }
                };
                packed.extend_f32((0..self.period * self.lanes).map(lane));
            }
        }
        start
    }

    fn write_tables<A: VectorAsm>(
        &self,
        packed: &mut AlignedBuf,
        problem: &DeconvProblem,
    ) -> Tables {
        let start = packed.align(64);
        let here = |packed: &mut AlignedBuf| (packed.align(64) - start) as i32;
        packed.extend(&A::first_lanes(last_lanes(problem.dst.w, self.lanes)));
        let spread = here(packed);
        let sw = problem.window.stride[1];
        for position in 0..self.period * self.lanes {
            let first = position / self.lanes * self.lanes;
            packed.extend(&(position / sw - first / sw).to_le_bytes());
        }
        let masks = here(packed);
        for vector in 0..self.period {
            let counts = |lane: u32| (vector * self.lanes + lane) % sw < self.last_column;
            let bits = (0..self.lanes).fold(0, |bits, lane| bits | u32::from(counts(lane)) << lane);
            packed.extend(&A::mask_bytes(bits));
            packed.align(64);
        }
        let zeros = here(packed);
        packed.extend_f32((0..self.read).map(|_| 0.0));
        let bands = here(packed);
        let (first, end) = self.bands(problem);
        (first..end).for_each(|band| self.write_band(packed, problem, band));
        Tables {
            spread,
            masks,
            zeros,
            bands,
        }
    }

    /// Bands that the result has rows of.
    fn bands(&self, problem: &DeconvProblem) -> (u32, u32) {
        let (pad, stride) = (problem.window.pad_begin[0], problem.window.stride[0]);
        (pad / stride, (pad + problem.dst.h).div_ceil(stride))
    }

    /// Bytes of a band's record: weights of its first row, rows with all row taps, rows without the last one, and where
    /// the source rows begin, −1 outside of the plane.
    fn record_bytes(&self) -> i32 {
        12 + 4 * self.taps[0] as i32
    }

    fn write_band(&self, packed: &mut AlignedBuf, problem: &DeconvProblem, band: u32) {
        let (pad, stride) = (problem.window.pad_begin[0], problem.window.stride[0]);
        let begin = (band * stride).max(pad) - band * stride;
        let end = ((band + 1) * stride).min(pad + problem.dst.h) - band * stride;
        let full = self.last_row.clamp(begin, end);
        for number in [begin * self.row_bytes, full - begin, end - full] {
            packed.extend(&number.to_le_bytes());
        }
        for row in 0..self.taps[0] {
            let source = band.checked_sub(row).filter(|&y| y < problem.src.h);
            let offset = source.map_or(-1, |y| (y * problem.src.w * 4) as i32);
            packed.extend(&offset.to_le_bytes());
        }
    }
}

/// Offsets into the tables, of which the mask of a row's last vector is the first.
struct Tables {
    /// For each vector of a period, which source elements its lanes are.
    spread: i32,
    /// For each vector of a period, lanes that count at the last column tap; 64 bytes each.
    masks: i32,
    /// A source row of zeros.
    zeros: i32,
    /// Records of bands.
    bands: i32,
}

/// The first line.
const LINES: Gp = Gp::R9;
/// Record of the current band.
const RECORD: Gp = Gp::R11;
/// Bands that are left.
const BANDS: Gp = Gp::Rbx;
/// Current row of the result.
const OUT: Gp = Gp::R12;
/// Weights of the current row.
const VALUES: Gp = Gp::R13;
/// Rows, or periods, that are left.
const LEFT: Gp = Gp::R14;
/// Offset into rows and lines.
const AT: Gp = Gp::R15;
/// Current source row, while no row is computed.
const FROM: Gp = VALUES;

const WEIGHT: V = V(SUMS as u8);
const START: V = V(SUMS as u8 + 1);

struct Emitter<'a> {
    problem: &'a DeconvProblem,
    lines: &'a Lines,
    tables: Tables,
}

impl Emitter<'_> {
    fn mask<A: VectorAsm>() -> M {
        A::mask(1, V(SUMS as u8 + 2))
    }

    fn epilogue(&self) -> Epilogue {
        Epilogue::new(self.problem.post, [3, 4, 5].map(|i| V(SUMS as u8 + i)))
    }

    fn emit<A: VectorAsm>(&self, asm: &mut A) {
        let (src, dst) = (&self.problem.src, &self.problem.dst);
        let (first, end) = self.lines.bands(self.problem);
        entry(asm, &[BANDS, OUT, VALUES, LEFT, AT], |asm| {
            load_arg(asm, LINES, Gp::Rdi, offset_of!(KernelArgs, scratch));
            load_args(asm);
            asm.load_mask(Self::mask::<A>(), Mem::new(AUX, 0));
            self.clear_lines(asm);
            self.epilogue().prepare(asm);
            asm.counted_loop(COUNT, |asm| {
                asm.broadcast(START, Mem::new(BIAS, 0));
                asm.mov(OUT, DST);
                asm.lea(RECORD, Mem::new(AUX, self.tables.bands));
                asm.mov_imm(BANDS, i64::from(end - first));
                asm.counted_loop(BANDS, |asm| self.band(asm));
                asm.add_imm(SRC, src.pitch as i32 * 4);
                asm.add_imm(DST, dst.pitch as i32 * 4);
                asm.add_imm(WEI, self.lines.channel_bytes as i32);
                asm.add_imm(BIAS, 4);
            });
        });
    }

    /// What is read in front of lines and behind them stays 0.
    fn clear_lines<A: VectorAsm>(&self, asm: &mut A) {
        let vectors = self.lines.count * self.lines.elems / self.lines.lanes;
        asm.zero(V(0));
        asm.mov(AT, LINES);
        asm.mov_imm(LEFT, i64::from(vectors));
        asm.counted_loop(LEFT, |asm| {
            asm.store(Mem::new(AT, 0), V(0));
            asm.add_imm(AT, vector_bytes::<A>());
        });
    }

    fn band<A: VectorAsm>(&self, asm: &mut A) {
        let [rows, _] = self.lines.taps;
        for row in 0..rows {
            self.source(asm, row);
            self.spread(asm, row);
        }
        asm.load32(VALUES, Mem::new(RECORD, 0));
        asm.add(VALUES, WEI);
        for (offset, rows) in [(4, rows), (8, rows - 1)] {
            // No row lacks a tap where the stride divides the kernel.
            if rows < self.lines.taps[0] && self.lines.last_row == self.problem.window.stride[0] {
                continue;
            }
            asm.load32(LEFT, Mem::new(RECORD, offset));
            asm.counted_loop_if_any(LEFT, |asm| self.row(asm, rows));
        }
        asm.add_imm(RECORD, self.lines.record_bytes());
    }

    /// `FROM` = the source row of a row tap.
    fn source<A: VectorAsm>(&self, asm: &mut A, row: u32) {
        let (outside, done) = (asm.new_label(), asm.new_label());
        asm.load_i32(FROM, Mem::new(RECORD, 12 + 4 * row as i32));
        asm.cmp_imm(FROM, -1);
        asm.jcc(Cond::Equal, outside);
        asm.add(FROM, SRC);
        asm.jmp(done);
        asm.bind(outside);
        asm.lea(FROM, Mem::new(AUX, self.tables.zeros));
        asm.bind(done);
    }

    /// Writes the lines of a row tap.
    fn spread<A: VectorAsm>(&self, asm: &mut A, row: u32) {
        let (lines, sw, bytes) = (
            self.lines,
            self.problem.window.stride[1],
            vector_bytes::<A>(),
        );
        let (x, lanes, zero) = (V(0), V(1), V(2));
        let (plain, last) = (lines.line(row, 0), lines.line(row, lines.taps[1] - 1));
        let at = |line: u32, element: u32| {
            Mem::indexed(LINES, AT, 1, (line + lines.front + element) as i32 * 4)
        };
        asm.mov_imm(AT, 0);
        asm.mov_imm(LEFT, i64::from(lines.periods));
        asm.counted_loop(LEFT, |asm| {
            for vector in 0..lines.period {
                let first = vector * lines.lanes;
                asm.load(
                    lanes,
                    Mem::new(AUX, self.tables.spread + vector as i32 * bytes),
                );
                asm.load(x, Mem::new(FROM, (first / sw) as i32 * 4));
                asm.permute(x, lanes, x);
                if plain != last || lines.last_column == sw {
                    asm.store(at(plain, first), x);
                }
                if lines.last_column < sw {
                    let mask = A::mask(2, V(3));
                    asm.load_mask(mask, Mem::new(AUX, self.tables.masks + 64 * vector as i32));
                    asm.vmask_zero(x, x, mask);
                    asm.store(at(last, first), x);
                }
            }
            asm.add_imm(FROM, lines.sources as i32 * 4);
            asm.add_imm(AT, lines.period as i32 * bytes);
        });
        // What was read behind the row goes.
        asm.zero(zero);
        asm.mov_imm(AT, i64::from(self.problem.src.w * sw) * 4);
        let excess = lines.periods * lines.period * lines.lanes - self.problem.src.w * sw;
        let mut written = vec![plain, last];
        written.dedup();
        for line in written {
            for first in (0..excess).step_by(lines.lanes as usize) {
                asm.store(at(line, first), zero);
            }
        }
    }

    /// A row of the result, of so many row taps.
    fn row<A: VectorAsm>(&self, asm: &mut A, rows: u32) {
        let (lines, bytes) = (self.lines, vector_bytes::<A>());
        let group = lines.period * TOGETHER.div_ceil(lines.period);
        let groups = (lines.vectors - 1) / group;
        asm.mov_imm(AT, 0);
        if groups > 0 {
            let top = asm.new_label();
            asm.bind(top);
            self.vectors(asm, rows, group, None);
            asm.add_imm(AT, group as i32 * bytes);
            asm.cmp_imm(AT, (groups * group) as i32 * bytes);
            asm.jcc(Cond::NotEqual, top);
        }
        let rest = lines.vectors - groups * group;
        self.vectors(asm, rows, rest, Some(Self::mask::<A>()));
        asm.add_imm(VALUES, lines.row_bytes as i32);
        asm.add_imm(OUT, self.problem.dst.w as i32 * 4);
    }

    /// Some vectors of a row, of which the last may be masked.
    fn vectors<A: VectorAsm>(&self, asm: &mut A, rows: u32, count: u32, mask: Option<M>) {
        for first in (0..count).step_by(SUMS as usize) {
            let some = first..(first + SUMS).min(count);
            let sum = |vector: u32| V((vector - first) as u8);
            some.clone().for_each(|vector| asm.vmov(sum(vector), START));
            self.add_taps(asm, rows, some.clone(), sum);
            let sums: Vec<V> = some.clone().map(sum).collect();
            self.epilogue().activate(asm, &sums);
            for vector in some {
                let to = Mem::indexed(OUT, AT, 1, vector as i32 * vector_bytes::<A>());
                store(asm, to, sum(vector), mask.filter(|_| vector + 1 == count));
            }
        }
    }

    fn add_taps<A: VectorAsm>(
        &self,
        asm: &mut A,
        rows: u32,
        vectors: Range<u32>,
        sum: impl Fn(u32) -> V,
    ) {
        let lines = self.lines;
        let [pad, stride] = [
            self.problem.window.pad_begin[1],
            self.problem.window.stride[1],
        ];
        let columns = lines.taps[1];
        for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
            let from = lines.line(i, j) + lines.front + pad - j * stride;
            for pattern in 0..lines.period {
                let of_pattern = |vector: &u32| vector % lines.period == pattern;
                let mut vectors = vectors.clone().filter(of_pattern).peekable();
                if vectors.peek().is_none() {
                    continue;
                }
                let weight = ((i * columns + j) * lines.period + pattern) as i32;
                asm.load(WEIGHT, Mem::new(VALUES, weight * vector_bytes::<A>()));
                for vector in vectors {
                    let element = (from + vector * lines.lanes) as i32;
                    asm.fma_mem(sum(vector), WEIGHT, Mem::indexed(LINES, AT, 1, element * 4));
                }
            }
        }
    }
}
