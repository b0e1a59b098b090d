//! What the code reads besides pixels: offsets, weights, and records of rows.

use super::emit::{GROUP_BYTES, Mode, TRIP, write_constants};
use super::geometry::Geometry;
use super::{Cuts, Weights};
use crate::variant::Task;
use crate::{AlignedBuf, ConvProblem};
use skimjit_jit::asm::VectorAsm;
use std::ops::Range;

/// Bytes that code reads beyond the last offset.
const READ_AHEAD: usize = 64;

/// Non-zeros of a row that lie in a block.
struct Line<'w> {
    row: u32,
    cols: &'w [u32],
}

/// What is packed, and how it is cut.
pub struct Packing<'a> {
    pub problem: &'a ConvProblem,
    pub geometry: &'a Geometry,
    pub cuts: &'a Cuts,
    pub weights: Weights<'a>,
}

impl Packing<'_> {
    /// Packs the rows of a task, three streams: records, offsets, weights. Records start with the constants of the
    /// code; each block has groups of rows with as many non-zeros: trips, rest and rows (`u32`), then per row two
    /// words, which [`Mode`] explains. A group without rows ends the block.
    pub fn rows<A: VectorAsm>(&self, packed: &mut AlignedBuf, rows: Range<u32>) -> Task {
        let (problem, cuts, weights) = (self.problem, self.cuts, self.weights);
        let (mut offsets, mut values) = (Vec::new(), Vec::new());
        let aux = packed.align(64);
        write_constants::<A>(packed, self.geometry);
        let slot = cuts.slot(A::LANES as u32);
        let mut products = 0;
        for block in 0..cuts.blocks {
            let first = block * cuts.channels;
            let channels = first..problem.icg().min(first + cuts.channels);
            let mode = Mode::of(block, cuts.blocks);
            let cols = channels.start * problem.taps()..channels.end * problem.taps();
            let lines = lines(weights, &rows, &cols, mode);
            for group in lines.chunk_by(|a, b| a.cols.len() == b.cols.len()) {
                let count = group[0].cols.len();
                products += count * group.len();
                words(
                    packed,
                    [count / TRIP, count % TRIP, group.len(), 0].map(|n| n as u32),
                );
                for line in group {
                    let local = line.row - rows.start;
                    let bias = weights.bias_of(line.row).to_bits();
                    let result = local * problem.dst.pitch * 4;
                    words(packed, mode.record(local * slot, bias, result));
                    offsets.extend(line.cols.iter().map(|&col| self.offset(col, cols.start)));
                    let value = |&col| weights.value(line.row, col);
                    values.extend(line.cols.iter().map(value));
                }
            }
            words(packed, [0; GROUP_BYTES as usize / 4]);
        }
        let wei = packed.align(64);
        offsets
            .iter()
            .for_each(|offset: &u16| packed.extend(&offset.to_le_bytes()));
        packed.extend(&[0; READ_AHEAD]);
        let bias = packed.align(64);
        packed.extend_f32(values);
        Task {
            wei,
            bias,
            aux,
            cost: products as f32 + (8 * cuts.blocks as usize * rows.len()) as f32,
            ..Task::of_rows(problem, self.geometry.channel, rows.start)
        }
    }

    /// Where a column's pixels lie, from the block's first channel on, in the unit of offsets.
    fn offset(&self, col: u32, first: u32) -> u16 {
        let elems = self.geometry.offset(self.problem, col - first);
        (u64::from(elems) * 4 / u64::from(self.cuts.unit)) as u16
    }
}

/// Behind the last stream.
pub fn end(packed: &mut AlignedBuf) {
    packed.extend(&[0; READ_AHEAD]);
}

fn words<const N: usize>(packed: &mut AlignedBuf, words: [u32; N]) {
    words
        .iter()
        .for_each(|word| packed.extend(&word.to_le_bytes()));
}

/// Rows by their number of non-zeros in a block, most first. Those without are needed where sums begin and end.
fn lines<'w>(
    weights: Weights<'w>,
    rows: &Range<u32>,
    cols: &Range<u32>,
    mode: Mode,
) -> Vec<Line<'w>> {
    let line = |row: u32| Line {
        row,
        cols: within(weights.pattern.row(row), cols),
    };
    let mut lines: Vec<Line<'_>> = rows.clone().map(line).collect();
    if mode == Mode::Middle {
        lines.retain(|line| !line.cols.is_empty());
    }
    // Stable: rows of a group stay in order.
    lines.sort_by_key(|line| std::cmp::Reverse(line.cols.len()));
    lines
}

/// Columns of a sorted row that lie in a block.
fn within<'p>(cols: &'p [u32], block: &Range<u32>) -> &'p [u32] {
    let start = cols.partition_point(|&col| col < block.start);
    let end = cols.partition_point(|&col| col < block.end);
    &cols[start..end]
}
