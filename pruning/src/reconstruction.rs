//! Pruning of one layer so that its outputs change least: weights go column by column, and those that
//! stay make up for them (optimal brain surgeon; Frantar and Alistarh 2022, 2023).

use crate::cholesky::{inverse_factor, solve};
use crate::gemm::{Matrix, multiply};
use crate::magnitude::smallest;
use rayon::prelude::*;

/// Columns that are chosen together.
const STEP: usize = 128;
/// Operations that the exact solution for the weights that stay may take, in all rows.
const MOST_OPERATIONS: f64 = 3e10;
/// Rounds in which weights go: fewer at a time are chosen better.
const ROUNDS: i32 = 5;
/// Times that the damping grows where rounding leaves no positive definite matrix.
const TRIES: usize = 6;

/// Filters and the inputs that they see: part of a layer's weights with its second moments.
pub struct Unit {
    /// Rows × columns.
    pub weights: Vec<f32>,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Mean of x·xᵀ over the inputs x; columns × columns.
    pub moments: Vec<f32>,
}

/// What pruning made of a layer.
pub struct Outcome {
    /// Weights of each unit.
    pub weights: Vec<Vec<f32>>,
    /// Mean square of what the outputs changed, over the mean square of the outputs.
    pub error: f64,
    /// The same, of pruning the smallest weights.
    pub magnitude_error: f64,
}

/// Prunes `zeros` weights of all units together. `None` when the moments are no numbers.
pub fn prune(units: &[Unit], zeros: usize, damping: f32) -> Option<Outcome> {
    let factors: Option<Vec<Factor>> = units
        .iter()
        .map(|unit| Factor::new(unit, damping))
        .collect();
    let factors = factors?;
    let all: usize = units.iter().map(|unit| unit.weights.len()).sum();
    let kept = (all - zeros.min(all)) as f64 / all.max(1) as f64;
    let mut weights: Vec<Vec<f32>> = units.iter().map(|unit| unit.weights.clone()).collect();
    for round in 1..=ROUNDS {
        let part = kept.powf(f64::from(round) / f64::from(ROUNDS));
        let zeros = match round {
            ROUNDS => zeros,
            _ => (all as f64 * (1.0 - part)) as usize,
        };
        let quotas = quotas(units, &weights, &factors, zeros);
        for (index, weights) in weights.iter_mut().enumerate() {
            let (unit, factor) = (&units[index], &factors[index]);
            sweep(unit, weights, factor, &quotas[index]);
            refine(unit, factor, weights);
        }
    }
    let mut outcome = Outcome {
        weights,
        error: 0.0,
        magnitude_error: 0.0,
    };
    let whole: f64 = units.iter().map(|unit| energy(unit, &unit.weights)).sum();
    let change = |pruned: &[Vec<f32>]| {
        let changes = units.iter().zip(pruned).map(|(unit, pruned)| {
            let change = unit.weights.iter().zip(pruned).map(|(a, b)| a - b);
            energy(unit, &change.collect::<Vec<f32>>())
        });
        changes.sum::<f64>() / whole.max(f64::MIN_POSITIVE)
    };
    outcome.error = change(&outcome.weights);
    outcome.magnitude_error = change(&smallest_of_all(units, zeros));
    Some(outcome)
}

/// The damped moments, factored.
struct Factor {
    /// M of [`inverse_factor`].
    inverse: Vec<f32>,
    /// What was added to the diagonal.
    damping: Vec<f32>,
}

impl Factor {
    fn new(unit: &Unit, damping: f32) -> Option<Self> {
        let n = unit.columns;
        let diagonal: Vec<f32> = (0..n).map(|j| unit.moments[j * n + j].max(0.0)).collect();
        let mean = diagonal.iter().map(|&x| f64::from(x)).sum::<f64>() / n.max(1) as f64;
        let mut added = (mean as f32 * damping).max(f32::MIN_POSITIVE.sqrt());
        for _ in 0..TRIES {
            // Inputs that are always zero: any weight will do.
            let dead = |x: &f32| if *x > 0.0 { added } else { added.max(1.0) };
            let damping: Vec<f32> = diagonal.iter().map(dead).collect();
            let mut damped = unit.moments.clone();
            (0..n).for_each(|j| damped[j * n + j] += damping[j]);
            if let Some(inverse) = inverse_factor(&damped, n) {
                return Some(Self { inverse, damping });
            }
            added *= 10.0;
        }
        None
    }
    /// 1 over the pivot: what a unit change of column `j` costs once those after it are settled.
    fn pivot(&self, j: usize, columns: usize) -> f32 {
        self.inverse[j * columns + j]
    }
}

