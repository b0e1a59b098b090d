//! How the zeros of a weight tensor lie.

use serde::Serialize;
use skimjit_models::Shape;
use std::collections::HashMap;
use std::fmt::Write;

/// Largest side of kernels whose patterns are counted.
const MOST_SIDE: usize = 5;

/// Weights as oc × ic/groups × kh × kw.
pub struct Matrix<'a> {
    data: &'a [f32],
    oc: usize,
    ic: usize,
    kernel: [usize; 2],
    groups: usize,
    threshold: f32,
}

/// Shares of groups of weights that are all zero, in percent; of single weights first.
#[derive(Serialize, Debug, PartialEq)]
pub struct Zeros {
    pub element: f64,
    pub oc_fiber: f64,
    pub ic_fiber: f64,
    pub kernel_fiber: f64,
    pub oc_slice: f64,
    pub ic_slice: f64,
    pub kernel_slice: f64,
    /// Columns of the weight matrix of each convolution group.
    pub column: f64,
}

/// Patterns of the kernels of a layer.
#[derive(Serialize, Debug, PartialEq)]
pub struct Histogram {
    kernel: [usize; 2],
    kernels: usize,
    /// Patterns that occur.
    distinct: usize,
    /// The most frequent ones first.
    all: Vec<Pattern>,
    /// Kernels with 0, 1, 2, … weights that are not zero.
    by_nonzeros: Vec<usize>,
}

/// A pattern.
#[derive(Serialize, Debug, PartialEq)]
struct Pattern {
    /// Row by row, `x` where a weight is not zero.
    rows: Vec<String>,
    count: usize,
}

impl<'a> Matrix<'a> {
    pub fn new(shape: &Shape, data: &'a [f32], groups: u32, threshold: f32) -> Self {
        let dim = |axis| shape.dim(axis) as usize;
        Self {
            data,
            oc: dim(0),
            ic: dim(1),
            kernel: [dim(2), dim(3)],
            groups: groups.max(1) as usize,
            threshold,
        }
    }
    /// Rows and columns.
    pub fn size(&self) -> [usize; 2] {
        [self.oc, self.data.len() / self.oc.max(1)]
    }
    fn is_zero(&self, weight: f32) -> bool {
        weight.abs() <= self.threshold
    }
    /// Weights that are not zero.
    pub fn nonzeros(&self) -> usize {
        self.data.iter().filter(|w| !self.is_zero(**w)).count()
    }
    /// Share of `count` groups without a weight that is not zero. `group` tells the group from filter,
    /// input channel and position.
    fn share(&self, count: usize, group: impl Fn(usize, usize, usize) -> usize) -> f64 {
        let taps = self.kernel[0] * self.kernel[1];
        let mut used = vec![false; count];
        for (index, &weight) in self.data.iter().enumerate() {
            if !self.is_zero(weight) {
                let (kernel, tap) = (index / taps, index % taps);
                used[group(kernel / self.ic, kernel % self.ic, tap)] = true;
            }
        }
        let zeros = used.iter().filter(|used| !**used).count();
        100.0 * zeros as f64 / count.max(1) as f64
    }
    /// All shares, of the weights as oc × ic × position as SkimCaffe counts them: a group's first input
    /// channel is that of all groups, except for columns.
    pub fn zeros(&self) -> Zeros {
        let taps = self.kernel[0] * self.kernel[1];
        let (oc, ic) = (self.oc, self.ic);
        let filters = (oc / self.groups).max(1);
        let group = |oc: usize| (oc / filters).min(self.groups - 1);
        let zeros = self.data.len() - self.nonzeros();
        Zeros {
            element: 100.0 * zeros as f64 / self.data.len().max(1) as f64,
            oc_fiber: self.share(ic * taps, |_, c, tap| c * taps + tap),
            ic_fiber: self.share(oc * taps, |o, _, tap| o * taps + tap),
            kernel_fiber: self.share(oc * ic, |o, c, _| o * ic + c),
            oc_slice: self.share(oc, |o, _, _| o),
            ic_slice: self.share(ic, |_, c, _| c),
            kernel_slice: self.share(taps, |_, _, tap| tap),
            column: self.share(self.groups * ic * taps, |o, c, tap| {
                (group(o) * ic + c) * taps + tap
            }),
        }
    }
    /// Patterns of the kernels; `None` for kernels of one element and large ones.
    pub fn histogram(&self) -> Option<Histogram> {
        let [kh, kw] = self.kernel;
        let taps = kh * kw;
        if taps < 2 || kh > MOST_SIDE || kw > MOST_SIDE {
            return None;
        }
        let mut counts: HashMap<u32, usize> = HashMap::new();
        let mut by_nonzeros = vec![0; taps + 1];
        for kernel in self.data.chunks_exact(taps) {
            let bits = kernel
                .iter()
                .enumerate()
                .filter(|(_, w)| !self.is_zero(**w));
            let pattern = bits.fold(0u32, |pattern, (tap, _)| pattern | 1 << tap);
            *counts.entry(pattern).or_default() += 1;
            by_nonzeros[pattern.count_ones() as usize] += 1;
        }
        let mut sorted: Vec<(u32, usize)> = counts.into_iter().collect();
        sorted.sort_by_key(|&(pattern, count)| (std::cmp::Reverse(count), pattern));
        let rows = |pattern: u32| {
            let tap = |y: usize, x: usize| {
                if pattern >> (y * kw + x) & 1 == 1 {
                    'x'
                } else {
                    '.'
                }
            };
            (0..kh)
                .map(|y| (0..kw).map(|x| tap(y, x)).collect())
                .collect()
        };
        Some(Histogram {
            kernel: self.kernel,
            kernels: self.data.len() / taps,
            distinct: sorted.len(),
            all: sorted
                .iter()
                .map(|&(pattern, count)| Pattern {
                    rows: rows(pattern),
                    count,
                })
                .collect(),
            by_nonzeros,
        })
    }
}

