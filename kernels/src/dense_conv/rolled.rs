//! Dense convolution: the sparse geometry with all taps present and the input channels in a loop.

use crate::emit::{
    COUNT, SRC, TMP, WEI, WEI_START, accumulators, entry, last_registers, load, load_args,
    start_from_bias, vector_bytes,
};
use crate::flat::Flat;
use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, at_least_memory,
    balanced, index_of,
};
use crate::{AlignedBuf, ConvProblem, Footprint, Fused, limits};
use skimjit_jit::Isa;
use skimjit_jit::asm::{Gp, Mem, V, VectorAsm};
use skimjit_models::Pattern;
use std::ops::Range;

/// Dense convolution: 1×1, k×k, depthwise and grouped.
///
/// Formula and layouts as [`crate::sparse_conv::baked::Baked`], over all weights.
/// * wei: per chunk of output channels `[ic][tap][channel]`, `f32`.
/// * task = one chunk × one segment of the plane.
/// * refused: more than [`limits::UNROLLED_TAPS`] taps, operands beyond the limits.
pub struct Rolled;

/// Register tile: `rows` output channels × `vectors` vectors.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Tile {
    rows: u32,
    vectors: u32,
}

impl Tile {
    /// Most rows for a number of vectors: accumulators, one source vector each, one weight; some
    /// registers must be free for the store.
    fn most_rows(isa: Isa, vectors: u32, free: u32) -> u32 {
        let registers = u32::from(isa.descriptor().vector_registers);
        ((registers - 1 - vectors) / vectors).min((registers - free) / vectors)
    }

    /// The tile with the lowest modelled time.
    fn choose(problem: &ConvProblem, isa: Isa) -> (Self, Cost) {
        let most = if isa == Isa::Avx512 { 14 } else { 6 };
        // More are free for functions that take vectors side by side.
        let free = match problem.post.is_some_and(Fused::wants_registers) {
            true => [4, 7, 10],
            false => [4; 3],
        };
        let sizes = (1..=most).flat_map(|vectors| free.map(|free| (vectors, free)));
        let candidates = sizes.filter_map(|(vectors, free)| {
            let rows = Self::most_rows(isa, vectors, free).min(problem.ocg());
            (rows > 0).then(|| {
                let chunks = problem.ocg().div_ceil(rows);
                let tile = Self {
                    rows: problem.ocg().div_ceil(chunks),
                    vectors,
                };
                (tile, tile.cost(problem, isa))
            })
        });
        candidates
            .min_by(|(_, a), (_, b)| a.cycles.total_cmp(&b.cycles))
            .expect("one vector always fits")
    }

    fn cost(self, problem: &ConvProblem, isa: Isa) -> Cost {
        let flat = self.geometry(problem, isa);
        let (rows, vectors) = (f64::from(self.rows), f64::from(self.vectors));
        // Two multiply-adds and two loads a cycle; a 512-bit load that crosses a line counts twice.
        let load = if isa == Isa::Avx512 { 1.9 } else { 1.5 };
        let step = (0.5 * rows * vectors)
            .max(0.5 * (load * vectors + rows))
            .max(2.0);
        let chunks = f64::from(problem.ocg().div_ceil(self.rows) * problem.groups);
        // The source of a step leaves the first-level cache before the next chunk reads it.
        let far = if problem.icg() >= 128 { 1.15 } else { 1.0 };
        let per_step =
            f64::from(problem.cols()) * step * 1.05 * far + self.end_cycles(problem, isa) + 20.0;
        let code = f64::from(problem.taps()) * rows * vectors * 7.0;
        let weights = f64::from(problem.cols()) * f64::from(problem.dst.c) * 4.0;
        Cost {
            cycles: at_least_memory(chunks * per_step * f64::from(flat.steps()), weights)
                + flat.staging_cycles(),
            code_bytes: (code + 512.0) as u64,
        }
    }

    /// Cycles of a step after the sums.
    fn end_cycles(self, problem: &ConvProblem, isa: Isa) -> f64 {
        let accs = self.rows * self.vectors;
        let free = u32::from(isa.descriptor().vector_registers) - accs;
        let each = problem.post.map_or(1.0, |post| post.cycles(free));
        f64::from(accs) * (1.0 + each)
    }

    fn geometry(self, problem: &ConvProblem, isa: Isa) -> Flat {
        let chunks = problem.ocg().div_ceil(self.rows) * problem.groups;
        Flat::new(problem, isa, self.vectors, chunks)
    }
}

