//! Triangular factors of large symmetric matrices, by blocks, on all threads.

use crate::gemm::{Matrix, multiply};
use rayon::prelude::*;

/// Rows and columns of a block.
const BLOCK: usize = 64;

/// M = L⁻¹ (lower triangular, rows one after the other) of a positive definite h = L·Lᵀ of n × n, so
/// that h⁻¹ = Mᵀ·M. `None` when h is not positive definite in single precision.
pub fn inverse_factor(h: &[f32], n: usize) -> Option<Vec<f32>> {
    let mut matrix = h.to_vec();
    factor(&mut matrix, n)?;
    invert(&mut matrix, n);
    Some(matrix)
}

/// Replaces a matrix by its factor L.
fn factor(a: &mut [f32], n: usize) -> Option<()> {
    for first in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - first);
        let (above, below) = a.split_at_mut((first + width) * n);
        let pivots = &mut above[first * n..];
        if first > 0 {
            let rows = Matrix::strided(pivots, width, first, n);
            let mut product = vec![0.0; width * width];
            multiply(rows, rows.t(), &mut product, false);
            for (row, product) in pivots.chunks_exact_mut(n).zip(product.chunks_exact(width)) {
                let row = &mut row[first..first + width];
                row.iter_mut().zip(product).for_each(|(a, p)| *a -= p);
            }
        }
        factor_block(&mut pivots[first..], width, n)?;
        let pivots = &above[first * n..];
        below.par_chunks_mut(BLOCK * n).for_each(|rows| {
            solve_rows(rows, pivots, [first, width, n]);
        });
    }
    for (index, row) in a.chunks_exact_mut(n).enumerate() {
        row[index + 1..].fill(0.0);
    }
    Some(())
}

/// The factor of a block on the diagonal, whose rows begin `stride` elements after each other.
fn factor_block(a: &mut [f32], width: usize, stride: usize) -> Option<()> {
    for i in 0..width {
        for j in 0..=i {
            let dot: f64 = (0..j)
                .map(|t| f64::from(a[i * stride + t]) * f64::from(a[j * stride + t]))
                .sum();
            let left = f64::from(a[i * stride + j]) - dot;
            a[i * stride + j] = if i == j {
                // Also false for what is no number.
                let positive = left > 0.0 && left.is_finite();
                positive.then(|| left.sqrt() as f32)?
            } else {
                (left / f64::from(a[j * stride + j])) as f32
            };
        }
    }
    Some(())
}

/// Columns `first..first + width` of rows below the block on the diagonal, which lies in `pivots`.
fn solve_rows(rows: &mut [f32], pivots: &[f32], [first, width, n]: [usize; 3]) {
    let count = rows.len() / n;
    let mut product = vec![0.0; count * width];
    if first > 0 {
        let left = Matrix::strided(rows, count, first, n);
        let above = Matrix::strided(pivots, width, first, n);
        multiply(left, above.t(), &mut product, false);
    }
    for (row, product) in rows.chunks_exact_mut(n).zip(product.chunks_exact(width)) {
        let row = &mut row[first..first + width];
        for j in 0..width {
            let pivot = &pivots[j * n + first..j * n + first + j + 1];
            let dot: f32 = row[..j].iter().zip(pivot).map(|(x, l)| x * l).sum();
            row[j] = (row[j] - product[j] - dot) / pivot[j];
        }
    }
}

/// Replaces a lower triangular matrix by its inverse.
fn invert(l: &mut [f32], n: usize) {
    for first in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - first);
        let (above, rows) = l.split_at_mut(first * n);
        let rows = &mut rows[..width * n];
        let left: Vec<f32> = rows.to_vec();
        let diagonal = invert_block(&left[first..], width, n);
        let chunks: Vec<usize> = (0..first).step_by(BLOCK).collect();
        let solved: Vec<Vec<f32>> = chunks
            .par_iter()
            .map(|&column| {
                let count = BLOCK.min(first - column);
                let left = Matrix::strided(&left[column..], width, first - column, n);
                let inverse =
                    Matrix::strided(&above[column * n + column..], first - column, count, n);
                let mut product = vec![0.0; width * count];
                multiply(left, inverse, &mut product, false);
                let mut solved = vec![0.0; width * count];
                let (a, b) = (
                    Matrix::new(&diagonal, width, width),
                    Matrix::new(&product, width, count),
                );
                multiply(a, b, &mut solved, false);
                solved
            })
            .collect();
        for (&column, solved) in chunks.iter().zip(&solved) {
            let count = solved.len() / width;
            for (row, solved) in rows.chunks_exact_mut(n).zip(solved.chunks_exact(count)) {
                let row = &mut row[column..column + count];
                row.iter_mut().zip(solved).for_each(|(x, s)| *x = -s);
            }
        }
        for (row, inverse) in rows.chunks_exact_mut(n).zip(diagonal.chunks_exact(width)) {
            row[first..first + width].copy_from_slice(inverse);
        }
    }
}

