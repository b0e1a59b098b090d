//! Sparse matrix × dense matrix: convolutions, and inner products of a batch.

mod emit;
mod geometry;
mod pack;

use crate::variant::{
    Built, Cost, KernelError, TASK_CYCLES, Task, TypedVariant, Unsupported, Weighting, Weights,
    at_least_memory, balanced, index_of,
};
use crate::{AlignedBuf, ConvProblem, Extent, Footprint};
use emit::Entry;
use geometry::Geometry;
use skimjit_jit::Isa;
use skimjit_jit::asm::VectorAsm;
use skimjit_models::Pattern;
use std::ops::Range;

/// Convolution as a sparse matrix (output channels × input channels and taps) times a dense one (input channels and
/// taps × pixels), with the pattern read from memory.
///
/// Formula and layouts as [`super::baked::Baked`].
/// * src: planes for 1×1 windows without stride and pad, else a shifted copy, whose vectors of outputs are aligned for
///   every tap: of rows of outputs, or of all pixels where the window has one tap.
/// * A task is a tile of pixels, a few vectors in accumulators, times some output channels. Input channels are
///   cut into blocks whose pixels stay in the first-level cache, and rows wait in scratch memory from one block
///   to the next. Inside a block, rows are sorted by their number of non-zeros, so that loop lengths repeat and
///   are predicted.
/// * wei: `u16` offsets of non-zeros inside a block; bias: their `f32` weights, which are loaded by fours and
///   spread by shuffles, since loads are what binds: 6 bytes per non-zero. Code does not depend on the pattern.
/// * scratch: one tile's row per output channel.
/// * refused: copies beyond the limits.
pub struct Spmm;

/// Bytes of a block's pixels.
const BLOCK_BYTES: u32 = 40 << 10;
/// Bytes of the waiting rows of a task.
const SCRATCH_BYTES: u32 = 128 << 10;
/// Tasks that a kernel should have, so that a few threads can share it evenly.
const WANTED_TASKS: u32 = 8;

/// Vectors of a tile that are worth trying, and independent sums of each, which hide a multiply-add's latency.
fn tiles(isa: Isa) -> &'static [(u32, u32)] {
    match isa {
        Isa::Avx512 => &[(1, 8), (2, 4), (3, 4), (4, 4), (5, 2), (7, 2), (8, 2)],
        Isa::Avx2 => &[(1, 8), (2, 6), (4, 3), (7, 2), (12, 1)],
    }
}

/// Independent sums of a tile of any number of vectors.
fn sums(isa: Isa, vectors: u32) -> u32 {
    let fits = |&&(most, _): &&(u32, u32)| vectors <= most;
    tiles(isa).iter().find(fits).map_or(1, |&(_, sums)| sums)
}

/// How pixels, channels and rows are cut.
#[derive(Clone, Copy)]
struct Cuts {
    /// Vectors of a tile, at most.
    vectors: u32,
    /// Input channels of a block, at most.
    channels: u32,
    /// Blocks.
    blocks: u32,
    /// Output channels of a task, at most.
    rows: u32,
    /// Bytes of an offset's unit.
    unit: u32,
}

impl Cuts {
    fn new(problem: &ConvProblem, geometry: &Geometry, isa: Isa, vectors: u32) -> Self {
        let wanted = (BLOCK_BYTES / geometry.tile_bytes(problem, vectors)).clamp(1, problem.icg());
        let (unit, most) = geometry.units(wanted);
        let blocks = problem.icg().div_ceil(wanted.min(most));
        let tiles = geometry.vectors().div_ceil(vectors);
        let parts = WANTED_TASKS.div_ceil(problem.groups * tiles);
        let bytes = vectors * isa.lanes() * 4;
        let rows = (SCRATCH_BYTES / bytes).min(problem.ocg().div_ceil(parts));
        Self {
            vectors,
            channels: problem.icg().div_ceil(blocks),
            blocks,
            rows: rows.max(1),
            unit,
        }
    }

    /// Bytes of a row in scratch memory.
    fn slot(&self, lanes: u32) -> u32 {
        self.vectors * lanes * 4
    }

