//! The table of non-zeros: what the generated code reads instead of containing the pattern.

use super::geometry::Geometry;
use crate::variant::Weights;
use crate::{AlignedBuf, ConvProblem};
use std::ops::Range;

/// Bytes of a non-zero in the table: offset, weight.
pub const ENTRY_BYTES: usize = 8;

/// A non-zero: its slot in the table's order, the byte offset of its tap's row, its weight.
struct Entry {
    slot: u32,
    offset: u32,
    weight: f32,
}

/// The table of some output channels of one group: for every block of input channels, every output
/// channel and every phase (descending in odd blocks and in a single one) the number of non-zeros, and
/// their offsets and weights in the same order.
pub struct Table {
    /// Trips of the loop over the non-zeros of a phase.
    counts: Vec<u32>,
    entries: Vec<(u32, f32)>,
}

impl Table {
    pub fn new(
        problem: &ConvProblem,
        geometry: &Geometry,
        weights: Weights<'_>,
        rows: Range<u32>,
    ) -> Self {
        let found = find(problem, geometry, weights, &rows);
        let slots = geometry.blocks.len() * rows.len() * geometry.phases.len();
        let mut counts = vec![0u32; slots];
        for entry in &found {
            counts[entry.slot as usize] += 1;
        }
        let mut next = 0;
        let mut at: Vec<u32> = Vec::with_capacity(slots);
        for &count in &counts {
            at.push(next);
            next += count;
        }
        let mut entries = vec![(0, 0.0); found.len()];
        for entry in found {
            let at = &mut at[entry.slot as usize];
            entries[*at as usize] = (entry.offset, entry.weight);
            *at += 1;
        }
        Self { counts, entries }
    }

    /// Non-zeros.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn write_counts(&self, packed: &mut AlignedBuf) {
        for count in &self.counts {
            packed.extend(&count.to_le_bytes());
        }
    }

    pub fn write_entries(&self, packed: &mut AlignedBuf) {
        for (offset, weight) in &self.entries {
            packed.extend(&offset.to_le_bytes());
            packed.extend_f32([*weight]);
        }
        // The code fetches one offset ahead.
        packed.extend(&[0; ENTRY_BYTES]);
    }
}

/// The non-zeros of some output channels, by output channel and input channel.
fn find(
    problem: &ConvProblem,
    geometry: &Geometry,
    weights: Weights<'_>,
    rows: &Range<u32>,
) -> Vec<Entry> {
    let (taps, kw) = (problem.taps(), problem.window.kernel[1]);
    let places: Vec<(u32, usize)> = (0..taps)
        .map(|tap| geometry.tap(problem, tap / kw, tap % kw))
        .collect();
    let (blocks, phases) = (&geometry.blocks, geometry.phases.len());
    let mut found = Vec::new();
    for row in rows.clone() {
        let mut block = 0;
        for &col in weights.pattern.row(row) {
            let (ic, tap) = (col / taps, col % taps);
            while ic >= blocks[block].end {
                block += 1;
            }
            let (offset, phase) = places[tap as usize];
            let descending = blocks.len() == 1 || block % 2 == 1;
            let order = if descending {
                phases - 1 - phase
            } else {
                phase
            };
            let slot = (block * rows.len() + (row - rows.start) as usize) * phases + order;
            found.push(Entry {
                slot: slot as u32,
                offset: ic * geometry.staging.channel * 4 + offset,
                weight: weights.value(row, col),
            });
        }
    }
    found
}
