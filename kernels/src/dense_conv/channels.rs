//! Dense convolution with output channels in the lanes of a vector.

use super::tiles::{self, HEADER_BLOCKS, HEADER_BYTES, HEADER_MASK, HEADER_TILES, Segment, Source};
use crate::emit::{
    AUX, BIAS, COUNT, DST, RES, SRC, TMP, WEI, WEI_START, entry, load_arg, load_args, store,
    transpose, vector_bytes,
};
use crate::epilogue::Epilogue;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, at_least_memory,
    balanced,
};
use crate::{AlignedBuf, ConvProblem, Extent, Footprint, KernelArgs, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Cond, Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::mem::offset_of;
use std::ops::Range;

/// Dense convolution, one vector per 16 (AVX2: 8) output channels of a pixel: weights are loaded
/// as vectors, source pixels are broadcast, so every lane works whatever the plane's width, and
/// strides need no copy.
///
/// Formula and layouts as [`crate::sparse_conv::baked::Baked`], over all weights.
/// * wei: per chunk of output channels `[ic][tap][channel]`, `f32`, channels filled up to vectors.
/// * task = one chunk × one segment of the plane. Accumulators stay in scratch memory between
///   blocks of input channels, and are transposed into planes at the end.
/// * scratch: one vector per pixel of the segment and vector of the chunk.
/// * refused: kernels wider than [`limits::UNROLLED_TAPS`], operands beyond the limits.
pub struct Channels;

/// Bytes of weights that a block of input channels may have, so that they stay in the first-level
/// cache while the tiles of a segment go by.
const BLOCK_BYTES: u32 = 32 << 10;
/// Weights from which on the next block is prefetched, and results whose lines are.
const PREFETCHED_BYTES: u32 = 256 << 10;
/// Bytes that stay in the second-level cache while something else streams through it.
const CACHED_BYTES: f64 = 700e3;
/// Most taps in the loop body; larger kernels loop over their rows.
const BODY_TAPS: u32 = 50;

/// Register tile: `vectors` of output channels × `pixels`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Tile {
    vectors: u32,
    pixels: u32,
}

impl Tile {
    /// Accumulators, weights (at most one of them as a memory operand), one broadcast pixel.
    fn most_pixels(isa: Isa, vectors: u32) -> u32 {
        let registers = u32::from(isa.descriptor().vector_registers);
        (registers - 1 - (vectors - 1).max(1)) / vectors
    }

    /// Weight vectors kept in registers when a chunk has `vectors` of them.
    fn resident(self, isa: Isa, vectors: u32) -> u32 {
        let registers = u32::from(isa.descriptor().vector_registers);
        vectors.min(registers - 1 - vectors * self.pixels)
    }

    fn candidates(problem: &ConvProblem, source: &Source, isa: Isa) -> Vec<Self> {
        let line = tiles::most_pixels(problem, source);
        let vectors = 1..=problem.ocg().div_ceil(isa.lanes()).min(6);
        vectors
            .flat_map(|vectors| {
                let most = Self::most_pixels(isa, vectors).min(line);
                (1..=most).map(move |pixels| Self { vectors, pixels })
            })
            .collect()
    }

    /// The tile with the lowest modelled time.
    fn choose(problem: &ConvProblem, isa: Isa) -> (Self, Cost) {
        let source = Source::new(problem);
        let candidates = Self::candidates(problem, &source, isa).into_iter();
        candidates
            .map(|tile| (tile, tile.cost(problem, &source, isa)))
            .min_by(|(_, a), (_, b)| a.cycles.total_cmp(&b.cycles))
            .expect("one pixel always fits")
    }

    /// Sizes of the chunks of a group, in vectors.
    fn chunks(self, problem: &ConvProblem, isa: Isa) -> impl Iterator<Item = Range<u32>> {
        balanced(problem.ocg().div_ceil(isa.lanes()), self.vectors)
    }

