//! Planes resized: ONNX's Resize along height and width.

use crate::emit::{AUX, COUNT, DST, SRC, TMP, WEI, load_arg, load_args, store, vector_bytes};
use crate::epilogue::store_whole_or_masked;
use crate::problem::{check_planes, refuse};
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, balanced,
    last_lanes,
};
use crate::{AlignedBuf, Extent, Footprint, KernelArgs, Planes, ResampleProblem, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::ops::Coordinates;
use skimjit_models::{Op, Pattern, Shape};
use std::mem::offset_of;
use std::ops::Range;

/// Resizing of planes: each pixel is a weighted sum of pixels of some rows and columns.
///
/// The rows under a row of the result are added up in a line in scratch memory, whose elements the columns then
/// pick: by permuting one vector where it has all that a vector of the result needs, else by gathering.
/// * src, dst: planes; may read less than a vector beyond the last source row.
/// * scratch: one line per thread.
/// * task = some channels, or some rows of one.
/// * refused: other axes, [`Coordinates::TfCropAndResize`], more than [`limits::RESAMPLED`] rows or columns or
///   `MOST_COLUMNS` columns for a pixel, pixels without any.
pub struct Resample;

const TASKS: u32 = 16;
const MOST_COLUMNS: usize = 256;
/// Vectors of the line that are added up at once.
const LINE_BLOCK: u32 = 4;

/// An element and its weight.
type Tap = (u32, f32);

impl TypedVariant for Resample {
    type Problem = ResampleProblem;
    const NAME: &'static str = "resample";
    const WEIGHTING: Weighting = Weighting::Unweighted;
    const EXAMPLE: &'static str = "resample src=3x5x5x48 dst=3x10x10x112 m=linear at=HalfPixel y=2 x=2 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &ResampleProblem, _isa: Isa) -> Result<(), Unsupported> {
        let (src, dst, op) = (&problem.src, &problem.dst, &problem.op);
        check_planes(src)?;
        check_planes(dst)?;
        let dims = |planes: &Planes| Shape::new([1, planes.c, planes.h, planes.w]);
        let sizes = dims(src).and_then(|src| Op::Resize(op.clone()).infer_shape(&[&src], &[]));
        if sizes != dims(dst) || op.axes.iter().any(|resized| resized.axis < 2) {
            return refuse(format!("{src:?} to {dst:?} by {:?}", op.axes));
        }
        if op.coordinates == Coordinates::TfCropAndResize {
            return refuse(format!("{:?}, expected no cropping", op.coordinates));
        }
        let longest = [src.h, src.w, dst.h, dst.w].into_iter().max();
        if longest > Some(limits::RESAMPLED) {
            return refuse(format!(
                "{src:?} to {dst:?}, expected at most {} rows and columns",
                limits::RESAMPLED
            ));
        }
        let [rows, columns] = taps(problem);
        if rows.iter().chain(&columns).any(Vec::is_empty) {
            return refuse("pixels that are sums of nothing".into());
        }
        let most = most(&columns);
        if most > MOST_COLUMNS {
            return refuse(format!("{most} columns, expected at most {MOST_COLUMNS}"));
        }
        Ok(())
    }
    fn cost(problem: &ResampleProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        let vectors = |width: u32| f64::from(width.div_ceil(isa.lanes()));
        let [rows, columns] = taps(problem);
        let line = vectors(problem.src.w) * (1.0 + 1.5 * most(&rows) as f64);
        let row = vectors(problem.dst.w) * (4.0 + 3.0 * most(&columns) as f64);
        let count = f64::from(problem.dst.c) * f64::from(problem.dst.h);
        Cost {
            cycles: count * (line + row + 15.0),
            code_bytes: 600 + 40 * most(&columns) as u64,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ResampleProblem,
        _weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let [rows, columns] = taps(problem);
        let blocks = Blocks::new(&columns, A::LANES as u32);
        let mut packed = AlignedBuf::new();
        let segments = write_rows(&mut packed, problem, &rows, blocks.stored());
        let table = packed.align(64);
        blocks.write::<A>(&mut packed);
        let emitter = Emitter {
            problem,
            record: record_bytes(&rows),
            blocks: &blocks,
        };
        let mut asm = A::new();
        emitter.emit(&mut asm);
        let tasks = tasks(problem, &segments).map(|task| Task { aux: table, ..task });
        let lanes = A::LANES as u32;
        let line = (problem.src.w.div_ceil(lanes) + 1) * lanes;
        let read = problem.src.last_plane() + problem.src.hw() as usize + A::LANES;
        let footprint = Footprint {
            src: Extent::from_base(read),
            dst: Extent::of(&problem.dst),
            scratch_bytes: line as usize * 4,
        };
        Ok(Built::new(
            asm,
            [0],
            packed,
            tasks.collect::<Vec<_>>(),
            footprint,
        ))
    }
}

/// What counts for each row and each column of the result.
fn taps(problem: &ResampleProblem) -> [Vec<Vec<Tap>>; 2] {
    let axis = |axis: usize, input: u32, output: u32| {
        let taps = |to: u32| problem.op.elements(axis, input, to as usize);
        (0..output).map(taps).collect()
    };
    let (src, dst) = (&problem.src, &problem.dst);
    [axis(2, src.h, dst.h), axis(3, src.w, dst.w)]
}

fn most(taps: &[Vec<Tap>]) -> usize {
    taps.iter().map(Vec::len).max().unwrap_or(0)
}

/// Vectors of a row of the result.
struct Blocks {
    lanes: u32,
    width: u32,
    /// Columns for each pixel.
    taps: usize,
    /// Each block's first column, and the columns and weights of its lanes, tap by tap.
    blocks: Vec<(u32, Vec<Vec<Tap>>)>,
    /// All columns that a block needs are in one vector.
    near: bool,
}

impl Blocks {
    fn new(columns: &[Vec<Tap>], lanes: u32) -> Self {
        let taps = most(columns);
        let block = |columns: &[Vec<Tap>]| {
            let mut lists: Vec<Vec<Tap>> = columns.to_vec();
            lists.iter_mut().for_each(|list| fill_up(list, taps));
            let first = lists.iter().flatten().map(|&(column, _)| column).min();
            let first = first.unwrap_or(0);
            lists.resize(lanes as usize, vec![(first, 0.0); taps]);
            (first, lists)
        };
        let blocks: Vec<_> = columns.chunks(lanes as usize).map(block).collect();
        let near = |(first, lists): &(u32, Vec<Vec<Tap>>)| {
            let mut columns = lists.iter().flatten();
            columns.all(|&(column, _)| column - first < lanes)
        };
        Self {
            lanes,
            width: columns.len() as u32,
            taps,
            near: blocks.iter().all(near),
            blocks,
        }
    }

    /// Elements that whole vectors store from a row's start.
    fn stored(&self) -> u32 {
        self.blocks.len() as u32 * self.lanes
    }

    /// Bytes of a block's record: offset of its first column, then per tap columns and weights.
    fn record_bytes(&self) -> i32 {
        64 + self.taps as i32 * self.lanes as i32 * 8
    }

    /// Mask of the last block's lanes, then the records.
    fn write<A: VectorAsm>(&self, packed: &mut AlignedBuf) {
        packed.extend(&A::first_lanes(last_lanes(self.width, self.lanes)));
        for (first, lists) in &self.blocks {
            packed.align(64);
            packed.extend(&(first * 4).to_le_bytes());
            packed.extend(&[0; 60]);
            // What is gathered is counted from the line's start.
            let start = if self.near { *first } else { 0 };
            for tap in 0..self.taps {
                for list in lists {
                    packed.extend(&(list[tap].0 - start).to_le_bytes());
                }
                packed.extend_f32(lists.iter().map(|list| list[tap].1));
            }
        }
    }
}

/// Makes a list as long as all are: an element with half its weight twice counts as before, whatever it is.
fn fill_up(taps: &mut Vec<Tap>, count: usize) {
    while taps.len() < count {
        let Some(last) = taps.last_mut() else { return };
        last.1 *= 0.5;
        let half = *last;
        taps.push(half);
    }
}

/// Bytes of a segment's header: its number of rows.
const HEADER: i32 = 16;

/// Bytes of the record of a row of the result.
fn record_bytes(rows: &[Vec<Tap>]) -> i32 {
    8 + 8 * most(rows) as i32
}

/// Rows of the result that tasks compute, and where their records are: per row the number of its source rows,
/// whether `stored` elements from its start stay in the segment, then the source rows' offsets and weights.
fn write_rows(
    packed: &mut AlignedBuf,
    problem: &ResampleProblem,
    rows: &[Vec<Tap>],
    stored: u32,
) -> Vec<(Range<u32>, u64)> {
    let (src, dst) = (&problem.src, &problem.dst);
    let parts = TASKS.div_ceil(dst.c).min(dst.h);
    let segments = balanced(dst.h, dst.h.div_ceil(parts));
    let write = |segment: Range<u32>| {
        let start = packed.align(16);
        packed.extend(&(segment.len() as u32).to_le_bytes());
        packed.extend(&[0; HEADER as usize - 4]);
        for y in segment.clone() {
            let taps = &rows[y as usize];
            let whole = y * dst.w + stored <= segment.end * dst.w;
            packed.extend(&(taps.len() as u32).to_le_bytes());
            packed.extend(&u32::from(whole).to_le_bytes());
            for index in 0..most(rows) {
                let (row, weight) = taps.get(index).copied().unwrap_or((0, 0.0));
                packed.extend(&(row * src.w * 4).to_le_bytes());
                packed.extend_f32([weight]);
            }
        }
        (segment, start)
    };
    segments.map(write).collect()
}

fn tasks(problem: &ResampleProblem, segments: &[(Range<u32>, u64)]) -> impl Iterator<Item = Task> {
    let (src, dst) = (&problem.src, &problem.dst);
    balanced(dst.c, dst.c.div_ceil(TASKS)).flat_map(move |channels| {
        let task = Task::of_channels(channels, src, dst);
        segments.iter().map(move |(rows, start)| Task {
            dst: task.dst + i64::from(rows.start * dst.w) * 4,
            wei: *start,
            cost: task.cost * rows.len() as f32,
            ..task
        })
    })
}

/// The line in scratch memory.
const LINE: Gp = Gp::R9;
/// Record of the current row.
const RECORD: Gp = Gp::R10;
/// Rows left.
const ROWS: Gp = Gp::Rbx;
/// The current row of the result.
const OUT: Gp = Gp::R12;
/// Bytes into a line or row.
const AT: Gp = Gp::R11;
/// Blocks left.
const BLOCKS: Gp = Gp::R13;
/// Source rows left.
const TAPS: Gp = Gp::R14;
/// The current source row's offset and weight; a block's record.
const TAP: Gp = Gp::R15;

struct Emitter<'a> {
    problem: &'a ResampleProblem,
    /// Bytes of a row's record.
    record: i32,
    blocks: &'a Blocks,
}

