//! What the layers of a network see: first and second moments of their inputs.

use super::reconstruction::Unit;
use crate::columns::Columns;
use crate::cpu::gemm::{Matrix, multiply};
use rayon::prelude::*;
use skimjit_models::{Op, Shape};

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
    /// How windows are gathered, of a convolution.
    windows: Option<Columns>,
}

impl Layout {
    /// Of convolutions and inner products.
    pub fn of(op: &Op, input: &Shape, output: &Shape) -> Option<Self> {
        match op {
            Op::Convolution(op) => {
                let groups = op.groups as usize;
                let plane = |shape: &Shape| [2, 3].map(|axis| shape.dim(axis) as usize);
                let windows = Columns {
                    channels: input.dim(1) as usize / groups,
                    input: plane(input),
                    output: plane(output),
                    window: op.window,
                };
                Some(Self {
                    groups,
                    filters: op.oc as usize / groups,
                    columns: windows.rows(),
                    transposed: false,
                    windows: Some(windows),
                })
            }
            Op::InnerProduct(op) => Some(Self {
                groups: 1,
                filters: op.outputs as usize,
                columns: input.count_of(op.axis as usize, input.rank()),
                transposed: op.transpose,
                windows: None,
            }),
            _ => None,
        }
    }
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
    pub fn blocks(&self) -> usize {
        self.layout.columns.div_ceil(self.block)
    }
    /// Adds a batch of inputs.
    pub fn add(&mut self, input: &[f32]) {
        let columns = self.layout.columns;
        let Some(windows) = self.layout.windows.clone() else {
            let rows = input.len() / columns.max(1);
            self.add_group(0, Matrix::new(input, rows, columns).t());
            for row in input.chunks_exact(columns) {
                let sums = self.sums.iter_mut().zip(row);
                sums.for_each(|(sum, x)| *sum += f64::from(*x));
            }
            self.count += rows as f64;
            return;
        };
        let plane = windows.channels * windows.input[0] * windows.input[1];
        let mut scratch = vec![0.0; windows.rows() * windows.columns()];
        for (index, image) in input.chunks_exact(plane).enumerate() {
            let group = index % self.layout.groups;
            windows.gather(image, &mut scratch);
            let matrix = Matrix::new(&scratch, windows.rows(), windows.columns());
            self.add_group(group, matrix);
            let sums = self.sums[group * columns..].iter_mut();
            for (sum, row) in sums.zip(scratch.chunks_exact(windows.columns())) {
                *sum += f64::from(row.iter().sum::<f32>());
            }
            if group == 0 {
                self.count += windows.columns() as f64;
            }
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
    pub fn means(&self) -> Vec<f64> {
        let count = self.count.max(1.0);
        self.sums.iter().map(|sum| sum / count).collect()
    }
    /// Cuts a layer's weights into units. `centred` moments are around the means: right where an offset
    /// can make up for them.
    pub fn into_units(self, weights: &[f32], centred: bool) -> Vec<Unit> {
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

impl Layout {
    /// Weights as filters × columns, groups one after the other.
    pub fn rows(&self, weights: &[f32]) -> Vec<f32> {
        if !self.transposed {
            return weights.to_vec();
        }
        let turned = |row: usize| weights.iter().skip(row).step_by(self.filters).copied();
        (0..self.filters).flat_map(turned).collect()
    }
    /// The opposite of [`Moments::into_units`], for weights alone.
    pub fn join(&self, units: &[Vec<f32>]) -> Vec<f32> {
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
