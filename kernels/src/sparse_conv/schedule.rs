//! Pattern → order of multiply-adds, before any instruction is chosen.

use crate::ConvProblem;
use skimjit_models::Pattern;
use std::ops::Range;

/// All non-zeros that read one source vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tap {
    /// Input channel within the group.
    pub ic: u32,
    /// Kernel row.
    pub ky: u32,
    /// Kernel column.
    pub kx: u32,
    /// End of this tap's entries in [`Chunk::accs`]; they begin where the previous tap's end.
    pub end: u32,
}

/// Output channels that are computed together, one accumulator each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Output channels (of all groups), ascending.
    pub rows: Vec<u32>,
    /// Taps with a non-zero, by input channel, kernel row, kernel column.
    pub taps: Vec<Tap>,
    /// Accumulator (channel within the chunk) of every non-zero, in consumption order.
    pub accs: Vec<u8>,
    /// Index of every non-zero in the dense weights, in consumption order.
    pub weights: Vec<u32>,
}

impl Chunk {
    /// Some of the taps, each with the accumulators of its non-zeros.
    pub fn taps(&self, taps: Range<usize>) -> impl Iterator<Item = (&Tap, &[u8])> {
        let mut begin = taps
            .start
            .checked_sub(1)
            .map_or(0, |last| self.taps[last].end);
        self.taps[taps].iter().map(move |tap| {
            let accs = &self.accs[begin as usize..tap.end as usize];
            begin = tap.end;
            (tap, accs)
        })
    }
}

/// Orders the non-zeros of each chunk of output channels.
pub fn chunks(problem: &ConvProblem, pattern: &Pattern, rows: Vec<Vec<u32>>) -> Vec<Chunk> {
    let chunks = rows.into_iter();
    chunks.map(|rows| chunk(problem, pattern, rows)).collect()
}

fn chunk(problem: &ConvProblem, pattern: &Pattern, rows: Vec<u32>) -> Chunk {
    let mut entries: Vec<u64> = Vec::new();
    for (acc, &row) in (0u64..).zip(&rows) {
        entries.extend(
            pattern
                .row(row)
                .iter()
                .map(|&col| u64::from(col) << 8 | acc),
        );
    }
    entries.sort_unstable();
    let [_, kw] = problem.window.kernel;
    let mut chunk = Chunk {
        rows,
        taps: vec![],
        accs: vec![],
        weights: vec![],
    };
    let mut last = None;
    for entry in entries {
        let (col, acc) = ((entry >> 8) as u32, entry as u8);
        if last != Some(col) {
            let (ic, tap) = (col / problem.taps(), col % problem.taps());
            chunk.taps.push(Tap {
                ic,
                ky: tap / kw,
                kx: tap % kw,
                end: 0,
            });
            last = Some(col);
        }
        chunk.accs.push(acc);
        chunk
            .weights
            .push(chunk.rows[usize::from(acc)] * problem.cols() + col);
        if let Some(tap) = chunk.taps.last_mut() {
            tap.end = chunk.accs.len() as u32;
        }
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planes;
    use crate::variant::balanced;
    use proptest::prelude::*;
    use skimjit_models::ops::Window;

    fn problem(groups: u32, icg: u32, ocg: u32, kernel: [u32; 2]) -> ConvProblem {
        ConvProblem {
            src: Planes::compact(groups * icg, 8, 8),
            dst: Planes::compact(groups * ocg, 9 - kernel[0], 9 - kernel[1]),
            window: Window {
                kernel,
                ..Window::square(1, 1, 0)
            },
            groups,
            post: None,
            residual: false,
        }
    }

    proptest! {
        #[test]
        fn every_non_zero_is_scheduled_once(
            (groups, icg, ocg) in (1..4u32, 1..6u32, 1..40u32), kernel in [1..5u32, 1..5u32],
            most_rows in 1..30u32, values in prop::collection::vec(0..4u8, 64),
        ) {
            let problem = problem(groups, icg, ocg, kernel);
            let (rows, cols) = (problem.dst.c, problem.cols());
            let weight = |i: u32| f32::from(values[(i * 7 + i / 13) as usize % 64] / 3);
            let weights: Vec<f32> = (0..rows * cols).map(weight).collect();
            let pattern = Pattern::from_weights(rows, cols, &weights);
            let mut found = Vec::new();
            let mut next_row = 0;
            let cut: Vec<Vec<u32>> = (0..groups)
                .flat_map(|group| balanced(ocg, most_rows).map(move |rows| {
                    rows.map(|row| row + group * ocg).collect()
                }))
                .collect();
            for chunk in chunks(&problem, &pattern, cut) {
                prop_assert_eq!(chunk.rows[0], next_row);
                next_row = chunk.rows[chunk.rows.len() - 1] + 1;
                prop_assert!(chunk.rows.len() as u32 <= most_rows);
                let group = chunk.rows[0] / ocg;
                prop_assert!(chunk.rows.iter().all(|row| row / ocg == group));
                let order = |tap: &Tap| (tap.ic, tap.ky, tap.kx);
                prop_assert!(chunk.taps.windows(2).all(|two| order(&two[0]) < order(&two[1])));
                let mut weights = chunk.weights.iter();
                for (tap, accs) in chunk.taps(0..chunk.taps.len()) {
                    prop_assert!(!accs.is_empty());
                    let col = (tap.ic * kernel[0] + tap.ky) * kernel[1] + tap.kx;
                    for &acc in accs {
                        prop_assert!(u32::from(acc) < chunk.rows.len() as u32);
                        let row = chunk.rows[usize::from(acc)];
                        prop_assert_eq!(weights.next(), Some(&(row * cols + col)));
                        found.push((row, col));
                    }
                }
                prop_assert_eq!(weights.next(), None);
                let half = chunk.taps.len() / 2;
                let parts = chunk.taps(0..half).chain(chunk.taps(half..chunk.taps.len()));
                prop_assert!(parts.eq(chunk.taps(0..chunk.taps.len())));
            }
            prop_assert_eq!(next_row, rows);
            found.sort_unstable();
            let all = (0..rows).flat_map(|row| pattern.row(row).iter().map(move |&col| (row, col)));
            prop_assert_eq!(found, all.collect::<Vec<_>>());
        }
    }
}
