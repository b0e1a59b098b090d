//! What the layers of a network see: first and second moments of their inputs.

use crate::gemm::{Matrix, multiply};
use crate::magnitude::zeros_of;
use crate::reconstruction::{self, Unit};
use rayon::prelude::*;

/// Elements of all moments of a layer: beyond, columns are cut into blocks whose mutual moments are
/// taken for zero. In bytes, 340 MB; the work needs about three times as much.
pub const MOST_MOMENTS: usize = 9216 * 9216;
/// Rows of a product that one task makes.
const PART: usize = 128;

/// How a layer's weights lie, as filters over what they see.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Groups of a convolution.
    pub groups: usize,
    /// Filters of a group.
    pub filters: usize,
    /// Inputs that a filter sees.
    pub columns: usize,
    /// Weights lie as inputs × outputs.
    pub transposed: bool,
}

impl Layout {
    /// Columns of a block.
    fn block(&self) -> usize {
        let all = self.groups.saturating_mul(self.columns * self.columns);
        self.columns.div_ceil(all.div_ceil(MOST_MOMENTS).max(1))
    }
}

/// Sums over the inputs of a layer.
pub struct Moments {
    layout: Layout,
    block: usize,
    /// Per group and block, block × block.
    products: Vec<Vec<f32>>,
    /// Per group and column.
    sums: Vec<f64>,
    count: f64,
}

impl Moments {
    /// No inputs yet.
    pub fn new(layout: Layout) -> Self {
        let block = layout.block();
        let sizes = (0..layout.groups).flat_map(|_| {
            let starts = (0..layout.columns).step_by(block);
            let width = |start: usize| block.min(layout.columns - start);
            starts.map(width).collect::<Vec<_>>()
        });
        Self {
            products: sizes.map(|width| vec![0.0; width * width]).collect(),
            sums: vec![0.0; layout.groups * layout.columns],
            count: 0.0,
            block,
            layout,
        }
    }
    /// Blocks that a group's columns are cut into.
    fn blocks(&self) -> usize {
        self.layout.columns.div_ceil(self.block)
    }
    /// Adds inputs of an inner product, one row after the other.
    pub fn add_rows(&mut self, input: &[f32]) {
        let columns = self.layout.columns;
        let rows = input.len() / columns.max(1);
        self.add_group(0, Matrix::new(input, rows, columns).t());
        for row in input.chunks_exact(columns) {
            let sums = self.sums.iter_mut().zip(row);
            sums.for_each(|(sum, x)| *sum += f64::from(*x));
        }
        self.count += rows as f64;
    }
    /// Adds the windows that the filters of a group see in an image: columns × `samples`.
    pub fn add_windows(&mut self, group: usize, windows: &[f32], samples: usize) {
        let columns = self.layout.columns;
        self.add_group(group, Matrix::new(windows, columns, samples));
        let sums = self.sums[group * columns..].iter_mut();
        for (sum, row) in sums.zip(windows.chunks_exact(samples)).take(columns) {
            *sum += f64::from(row.iter().sum::<f32>());
        }
        if group == 0 {
            self.count += samples as f64;
        }
    }
    /// Adds what one group sees: columns × samples.
    fn add_group(&mut self, group: usize, seen: Matrix<'_>) {
        let blocks = self.blocks();
        let products = &mut self.products[group * blocks..(group + 1) * blocks];
        for (index, products) in products.iter_mut().enumerate() {
            let first = index * self.block;
            let width = self.block.min(self.layout.columns - first);
            let seen = seen.slice(first, width);
            let parts = products.par_chunks_mut(PART * width).enumerate();
            parts.for_each(|(part, products)| {
                let rows = seen.slice(part * PART, products.len() / width);
                multiply(rows, seen.t(), products, true);
            });
        }
    }
    /// Means of the inputs, per group and column.
    fn means(&self) -> Vec<f64> {
        let count = self.count.max(1.0);
        self.sums.iter().map(|sum| sum / count).collect()
    }
    /// Prunes the weights of a layer that has seen these inputs. `has_offset`: an offset can make up for what the
    /// outputs lose in the mean. `None` when the moments are no numbers.
    pub fn prune(
        self,
        weights: &[f32],
        has_offset: bool,
        sparsity: f64,
        damping: f32,
    ) -> Option<Pruned> {
        let (layout, means, blocks) = (self.layout.clone(), self.means(), self.blocks());
        let units = self.into_units(weights, has_offset);
        let zeros = zeros_of(weights.len(), sparsity);
        let outcome = reconstruction::prune(&units, zeros, damping)?;
        drop(units);
        let pruned = layout.join(&outcome.weights);
        Some(Pruned {
            shifts: has_offset.then(|| layout.shifts(weights, &pruned, &means)),
            weights: pruned,
            error: outcome.error,
            magnitude_error: outcome.magnitude_error,
            blocks,
        })
    }
    /// Cuts a layer's weights into units. `centred` moments are around the means: right where an offset
    /// can make up for them.
    fn into_units(self, weights: &[f32], centred: bool) -> Vec<Unit> {
        let means = self.means();
        let scale = 1.0 / self.count.max(1.0);
        let rows = self.layout.rows(weights);
        let (filters, columns, blocks) = (self.layout.filters, self.layout.columns, self.blocks());
        let block = self.block;
        let unit = |(index, mut moments): (usize, Vec<f32>)| {
            let (group, first) = (index / blocks, index % blocks * block);
            let width = block.min(columns - first);
            let means = &means[group * columns + first..][..width];
            for (row, a) in moments.chunks_exact_mut(width).zip(means) {
                for (sum, b) in row.iter_mut().zip(means) {
                    let product = if centred { a * b } else { 0.0 };
                    *sum = (f64::from(*sum) * scale - product) as f32;
                }
            }
            let of_group = rows[group * filters * columns..].chunks_exact(columns);
            let parts = of_group.take(filters).map(|row| &row[first..first + width]);
            Unit {
                weights: parts.flatten().copied().collect(),
                rows: filters,
                columns: width,
                moments,
            }
        };
        self.products.into_iter().enumerate().map(unit).collect()
    }
}