/// How many weights go in each step of columns, from the last to the first.
fn quotas(
    units: &[Unit],
    weights: &[Vec<f32>],
    factors: &[Factor],
    zeros: usize,
) -> Vec<Vec<usize>> {
    let all = units.iter().zip(weights).zip(factors);
    let scores = all.flat_map(|((unit, weights), factor)| {
        let pivots: Vec<f32> = (0..unit.columns)
            .map(|j| factor.pivot(j, unit.columns))
            .collect();
        let rows = weights.chunks_exact(unit.columns.max(1));
        rows.flat_map(|row| {
            let scores = row.iter().zip(&pivots).map(|(w, pivot)| (w / pivot).abs());
            scores.collect::<Vec<f32>>()
        })
        .collect::<Vec<f32>>()
    });
    let scores: Vec<f32> = scores.collect();
    let mut quotas: Vec<Vec<usize>> = units
        .iter()
        .map(|unit| vec![0; unit.columns.div_ceil(STEP)])
        .collect();
    let starts: Vec<usize> = units
        .iter()
        .scan(0, |start, unit| {
            let first = *start;
            *start += unit.weights.len();
            Some(first)
        })
        .collect();
    for index in smallest(&scores, zeros) {
        let index = index as usize;
        let unit = starts.partition_point(|&start| start <= index) - 1;
        let column = (index - starts[unit]) % units[unit].columns;
        quotas[unit][column / STEP] += 1;
    }
    quotas
}

/// Settles columns from the last to the first; those before make up for weights that go.
fn sweep(unit: &Unit, weights: &mut [f32], factor: &Factor, quotas: &[usize]) {
    let n = unit.columns;
    for (step, &quota) in quotas.iter().enumerate().rev() {
        let columns = step * STEP..n.min((step + 1) * STEP);
        let width = columns.len();
        let pruned = chosen(weights, factor, n, &columns, quota);
        let mut errors = vec![0.0; unit.rows * width];
        let rows = weights
            .par_chunks_exact_mut(n)
            .zip(pruned.par_chunks(width));
        rows.zip(errors.par_chunks_mut(width))
            .for_each(|((row, pruned), errors)| {
                for j in columns.clone().rev() {
                    let place = j - columns.start;
                    if !pruned[place] {
                        continue;
                    }
                    let error = row[j] / factor.pivot(j, n);
                    let line = &factor.inverse[j * n + columns.start..j * n + j];
                    let before = &mut row[columns.start..j];
                    before
                        .iter_mut()
                        .zip(line)
                        .for_each(|(w, m)| *w -= error * m);
                    row[j] = 0.0;
                    errors[place] = error;
                }
            });
        if columns.start > 0 {
            let lines = &factor.inverse[columns.start * n..];
            let lines = Matrix::strided(lines, width, columns.start, n);
            subtract_products(weights, n, &errors, lines, columns.start);
        }
    }
}

/// Which weights of a step of columns go: rows × width.
fn chosen(
    weights: &[f32],
    factor: &Factor,
    n: usize,
    columns: &std::ops::Range<usize>,
    quota: usize,
) -> Vec<bool> {
    let scores: Vec<f32> = weights
        .chunks_exact(n)
        .flat_map(|row| columns.clone().map(|j| (row[j] / factor.pivot(j, n)).abs()))
        .collect();
    let mut pruned = vec![false; scores.len()];
    for index in smallest(&scores, quota) {
        pruned[index as usize] = true;
    }
    pruned
}

/// weights[.., ..count] −= errors · lines.
fn subtract_products(
    weights: &mut [f32],
    n: usize,
    errors: &[f32],
    lines: Matrix<'_>,
    count: usize,
) {
    let width = lines.rows();
    weights
        .par_chunks_mut(STEP * n)
        .zip(errors.par_chunks(STEP * width))
        .for_each(|(weights, errors)| {
            let rows = errors.len() / width;
            let mut product = vec![0.0; rows * count];
            multiply(Matrix::new(errors, rows, width), lines, &mut product, false);
            for (row, product) in weights.chunks_exact_mut(n).zip(product.chunks_exact(count)) {
                row.iter_mut().zip(product).for_each(|(w, p)| *w -= p);
            }
        });
}

