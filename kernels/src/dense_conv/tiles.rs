//! Output positions cut into register tiles of consecutive pixels, and tiles into segments.

use crate::problem::check_elems;
use crate::stage::Staging;
use crate::variant::{Unsupported, last_lanes};
use crate::{AlignedBuf, ConvProblem};
use skimjit_jit::asm::VectorAsm;
use skimjit_models::ops::Window;

/// Pixels whose accumulators a segment hands from one block of input channels to the next.
const SEGMENT_PIXELS: u32 = 128;
/// Bytes before the tile offsets of a segment's table.
pub const HEADER_BYTES: i32 = 64;
/// Where the header holds the number of tiles.
pub const HEADER_TILES: i32 = 0;
/// Where the header holds the number of pixel blocks before the last.
pub const HEADER_BLOCKS: i32 = 4;
/// Where the header holds the lane mask of the last pixel block.
pub const HEADER_MASK: i32 = 32;

/// How a convolution reads its source: a padded copy when there is padding, else the planes.
/// Unlike in [`crate::flat`], strided windows need no copy, since pixels are read one by one.
pub struct Source {
    /// The padded copy.
    pub staging: Option<Staging>,
    /// Elements from one source row to the next.
    row: u32,
    /// Elements from one channel to the next.
    pub channel: u32,
    window: Window,
}

impl Source {
    /// For a checked problem.
    pub fn new(problem: &ConvProblem) -> Self {
        let window = problem.window;
        if !window.is_padded() {
            let (row, channel) = (problem.src.w, problem.src.pitch);
            return Self {
                staging: None,
                row,
                channel,
                window,
            };
        }
        // Every position of the padded plane, whatever the stride.
        let unit = Window {
            stride: [1, 1],
            ..window
        };
        let size = |axis: usize, input: u32| {
            input + window.pads(axis) as u32 + 1 - window.extent(axis) as u32
        };
        let (h, w) = (size(0, problem.src.h), size(1, problem.src.w));
        let staging = Staging::new(problem.src, &unit, h, w);
        Self {
            row: staging.row_pitch,
            channel: staging.channel,
            staging: Some(staging),
            window,
        }
    }

    /// Refuses a padded copy beyond the limits.
    pub fn check(problem: &ConvProblem) -> Result<(), Unsupported> {
        let rows = u64::from(problem.src.h) + problem.window.pads(0);
        let columns = u64::from(problem.src.w) + problem.window.pads(1);
        let elems = rows
            .saturating_mul(columns)
            .saturating_mul(u64::from(problem.src.c));
        check_elems(elems, "a padded copy")
    }

    /// Element offset of the first tap of output (y, x).
    fn pixel(&self, y: u32, x: u32) -> u32 {
        y * self.window.stride[0] * self.row + x * self.window.stride[1]
    }

    /// Elements from one output pixel to the next in its row.
    pub fn pixel_step(&self) -> u32 {
        self.window.stride[1]
    }

    /// Elements from one kernel row to the next.
    pub fn kernel_row(&self) -> u32 {
        self.window.dilation[0] * self.row
    }

    /// Elements from one kernel column to the next.
    pub fn kernel_column(&self) -> u32 {
        self.window.dilation[1]
    }

    /// True when consecutive outputs read consecutive elements, across rows too.
    fn contiguous(&self, width: u32) -> bool {
        self.window.stride == [1, 1] && self.row == width
    }
}

/// A run of consecutive output positions that one task computes.
#[derive(Clone, PartialEq, Debug)]
pub struct Segment {
    /// First output position.
    pub first: u32,
    /// Source element offset of each tile's first pixel.
    pub tiles: Vec<u32>,
    /// For each position: tile · pixels + pixel that holds it.
    pub slots: Vec<u32>,
}

/// The segments of a plane for tiles of `pixels` pixels.
///
/// Where a row (or the plane, when rows adjoin) is no multiple of the tile, its last tile is moved
/// back and computes some pixels a second time.
pub fn segments(problem: &ConvProblem, source: &Source, pixels: u32, lanes: u32) -> Vec<Segment> {
    let (oh, ow) = (problem.dst.h, problem.dst.w);
    if source.contiguous(ow) {
        let all = problem.dst.hw();
        let starts = cuts(all, flat_segment(pixels, lanes), pixels);
        let ends = starts[1..].iter().copied().chain([all]);
        return starts
            .iter()
            .zip(ends)
            .map(|(&first, end)| segment(first, &[(first, end - first)], pixels))
            .collect();
    }
    let rows = rows_per_segment(oh, ow, lanes);
    (0..oh)
        .step_by(rows as usize)
        .map(|y| {
            let lines: Vec<(u32, u32)> = (y..oh.min(y + rows))
                .map(|y| (source.pixel(y, 0), ow))
                .collect();
            let step = source.pixel_step();
            let mut segment = segment(y * ow, &[], pixels);
            for (start, len) in lines {
                push_line(&mut segment, start, len, pixels, step);
            }
            segment
        })
        .collect()
}