impl Emitter<'_> {
    fn emit<A: VectorAsm>(&self, asm: &mut A) {
        let saved = [ROWS, OUT, BLOCKS, TAPS, TAP];
        saved.iter().for_each(|&register| asm.push(register));
        load_arg(asm, LINE, Gp::Rdi, offset_of!(KernelArgs, scratch));
        load_args(asm);
        asm.counted_loop(COUNT, |asm| {
            asm.lea(RECORD, Mem::new(WEI, HEADER));
            asm.load32(ROWS, Mem::new(WEI, 0));
            asm.mov(OUT, DST);
            asm.counted_loop(ROWS, |asm| {
                self.add_rows(asm);
                store_whole_or_masked(asm, Mem::new(RECORD, 4), |asm, masked| {
                    self.pick_columns(asm, masked);
                });
                asm.add_imm(RECORD, self.record);
                asm.add_imm(OUT, self.problem.dst.w as i32 * 4);
            });
            asm.add_imm(SRC, self.problem.src.pitch as i32 * 4);
            asm.add_imm(DST, self.problem.dst.pitch as i32 * 4);
        });
        saved.iter().rev().for_each(|&register| asm.pop(register));
        asm.ret();
    }

    /// The line = the weighted sum of the rows in the record.
    fn add_rows<A: VectorAsm>(&self, asm: &mut A) {
        let vectors = self.problem.src.w.div_ceil(A::LANES as u32);
        asm.mov_imm(AT, 0);
        if vectors >= LINE_BLOCK {
            asm.mov_imm(BLOCKS, i64::from(vectors / LINE_BLOCK));
            asm.counted_loop(BLOCKS, |asm| {
                self.add_vectors(asm, LINE_BLOCK);
                asm.add_imm(AT, LINE_BLOCK as i32 * vector_bytes::<A>());
            });
        }
        if !vectors.is_multiple_of(LINE_BLOCK) {
            self.add_vectors(asm, vectors % LINE_BLOCK);
        }
    }

    fn add_vectors<A: VectorAsm>(&self, asm: &mut A, count: u32) {
        let sums: Vec<V> = (0..count as u8).map(V).collect();
        let weight = V(LINE_BLOCK as u8);
        let at = |base: Gp, i: usize| Mem::indexed(base, AT, 1, i as i32 * vector_bytes::<A>());
        asm.load32(TAPS, Mem::new(RECORD, 0));
        asm.lea(TAP, Mem::new(RECORD, 8));
        sums.iter().for_each(|&sum| asm.zero(sum));
        asm.counted_loop(TAPS, |asm| {
            asm.load32(TMP, Mem::new(TAP, 0));
            asm.add(TMP, SRC);
            asm.broadcast(weight, Mem::new(TAP, 4));
            for (i, &sum) in sums.iter().enumerate() {
                asm.fma_mem(sum, weight, at(TMP, i));
            }
            asm.add_imm(TAP, 8);
        });
        for (i, &sum) in sums.iter().enumerate() {
            asm.store(at(LINE, i), sum);
        }
    }

    /// A row of the result, of the line.
    fn pick_columns<A: VectorAsm>(&self, asm: &mut A, masked: bool) {
        let mask = A::mask(1, V(5));
        let count = self.blocks.blocks.len() as i64;
        asm.mov_imm(AT, 0);
        asm.lea(TAP, Mem::new(AUX, 64));
        if count > 1 {
            asm.mov_imm(BLOCKS, count - 1);
            asm.counted_loop(BLOCKS, |asm| {
                self.block(asm);
                asm.store(Mem::indexed(OUT, AT, 1, 0), V(0));
                asm.add_imm(AT, vector_bytes::<A>());
                asm.add_imm(TAP, self.blocks.record_bytes());
            });
        }
        self.block(asm);
        if masked {
            asm.load_mask(mask, Mem::new(AUX, 0));
        }
        let masked = masked.then_some(mask);
        store(asm, Mem::indexed(OUT, AT, 1, 0), V(0), masked);
    }

    /// Register 0 = the block whose record is at [`TAP`].
    fn block<A: VectorAsm>(&self, asm: &mut A) {
        let (sum, line, lanes, x) = (V(0), V(1), V(2), V(3));
        let bytes = vector_bytes::<A>();
        if self.blocks.near {
            asm.load32(TMP, Mem::new(TAP, 0));
            asm.load(line, Mem::indexed(LINE, TMP, 1, 0));
        }
        for tap in 0..self.blocks.taps as i32 {
            let record = Mem::new(TAP, 64 + 2 * tap * bytes);
            asm.load(lanes, record);
            match self.blocks.near {
                true => asm.permute(x, lanes, line),
                false => asm.gather(x, LINE, lanes, 4, A::mask(1, V(5))),
            }
            match tap {
                0 => asm.vmul_mem(sum, x, record.plus(bytes)),
                _ => asm.fma_mem(sum, x, record.plus(bytes)),
            }
        }
    }
}