    fn cost(self, problem: &ConvProblem, source: &Source, isa: Isa) -> Cost {
        let line = tiles::most_pixels(problem, source);
        let per_line = line.div_ceil(self.pixels);
        let count = f64::from(per_line) * f64::from(problem.dst.hw() / line);
        let blocks = f64::from(problem.icg().div_ceil(self.block_channels(problem, isa)));
        let mut cycles = 0.0;
        for chunk in self.chunks(problem, isa) {
            let vectors = chunk.len() as u32;
            let fmas = f64::from(vectors * self.pixels);
            let resident = self.resident(isa, vectors);
            let loads = f64::from(resident + self.pixels * (1 + vectors - resident));
            // Two multiply-adds and two loads a cycle; a multiply-add takes four cycles.
            let tap = (0.5 * fmas).max(0.5 * loads).max(4.0) * 1.02 + 0.15;
            let handed = fmas * blocks + 12.0;
            // A transposed square of pixels and channels.
            let squares = f64::from(vectors) * f64::from(problem.dst.hw().div_ceil(isa.lanes()));
            let square = 2.0 * f64::from(isa.lanes()) + 12.0;
            cycles += count * (f64::from(problem.cols()) * tap + handed) + squares * square;
        }
        let body = f64::from(problem.taps().min(BODY_TAPS)) * f64::from(self.pixels);
        let weights = f64::from(problem.cols()) * f64::from(problem.dst.c) * 4.0;
        // Measured: what is the same for every input channel counts for more where there are few.
        let few = if problem.icg() < 8 { 1.15 } else { 1.0 };
        let cycles = cycles * f64::from(problem.groups) * few + problem.post_cycles(isa, 6);
        Cost {
            cycles: at_least_memory(cycles, weights),
            code_bytes: (body * f64::from(self.vectors + 1) * 8.0) as u64 + 4096,
        }
    }

    /// Input channels of a block.
    fn block_channels(self, problem: &ConvProblem, isa: Isa) -> u32 {
        let channel = 4 * isa.lanes() * self.vectors * problem.taps();
        let most = (BLOCK_BYTES / channel).max(1);
        let unroll = unroll(problem);
        // Balanced, in whole trips of the loop over channels.
        let trips = problem.icg() / unroll;
        let blocks = trips.div_ceil((most / unroll).max(1));
        trips.div_ceil(blocks) * unroll
    }
}

/// Input channels in the loop body.
fn unroll(problem: &ConvProblem) -> u32 {
    let most = if problem.taps() == 1 { 4 } else { 1 };
    (1..=most)
        .rev()
        .find(|&unroll| problem.icg().is_multiple_of(unroll))
        .unwrap_or(1)
}

impl TypedVariant for Channels {
    type Problem = ConvProblem;
    const NAME: &'static str = "dense_conv.channels";
    const WEIGHTING: Weighting = Weighting::Dense;
    const EXAMPLE: &'static str = "conv src=2x4x4x16 dst=3x2x2x16 k=1x1 s=2x2 p=0x0 d=1x1 g=1 relu=0 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, _isa: Isa) -> Result<(), Unsupported> {
        problem.check()?;
        Source::check(problem)?;
        let (columns, most) = (problem.window.kernel[1], limits::UNROLLED_TAPS);
        if columns > most {
            return refuse(format!(
                "a kernel of {columns} columns, expected at most {most}"
            ));
        }
        Ok(())
    }
    fn cost(problem: &ConvProblem, _pattern: &Pattern, isa: Isa) -> Cost {
        Tile::choose(problem, isa).1
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        Ok(build::<A>(problem, weights))
    }
}

/// What the emitters share.
struct Plan<'p> {
    problem: &'p ConvProblem,
    source: Source,
    tile: Tile,
    /// Lanes of a vector.
    lanes: u32,
    /// Input channels of a block, and in the loop body.
    block: u32,
    unroll: u32,
    /// Cache lines of the next block that each trip prefetches.
    prefetched: u32,
}

impl Plan<'_> {
    /// Large results come from outer caches; the register is free unless kernel rows are counted.
    fn prefetches_result(&self) -> bool {
        self.problem.dst.elems() * 4 > PREFETCHED_BYTES as usize && self.problem.taps() <= BODY_TAPS
    }
}

/// Output channels (of one group's vectors) that a task computes.
#[derive(Clone, Copy, PartialEq)]
struct Chunk {
    vectors: u32,
    /// Channels; the last vector may be partly used.
    rows: u32,
}

