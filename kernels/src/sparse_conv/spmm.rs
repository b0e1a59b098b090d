//! Sparse matrix × dense matrix: 1×1 convolutions on few pixels, and inner products of a batch.

use crate::emit::{
    AUX, BIAS, COUNT, DST, RES, SRC, TMP, WEI, load_arg, load_args, store, vector_bytes,
};
use crate::epilogue::Epilogue;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, at_least_memory,
    balanced, index_of, last_lanes,
};
use crate::{AlignedBuf, ConvProblem, Extent, Footprint, KernelArgs};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Cond, Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::mem::offset_of;
use std::ops::Range;

/// 1×1 convolution as a sparse matrix (output × input channels) times a dense one (input channels ×
/// pixels), with the pattern read from memory.
///
/// Formula and layouts as [`super::baked::Baked`].
/// * Input channels are cut into blocks whose pixels stay in the first-level cache. Inside a block,
///   rows are sorted by their number of non-zeros, so that loop lengths repeat and are predicted.
/// * wei: 6 bytes per non-zero: four `u16` element offsets, then four `f32` weights; what is left of
///   a row has 8 bytes each. Code does not depend on the pattern.
/// * task = some output channels × up to `MOST_VECTORS` vectors of pixels.
/// * scratch: one vector per output channel and vector of pixels.
/// * refused: other windows, planes of more than `MOST_PITCH` elements.
pub struct Spmm;

/// Most vectors of pixels that a task computes.
const MOST_VECTORS: u32 = 4;
/// Bytes of the pixels of a block of input channels.
const BLOCK_BYTES: u32 = 28 << 10;
/// Bytes of the accumulators of a task.
const SCRATCH_BYTES: u32 = 32 << 10;
/// Offsets inside a block have 16 bits.
const MOST_PITCH: u32 = u16::MAX as u32;
/// Tasks that a kernel should have, so that a few threads can share it evenly.
const WANTED_TASKS: u32 = 8;
/// Non-zeros of a trip.
const TRIP: usize = 4;

/// How pixels, channels and rows are cut.
struct Cuts {
    /// Pixel vectors per task, at most.
    vectors: u32,
    /// Input channels of a block.
    channels: u32,
    /// Output channels of a task, at most.
    rows: u32,
}

impl Cuts {
    fn new(problem: &ConvProblem, isa: Isa) -> Self {
        let lanes = isa.lanes();
        let all = problem.dst.hw().div_ceil(lanes);
        let vectors = all.div_ceil(all.div_ceil(MOST_VECTORS));
        let bytes = vectors * lanes * 4;
        let channels = (BLOCK_BYTES / bytes).min(MOST_PITCH / problem.src.pitch);
        let tasks = WANTED_TASKS.div_ceil(problem.groups * all.div_ceil(vectors));
        let rows = (SCRATCH_BYTES / bytes).min(problem.ocg().div_ceil(tasks));
        Self {
            vectors,
            channels: channels.max(1),
            rows: rows.max(1),
        }
    }
}

impl TypedVariant for Spmm {
    type Problem = ConvProblem;
    const NAME: &'static str = "sparse_conv.spmm";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "conv src=20x1x10x16 dst=9x1x10x16 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=30 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, _isa: Isa) -> Result<(), Unsupported> {
        problem.check()?;
        let window = &problem.window;
        let (kernel, stride) = (window.kernel, window.stride);
        if kernel != [1, 1] || stride != [1, 1] || window.is_padded() {
            let pads = [window.pad_begin, window.pad_end];
            return refuse(format!(
                "kernel {kernel:?}, stride {stride:?}, pads {pads:?}, expected a 1x1 kernel without stride and pad"
            ));
        }
        let pitch = problem.src.pitch;
        if pitch > MOST_PITCH {
            return refuse(format!(
                "planes of {pitch} elements, expected at most {MOST_PITCH}"
            ));
        }
        Ok(())
    }
    fn cost(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let cuts = Cuts::new(problem, isa);
        let vectors = f64::from(cuts.vectors);
        let passes = f64::from(problem.dst.hw().div_ceil(isa.lanes() * cuts.vectors));
        // Per non-zero a weight, a quarter of the offsets' load, and its pixels; two loads a cycle.
        let per_nnz = 0.5 * (vectors + 1.25) * 1.15;
        let blocks = f64::from(problem.icg().div_ceil(cuts.channels));
        let per_row = blocks * (12.0 + 6.0 * vectors) + 6.0 * vectors;
        let cycles = f64::from(pattern.nnz()) * per_nnz + f64::from(problem.dst.c) * per_row;
        Cost {
            cycles: at_least_memory(passes * cycles, 6.0 * f64::from(pattern.nnz())),
            code_bytes: 2048,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        Ok(build::<A>(problem, weights))
    }
}

