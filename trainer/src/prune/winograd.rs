//! Kernels seen in the Winograd domain: u = G·w·Gᵀ, for output tiles of 4×4.

use crate::param::{Param, Role};
use crate::prune::regularization::has_winograd;
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops::winograd::{MAX_INPUT, WinogradTransform};

/// Most rows of G.
const MOST: usize = MAX_INPUT;
type Square = [[f64; MOST]; MOST];

/// The transformation of kernels of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    /// Rows of a kernel.
    k: usize,
    /// Rows of its transform.
    m: usize,
    /// m × k.
    g: Square,
    /// k × m: the pseudoinverse of `g`.
    inverse: Square,
    /// 1 over the norms of the rows of A.
    output: Vec<f32>,
    /// Norms of the columns of the pseudoinverse.
    norms: Vec<f64>,
}

impl Transform {
    /// For kernels of 3×3 or 5×5, spatial or in the Winograd domain.
    pub fn of(param: &Param) -> Option<Self> {
        let dims = param.shape.dims();
        let kernel = match (param.role, dims) {
            (Role::Winograd, [6, ..]) => 3,
            (Role::Winograd, [8, ..]) => 5,
            _ if has_winograd(param) => dims[2],
            _ => return None,
        };
        WinogradTransform::of(kernel).map(Self::new)
    }

    /// For kernels of k × k.
    fn new(matrices: &WinogradTransform) -> Self {
        let (k, m) = (matrices.kernel, matrices.input);
        let mut g = [[0.0; MOST]; MOST];
        for (row, from) in g.iter_mut().zip(&matrices.g) {
            row[..from.len()].copy_from_slice(from);
        }
        let inverse = pseudoinverse(&g, m, k);
        let norm = |squares: f64| squares.sqrt();
        let row = |i: usize| norm(matrices.at.iter().map(|line| line[i] * line[i]).sum());
        let column = |j: usize| norm((0..k).map(|i| inverse[i][j] * inverse[i][j]).sum());
        Self {
            k,
            m,
            g,
            inverse,
            output: (0..m).map(|i| (1.0 / row(i)) as f32).collect(),
            norms: (0..m).map(column).collect(),
        }
    }

    /// Elements of a kernel and of its transform.
    pub fn sizes(&self) -> [usize; 2] {
        [self.k * self.k, self.m * self.m]
    }

    /// u of a kernel, row by row.
    pub fn forward(&self, kernel: &[f32]) -> Vec<f64> {
        sandwich(&self.g, self.m, self.k, |i, j| {
            f64::from(kernel[i * self.k + j])
        })
    }

    /// The kernel whose transform is closest to u.
    pub fn backward(&self, u: &[f64]) -> Vec<f64> {
        sandwich(&self.inverse, self.k, self.m, |i, j| u[i * self.m + j])
    }

    /// A parameter in the Winograd domain as the kernels closest to it.
    pub fn spatial(&self, param: &Param, data: &[f32]) -> Option<(Param, Vec<f32>)> {
        let [k2, m2] = self.sizes();
        let count = data.len() / m2;
        let mut kernels = vec![0.0; count * k2];
        kernels
            .par_chunks_exact_mut(k2)
            .enumerate()
            .for_each(|(index, kernel)| {
                let u = data.iter().skip(index).step_by(count);
                let u: Vec<f64> = u.map(|&u| f64::from(u)).collect();
                let w = self.backward(&u);
                kernel
                    .iter_mut()
                    .zip(w)
                    .for_each(|(to, from)| *to = from as f32);
            });
        let side = self.k as u32;
        let dims = [param.shape.dim(2), param.shape.dim(3), side, side];
        let param = Param {
            role: Role::Weight,
            shape: Shape::new(dims).ok()?,
            ..param.clone()
        };
        Some((param, kernels))
    }

    /// Gᵀ·u·G.
    fn transposed(&self, u: &[f64]) -> Vec<f64> {
        let mut t = [[0.0; MOST]; MOST];
        for (i, row) in t.iter_mut().enumerate().take(self.k) {
            row.iter_mut()
                .enumerate()
                .take(self.m)
                .for_each(|(j, x)| *x = self.g[j][i]);
        }
        sandwich(&t, self.k, self.m, |i, j| u[i * self.m + j])
    }

    /// Factor of the threshold of each element of u: the norm of what it does to the kernel.
    pub fn kernel_factors(&self) -> Vec<f32> {
        let all = (0..self.m * self.m).map(|j| self.norms[j / self.m] * self.norms[j % self.m]);
        all.map(|x| x as f32).collect()
    }

    /// Factor of the threshold of each element of u that is trained itself: 1 over the norm of what it
    /// does to the output.
    pub fn output_factors(&self) -> Vec<f32> {
        let of = |j: usize| self.output[j / self.m] * self.output[j % self.m];
        (0..self.m * self.m).map(of).collect()
    }