fn build<A: VectorAsm>(problem: &ConvProblem, weights: Weights<'_>) -> Built {
    let (tile, _) = Tile::choose(problem, A::ISA);
    let source = Source::new(problem);
    let lanes = A::LANES as u32;
    let segments = tiles::segments(problem, &source, tile.pixels, lanes);
    let plan = Plan {
        block: tile.block_channels(problem, A::ISA),
        unroll: unroll(problem),
        lanes,
        prefetched: prefetched_lines(problem, tile, &segments, lanes),
        problem,
        source,
        tile,
    };
    let mut packed = AlignedBuf::with_capacity(weights.elems() * 4);
    // Offsets into the table depend on the vectors of a chunk.
    let mut sizes: Vec<(Chunk, Vec<u64>)> = Vec::new();
    let mut tasks = Vec::new();
    for group in 0..problem.groups {
        for vectors in tile.chunks(problem, A::ISA) {
            let first = group * problem.ocg();
            let rows =
                first + vectors.start * lanes..first + problem.ocg().min(vectors.end * lanes);
            let chunk = Chunk {
                vectors: vectors.len() as u32,
                rows: rows.len() as u32,
            };
            let entry = sizes.iter().position(|(size, _)| *size == chunk);
            let entry = entry.unwrap_or_else(|| {
                let slot = chunk.vectors * 4 * lanes;
                let tables = segments
                    .iter()
                    .map(|segment| segment.write_table::<A>(&mut packed, slot));
                sizes.push((chunk, tables.collect()));
                sizes.len() - 1
            });
            let task = pack_chunk(&mut packed, &plan, weights, rows, chunk);
            for (segment, &table) in segments.iter().zip(&sizes[entry].1) {
                tasks.push(Task {
                    entry: entry as u32,
                    dst: task.dst + i64::from(segment.first) * 4,
                    aux: table,
                    cost: task.cost * segment.tiles.len() as f32,
                    ..task
                });
            }
        }
    }
    if by_segment(&plan, segments.len(), tasks.len()) {
        let plane = i64::from(problem.dst.pitch) * 4;
        tasks.sort_by_key(|task| task.dst % plane);
    }
    let mut asm = A::new();
    let chunks = sizes.iter();
    let entries: Vec<usize> = chunks
        .map(|&(chunk, _)| emit(&mut asm, &plan, chunk))
        .collect();
    Built {
        staging: plan.source.staging,
        ..Built::new(asm, entries, packed, tasks, footprint(&plan, &segments))
    }
}

/// Whether all chunks of a segment come one after the other, rather than all segments of a chunk:
/// the order that brings fewer bytes from beyond the second-level cache. What is read again for each
/// segment (weights) or chunk (source) stays there if it is small enough.
fn by_segment(plan: &Plan<'_>, segments: usize, tasks: usize) -> bool {
    let problem = plan.problem;
    let rows_read = f64::from(problem.window.kernel[0].min(problem.window.stride[0]))
        / f64::from(problem.window.stride[0]);
    let source = problem.src.elems() as f64 * 4.0 * rows_read;
    let weights = f64::from(problem.cols()) * f64::from(problem.dst.c) * 4.0;
    let again = |bytes: f64, times: usize| {
        let times = if bytes < CACHED_BYTES { 1 } else { times };
        bytes * times as f64
    };
    source + again(weights, segments) < weights + again(source, tasks / segments)
}

/// Lines per trip such that the tiles of a segment together prefetch a block.
fn prefetched_lines(problem: &ConvProblem, tile: Tile, segments: &[Segment], lanes: u32) -> u32 {
    let elems = problem.cols() as usize * problem.ocg() as usize;
    if elems * 4 < PREFETCHED_BYTES as usize {
        return 0;
    }
    let tiles = segments.iter().map(|segment| segment.tiles.len()).min();
    let trip = unroll(problem) * problem.taps() * tile.vectors * lanes / 16;
    trip.div_ceil(tiles.unwrap_or(1) as u32)
}