/// The best values of the weights that stay, row by row, where that is not too much work.
fn refine(unit: &Unit, factor: &Factor, weights: &mut [f32]) {
    let n = unit.columns;
    let kept = |row: &[f32]| row.iter().filter(|w| **w != 0.0).count() as f64;
    let operations: f64 = weights
        .chunks_exact(n.max(1))
        .map(|row| kept(row).powi(3) / 3.0 + kept(row) * n as f64)
        .sum();
    if operations > MOST_OPERATIONS {
        return;
    }
    let rows = weights.par_chunks_exact_mut(n);
    rows.zip(unit.weights.par_chunks_exact(n))
        .for_each(|(row, dense)| {
            let places: Vec<usize> = (0..n).filter(|&j| row[j] != 0.0).collect();
            let mut matrix = Vec::with_capacity(places.len() * places.len());
            let mut right = Vec::with_capacity(places.len());
            for &i in &places {
                let line = &unit.moments[i * n..(i + 1) * n];
                let added = f64::from(factor.damping[i]);
                let dot: f64 = line
                    .iter()
                    .zip(dense)
                    .map(|(h, w)| f64::from(*h) * f64::from(*w))
                    .sum();
                right.push(dot + added * f64::from(dense[i]));
                matrix.extend(places.iter().map(|&j| {
                    let damped = if i == j { added } else { 0.0 };
                    f64::from(line[j]) + damped
                }));
            }
            if solve(&mut matrix, &mut right).is_some() {
                for (&place, value) in places.iter().zip(right) {
                    row[place] = value as f32;
                }
            }
        });
}

/// Mean square of the outputs that weights make: the trace of w·moments·wᵀ.
fn energy(unit: &Unit, weights: &[f32]) -> f64 {
    let n = unit.columns;
    let moments = Matrix::new(&unit.moments, n, n);
    let parts: Vec<f64> = weights
        .par_chunks(STEP * n.max(1))
        .map(|weights| {
            let rows = weights.len() / n;
            let mut product = vec![0.0; weights.len()];
            multiply(Matrix::new(weights, rows, n), moments, &mut product, false);
            let terms = weights.iter().zip(&product);
            terms.map(|(w, p)| f64::from(*w) * f64::from(*p)).sum()
        })
        .collect();
    parts.iter().sum::<f64>().max(0.0)
}

/// All units with the smallest weights zeroed.
fn smallest_of_all(units: &[Unit], zeros: usize) -> Vec<Vec<f32>> {
    let scores: Vec<f32> = units
        .iter()
        .flat_map(|unit| unit.weights.iter().map(|w| w.abs()))
        .collect();
    let mut keep = vec![true; scores.len()];
    for index in smallest(&scores, zeros) {
        keep[index as usize] = false;
    }
    let mut keep = keep.into_iter();
    let pruned = |unit: &Unit| {
        let weights = unit.weights.iter().zip(keep.by_ref());
        weights
            .map(|(&w, keep)| if keep { w } else { 0.0 })
            .collect()
    };
    units.iter().map(pruned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn unit(random: &mut ChaCha8Rng, rows: usize, columns: usize) -> Unit {
        let mut draw = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
        // Inputs are mixtures of few sources and some noise.
        let (sources, samples) = (columns / 3, 4 * columns);
        let mix: Vec<f32> = (0..columns * sources).map(|_| draw()).collect();
        let mut moments = vec![0.0; columns * columns];
        for _ in 0..samples {
            let source: Vec<f32> = (0..sources).map(|_| draw()).collect();
            let x: Vec<f32> = mix
                .chunks_exact(sources)
                .map(|row| {
                    let sum: f32 = row.iter().zip(&source).map(|(a, b)| a * b).sum();
                    sum + 0.1 * draw()
                })
                .collect();
            for (row, a) in moments.chunks_exact_mut(columns).zip(&x) {
                row.iter_mut()
                    .zip(&x)
                    .for_each(|(sum, b)| *sum += a * b / samples as f32);
            }
        }
        Unit {
            weights: (0..rows * columns).map(|_| draw()).collect(),
            rows,
            columns,
            moments,
        }
    }

    #[test]
    fn better_than_magnitude() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        for (columns, sparsity) in [(40, 0.5), (150, 0.7), (300, 0.9)] {
            let units = [
                unit(&mut random, 24, columns),
                unit(&mut random, 10, columns),
            ];
            let all = 34 * columns;
            let zeros = (all as f64 * sparsity) as usize;
            let outcome = prune(&units, zeros, 0.01).unwrap();
            let found = outcome.weights.iter().flatten().filter(|w| **w == 0.0);
            assert_eq!(found.count(), zeros);
            assert!(
                outcome.error < 0.6 * outcome.magnitude_error,
                "{columns} {sparsity}: {} {}",
                outcome.error,
                outcome.magnitude_error
            );
        }
    }

    #[test]
    fn odd_moments() {
        let dead = Unit {
            weights: vec![1.0, -2.0, 3.0, 4.0],
            rows: 2,
            columns: 2,
            moments: vec![0.0; 4],
        };
        let outcome = prune(&[dead], 2, 0.01).unwrap();
        assert_eq!(outcome.weights[0].iter().filter(|w| **w == 0.0).count(), 2);
        let nan = Unit {
            weights: vec![1.0],
            rows: 1,
            columns: 1,
            moments: vec![f32::NAN],
        };
        assert!(prune(&[nan], 1, 0.01).is_none());
    }
}