/// One entry: code for a number of vectors, the last of them partly used or not.
#[derive(Clone, Copy, PartialEq)]
struct Entry {
    vectors: u32,
    partial: bool,
}

fn build<A: VectorAsm>(problem: &ConvProblem, weights: Weights<'_>) -> Built {
    let cuts = Cuts::new(problem, A::ISA);
    let lanes = A::LANES as u32;
    let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 7);
    let (mask, partial) = write_mask::<A>(&mut packed, problem);
    let all = problem.dst.hw().div_ceil(lanes);
    let mut entries: Vec<Entry> = Vec::new();
    let mut tasks = Vec::new();
    for group in 0..problem.groups {
        for rows in balanced(problem.ocg(), cuts.rows) {
            let first = group * problem.ocg();
            let rows = rows.start + first..rows.end + first;
            let whole = pack_rows::<A>(&mut packed, problem, &cuts, weights, rows);
            for vectors in balanced(all, cuts.vectors) {
                let entry = Entry {
                    vectors: vectors.len() as u32,
                    partial: partial && vectors.end == all,
                };
                let moved = i64::from(vectors.start) * i64::from(vector_bytes::<A>());
                tasks.push(Task {
                    entry: index_of(&mut entries, entry),
                    src: whole.src + moved,
                    dst: whole.dst + moved,
                    aux: mask,
                    cost: whole.cost * entry.vectors as f32,
                    ..whole
                });
            }
        }
    }
    let mut asm = A::new();
    let entries: Vec<usize> = entries
        .iter()
        .map(|&entry| emit(&mut asm, problem, &cuts, entry))
        .collect();
    let footprint = footprint(problem, &cuts, lanes);
    Built::new(asm, entries, packed, tasks, footprint)
}

fn footprint(problem: &ConvProblem, cuts: &Cuts, lanes: u32) -> Footprint {
    let (src, dst) = (&problem.src, &problem.dst);
    let whole = dst.hw().next_multiple_of(lanes) as usize;
    let plane = if problem.residual {
        whole
    } else {
        dst.hw() as usize
    };
    Footprint {
        src: Extent::from_base(src.last_plane() + whole),
        dst: Extent::from_base(dst.last_plane() + plane),
        scratch_bytes: (cuts.rows * cuts.vectors * lanes) as usize * 4,
    }
}

/// Appends the lane mask of the last vector of pixels; true when it is partly used.
fn write_mask<A: VectorAsm>(packed: &mut AlignedBuf, problem: &ConvProblem) -> (u64, bool) {
    let lanes = A::LANES as u32;
    let used = last_lanes(problem.dst.hw(), lanes);
    let at = packed.align(64);
    packed.extend(&A::first_lanes(used));
    (at, used < lanes)
}

/// Packs the rows of a task: bias, then the number of blocks and for each block groups of rows with
/// equally many non-zeros: trips, rest, rows (`u32`), then per row the byte offset of its
/// accumulators (`u32`) and its entries. A group without rows ends the block.
fn pack_rows<A: VectorAsm>(
    packed: &mut AlignedBuf,
    problem: &ConvProblem,
    cuts: &Cuts,
    weights: Weights<'_>,
    rows: Range<u32>,
) -> Task {
    let bias = weights.pack_bias(packed, rows.clone());
    let wei = packed.align(64);
    let blocks: Vec<Range<u32>> = (0..problem.icg())
        .step_by(cuts.channels as usize)
        .map(|start| start..problem.icg().min(start + cuts.channels))
        .collect();
    let word = |packed: &mut AlignedBuf, word: u32| packed.extend(&word.to_le_bytes());
    word(packed, blocks.len() as u32);
    let slot = cuts.vectors * vector_bytes::<A>() as u32;
    let mut nnz = 0;
    for block in &blocks {
        let mut lines: Vec<(u32, &[u32])> = rows
            .clone()
            .map(|row| (row, within(weights.pattern.row(row), block)))
            .filter(|(_, cols)| !cols.is_empty())
            .collect();
        // Stable: rows of a group stay in order.
        lines.sort_by_key(|(_, cols)| std::cmp::Reverse(cols.len()));
        for group in lines.chunk_by(|a, b| a.1.len() == b.1.len()) {
            let count = group[0].1.len();
            nnz += count * group.len();
            word(packed, (count / TRIP) as u32);
            word(packed, (count % TRIP) as u32);
            word(packed, group.len() as u32);
            for &(row, cols) in group {
                word(packed, (row - rows.start) * slot);
                pack_entries(packed, problem, weights, row, cols, block.start);
            }
        }
        (0..3).for_each(|_| word(packed, 0));
    }
    Task {
        wei,
        bias,
        count: rows.len() as u64,
        cost: nnz as f32 + (8 * blocks.len() * rows.len()) as f32,
        ..Task::of_rows(problem, problem.src.pitch, rows.start)
    }
}