    /// λ·K²/M²·Σ|u| over all kernels.
    pub fn term(&self, decay: f32, data: &[f32]) -> f64 {
        let [k2, m2] = self.sizes();
        let kernels = data.par_chunks_exact(k2);
        let sums: Vec<f64> = kernels
            .map(|kernel| self.forward(kernel).iter().map(|u| u.abs()).sum())
            .collect();
        f64::from(decay) * k2 as f64 / m2 as f64 * sums.iter().sum::<f64>()
    }

    /// gradient += λ·Gᵀ·sign(u)·G for all kernels.
    pub fn add_gradient(&self, decay: f32, data: &[f32], gradient: &mut [f32]) {
        let [k2, _] = self.sizes();
        let kernels = data
            .par_chunks_exact(k2)
            .zip(gradient.par_chunks_exact_mut(k2));
        kernels.for_each(|(kernel, gradient)| {
            let mut u = self.forward(kernel);
            u.iter_mut()
                .for_each(|u| *u = if *u == 0.0 { 0.0 } else { u.signum() });
            let slopes = self.transposed(&u);
            gradient
                .iter_mut()
                .zip(slopes)
                .for_each(|(g, slope)| *g += decay * slope as f32);
        });
    }

    /// Zeroes small elements of u, and projects back to kernels. With `adjust`, "small" is what does
    /// little to the kernel.
    pub fn prune(&self, data: &mut [f32], threshold: f32, adjust: bool) {
        if threshold == 0.0 {
            return;
        }
        let factors = self.kernel_factors();
        let [k2, _] = self.sizes();
        data.par_chunks_exact_mut(k2).for_each(|kernel| {
            let mut u = self.forward(kernel);
            let mut changed = false;
            for (u, factor) in u.iter_mut().zip(&factors) {
                let limit = f64::from(threshold) * if adjust { f64::from(*factor) } else { 1.0 };
                if *u != 0.0 && u.abs() <= limit {
                    (*u, changed) = (0.0, true);
                }
            }
            if changed {
                let w = self.backward(&u);
                kernel
                    .iter_mut()
                    .zip(w)
                    .for_each(|(to, from)| *to = from as f32);
            }
        });
    }

    /// Share of elements of u, over all kernels, of at most `threshold` (times the factor of its place,
    /// with `adjust`), in percent.
    pub fn sparsity(&self, data: &[f32], threshold: f32, adjust: bool) -> f64 {
        let factors = self.kernel_factors();
        let [k2, m2] = self.sizes();
        let zeros = |kernel: &[f32]| {
            let u = self.forward(kernel);
            let limit =
                |factor: f32| f64::from(threshold) * if adjust { f64::from(factor) } else { 1.0 };
            u.iter()
                .zip(&factors)
                .filter(|(u, factor)| u.abs() <= limit(**factor))
                .count()
        };
        let sum: usize = data.par_chunks_exact(k2).map(zeros).sum();
        100.0 * sum as f64 / (data.len() / k2 * m2).max(1) as f64
    }
}

/// a·x·aᵀ with a of rows × columns and x of columns × columns.
fn sandwich(a: &Square, rows: usize, columns: usize, x: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut half = [[0.0; MOST]; MOST];
    for (i, line) in half.iter_mut().enumerate().take(rows) {
        for (j, sum) in line.iter_mut().enumerate().take(columns) {
            *sum = (0..columns).map(|l| a[i][l] * x(l, j)).sum();
        }
    }
    let element = |i: usize, j: usize| (0..columns).map(|l| half[i][l] * a[j][l]).sum();
    (0..rows)
        .flat_map(|i| (0..rows).map(move |j| (i, j)))
        .map(|(i, j)| element(i, j))
        .collect()
}