fn footprint(plan: &Plan<'_>, segments: &[Segment]) -> Footprint {
    let (src, dst, lanes) = (&plan.problem.src, &plan.problem.dst, plan.lanes);
    let read = match &plan.source.staging {
        Some(staging) => staging.elems(),
        None => src.last_plane() + src.hw() as usize,
    };
    let plane = if plan.problem.residual {
        // The residual is read in whole vectors.
        let end = |segment: &Segment| segment.first + segment.blocks(lanes) * lanes;
        segments.iter().map(end).max().unwrap_or(0)
    } else {
        dst.hw()
    };
    let slots = segments.iter().map(|segment| segment.tiles.len()).max();
    let slots = slots.unwrap_or(0) * plan.tile.pixels as usize;
    Footprint {
        src: Extent::from_base(read),
        dst: Extent::from_base(dst.last_plane() + plane as usize),
        scratch_bytes: slots * (plan.tile.vectors * lanes) as usize * 4,
    }
}

/// Packs bias and weights of a chunk; channels beyond the last have zeros.
fn pack_chunk(
    packed: &mut AlignedBuf,
    plan: &Plan<'_>,
    weights: Weights<'_>,
    rows: Range<u32>,
    chunk: Chunk,
) -> Task {
    let problem = plan.problem;
    let bias = weights.pack_bias(packed, rows.clone());
    let wei = packed.align(64);
    let beyond = plan.lanes * chunk.vectors - chunk.rows;
    for col in 0..problem.cols() {
        let column = rows.clone().map(|row| weights.value(row, col));
        packed.extend_f32(column.chain((0..beyond).map(|_| 0.0)));
    }
    Task {
        wei,
        bias,
        cost: problem.cols() as f32 * chunk.vectors as f32,
        ..Task::of_rows(problem, plan.source.channel, rows.start)
    }
}

/// Source of the current tile.
const SRC_TILE: Gp = Gp::Rbx;
/// Tile offsets, then slots, of the segment's table.
const TABLE: Gp = Gp::R12;
/// Accumulators of the current tile.
const SLOT: Gp = Gp::R13;
/// Weights to prefetch.
const AHEAD: Gp = Gp::R14;
/// Trips left over input channels, in all blocks.
const LEFT: Gp = Gp::R15;
/// Scratch memory.
const SCRATCH: Gp = Gp::Rbp;
/// Trips over input channels in this block (the residual's register, saved meanwhile).
const TRIPS: Gp = RES;
/// Kernel rows left (the result's register, saved meanwhile).
const ROWS: Gp = DST;
/// Tiles left.
const TILES: Gp = COUNT;

const SAVED: [Gp; 6] = [SRC_TILE, TABLE, SLOT, AHEAD, LEFT, SCRATCH];

/// One entry for a chunk size; returns its offset.
fn emit<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk) -> usize {
    entry(asm, &SAVED, |asm| {
        load_arg(asm, SCRATCH, Gp::Rdi, offset_of!(KernelArgs, scratch));
        load_args(asm);
        asm.push(DST);
        asm.push(RES);
        // A copy that moves with the tiles.
        asm.push(RES);
        asm.mov(WEI_START, WEI);
        asm.mov_imm(LEFT, i64::from(plan.problem.icg() / plan.unroll));
        emit_blocks(asm, plan, chunk);
        asm.pop(RES);
        asm.pop(RES);
        asm.pop(DST);
        emit_write_out(asm, plan, chunk);
    })
}

/// All blocks of input channels: the first starts from the bias, others from what is in scratch.
fn emit_blocks<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk) {
    let trips = (plan.block / plan.unroll) as i32;
    asm.mov_imm(TRIPS, i64::from(trips));
    emit_tiles(asm, plan, chunk, true);
    if plan.block == plan.problem.icg() {
        return;
    }
    let top = asm.new_label();
    let (whole, done) = (asm.new_label(), asm.new_label());
    asm.sub_imm(LEFT, trips);
    asm.bind(top);
    asm.mov(WEI_START, WEI);
    asm.add_imm(SRC, (plan.block * plan.source.channel) as i32 * 4);
    asm.cmp_imm(LEFT, trips);
    asm.jcc(Cond::GreaterEqual, whole);
    asm.mov(TRIPS, LEFT);
    asm.bind(whole);
    emit_tiles(asm, plan, chunk, false);
    asm.sub_imm(LEFT, trips);
    asm.cmp_imm(LEFT, 0);
    asm.jcc(Cond::Less, done);
    asm.jcc(Cond::NotEqual, top);
    asm.bind(done);
}

