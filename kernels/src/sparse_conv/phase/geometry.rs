//! How a problem is cut: rows of whole vectors, tiles of rows, blocks of input channels.

use crate::problem::{check_elems, refuse};
use crate::stage::Staging;
use crate::variant::{Unsupported, balanced};
use crate::{ConvProblem, Fused};
use skimjit_jit::Isa;
use std::ops::Range;

/// Bytes of the source that a block of input channels may have: it stays in the first-level data cache,
/// beside the table and the accumulators that pass by.
const BLOCK_BYTES: u32 = 36 << 10;
/// Lanes of half a 512-bit vector.
const HALF: u32 = 8;

/// The cut of one problem for one ISA.
pub struct Geometry {
    /// The copy that is read.
    pub staging: Staging,
    /// Lanes of a vector.
    pub lanes: u32,
    /// Output rows of each tile.
    pub tiles: Vec<Range<u32>>,
    /// Input channels (of a group) of each block: one block, or an even number.
    pub blocks: Vec<Range<u32>>,
    /// Positions of the taps in their rows, ascending.
    pub phases: Vec<u32>,
}

impl Geometry {
    /// The cut, or why there is none.
    pub fn new(problem: &ConvProblem, isa: Isa) -> Result<Self, Unsupported> {
        let lanes = isa.lanes();
        let staging = staging(problem, lanes)?;
        let most_vectors = most_vectors(problem, isa);
        let mut geometry = Self {
            staging,
            lanes,
            tiles: vec![],
            blocks: vec![],
            phases: phases(problem),
        };
        let together = geometry.rows_per_vector();
        let most_rows = most_vectors / geometry.row_vectors();
        if most_rows == 0 {
            let most = most_vectors * lanes;
            return refuse(format!(
                "padded rows of {} elements, expected at most {most}",
                staging.row_pitch
            ));
        }
        let oh = problem.dst.h;
        geometry.tiles = balanced(oh.div_ceil(together), most_rows)
            .map(|rows| rows.start * together..(rows.end * together).min(oh))
            .collect();
        geometry.blocks = geometry.cut_channels(problem);
        Ok(geometry)
    }

    fn cut_channels(&self, problem: &ConvProblem) -> Vec<Range<u32>> {
        let reach = self.staging.rows - problem.dst.h;
        let rows = self.tiles.first().map_or(0, |tile| tile.len() as u32) + reach;
        let planes = self.staging.phases[0] * self.staging.phases[1] * self.rows_per_vector();
        let channel = u64::from(rows) * u64::from(planes) * u64::from(self.staging.row_pitch) * 4;
        let icg = u64::from(problem.icg());
        let blocks = match (icg * channel).div_ceil(u64::from(BLOCK_BYTES)).min(icg) {
            0 | 1 => 1,
            blocks => blocks.next_multiple_of(2),
        };
        let at = |i: u64| (icg * i / blocks) as u32;
        (0..blocks).map(|i| at(i)..at(i + 1)).collect()
    }

    /// Rows that a vector holds.
    pub fn rows_per_vector(&self) -> u32 {
        (self.lanes / self.staging.row_pitch).max(1)
    }

    /// Vectors of one row, or of two where a vector holds two.
    pub fn row_vectors(&self) -> u32 {
        self.staging.row_pitch.div_ceil(self.lanes)
    }

    /// Accumulators of a tile.
    pub fn vectors(&self, rows: u32) -> u32 {
        rows.div_ceil(self.rows_per_vector()) * self.row_vectors()
    }

    /// Accumulators of the largest tile.
    pub fn most_tile_vectors(&self) -> u32 {
        let vectors = self
            .tiles
            .iter()
            .map(|tile| self.vectors(tile.len() as u32));
        vectors.max().unwrap_or(0)
    }

    /// Byte offset of a tap's row from the base of its channel, and the index of its phase.
    pub fn tap(&self, problem: &ConvProblem, ky: u32, kx: u32) -> (u32, usize) {
        let dilation = problem.window.dilation;
        let (row, position) = self.staging.aligned_tap(ky * dilation[0], kx * dilation[1]);
        let phase = self.phases.iter().position(|&phase| phase == position);
        (row * 4, phase.expect("phases hold every tap's position"))
    }
}

/// Accumulators that fit beside the weight and the registers of the post-ops.
fn most_vectors(problem: &ConvProblem, isa: Isa) -> u32 {
    let leaky = problem.post.is_some_and(|post| post != Fused::relu(0.0));
    match isa {
        Isa::Avx512 => 28,
        Isa::Avx2 if leaky => 12,
        Isa::Avx2 => 14,
    }
}

fn staging(problem: &ConvProblem, lanes: u32) -> Result<Staging, Unsupported> {
    // Rows grow by less than a vector, and may exist twice.
    let window = &problem.window;
    let reach = [0, 1].map(|axis| window.extent(axis) - 1);
    let size = [problem.dst.h, problem.dst.w].map(u64::from);
    let strides = window.stride.map(u64::from);
    let phases = [0, 1].map(|axis| strides[axis].min(reach[axis] + 1));
    let rows = size[0] + reach[0] / strides[0] + 1;
    let columns = size[1] + reach[1] / strides[1] + u64::from(lanes);
    let elems = [phases[0], phases[1], rows, columns, 2, problem.src.c.into()]
        .into_iter()
        .fold(1, u64::saturating_mul);
    check_elems(elems, "an aligned copy")?;
    let staging = Staging::new(problem.src, window, problem.dst.h, problem.dst.w);
    let unit = if staging.row_pitch <= HALF {
        HALF
    } else {
        lanes
    };
    Ok(staging.aligned(unit, lanes))
}

/// Distinct positions of the taps in their rows.
fn phases(problem: &ConvProblem) -> Vec<u32> {
    let window = &problem.window;
    let mut phases: Vec<u32> = (0..window.kernel[1])
        .map(|kx| kx * window.dilation[1] / window.stride[1])
        .collect();
    phases.dedup();
    phases
}