/// (gᵀg)⁻¹gᵀ of a matrix of m × k and full rank, by elimination.
fn pseudoinverse(g: &Square, m: usize, k: usize) -> Square {
    let mut left = [[0.0; MOST]; MOST];
    let mut right = [[0.0; MOST]; MOST];
    for i in 0..k {
        for j in 0..k {
            left[i][j] = (0..m).map(|row| g[row][i] * g[row][j]).sum();
        }
        for j in 0..m {
            right[i][j] = g[j][i];
        }
    }
    for pivot in 0..k {
        // gᵀg is positive definite: pivots need no search.
        let factor = 1.0 / left[pivot][pivot];
        left[pivot]
            .iter_mut()
            .chain(&mut right[pivot])
            .for_each(|x| *x *= factor);
        let (left_row, right_row) = (left[pivot], right[pivot]);
        for other in (0..k).filter(|&other| other != pivot) {
            let factor = left[other][pivot];
            left[other]
                .iter_mut()
                .zip(left_row)
                .for_each(|(x, p)| *x -= factor * p);
            right[other]
                .iter_mut()
                .zip(right_row)
                .for_each(|(x, p)| *x -= factor * p);
        }
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(kernel: u32) -> Transform {
        Transform::new(WinogradTransform::of(kernel).unwrap())
    }

    #[test]
    fn norms_are_those_of_the_spec() {
        let close = |found: &[f64], expected: &[f64]| {
            assert!(
                found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-5),
                "{found:?}"
            );
        };
        close(
            &transform(3).norms,
            &[2.137496, 2.746311, 2.746311, 1.236482, 1.236482, 1.074968],
        );
        close(
            &transform(5).norms,
            &[
                1.407216, 3.048790, 3.048790, 8.342372, 8.342372, 4.559387, 4.559387, 1.449667,
            ],
        );
        let output: Vec<f64> = transform(5).output.iter().map(|&x| f64::from(x)).collect();
        close(
            &output,
            &[1.0, 0.5, 0.5, 0.108465, 0.108465, 0.108465, 0.108465, 1.0],
        );
    }

    /// Checklist 52.
    #[test]
    fn transforms_and_gradients() {
        for k in [3, 5] {
            let transform = transform(k);
            let k = k as usize;
            let mut data: Vec<f32> = (0..2 * k * k)
                .map(|i| ((i * i * 31 + 7 * i) % 101) as f32 / 37.0 - 1.3)
                .collect();
            let kernel = &data[..k * k];
            let back = transform.backward(&transform.forward(kernel));
            assert!(
                back.iter()
                    .zip(kernel)
                    .all(|(a, b)| (a - f64::from(*b)).abs() < 1e-9)
            );
            // The reported term is K²/M² times what the gradient belongs to.
            let mut gradient = vec![0.0; data.len()];
            transform.add_gradient(1.0, &data, &mut gradient);
            let [k2, m2] = transform.sizes();
            let scale = m2 as f64 / k2 as f64;
            for index in 0..data.len() {
                let at = |delta: f32| {
                    let mut moved = data.clone();
                    moved[index] += delta;
                    transform.term(1.0, &moved) * scale
                };
                let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
                assert!(
                    (slope - f64::from(gradient[index])).abs() < 2e-2 * slope.abs().max(1.0),
                    "{k} {index}"
                );
            }
            let before = transform.sparsity(&data, 1e-6, true);
            transform.prune(&mut data, 0.02, true);
            assert!(transform.sparsity(&data, 0.02, true) >= before);
            transform.prune(&mut data, 1e9, false);
            assert_eq!(data, vec![0.0; data.len()]);
        }
    }

    /// Elements of at most t·n_j go, and the kernel becomes the one closest to the rest.
    #[test]
    fn projection_by_adjusted_thresholds() {
        let of = transform(3);
        let kernel: Vec<f32> = (0..9).map(|i| (i * i % 7) as f32 / 9.0 - 0.3).collect();
        let norms = [2.137496, 2.746311, 2.746311, 1.236482, 1.236482, 1.074968];
        for adjust in [false, true] {
            let mut u = of.forward(&kernel);
            let dense = u.clone();
            for (j, u) in u.iter_mut().enumerate() {
                let factor = if adjust {
                    norms[j / 6] * norms[j % 6]
                } else {
                    1.0
                };
                *u = if u.abs() <= 0.03 * factor { 0.0 } else { *u };
            }
            let zeros = u.iter().filter(|u| **u == 0.0).count();
            assert!(zeros > 0 && u != dense);
            let expected = of.backward(&u);
            let mut pruned = kernel.clone();
            of.prune(&mut pruned, 0.03, adjust);
            let close = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-6;
            assert!(pruned.iter().zip(&expected).all(close), "{adjust}");
            let share = of.sparsity(&kernel, 0.03, adjust);
            assert!((share - 100.0 * zeros as f64 / 36.0).abs() < 1e-9);
        }
    }

    #[test]
    fn kernels_of_the_domain() {
        for kernel in [3, 5] {
            let matrices = WinogradTransform::of(kernel).unwrap();
            let of = Transform::new(matrices);
            let count = 6 * (kernel * kernel) as usize;
            let data: Vec<f32> = (0..count).map(|i| (i * 29 % 31) as f32 / 31.0).collect();
            let m = matrices.input as u32;
            let param = Param {
                role: Role::Winograd,
                ..Param::weights("w", &[m, m, 2, 3], 1)
            };
            let (param, back) = of.spatial(&param, &matrices.kernels(&data)).unwrap();
            assert_eq!(param.shape.dims(), [2, 3, kernel, kernel]);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
            assert!(back.iter().zip(&data).all(close));
        }
    }
}
