//! Convolution and deconvolution: matrix products over gathered windows.

use super::blocks::{self, Partial};
use super::layer::{Backward, Forward, Layer};
use super::sums::total;
use crate::columns::Geometry;
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops;
use skimjit_pruning::gemm::{Matrix, multiply};

impl Geometry {
    fn scratch(&self) -> Vec<f32> {
        let count = self.columns.rows() * self.columns.columns();
        vec![0.0; if self.columns.is_image() { 0 } else { count }]
    }
    /// The windows as a matrix, gathered into `scratch` unless they are the image.
    fn gathered<'a>(&self, image: &'a [f32], scratch: &'a mut [f32]) -> Matrix<'a> {
        let (rows, columns) = (self.columns.rows(), self.columns.columns());
        if self.columns.is_image() {
            return Matrix::new(image, rows, columns);
        }
        self.columns.gather(image, scratch);
        Matrix::new(scratch, rows, columns)
    }
    fn filter<'a>(&self, weights: &'a [f32], group: usize) -> Matrix<'a> {
        let count = self.weights();
        let of_group = &weights[group * count..(group + 1) * count];
        Matrix::new(of_group, self.filters, self.columns.rows())
    }
    /// narrow = weights · windows(wide).
    fn contract(&self, wide: &[f32], weights: &[f32], narrow: &mut [f32], scratch: &mut [f32]) {
        let groups = wide.chunks_exact(self.wide());
        for (group, (wide, narrow)) in groups
            .zip(narrow.chunks_exact_mut(self.narrow()))
            .enumerate()
        {
            let windows = self.gathered(wide, scratch);
            multiply(self.filter(weights, group), windows, narrow, false);
        }
    }
    /// wide = windowsᵀ(weightsᵀ · narrow).
    fn expand(&self, narrow: &[f32], weights: &[f32], wide: &mut [f32], scratch: &mut [f32]) {
        let groups = narrow.chunks_exact(self.narrow());
        for (group, (narrow, wide)) in groups.zip(wide.chunks_exact_mut(self.wide())).enumerate() {
            let filter = self.filter(weights, group).t();
            let narrow = Matrix::new(narrow, self.filters, self.columns.columns());
            if self.columns.is_image() {
                multiply(filter, narrow, wide, false);
            } else {
                multiply(filter, narrow, scratch, false);
                wide.fill(0.0);
                self.columns.scatter_add(scratch, wide);
            }
        }
    }
    /// gradient += narrow · windows(wide)ᵀ.
    fn correlate(&self, narrow: &[f32], wide: &[f32], gradient: &mut [f32], scratch: &mut [f32]) {
        let groups = wide
            .chunks_exact(self.wide())
            .zip(narrow.chunks_exact(self.narrow()));
        for ((wide, narrow), gradient) in groups.zip(gradient.chunks_exact_mut(self.weights())) {
            let narrow = Matrix::new(narrow, self.filters, self.columns.columns());
            let windows = self.gathered(wide, scratch);
            multiply(narrow, windows.t(), gradient, true);
        }
    }
}

/// Convolution, or its transpose.
pub struct Convolution {
    geometry: Geometry,
    transposed: bool,
}

impl Convolution {
    /// A convolution.
    pub fn new(op: &ops::Convolution, input: &Shape, output: &Shape) -> Self {
        Self {
            geometry: Geometry::new(op, input, output),
            transposed: false,
        }
    }
    /// A deconvolution: the convolution from its output to its input, transposed.
    pub fn transposed(op: &ops::Convolution, input: &Shape, output: &Shape) -> Self {
        Self {
            geometry: Geometry::new(op, output, input),
            transposed: true,
        }
    }
    fn input(&self) -> usize {
        let g = &self.geometry;
        g.groups
            * if self.transposed {
                g.narrow()
            } else {
                g.wide()
            }
    }
    fn output(&self) -> usize {
        let g = &self.geometry;
        g.groups
            * if self.transposed {
                g.wide()
            } else {
                g.narrow()
            }
    }
}

/// Adds to each plane of an image its channel's offset.
fn add_bias(bias: &[f32], image: &mut [f32]) {
    let plane = image.len() / bias.len();
    for (plane, bias) in image.chunks_exact_mut(plane).zip(bias) {
        plane.iter_mut().for_each(|x| *x += bias);
    }
}

impl Layer for Convolution {
    fn forward(&mut self, run: Forward<'_>) {
        let g = &self.geometry;
        let (weights, bias) = (&run.weights[0], run.weights.get(1));
        let images = run.output.par_chunks_exact_mut(self.output());
        let images = images.zip(run.inputs[0].par_chunks_exact(self.input()));
        images.for_each_init(
            || g.scratch(),
            |scratch, (output, input)| {
                if self.transposed {
                    g.expand(input, weights, output, scratch);
                } else {
                    g.contract(input, weights, output, scratch);
                }
                if let Some(bias) = bias {
                    add_bias(bias, output);
                }
            },
        );
    }

    fn backward(&mut self, run: Backward<'_>) {
        let g = &self.geometry;
        let weights = &run.weights[0];
        let (input, output) = (self.input(), self.output());
        let one = |[dy, x]: [&[f32]; 2],
                   into: Option<&mut [f32]>,
                   p: &mut Partial,
                   scratch: &mut Vec<f32>| {
            let (narrow, wide) = if self.transposed { (x, dy) } else { (dy, x) };
            if !p.weights.is_empty() {
                g.correlate(narrow, wide, &mut p.weights, scratch);
            }
            if !p.bias.is_empty() {
                let planes = dy.chunks_exact(dy.len() / p.bias.len());
                let sums = p.bias.iter_mut().zip(planes);
                sums.for_each(|(sum, plane)| *sum += total(plane));
            }
            match into {
                Some(into) if self.transposed => g.contract(dy, weights, into, scratch),
                Some(into) => g.expand(dy, weights, into, scratch),
                None => {}
            }
        };
        blocks::backward(run, g.images, |[dy, x], mut into, partial| {
            let mut scratch = g.scratch();
            let images = dy.chunks_exact(output).zip(x.chunks_exact(input));
            for (index, (dy, x)) in images.enumerate() {
                let range = index * input..(index + 1) * input;
                let into = into.as_deref_mut().map(|into| &mut into[range]);
                one([dy, x], into, partial, &mut scratch);
            }
        });
    }
}