    /// Cycles of an image; terms fitted on Zen 5: products, rows that begin, wait and end, pixels from L2, the copy.
    fn cycles(
        &self,
        problem: &ConvProblem,
        geometry: &Geometry,
        pattern: &Pattern,
        isa: Isa,
    ) -> f64 {
        let tile = f64::from(self.vectors);
        let tiles = f64::from(geometry.vectors()) / tile;
        let rows = f64::from(problem.dst.c * self.blocks);
        let waiting = if self.blocks > 1 { 0.5 * tile } else { 0.0 };
        let products = f64::from(pattern.nnz()) * (0.53 * tile + 0.25);
        let chunks = problem.ocg().div_ceil(self.rows);
        let lines = f64::from(geometry.tile_bytes(problem, self.vectors)) / 64.0;
        let pixels = f64::from(chunks * problem.src.c) * lines * 1.2;
        let copy = geometry.copy_cycles();
        let tasks = f64::from(chunks * problem.groups) * tiles.ceil();
        // The vectors of a row find each other's registers.
        let post = problem.post_cycles(isa, 3 * self.vectors);
        tiles * (products + rows * (5.0 + 1.45 * tile + waiting) + pixels)
            + tasks * TASK_CYCLES
            + post
            + copy
    }

    fn choose(
        problem: &ConvProblem,
        geometry: &Geometry,
        pattern: &Pattern,
        isa: Isa,
    ) -> (Self, f64) {
        let all = geometry.vectors();
        let cuts = tiles(isa).iter().map(|&(vectors, _)| {
            let vectors = all.div_ceil(all.div_ceil(vectors));
            let cuts = Self::new(problem, geometry, isa, vectors);
            (cuts, cuts.cycles(problem, geometry, pattern, isa))
        });
        cuts.min_by(|(_, a), (_, b)| a.total_cmp(b))
            .expect("there are tiles")
    }
}

impl TypedVariant for Spmm {
    type Problem = ConvProblem;
    const NAME: &'static str = "sparse_conv.spmm";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "conv src=20x1x8x16 dst=9x1x8x16 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=30 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, isa: Isa) -> Result<(), Unsupported> {
        problem.check()?;
        Geometry::new(problem, isa).map(|_| ())
    }
    fn cost(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let geometry = Geometry::new(problem, isa).expect("supported");
        let (_, cycles) = Cuts::choose(problem, &geometry, pattern, isa);
        Cost {
            cycles: at_least_memory(cycles, 6.0 * f64::from(pattern.nnz())),
            code_bytes: 8192,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        let geometry = Geometry::new(problem, A::ISA)?;
        Ok(build::<A>(problem, &geometry, weights))
    }
}

fn build<A: VectorAsm>(problem: &ConvProblem, geometry: &Geometry, weights: Weights<'_>) -> Built {
    let (cuts, _) = Cuts::choose(problem, geometry, weights.pattern, A::ISA);
    let lanes = A::LANES as u32;
    let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 7);
    let mut entries: Vec<Entry> = Vec::new();
    let mut tasks = Vec::new();
    let packing = pack::Packing {
        problem,
        geometry,
        cuts: &cuts,
        weights,
    };
    for group in 0..problem.groups {
        for rows in balanced(problem.ocg(), cuts.rows) {
            let first = group * problem.ocg();
            let rows = rows.start + first..rows.end + first;
            let chunk = packing.rows::<A>(&mut packed, rows);
            for vectors in balanced(geometry.vectors(), cuts.vectors) {
                let entry = index_of(&mut entries, Entry::new(geometry, vectors.clone()));
                tasks.push(of_tile(chunk, entry, geometry, vectors, lanes));
            }
        }
    }
    pack::end(&mut packed);
    let mut asm = A::new();
    let emit = |entry: &Entry| emit::entry(&mut asm, problem, geometry, &cuts, entry);
    let entries: Vec<usize> = entries.iter().map(emit).collect();
    Built {
        staging: geometry.staging,
        ..Built::new(
            asm,
            entries,
            packed,
            tasks,
            footprint(problem, geometry, &cuts, lanes),
        )
    }
}

/// The task of a chunk of rows for a tile.
fn of_tile(chunk: Task, entry: u32, geometry: &Geometry, vectors: Range<u32>, lanes: u32) -> Task {
    Task {
        entry,
        src: chunk.src + i64::from(vectors.start) * i64::from(lanes) * 4,
        dst: chunk.dst + i64::from(geometry.pixels(vectors.start).first) * 4,
        cost: chunk.cost * vectors.len() as f32,
        ..chunk
    }
}

fn footprint(problem: &ConvProblem, geometry: &Geometry, cuts: &Cuts, lanes: u32) -> Footprint {
    let (src, dst) = (&problem.src, &problem.dst);
    let whole = dst.hw().next_multiple_of(lanes) as usize;
    let read = geometry
        .staging
        .map_or(src.last_plane() + whole, |copy| copy.elems());
    // The residual is read in whole vectors.
    let over = if problem.residual { lanes } else { 0 };
    Footprint {
        src: Extent::from_base(read),
        dst: Extent::from_base(dst.last_plane() + (dst.hw() + over) as usize),
        scratch_bytes: (cuts.rows * cuts.slot(lanes)) as usize,
    }
}