/// Columns of a sorted row that lie in a block.
fn within<'p>(cols: &'p [u32], block: &Range<u32>) -> &'p [u32] {
    let start = cols.partition_point(|&col| col < block.start);
    let end = cols.partition_point(|&col| col < block.end);
    &cols[start..end]
}

fn pack_entries(
    packed: &mut AlignedBuf,
    problem: &ConvProblem,
    weights: Weights<'_>,
    row: u32,
    cols: &[u32],
    first: u32,
) {
    let offset = |col: u32| (col - first) * problem.src.pitch;
    let weight = |col: u32| weights.value(row, col);
    let mut trips = cols.chunks_exact(TRIP);
    for trip in &mut trips {
        for &col in trip {
            packed.extend(&(offset(col) as u16).to_le_bytes());
        }
        packed.extend_f32(trip.iter().map(|&col| weight(col)));
    }
    for &col in trips.remainder() {
        packed.extend(&offset(col).to_le_bytes());
        packed.extend_f32([weight(col)]);
    }
}

const SCRATCH: Gp = Gp::Rbp;
/// Accumulators of the current row.
const SLOT: Gp = Gp::R12;
/// Trips of a row of this group, non-zeros beyond them, rows left, blocks left.
const TRIPS: Gp = Gp::R13;
const REST: Gp = Gp::R14;
const ROWS: Gp = Gp::R15;
const BLOCKS: Gp = AUX;
/// Trips left.
const LEFT: Gp = Gp::R9;
/// Offsets of a trip (the bias is used up by then).
const OFFSETS: [Gp; TRIP] = [TMP, Gp::Rbx, BIAS, RES];
const SAVED: [Gp; 6] = [Gp::Rbx, SCRATCH, SLOT, TRIPS, REST, ROWS];

/// Independent sums per row, so that the latency of a multiply-add is hidden.
fn sums(vectors: u32) -> u32 {
    [4, 2, 2, 1][vectors as usize - 1]
}

fn emit<A: VectorAsm>(asm: &mut A, problem: &ConvProblem, cuts: &Cuts, entry: Entry) -> usize {
    crate::emit::entry(asm, &SAVED, |asm| {
        load_arg(asm, SCRATCH, Gp::Rdi, offset_of!(KernelArgs, scratch));
        load_args(asm);
        asm.push(RES);
        asm.push(AUX);
        emit_start::<A>(asm, cuts, entry);
        asm.load32(BLOCKS, Mem::new(WEI, 0));
        asm.add_imm(WEI, 4);
        asm.counted_loop(BLOCKS, |asm| {
            emit_groups(asm, entry);
            asm.add_imm(SRC, (cuts.channels * problem.src.pitch) as i32 * 4);
        });
        asm.pop(AUX);
        asm.pop(RES);
        emit_finish(asm, problem, cuts, entry);
    })
}

/// Accumulators of all rows = bias.
fn emit_start<A: VectorAsm>(asm: &mut A, cuts: &Cuts, entry: Entry) {
    asm.mov(SLOT, SCRATCH);
    asm.mov(LEFT, COUNT);
    asm.counted_loop(LEFT, |asm| {
        asm.broadcast(V(0), Mem::new(BIAS, 0));
        for t in 0..entry.vectors as i32 {
            asm.store(Mem::new(SLOT, t * vector_bytes::<A>()), V(0));
        }
        asm.add_imm(BIAS, 4);
        asm.add_imm(SLOT, cuts.vectors as i32 * vector_bytes::<A>());
    });
}

/// All groups of a block.
fn emit_groups<A: VectorAsm>(asm: &mut A, entry: Entry) {
    let (top, done) = (asm.new_label(), asm.new_label());
    asm.bind(top);
    asm.load32(TRIPS, Mem::new(WEI, 0));
    asm.load32(REST, Mem::new(WEI, 4));
    asm.load32(ROWS, Mem::new(WEI, 8));
    asm.add_imm(WEI, 12);
    asm.cmp_imm(ROWS, 0);
    asm.jcc(Cond::Equal, done);
    asm.counted_loop(ROWS, |asm| emit_row(asm, entry));
    asm.jmp(top);
    asm.bind(done);
}

