//! Direct sparse convolution with aligned loads only: accumulators turn instead of the source.

mod emit;
mod geometry;
mod table;

use crate::problem::refuse;
use crate::variant::{
    Built, Cost, KernelError, TASK_CYCLES, Task, TypedVariant, Unsupported, Weighting, Weights,
    balanced,
};
use crate::{AlignedBuf, ConvProblem, Extent, Footprint};
use geometry::Geometry;
use skimjit_jit::Isa;
use skimjit_jit::asm::VectorAsm;
use skimjit_models::Pattern;
use std::ops::Range;
use table::Table;

/// Direct sparse convolution, pattern streamed, taps sorted by their position in the row ("phase").
///
/// One output channel at a time: a tile of rows of its plane is in accumulators, and every non-zero is
/// one broadcast weight and one multiply-add per accumulator with an *aligned* vector of the source.
/// All non-zeros of one phase are accumulated where their source pixels lie; then the accumulators are
/// turned to the next phase. Blocks of input channels keep the source in the first-level cache; between
/// them the accumulators wait in scratch memory, and the order of the phases is reversed, so that
/// nothing has to be turned back.
///
/// Formula as [`super::baked::Baked`].
/// * src: a staged copy with rows of whole vectors, each row a ring. dst: planes, gaps untouched.
/// * wei: offset (`u32`, bytes) and weight (`f32`) of every non-zero, in the order of `table`. Code
///   does not depend on the pattern.
/// * task = a range of output channels × one tile; tasks write disjoint parts of dst.
/// * scratch: the accumulators of the task's output channels.
/// * refused: 1 × 1 windows (a copy gains nothing), rows longer than the accumulators of a tile, copies
///   beyond the limits.
pub struct Phase;

/// Tasks that a kernel should have, so that a few threads can share it evenly.
const WANTED_TASKS: u32 = 8;
/// Most bytes of accumulators that wait for the next block.
const SCRATCH_BYTES: u32 = 192 << 10;

impl TypedVariant for Phase {
    type Problem = ConvProblem;
    const NAME: &'static str = "sparse_conv.phase";
    const WEIGHTING: Weighting = Weighting::Sparse;
    const EXAMPLE: &'static str = "conv src=2x5x9x64 dst=2x5x9x64 k=1x3 s=1x1 p=0x1 d=1x1 g=1 relu=0 density=40 bias=1 scale=1 seed=1";

    fn supports(problem: &ConvProblem, isa: Isa) -> Result<(), Unsupported> {
        problem.check()?;
        if problem.taps() == 1 {
            return refuse("a window of 1x1, expected more taps".to_owned());
        }
        Geometry::new(problem, isa).map(|_| ())
    }
    fn cost(problem: &ConvProblem, pattern: &Pattern, isa: Isa) -> Cost {
        let geometry = Geometry::new(problem, isa).expect("supported");
        Cost {
            cycles: cycles(problem, &geometry, f64::from(pattern.nnz()), isa),
            code_bytes: code_bytes(&geometry),
        }
    }
    fn build<A: VectorAsm>(
        problem: &ConvProblem,
        weights: Weights<'_>,
    ) -> Result<Built, KernelError> {
        Ok(build::<A>(
            problem,
            &Geometry::new(problem, A::ISA)?,
            weights,
        ))
    }
}

/// Estimate, fitted on Zen 5 to the pruned layers of the three reference networks, staging included.
fn cycles(problem: &ConvProblem, geometry: &Geometry, nnz: f64, isa: Isa) -> f64 {
    // Cycles of a non-zero per vector and per tile; of an accumulator that waits for the next block,
    // or turns; of a loop over the non-zeros of a phase.
    let [per_vector, per_nnz, waiting, turning, per_loop] = match isa {
        Isa::Avx512 => [0.58, 0.91, 0.42, 0.17, 9.0],
        Isa::Avx2 => [0.44, 1.1, 0.02, 0.84, 0.0],
    };
    let phases = geometry.phases.len() as f64;
    let passes = geometry.blocks.len() as f64 * f64::from(problem.dst.c);
    let tile = |tile: &Range<u32>| {
        let vectors = f64::from(geometry.vectors(tile.len() as u32));
        nnz * (vectors * per_vector + per_nnz)
            + passes * (vectors * (waiting + turning * (phases - 1.0)) + phases * per_loop)
    };
    let tasks = problem.ocg().div_ceil(task_channels(problem, geometry)) * problem.groups;
    let tasks = f64::from(tasks) * geometry.tiles.len() as f64;
    geometry.tiles.iter().map(tile).sum::<f64>()
        + tasks * TASK_CYCLES
        + problem.post_cycles(isa, 6)
        + geometry.staging.cycles(isa.lanes())
}