impl TypedVariant for Rolled {
    type Problem = ConvProblem;
    const NAME: &'static str = "dense_conv.rolled";
    const WEIGHTING: Weighting = Weighting::Dense;
    const EXAMPLE: &'static str = "conv src=9x4x4x48 dst=2x4x4x16 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=100 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, _isa: Isa) -> Result<(), Unsupported> {
        problem.check()?;
        let (taps, most) = (problem.taps(), limits::UNROLLED_TAPS);
        if taps > most {
            return refuse(format!("{taps} taps, expected at most {most}"));
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

fn build<A: VectorAsm>(problem: &ConvProblem, weights: Weights<'_>) -> Built {
    let (tile, _) = Tile::choose(problem, A::ISA);
    let flat = tile.geometry(problem, A::ISA);
    let mut packed = AlignedBuf::with_capacity(weights.elems() * 4);
    let table = flat.write_table::<A>(&mut packed);
    let mut tasks = Vec::new();
    // Chunk sizes differ by at most one, so two entries serve all chunks.
    let mut sizes: Vec<u32> = Vec::new();
    let ocg = problem.ocg();
    for group in 0..problem.groups {
        for rows in balanced(ocg, tile.rows) {
            let entry = index_of(&mut sizes, rows.len() as u32);
            let rows = rows.start + group * ocg..rows.end + group * ocg;
            let task = pack_chunk(&mut packed, problem, &flat, weights, rows);
            flat.push_tasks::<A>(
                &mut tasks,
                Task {
                    entry,
                    aux: table,
                    ..task
                },
            );
        }
    }
    if problem.src.elems() > weights.elems() {
        // Segment by segment: the part of the source that all chunks read stays in cache.
        tasks.sort_by_key(|task| task.aux);
    }
    let mut asm = A::new();
    let entries: Vec<usize> = sizes
        .iter()
        .map(|&size| emit(&mut asm, problem, &flat, Tile { rows: size, ..tile }))
        .collect();
    let footprint = Footprint::new(flat.src_extent(false), flat.dst_extent());
    Built {
        staging: flat.staging(),
        ..Built::new(asm, entries, packed, tasks, footprint)
    }
}

fn pack_chunk(
    packed: &mut AlignedBuf,
    problem: &ConvProblem,
    flat: &Flat,
    weights: Weights<'_>,
    rows: Range<u32>,
) -> Task {
    let bias = weights.pack_bias(packed, rows.clone());
    let wei = packed.align(64);
    for col in 0..problem.cols() {
        packed.extend_f32(rows.clone().map(|row| weights.value(row, col)));
    }
    Task {
        wei,
        bias,
        cost: problem.cols() as f32 * rows.len() as f32,
        ..Task::of_rows(problem, flat.channel_elems(), rows.start)
    }
}

/// Source of the current input channel.
const SRC_IC: Gp = Gp::Rbx;

/// One entry for a tile size; returns its offset.
fn emit<A: VectorAsm>(asm: &mut A, problem: &ConvProblem, flat: &Flat, tile: Tile) -> usize {
    let planes: Vec<u32> = (0..tile.rows).collect();
    let accs = accumulators(tile.rows, tile.vectors);
    entry(asm, &[SRC_IC], |asm| {
        load_args(asm);
        asm.mov(WEI_START, WEI);
        asm.counted_loop(COUNT, |asm| {
            flat.load_masks(asm);
            asm.mov(WEI, WEI_START);
            asm.mov(SRC_IC, SRC);
            start_from_bias(asm, &accs);
            emit_channels(asm, problem, flat, &accs);
            flat.store(asm, &accs, &planes, last_registers::<A>());
            flat.advance(asm);
        });
    })
}

/// The loop over input channels, unrolled to about eight taps.
fn emit_channels<A: VectorAsm>(asm: &mut A, problem: &ConvProblem, flat: &Flat, accs: &[Vec<V>]) {
    let unroll = (8 / problem.taps()).clamp(1, problem.icg());
    let trips = problem.icg() / unroll;
    if trips > 1 {
        asm.mov_imm(TMP, i64::from(trips));
        asm.counted_loop(TMP, |asm| emit_block(asm, problem, flat, accs, unroll));
    } else {
        emit_block(asm, problem, flat, accs, unroll);
    }
    let rest = problem.icg() - trips * unroll;
    if rest > 0 {
        emit_block(asm, problem, flat, accs, rest);
    }
}

/// `channels` input channels; moves to the next ones.
fn emit_block<A: VectorAsm>(
    asm: &mut A,
    problem: &ConvProblem,
    flat: &Flat,
    accs: &[Vec<V>],
    channels: u32,
) {
    let [kh, kw] = problem.window.kernel;
    let (rows, vectors) = (accs.len() as i32, accs[0].len());
    let x: Vec<V> = (0..vectors).map(|t| V(A::VREGS - 2 - t as u8)).collect();
    let weight = V(A::VREGS - 1);
    let mut disp = 0;
    for ic in 0..channels {
        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
            let tap = (ic * flat.channel_elems()) as i32 + flat.tap(ky, kx);
            for (t, &x) in x.iter().enumerate() {
                let mem = Mem::new(SRC_IC, tap * 4 + t as i32 * vector_bytes::<A>());
                load(asm, x, mem, flat.column_mask(kx, t as u32));
            }
            for (j, acc) in accs.iter().enumerate() {
                let mem = Mem::new(WEI, disp + 4 * j as i32);
                if vectors == 1 {
                    asm.fma_bcast(acc[0], x[0], mem, weight);
                    continue;
                }
                asm.broadcast(weight, mem);
                acc.iter()
                    .zip(&x)
                    .for_each(|(&acc, &x)| asm.fma(acc, weight, x));
            }
            disp += 4 * rows;
        }
    }
    asm.add_imm(WEI, disp);
    asm.add_imm(SRC_IC, (channels * flat.channel_elems()) as i32 * 4);
}