impl Histogram {
    /// The most frequent patterns side by side, each with its share.
    pub fn text(&self, layer: &str, most: usize) -> String {
        let [kh, kw] = self.kernel;
        let mut text = format!(
            "{layer}: {} kernels of {kh}x{kw}, {} patterns\n",
            self.kernels, self.distinct
        );
        for row in 0..kh {
            let cells = self
                .all
                .iter()
                .take(most)
                .map(|pattern| format!("{:<9}", pattern.rows[row]));
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "  {}", cells.collect::<String>().trim_end());
        }
        let share = |pattern: &Pattern| 100.0 * pattern.count as f64 / self.kernels.max(1) as f64;
        let shares = self
            .all
            .iter()
            .take(most)
            .map(|pattern| format!("{:<9}", format!("{:.2} %", share(pattern))));
        let _ = writeln!(text, "  {}", shares.collect::<String>().trim_end());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fibers_slices_and_patterns() {
        let shape = Shape::new([2, 3, 1, 2]).unwrap();
        let data = [1.0, 0.0, -1.0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let matrix = Matrix::new(&shape, &data, 1, 0.01);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        let zeros = matrix.zeros();
        close(zeros.element, 1000.0 / 12.0);
        close(zeros.oc_fiber, 400.0 / 6.0);
        close(zeros.ic_fiber, 75.0);
        close(zeros.kernel_fiber, 400.0 / 6.0);
        close(zeros.oc_slice, 50.0);
        close(zeros.ic_slice, 100.0 / 3.0);
        close(zeros.kernel_slice, 50.0);
        close(zeros.column, zeros.oc_fiber);
        let histogram = matrix.histogram().unwrap();
        assert_eq!((histogram.kernels, histogram.distinct), (6, 2));
        assert_eq!(
            histogram.all[0],
            Pattern {
                rows: vec!["..".to_owned()],
                count: 4
            }
        );
        assert_eq!(histogram.by_nonzeros, [4, 2, 0]);
        assert_eq!(histogram.all.len(), 2);
        assert!(histogram.text("a", 1).contains("\n  ..\n  66.67 %\n"));
        // In two groups every filter has columns of its own; the rest is the same.
        let grouped = Matrix::new(&shape, &data, 2, 0.01).zeros();
        close(grouped.column, 1000.0 / 12.0);
        let column = zeros.column;
        assert_eq!(Zeros { column, ..grouped }, zeros);
    }
}