/// Estimated code of all tile heights: a loop over non-zeros per phase, and the turns between them.
fn code_bytes(geometry: &Geometry) -> u64 {
    // The first, the last and two kinds of blocks between them.
    let blocks = geometry.blocks.len().min(4) as u64;
    let vectors = |rows: u32| u64::from(geometry.vectors(rows));
    let heights = heights(geometry).into_iter().map(vectors);
    let per_phase = |vectors: u64| vectors * 18 + 48;
    heights.map(per_phase).sum::<u64>() * blocks * geometry.phases.len() as u64
}

/// Output channels of a task.
fn task_channels(problem: &ConvProblem, geometry: &Geometry) -> u32 {
    let waiting = geometry.most_tile_vectors() * geometry.lanes * 4;
    let tasks = WANTED_TASKS
        .div_ceil(problem.groups)
        .div_ceil(geometry.tiles.len() as u32);
    let even = problem.ocg().div_ceil(tasks);
    even.min((SCRATCH_BYTES / waiting).max(1))
}

fn build<A: VectorAsm>(problem: &ConvProblem, geometry: &Geometry, weights: Weights<'_>) -> Built {
    let mut asm = A::new();
    let heights = heights(geometry);
    let entries: Vec<usize> = heights
        .iter()
        .map(|&rows| emit::emit_tile(&mut asm, problem, geometry, rows))
        .collect();
    let mut packed = AlignedBuf::with_capacity(weights.pattern.nnz() as usize * 8);
    let mut tasks = Vec::new();
    let most_channels = task_channels(problem, geometry);
    for group in 0..problem.groups {
        let first = group * problem.ocg();
        for rows in balanced(problem.ocg(), most_channels) {
            let rows = first + rows.start..first + rows.end;
            let table = Table::new(problem, geometry, weights, rows.clone());
            let bias = weights.pack_bias(&mut packed, rows.clone());
            let wei = packed.align(64);
            table.write_entries(&mut packed);
            let aux = packed.align(64);
            emit::write_constants::<A>(&mut packed, problem, geometry);
            table.write_counts(&mut packed);
            let task = Task {
                wei,
                bias,
                aux,
                count: rows.len() as u64,
                ..Task::of_rows(problem, geometry.staging.channel, rows.start)
            };
            for tile in &geometry.tiles {
                let moved = i64::from(tile.start) * i64::from(geometry.staging.row_pitch);
                let height = heights.iter().position(|&rows| rows == tile.len() as u32);
                tasks.push(Task {
                    entry: height.expect("code for every height") as u32,
                    src: task.src + moved * 4,
                    dst: task.dst + i64::from(tile.start * problem.dst.w) * 4,
                    cost: table.len() as f32 * tile.len() as f32 + 4.0 * rows.len() as f32,
                    ..task
                });
            }
        }
    }
    Built {
        staging: Some(geometry.staging),
        ..Built::new(asm, entries, packed, tasks, footprint(problem, geometry))
    }
}

/// Distinct heights of the tiles.
fn heights(geometry: &Geometry) -> Vec<u32> {
    let mut heights: Vec<u32> = geometry.tiles.iter().map(|t| t.len() as u32).collect();
    heights.sort_unstable();
    heights.dedup();
    heights
}

fn footprint(problem: &ConvProblem, geometry: &Geometry) -> Footprint {
    let dst = &problem.dst;
    // The residual is read in whole vectors.
    let over = if problem.residual { geometry.lanes } else { 0 };
    let channels = task_channels(problem, geometry);
    let waiting = channels * geometry.most_tile_vectors() * geometry.lanes * 4;
    let several = geometry.blocks.len() > 1;
    Footprint {
        src: Extent::from_base(geometry.staging.elems()),
        dst: Extent::from_base(dst.last_plane() + (dst.hw() + over) as usize),
        scratch_bytes: if several { waiting as usize } else { 0 },
    }
}
