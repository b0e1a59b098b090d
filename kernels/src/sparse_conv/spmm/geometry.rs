//! Where pixels and taps lie.

use crate::problem::{check_elems, refuse};
use crate::stage::Staging;
use crate::variant::Unsupported;
use crate::{ConvProblem, Planes};
use skimjit_jit::Isa;

/// Lanes of half a 512-bit vector.
const HALF: u32 = 8;
/// Bytes of the units that offsets may have: elements, pairs, cache lines.
pub const UNITS: [u32; 3] = [4, 8, 64];

/// The source as the code reads it: vectors of outputs follow each other, those of a tap at a fixed distance.
pub struct Geometry {
    /// The copy that is read, where it is not the source itself.
    pub staging: Option<Staging>,
    /// Elements from one input channel to the next.
    pub channel: u32,
    /// Outputs that follow each other in source and result, and how often: the rows of the plane, or one row of all
    /// of its pixels.
    row: u32,
    rows: u32,
    /// Elements from one such row to the next in the source.
    row_pitch: u32,
    lanes: u32,
}

/// The outputs of a vector.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pixels {
    /// The first one.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Geometry {
    /// How a problem is read, or why it cannot be.
    pub fn new(problem: &ConvProblem, isa: Isa) -> Result<Self, Unsupported> {
        let lanes = isa.lanes();
        let window = &problem.window;
        if window.kernel == [1, 1] && window.stride == [1, 1] && !window.is_padded() {
            return Ok(Self::flat(problem, None, lanes));
        }
        check_copy(problem, lanes)?;
        let Planes { h, w, .. } = problem.dst;
        let shifted = |unit| Staging::shifted(problem.src, window, [h, w], unit, lanes);
        if window.kernel == [1, 1] {
            return Ok(Self::flat(problem, Some(shifted(1)), lanes));
        }
        let staging = shifted(if w <= HALF { HALF } else { lanes });
        let geometry = Self {
            channel: staging.channel,
            row: w,
            rows: h,
            row_pitch: staging.row_pitch,
            staging: Some(staging),
            lanes,
        };
        let most = u64::from(u16::MAX) * u64::from(geometry.units(1).0);
        if u64::from(staging.channel) * 4 > most {
            let found = u64::from(staging.channel) * 4;
            return refuse(format!(
                "a copy of {found} bytes per channel, expected at most {most}"
            ));
        }
        Ok(geometry)
    }

    /// One row of all pixels.
    fn flat(problem: &ConvProblem, staging: Option<Staging>, lanes: u32) -> Self {
        let row = problem.dst.hw();
        Self {
            channel: staging.map_or(problem.src.pitch, |staging| staging.channel),
            staging,
            row,
            rows: 1,
            row_pitch: row.next_multiple_of(lanes),
            lanes,
        }
    }

    /// Cycles of the copy.
    pub fn copy_cycles(&self) -> f64 {
        self.staging
            .map_or(0.0, |staging| staging.cycles(self.lanes))
    }

    /// Rows that a vector holds.
    pub fn rows_per_vector(&self) -> u32 {
        (self.lanes / self.row_pitch).max(1)
    }

    fn vectors_per_row(&self) -> u32 {
        self.row_pitch.div_ceil(self.lanes)
    }

    /// Vectors of a channel of the result.
    pub fn vectors(&self) -> u32 {
        self.rows.div_ceil(self.rows_per_vector()) * self.vectors_per_row()
    }

    /// The outputs of a vector.
    pub fn pixels(&self, vector: u32) -> Pixels {
        let (per_row, together) = (self.vectors_per_row(), self.rows_per_vector());
        let (row, column) = (vector / per_row * together, vector % per_row * self.lanes);
        let count = match together {
            1 => self.lanes.min(self.row - column),
            _ => together.min(self.rows - row) * self.row,
        };
        Pixels {
            first: row * self.row + column,
            count,
        }
    }

    /// Whether the rows of a vector have to be moved together.
    pub fn has_holes(&self) -> bool {
        self.rows_per_vector() > 1 && self.row < self.row_pitch
    }

    /// Outputs of a row, and elements from one row to the next where a vector has several.
    pub fn row(&self) -> [u32; 2] {
        [self.row, self.row_pitch]
    }

    /// Elements from the first channel's vector to that of a column of weights.
    pub fn offset(&self, problem: &ConvProblem, col: u32) -> u32 {
        let taps = problem.taps();
        let (channel, tap) = (col / taps, col % taps);
        let [_, columns] = problem.window.kernel;
        let row = tap / columns * problem.window.dilation[0];
        let tap = self
            .staging
            .map_or(0, |staging| staging.shifted_tap(row, tap % columns));
        channel * self.channel + tap
    }

    /// Bytes of a channel that a tile of so many vectors reads.
    pub fn tile_bytes(&self, problem: &ConvProblem, vectors: u32) -> u32 {
        let Some(staging) = self.staging else {
            return vectors * self.lanes * 4;
        };
        let planes = staging.phases[0] * staging.phases[1] * self.rows_per_vector();
        let reach = (problem.window.kernel[0] - 1) * problem.window.dilation[0];
        let more = reach / problem.window.stride[0] * self.row_pitch;
        planes * (vectors * self.lanes + more) * 4
    }

    /// The largest unit of all offsets with which those of `channels` channels fit 16 bits, and how many channels
    /// fit.
    pub fn units(&self, channels: u32) -> (u32, u32) {
        // What taps add lies inside their channel.
        let each = u64::from(self.channel) * 4;
        let inner = if self.rows > 1 {
            u64::from(self.row_pitch) * 4
        } else {
            each
        };
        let fit = |unit: u32| {
            let fit = u64::from(u16::MAX) * u64::from(unit) / each;
            (fit + u64::from(self.rows == 1)).clamp(1, u32::MAX.into()) as u32
        };
        let exact = |&unit: &u32| {
            [each, inner]
                .iter()
                .all(|of| of.is_multiple_of(unit.into()))
        };
        let units = UNITS.into_iter().filter(exact);
        let found = units.clone().find(|&unit| fit(unit) >= channels);
        let unit = found.or(units.max()).expect("the smallest unit is exact");
        (unit, fit(unit))
    }
}

/// Refuses shifted copies beyond the limits.
fn check_copy(problem: &ConvProblem, lanes: u32) -> Result<(), Unsupported> {
    let window = &problem.window;
    let (reach, stride) = (window.extent(0) - 1, u64::from(window.stride[0]));
    let [h, w] = [problem.dst.h, problem.dst.w].map(u64::from);
    let rows = h + reach / stride + 1;
    // Rows grow by less than a vector, and may exist twice; a channel grows to an odd number of lines.
    let plane = rows.saturating_mul(w + u64::from(lanes)).saturating_mul(2);
    let planes = stride
        .min(reach + 1)
        .saturating_mul(window.kernel[1].into());
    let channel = plane.saturating_mul(planes).saturating_add(32);
    check_elems(
        channel.saturating_mul(problem.src.c.into()),
        "a shifted copy",
    )
}