/// Adds one block of input channels to all tiles of the segment.
fn emit_tiles<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk, first: bool) {
    let bytes = vector_bytes::<A>();
    let (vectors, pixels) = (chunk.vectors as i32, plan.tile.pixels as i32);
    let acc = |v: i32, p: i32| V((v * pixels + p) as u8);
    let each = || (0..vectors).flat_map(|v| (0..pixels).map(move |p| (v, p)));
    let slot = |v: i32, p: i32| Mem::new(SLOT, (p * vectors + v) * bytes);
    asm.load32(TILES, Mem::new(AUX, HEADER_TILES));
    asm.lea(TABLE, Mem::new(AUX, HEADER_BYTES));
    asm.mov(SLOT, SCRATCH);
    if plan.prefetched > 0 {
        let block = plan.block * plan.problem.taps() * chunk.vectors;
        asm.lea(AHEAD, Mem::new(WEI_START, block as i32 * bytes));
    }
    asm.counted_loop(TILES, |asm| {
        asm.load_i32(SRC_TILE, Mem::new(TABLE, 0));
        asm.add(SRC_TILE, SRC);
        asm.mov(WEI, WEI_START);
        if first && plan.prefetches_result() {
            emit_result_prefetch(asm, plan, chunk);
        }
        for (v, p) in each() {
            if first {
                asm.load(acc(v, p), Mem::new(BIAS, v * bytes));
            } else {
                asm.load(acc(v, p), slot(v, p));
            }
        }
        asm.mov(TMP, TRIPS);
        asm.counted_loop(TMP, |asm| emit_trip(asm, plan, chunk));
        each().for_each(|(v, p)| asm.store(slot(v, p), acc(v, p)));
        asm.add_imm(TABLE, 4);
        asm.add_imm(SLOT, vectors * pixels * bytes);
    });
}

/// Prefetches the lines of all planes that the tile's pixels go to, and of the residual, so that
/// they are at hand when the segment is written out.
fn emit_result_prefetch<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk) {
    let planes = || (0..chunk.rows as i32).map(|row| row * plan.problem.dst.pitch as i32 * 4);
    let moved = plan.tile.pixels as i32 * 4;
    planes().for_each(|plane| asm.prefetch_write(Mem::new(DST, plane)));
    asm.add_imm(DST, moved);
    if plan.problem.residual {
        let residual = Mem::new(Gp::Rsp, 0);
        asm.load64(TMP, residual);
        planes().for_each(|plane| asm.prefetch(Mem::new(TMP, plane)));
        asm.add_imm(TMP, moved);
        asm.store64(residual, TMP);
    }
}

/// One trip of the loop over input channels.
fn emit_trip<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk) {
    let (source, problem) = (&plan.source, plan.problem);
    let [kh, kw] = problem.window.kernel;
    let tap = chunk.vectors as i32 * vector_bytes::<A>();
    for line in 0..plan.prefetched as i32 {
        asm.prefetch_l2(Mem::new(AHEAD, 64 * line));
    }
    if plan.prefetched > 0 {
        asm.add_imm(AHEAD, 64 * plan.prefetched as i32);
    }
    let column = |kx: u32| (kx * source.kernel_column()) as i32;
    let row = source.kernel_row() as i32;
    for channel in 0..plan.unroll as i32 {
        let weights = channel * tap;
        if problem.taps() <= BODY_TAPS {
            for (i, (ky, kx)) in (0..kh)
                .flat_map(|ky| (0..kw).map(move |kx| (ky, kx)))
                .enumerate()
            {
                let src = ky as i32 * row + column(kx);
                emit_tap(asm, plan, chunk, src, weights + i as i32 * tap);
            }
            asm.add_imm(SRC_TILE, source.channel as i32 * 4);
            continue;
        }
        asm.mov_imm(ROWS, i64::from(kh));
        asm.counted_loop(ROWS, |asm| {
            for kx in 0..kw {
                emit_tap(asm, plan, chunk, column(kx), kx as i32 * tap);
            }
            asm.add_imm(SRC_TILE, row * 4);
            asm.add_imm(WEI, kw as i32 * tap);
        });
        asm.add_imm(SRC_TILE, (source.channel as i32 - kh as i32 * row) * 4);
    }
    if problem.taps() <= BODY_TAPS {
        asm.add_imm(WEI, (plan.unroll * problem.taps()) as i32 * tap);
    }
}

