//! What the code reads besides pixels: offsets, weights, and records of rows.

use super::emit::{GROUP_BYTES, MASK_BYTES, Mode, TRIP};
use super::{Cuts, Weights};
use crate::variant::{Task, last_lanes};
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

/// Packs the rows of a task, three streams: records, offsets, weights. Records start with the mask of the last
/// vector's lanes; each block has groups of rows with as many non-zeros: trips, rest and rows (`u32`), then
/// per row two words, which [`Mode`] explains. A group without rows ends the block.
pub fn rows<A: VectorAsm>(
    packed: &mut AlignedBuf,
    problem: &ConvProblem,
    cuts: &Cuts,
    weights: Weights<'_>,
    rows: Range<u32>,
) -> Task {
    let (mut offsets, mut values) = (Vec::new(), Vec::new());
    let mask = A::first_lanes(last_lanes(problem.dst.hw(), A::LANES as u32));
    let aux = packed.align(64);
    packed.extend(&mask);
    packed.extend(&[0; MASK_BYTES as usize][mask.len()..]);
    let slot = cuts.slot(A::LANES as u32);
    let mut products = 0;
    for block in 0..cuts.blocks {
        let first = block * cuts.channels;
        let channels = first..problem.icg().min(first + cuts.channels);
        let mode = Mode::of(block, cuts.blocks);
        let lines = lines(weights, &rows, &channels, mode);
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
                extend(
                    &mut offsets,
                    &mut values,
                    problem,
                    cuts,
                    weights,
                    line,
                    first,
                );
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
        ..Task::of_rows(problem, problem.src.pitch, rows.start)
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
    channels: &Range<u32>,
    mode: Mode,
) -> Vec<Line<'w>> {
    let line = |row: u32| Line {
        row,
        cols: within(weights.pattern.row(row), channels),
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

/// Appends a row's offsets and weights.
fn extend(
    offsets: &mut Vec<u16>,
    values: &mut Vec<f32>,
    problem: &ConvProblem,
    cuts: &Cuts,
    weights: Weights<'_>,
    line: &Line<'_>,
    first: u32,
) {
    for &col in line.cols {
        let bytes = u64::from(col - first) * u64::from(problem.src.pitch) * 4;
        offsets.push((bytes / u64::from(cuts.unit)) as u16);
        values.push(weights.value(line.row, col));
    }
}