/// The inverse of a lower triangular block, its rows one after the other.
fn invert_block(l: &[f32], width: usize, stride: usize) -> Vec<f32> {
    let mut inverse = vec![0f64; width * width];
    for column in 0..width {
        for row in column..width {
            let unit = if row == column { 1.0 } else { 0.0 };
            let dot: f64 = (column..row)
                .map(|t| f64::from(l[row * stride + t]) * inverse[t * width + column])
                .sum();
            inverse[row * width + column] = (unit - dot) / f64::from(l[row * stride + row]);
        }
    }
    inverse.into_iter().map(|x| x as f32).collect()
}

/// Solves a·x = b for a small positive definite a of n × n, which is overwritten; x takes b's place.
/// `None` when a is not positive definite.
pub fn solve(a: &mut [f64], b: &mut [f64]) -> Option<()> {
    let n = b.len();
    for i in 0..n {
        let (above, row) = a.split_at_mut(i * n);
        for j in 0..=i {
            let dot = |other: &[f64], row: &[f64]| -> f64 {
                row[..j].iter().zip(other).map(|(x, y)| x * y).sum()
            };
            if i == j {
                let left = row[i] - dot(&row[..i], row);
                row[i] = (left > 0.0 && left.is_finite()).then(|| left.sqrt())?;
            } else {
                let pivots = &above[j * n..];
                row[j] = (row[j] - dot(pivots, row)) / pivots[j];
            }
        }
        let dot: f64 = row[..i].iter().zip(&*b).map(|(l, y)| l * y).sum();
        b[i] = (b[i] - dot) / row[i];
    }
    for i in (0..n).rev() {
        b[i] /= a[i * n + i];
        let x = b[i];
        let row = &a[i * n..i * n + i];
        b[..i].iter_mut().zip(row).for_each(|(y, l)| *y -= l * x);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_and_solutions() {
        for n in [1, 5, 64, 150] {
            let value = |i: usize, j: usize| ((i * 37 + j * 101 + 11) % 53) as f32 / 53.0 - 0.4;
            let mut h = vec![0.0f32; n * n];
            for i in 0..n {
                for j in 0..n {
                    let dot: f32 = (0..n).map(|t| value(i, t) * value(j, t)).sum();
                    h[i * n + j] = dot + if i == j { 1.0 } else { 0.0 };
                }
            }
            let m = inverse_factor(&h, n).unwrap();
            // M·h·Mᵀ is the unit matrix.
            let mut half = vec![0.0; n * n];
            multiply(
                Matrix::new(&m, n, n),
                Matrix::new(&h, n, n),
                &mut half,
                false,
            );
            let mut unit = vec![0.0; n * n];
            multiply(
                Matrix::new(&half, n, n),
                Matrix::new(&m, n, n).t(),
                &mut unit,
                false,
            );
            for (index, x) in unit.iter().enumerate() {
                let expected = if index / n == index % n { 1.0 } else { 0.0 };
                assert!((x - expected).abs() < 1e-3, "{n} {index} {x}");
            }
            let x: Vec<f64> = (0..n).map(|i| f64::from(value(i, 3))).collect();
            let mut a: Vec<f64> = h.iter().map(|&h| f64::from(h)).collect();
            let mut b: Vec<f64> = a
                .chunks_exact(n)
                .map(|row| row.iter().zip(&x).map(|(a, x)| a * x).sum())
                .collect();
            solve(&mut a, &mut b).unwrap();
            assert!(b.iter().zip(&x).all(|(b, x)| (b - x).abs() < 1e-6));
        }
        assert!(inverse_factor(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(solve(&mut [0.0], &mut [1.0]).is_none());
    }
}
