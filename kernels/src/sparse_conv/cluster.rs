//! Which output channels are computed together.

use crate::ConvProblem;
use crate::variant::balanced;
use skimjit_models::Pattern;

/// What a chunk of output channels costs per step, in cycles.
#[derive(Clone, Copy)]
pub struct StepCost {
    /// A non-zero.
    pub nnz: f64,
    /// A source vector that any channel of the chunk needs.
    pub tap: f64,
}

/// Share of the estimate that clustering has to save.
const LEAST_GAIN: f64 = 0.03;
/// Work of the search (64-bit words of patterns compared) beyond which it is left out.
const MOST_WORDS: u64 = 50 << 20;
/// Non-zeros of the largest chunk over the mean, beyond which threads would wait for it.
const MOST_UNEVEN: f64 = 1.5;

/// Output channels of every chunk, group by group, at most `most_rows` each.
///
/// Channels stay in order unless putting those together that read the same inputs saves loads: a
/// chunk is then started with the densest channel left, and taken further with the channel of which
/// the largest share of non-zeros reads what the chunk reads already.
pub fn rows(
    problem: &ConvProblem,
    pattern: &Pattern,
    most_rows: u32,
    cost: StepCost,
) -> Vec<Vec<u32>> {
    let ocg = problem.ocg();
    let mut chunks = Vec::new();
    for first in (0..problem.groups).map(|group| group * ocg) {
        let natural: Vec<Vec<u32>> = balanced(ocg, most_rows)
            .map(|rows| rows.map(|row| row + first).collect())
            .collect();
        let words = problem.cols().div_ceil(64);
        let work = u64::from(ocg) * u64::from(ocg) * u64::from(words);
        if natural.len() == 1 || work > MOST_WORDS {
            chunks.extend(natural);
            continue;
        }
        let clustered = greedy(pattern, &natural, words as usize);
        let better = estimate(pattern, &clustered, words as usize, cost)
            < estimate(pattern, &natural, words as usize, cost) * (1.0 - LEAST_GAIN);
        let use_clusters = better && !uneven(pattern, &clustered);
        chunks.extend(if use_clusters { clustered } else { natural });
    }
    chunks
}

/// Columns as bits.
fn bits(pattern: &Pattern, row: u32, words: usize) -> Vec<u64> {
    let mut bits = vec![0; words];
    for &col in pattern.row(row) {
        bits[col as usize / 64] |= 1 << (col % 64);
    }
    bits
}

fn estimate(pattern: &Pattern, chunks: &[Vec<u32>], words: usize, cost: StepCost) -> f64 {
    let chunk = |rows: &Vec<u32>| {
        let mut union = vec![0u64; words];
        let mut nnz = 0;
        for &row in rows {
            nnz += pattern.row(row).len();
            add(&mut union, &bits(pattern, row, words));
        }
        let taps: u32 = union.iter().map(|word| word.count_ones()).sum();
        cost.nnz * nnz as f64 + cost.tap * f64::from(taps)
    };
    chunks.iter().map(chunk).sum()
}

fn add(union: &mut [u64], row: &[u64]) {
    union
        .iter_mut()
        .zip(row)
        .for_each(|(union, row)| *union |= row);
}

fn uneven(pattern: &Pattern, chunks: &[Vec<u32>]) -> bool {
    let nnz = |rows: &Vec<u32>| {
        rows.iter()
            .map(|&row| pattern.row(row).len())
            .sum::<usize>()
    };
    let all: usize = chunks.iter().map(nnz).sum();
    let most = chunks.iter().map(nnz).max().unwrap_or(0);
    most as f64 * chunks.len() as f64 > MOST_UNEVEN * all as f64
}

/// Chunks of the same sizes as `natural`, of channels that share columns; each in ascending order.
fn greedy(pattern: &Pattern, natural: &[Vec<u32>], words: usize) -> Vec<Vec<u32>> {
    let mut left: Vec<(u32, Vec<u64>)> = natural
        .iter()
        .flatten()
        .map(|&row| (row, bits(pattern, row, words)))
        .collect();
    let len = |row: u32| pattern.row(row).len();
    let fill = |size: usize| {
        let mut union = vec![0u64; words];
        let mut chunk = Vec::with_capacity(size);
        while chunk.len() < size {
            // The first is the densest; of equals the lowest channel wins.
            let score = |(row, bits): &(u32, Vec<u64>)| match chunk.is_empty() {
                true => len(*row) as f64,
                false => f64::from(shared(&union, bits)) / len(*row).max(1) as f64,
            };
            let scores = left.iter().map(score).enumerate();
            let best = scores.reduce(|best, next| if next.1 > best.1 { next } else { best });
            let (at, _) = best.expect("sizes add up to the channels");
            let (row, bits) = left.remove(at);
            add(&mut union, &bits);
            chunk.push(row);
        }
        chunk.sort_unstable();
        chunk
    };
    natural.iter().map(Vec::len).map(fill).collect()
}

fn shared(union: &[u64], row: &[u64]) -> u32 {
    let words = union.iter().zip(row);
    words.map(|(union, row)| (union & row).count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Planes;
    use proptest::prelude::*;
    use skimjit_models::ops::Window;

    const COST: StepCost = StepCost {
        nnz: 0.6,
        tap: 0.45,
    };

    fn problem(groups: u32, icg: u32, ocg: u32) -> ConvProblem {
        ConvProblem {
            src: Planes::compact(groups * icg, 4, 4),
            dst: Planes::compact(groups * ocg, 4, 4),
            window: Window::square(1, 1, 0),
            groups,
            post: None,
            residual: false,
        }
    }

    #[test]
    fn channels_that_share_inputs_come_together() {
        // Two kinds of channels by turns, each reading its own half of the inputs.
        let problem = problem(1, 64, 56);
        let reads = |row: u32, col: u32| col % 2 == row % 2 && (col / 2) % 4 != row / 2 % 4;
        let weights: Vec<f32> = (0..56 * 64)
            .map(|i| if reads(i / 64, i % 64) { 1.0 } else { 0.0 })
            .collect();
        let pattern = Pattern::from_weights(56, 64, &weights);
        let chunks = rows(&problem, &pattern, 28, COST);
        assert_eq!(chunks.len(), 2);
        for chunk in &chunks {
            assert!(chunk.iter().all(|row| row % 2 == chunk[0] % 2), "{chunk:?}");
        }
    }

    proptest! {
        #[test]
        fn every_channel_is_in_one_chunk_of_its_group(
            groups in 1..4u32, icg in 1..90u32, ocg in 1..100u32, most in 1..30u32, seed in any::<u64>(),
        ) {
            let problem = problem(groups, icg, ocg);
            let mut state = seed | 1;
            let weights: Vec<f32> = (0..groups * ocg * icg)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if state >> 60 == 0 { 1.0 } else { 0.0 }
                })
                .collect();
            let pattern = Pattern::from_weights(groups * ocg, icg, &weights);
            let chunks = rows(&problem, &pattern, most, COST);
            for chunk in &chunks {
                prop_assert!(chunk.len() <= most as usize && chunk.is_sorted());
                prop_assert!(chunk.iter().all(|row| row / ocg == chunk[0] / ocg));
            }
            let mut all: Vec<u32> = chunks.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..groups * ocg).collect::<Vec<_>>());
        }
    }
}
