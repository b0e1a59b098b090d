//! Sparse matrix × dense matrix: 1×1 convolutions, and inner products of a batch.

mod emit;
mod pack;

use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, Task, TypedVariant, Unsupported, Weighting, Weights, at_least_memory,
    balanced, index_of, last_lanes,
};
use crate::{AlignedBuf, ConvProblem, Extent, Footprint};
use emit::Entry;
use skimjit_jit::Isa;
use skimjit_jit::asm::VectorAsm;
use skimjit_models::Pattern;
use std::ops::Range;

/// 1×1 convolution as a sparse matrix (output × input channels) times a dense one (input channels ×
/// pixels), with the pattern read from memory.
///
/// Formula and layouts as [`super::baked::Baked`].
/// * A task is a tile of pixels, a few vectors in accumulators, times some output channels. Input channels are
///   cut into blocks whose pixels stay in the first-level cache, and rows wait in scratch memory from one block
///   to the next. Inside a block, rows are sorted by their number of non-zeros, so that loop lengths repeat and
///   are predicted.
/// * wei: `u16` offsets of non-zeros inside a block; bias: their `f32` weights, which are loaded by fours and
///   spread by shuffles, since loads are what binds: 6 bytes per non-zero. Code does not depend on the pattern.
/// * scratch: one tile's row per output channel.
/// * refused: other windows.
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
    fn new(problem: &ConvProblem, isa: Isa, vectors: u32) -> Self {
        let lanes = isa.lanes();
        let all = problem.dst.hw().div_ceil(lanes);
        let bytes = vectors * lanes * 4;
        let wanted = (BLOCK_BYTES / bytes).clamp(1, problem.icg());
        let (unit, most) = units(problem.src.pitch, wanted);
        let blocks = problem.icg().div_ceil(wanted.min(most));
        let tiles = all.div_ceil(vectors);
        let parts = WANTED_TASKS.div_ceil(problem.groups * tiles);
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

    /// Cycles of an image; terms fitted on Zen 5: products, rows that begin, wait and end, pixels from L2.
    fn cycles(&self, problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> f64 {
        let tile = f64::from(self.vectors);
        let all = problem.dst.hw().div_ceil(isa.lanes());
        let tiles = f64::from(all) / tile;
        let rows = f64::from(problem.dst.c * self.blocks);
        let waiting = if self.blocks > 1 { 0.5 * tile } else { 0.0 };
        let products = f64::from(pattern.nnz()) * (0.53 * tile + 0.25);
        let chunks = problem.ocg().div_ceil(self.rows);
        let pixels = f64::from(chunks * problem.src.c) * tile * 1.2;
        tiles * (products + rows * (5.0 + 1.45 * tile + waiting) + pixels)
    }

    fn choose(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> (Self, f64) {
        let all = problem.dst.hw().div_ceil(isa.lanes());
        let cuts = tiles(isa).iter().map(|&(vectors, _)| {
            let vectors = all.div_ceil(all.div_ceil(vectors));
            let cuts = Self::new(problem, isa, vectors);
            (cuts, cuts.cycles(problem, pattern, isa))
        });
        cuts.min_by(|(_, a), (_, b)| a.total_cmp(b))
            .expect("there are tiles")
    }
}

/// Bytes of the unit in which the offsets of `channels` planes fit 16 bits, and how many planes fit.
fn units(pitch: u32, channels: u32) -> (u32, u32) {
    let planes = |unit: u32| {
        let each = u64::from(pitch) * 4 / u64::from(unit);
        (u64::from(u16::MAX) / each + 1).min(u32::MAX.into()) as u32
    };
    let exact = |&unit: &u32| (u64::from(pitch) * 4).is_multiple_of(unit.into());
    let units = emit::UNITS.into_iter().filter(exact);
    let found = units.clone().find(|&unit| planes(unit) >= channels);
    let unit = found.or(units.max()).expect("the smallest unit is exact");
    (unit, planes(unit))
}

impl TypedVariant for Spmm {
    type Problem = ConvProblem;
    const NAME: &'static str = "sparse_conv.spmm";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "conv src=20x1x8x16 dst=9x1x8x16 k=1x1 s=1x1 p=0x0 d=1x1 g=1 relu=0 density=30 bias=1 scale=1 seed=1";

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
        Ok(())
    }
    fn cost(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let (_, cycles) = Cuts::choose(problem, pattern, isa);
        Cost {
            cycles: at_least_memory(cycles, 6.0 * f64::from(pattern.nnz())),
            code_bytes: 8192,
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        Ok(build::<A>(problem, weights))
    }
}

fn build<A: VectorAsm>(problem: &ConvProblem, weights: Weights<'_>) -> Built {
    let (cuts, _) = Cuts::choose(problem, weights.pattern, A::ISA);
    let lanes = A::LANES as u32;
    let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 7);
    let all = problem.dst.hw().div_ceil(lanes);
    let partial = last_lanes(problem.dst.hw(), lanes) < lanes;
    let mut entries: Vec<Entry> = Vec::new();
    let mut tasks = Vec::new();
    for group in 0..problem.groups {
        for rows in balanced(problem.ocg(), cuts.rows) {
            let first = group * problem.ocg();
            let rows = rows.start + first..rows.end + first;
            let chunk = pack::rows::<A>(&mut packed, problem, &cuts, weights, rows);
            for vectors in balanced(all, cuts.vectors) {
                let entry = Entry {
                    vectors: vectors.len() as u32,
                    partial: partial && vectors.end == all,
                };
                let entry = index_of(&mut entries, entry);
                tasks.push(of_tile(chunk, entry, vectors, lanes));
            }
        }
    }
    pack::end(&mut packed);
    let mut asm = A::new();
    let emit = |&entry: &Entry| emit::entry(&mut asm, problem, &cuts, entry);
    let entries: Vec<usize> = entries.iter().map(emit).collect();
    let footprint = footprint(problem, &cuts, lanes);
    Built::new(asm, entries, packed, tasks, footprint)
}

/// The task of a chunk of rows for a tile.
fn of_tile(chunk: Task, entry: u32, vectors: Range<u32>, lanes: u32) -> Task {
    let moved = i64::from(vectors.start) * i64::from(lanes) * 4;
    Task {
        entry,
        src: chunk.src + moved,
        dst: chunk.dst + moved,
        cost: chunk.cost * vectors.len() as f32,
        ..chunk
    }
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
        scratch_bytes: (cuts.rows * cuts.slot(lanes)) as usize,
    }
}