/// One row of a block.
fn emit_row<A: VectorAsm>(asm: &mut A, entry: Entry) {
    let (vectors, sums) = (entry.vectors as u8, sums(entry.vectors) as u8);
    let acc = |s: u8, t: u8| V(s * vectors + t);
    let slot = |t: u8| Mem::new(SLOT, i32::from(t) * vector_bytes::<A>());
    let (no_trips, no_rest) = (asm.new_label(), asm.new_label());
    asm.load32(SLOT, Mem::new(WEI, 0));
    asm.add(SLOT, SCRATCH);
    asm.add_imm(WEI, 4);
    (0..vectors).for_each(|t| asm.load(acc(0, t), slot(t)));
    (vectors..sums * vectors).for_each(|i| asm.zero(V(i)));
    asm.mov(LEFT, TRIPS);
    asm.cmp_imm(TRIPS, 0);
    asm.jcc(Cond::Equal, no_trips);
    asm.counted_loop(LEFT, |asm| {
        emit_offsets(asm);
        for (i, &offset) in OFFSETS.iter().enumerate() {
            let weight = Mem::new(WEI, 8 + 4 * i as i32);
            emit_entry(asm, vectors, i as u8 % sums, offset, weight);
        }
        asm.add_imm(WEI, 6 * TRIP as i32);
    });
    asm.bind(no_trips);
    asm.mov(LEFT, REST);
    asm.cmp_imm(REST, 0);
    asm.jcc(Cond::Equal, no_rest);
    asm.counted_loop(LEFT, |asm| {
        asm.load32(TMP, Mem::new(WEI, 0));
        emit_entry(asm, vectors, sums - 1, TMP, Mem::new(WEI, 4));
        asm.add_imm(WEI, 8);
    });
    asm.bind(no_rest);
    for t in 0..vectors {
        if sums == 4 {
            asm.vadd(acc(2, t), acc(2, t), acc(3, t));
        }
        for s in 1..sums.min(3) {
            asm.vadd(acc(0, t), acc(0, t), acc(s, t));
        }
        asm.store(slot(t), acc(0, t));
    }
}

/// Four 16-bit offsets with one load.
fn emit_offsets<A: VectorAsm>(asm: &mut A) {
    let [first, rest @ ..] = OFFSETS;
    asm.load64(first, Mem::new(WEI, 0));
    for (i, &offset) in rest.iter().enumerate() {
        asm.mov(offset, first);
        asm.shr_imm(offset, 16 * (i as u8 + 1));
        if i + 1 < rest.len() {
            asm.and_imm(offset, 0xFFFF);
        }
    }
    asm.and_imm(first, 0xFFFF);
}

fn emit_entry<A: VectorAsm>(asm: &mut A, vectors: u8, sum: u8, offset: Gp, weight: Mem) {
    let w = V(A::VREGS - 1);
    asm.broadcast(w, weight);
    for t in 0..vectors {
        let pixels = Mem::indexed(SRC, offset, 4, i32::from(t) * vector_bytes::<A>());
        asm.fma_mem(V(sum * vectors + t), w, pixels);
    }
}

/// Accumulators to planes, with residual and activation.
fn emit_finish<A: VectorAsm>(asm: &mut A, problem: &ConvProblem, cuts: &Cuts, entry: Entry) {
    let bytes = vector_bytes::<A>();
    let pitch = problem.dst.pitch as i32 * 4;
    let [x, zero, tmp, slope] = [0, 1, 2, 3].map(V);
    let mask = A::mask(7, V(4));
    let epilogue = Epilogue::new(problem.post, [zero, tmp, slope]);
    asm.load_mask(mask, Mem::new(AUX, 0));
    asm.zero(zero);
    asm.mov(SLOT, SCRATCH);
    asm.counted_loop(COUNT, |asm| {
        for t in 0..entry.vectors as i32 {
            asm.load(x, Mem::new(SLOT, t * bytes));
            let residual = problem.residual.then_some(Mem::new(RES, t * bytes));
            epilogue.apply(asm, x, residual);
            let partial = entry.partial && t + 1 == entry.vectors as i32;
            store(asm, Mem::new(DST, t * bytes), x, partial.then_some(mask));
        }
        asm.add_imm(SLOT, cuts.vectors as i32 * bytes);
        asm.add_imm(DST, pitch);
        if problem.residual {
            asm.add_imm(RES, pitch);
        }
    });
}