/// What pruning made of a layer.
pub struct Pruned {
    /// Its weights.
    pub weights: Vec<f32>,
    /// What is to be added to the offsets, by filter, where there are any.
    pub shifts: Option<Vec<f64>>,
    /// Mean square of what the outputs changed, over the mean square of the outputs.
    pub error: f64,
    /// The same, had the smallest weights been zeroed.
    pub magnitude_error: f64,
    /// Blocks that the inputs of its filters were cut into to bound memory.
    pub blocks: usize,
}

impl Layout {
    /// What the mean output of each filter lost.
    fn shifts(&self, before: &[f32], after: &[f32], means: &[f64]) -> Vec<f64> {
        let (before, after) = (self.rows(before), self.rows(after));
        let columns = self.columns;
        let rows = before
            .chunks_exact(columns)
            .zip(after.chunks_exact(columns));
        rows.enumerate()
            .map(|(row, (before, after))| {
                let means = &means[row / self.filters * columns..][..columns];
                let change = before.iter().zip(after).map(|(a, b)| f64::from(a - b));
                change.zip(means).map(|(w, mean)| w * mean).sum()
            })
            .collect()
    }
    /// Weights as filters × columns, groups one after the other.
    fn rows(&self, weights: &[f32]) -> Vec<f32> {
        if !self.transposed {
            return weights.to_vec();
        }
        let turned = |row: usize| weights.iter().skip(row).step_by(self.filters).copied();
        (0..self.filters).flat_map(turned).collect()
    }
    /// The opposite of [`Moments::into_units`], for weights alone.
    fn join(&self, units: &[Vec<f32>]) -> Vec<f32> {
        let mut rows = vec![0.0; self.groups * self.filters * self.columns];
        let blocks = units.len() / self.groups;
        let mut first = 0;
        for (index, unit) in units.iter().enumerate() {
            if index % blocks == 0 {
                first = 0;
            }
            let width = unit.len() / self.filters;
            let of_group =
                rows[index / blocks * self.filters * self.columns..].chunks_exact_mut(self.columns);
            for (row, part) in of_group.zip(unit.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(part);
            }
            first += width;
        }
        if !self.transposed {
            return rows;
        }
        let turned = |column: usize| rows.iter().skip(column).step_by(self.columns).copied();
        (0..self.columns).flat_map(turned).collect()
    }
}