/// One tap of one input channel: the outer product of its weights and the tile's pixels. `src` is in
/// elements from the tile's source, `wei` in bytes.
fn emit_tap<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk, src: i32, wei: i32) {
    let bytes = vector_bytes::<A>();
    let (vectors, pixels) = (chunk.vectors as i32, plan.tile.pixels as i32);
    let acc = |v: i32, p: i32| V((v * pixels + p) as u8);
    let resident = plan.tile.resident(A::ISA, chunk.vectors) as i32;
    let pixel = V(A::VREGS - 1);
    let weight = |v: i32| V(A::VREGS - 2 - v as u8);
    for v in 0..resident {
        asm.load(weight(v), Mem::new(WEI, wei + v * bytes));
    }
    for p in 0..pixels {
        let from = Mem::new(SRC_TILE, (src + p * plan.source.pixel_step() as i32) * 4);
        if vectors == 1 {
            asm.fma_bcast(acc(0, p), weight(0), from, pixel);
            continue;
        }
        asm.broadcast(pixel, from);
        for v in 0..resident {
            asm.fma(acc(v, p), weight(v), pixel);
        }
        for v in resident..vectors {
            asm.fma_mem(acc(v, p), pixel, Mem::new(WEI, wei + v * bytes));
        }
    }
}

/// Transposes accumulators into planes, with residual and activation.
fn emit_write_out<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk) {
    // The slots' offsets come behind the tiles'.
    asm.load32(TABLE, Mem::new(AUX, HEADER_TILES));
    asm.lea(TABLE, Mem::indexed(AUX, TABLE, 4, HEADER_BYTES));
    asm.load32(COUNT, Mem::new(AUX, HEADER_BLOCKS));
    asm.counted_loop_if_any(COUNT, |asm| {
        emit_block(asm, plan, chunk, false);
        let bytes = vector_bytes::<A>();
        [TABLE, DST, RES]
            .iter()
            .for_each(|&register| asm.add_imm(register, bytes));
    });
    emit_block(asm, plan, chunk, true);
}

/// One vector of pixels, all channels of the chunk.
fn emit_block<A: VectorAsm>(asm: &mut A, plan: &Plan<'_>, chunk: Chunk, masked: bool) {
    let lanes = A::LANES as u32;
    for v in 0..chunk.vectors {
        for pixel in 0..lanes {
            asm.load_i32(TMP, Mem::new(TABLE, 4 * pixel as i32));
            let from = Mem::indexed(SCRATCH, TMP, 1, v as i32 * vector_bytes::<A>());
            asm.load(V(pixel as u8), from);
        }
        let [rows, free] = transpose(asm);
        let mask = masked.then_some(A::mask(7, free[0]));
        if let Some(mask) = mask {
            asm.load_mask(mask, Mem::new(AUX, HEADER_MASK));
        }
        let epilogue = Epilogue::new(plan.problem.post, [free[1], free[2], free[3]])
            .with_spare(free[4..].iter().copied());
        epilogue.prepare(asm);
        let used = lanes.min(chunk.rows - v * lanes);
        let rows = &rows[..used as usize];
        let pitch = plan.problem.dst.pitch as i32 * 4;
        let plane = |row: usize| (v as usize * A::LANES + row) as i32 * pitch;
        if plan.problem.residual {
            for (row, &x) in rows.iter().enumerate() {
                asm.vadd_mem(x, x, Mem::new(RES, plane(row)));
            }
        }
        epilogue.activate(asm, rows);
        for (row, &x) in rows.iter().enumerate() {
            store(asm, Mem::new(DST, plane(row)), x, mask);
        }
    }
}