/// Positions of a segment where rows adjoin: whole tiles and whole vectors, if that is not too many.
fn flat_segment(pixels: u32, lanes: u32) -> u32 {
    let mut both = lanes;
    while !both.is_multiple_of(pixels) {
        both += lanes;
    }
    if both <= SEGMENT_PIXELS {
        both * (SEGMENT_PIXELS / both)
    } else {
        SEGMENT_PIXELS
    }
}

/// Rows of a segment; best when its pixels fill vectors, so that the next segment is stored aligned.
fn rows_per_segment(oh: u32, ow: u32, lanes: u32) -> u32 {
    let most = (SEGMENT_PIXELS / ow).clamp(1, oh);
    let whole = (1..=most)
        .rev()
        .find(|rows| (rows * ow).is_multiple_of(lanes));
    whole.unwrap_or(most)
}

/// Starts of runs of `size`, the last one at least `least` long.
fn cuts(all: u32, size: u32, least: u32) -> Vec<u32> {
    let mut starts: Vec<u32> = (0..all).step_by(size as usize).collect();
    if starts.len() > 1 && all - starts[starts.len() - 1] < least {
        starts.pop();
    }
    starts
}

fn segment(first: u32, lines: &[(u32, u32)], pixels: u32) -> Segment {
    let mut segment = Segment {
        first,
        tiles: vec![],
        slots: vec![],
    };
    for &(start, len) in lines {
        push_line(&mut segment, start, len, pixels, 1);
    }
    segment
}

/// Adds a line of `len` ≥ `pixels` output positions whose source starts at `start`.
fn push_line(segment: &mut Segment, start: u32, len: u32, pixels: u32, step: u32) {
    for tile in 0..len.div_ceil(pixels) {
        let x = (tile * pixels).min(len - pixels);
        let slot = segment.tiles.len() as u32 * pixels;
        segment.tiles.push(start + x * step);
        // Positions that the tile before has computed keep their slot there.
        segment
            .slots
            .extend((tile * pixels - x..pixels).map(|pixel| slot + pixel));
    }
}

/// Pixels that a tile may have at most: the length of the lines that tiles must lie in.
pub fn most_pixels(problem: &ConvProblem, source: &Source) -> u32 {
    if source.contiguous(problem.dst.w) {
        problem.dst.hw()
    } else {
        problem.dst.w
    }
}

impl Segment {
    /// Vectors of pixels.
    pub fn blocks(&self, lanes: u32) -> u32 {
        (self.slots.len() as u32).div_ceil(lanes)
    }

    /// Appends the table: header, byte offset of every tile, byte offset of every position's
    /// accumulators (`slot_bytes` each), filled up to a whole vector of positions.
    pub fn write_table<A: VectorAsm>(&self, packed: &mut AlignedBuf, slot_bytes: u32) -> u64 {
        let start = packed.align(64);
        let lanes = A::LANES as u32;
        let blocks = self.blocks(lanes);
        let last = last_lanes(self.slots.len() as u32, lanes);
        let mut header = vec![0; HEADER_MASK as usize];
        header[..4].copy_from_slice(&(self.tiles.len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&(blocks - 1).to_le_bytes());
        header.extend(A::first_lanes(last));
        header.resize(HEADER_BYTES as usize, 0);
        packed.extend(&header);
        for tile in &self.tiles {
            packed.extend(&(tile * 4).to_le_bytes());
        }
        let spare = self.slots[0];
        for position in 0..blocks * lanes {
            let slot = self.slots.get(position as usize).copied().unwrap_or(spare);
            packed.extend(&(slot * slot_bytes).to_le_bytes());
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_position_has_a_slot_that_reads_its_pixel(
            kernel in 1..4u32, stride in 1..4u32, pad in 0..3u32, h in 3..40u32, w in 3..40u32,
            pixels in 1..15u32,
        ) {
            let window = Window::square(kernel, stride, pad);
            let [oh, ow] = [(0, h), (1, w)].map(|(axis, size)| window.output_size(axis, size).unwrap());
            let problem = ConvProblem {
                src: Planes::compact(2, h, w),
                dst: Planes::compact(3, oh, ow),
                window,
                groups: 1,
                post: None,
                residual: false,
            };
            let source = Source::new(&problem);
            let pixels = pixels.min(most_pixels(&problem, &source));
            let mut next = 0;
            for segment in segments(&problem, &source, pixels, 16) {
                prop_assert_eq!(segment.first, next);
                for &slot in &segment.slots {
                    let (tile, pixel) = (slot / pixels, slot % pixels);
                    let found = segment.tiles[tile as usize] + pixel * source.pixel_step();
                    prop_assert_eq!(found, source.pixel(next / ow, next % ow), "position {}", next);
                    next += 1;
                }
            }
            prop_assert_eq!(next, oh * ow);
        }
    }
}
