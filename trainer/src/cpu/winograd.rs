//! Convolution with weights in the Winograd domain: one matrix product per position of the transformed
//! tiles, over the tiles of several images.

use super::blocks::{self, images_of_block};
use super::layer::{Backward, Forward, Layer};
use super::sums::total;
use rayon::prelude::*;
use skimjit_models::ops;
use skimjit_models::ops::winograd::{MAX_INPUT, TILE, WinogradTransform};
use skimjit_models::{Error, Result, Shape};
use skimjit_pruning::gemm::{Matrix, multiply};

/// Tiles that are transformed together.
const LANES: usize = 16;
/// Elements of transformed tiles that a task holds at most, unless one image has more.
const SCRATCH: usize = 1 << 22;

type Square = [[f32; MAX_INPUT]; MAX_INPUT];
/// The same place of several tiles side by side.
type Tiles = [[[f32; LANES]; MAX_INPUT]; MAX_INPUT];

/// Planes of an image and how they are cut into tiles: overlapping ones of the inputs, or those of the
/// outputs.
struct Side {
    channels: usize,
    plane: [usize; 2],
    /// Rows of a tile.
    size: usize,
    pad: [usize; 2],
    /// Tiles along each axis.
    tiles: [usize; 2],
    /// Rows of a transformed tile.
    domain: usize,
    /// To the Winograd domain: domain × size.
    to: Square,
    /// Back: size × domain, the transpose of `to`.
    back: Square,
}

impl Side {
    fn image(&self) -> usize {
        self.channels * self.plane[0] * self.plane[1]
    }
    fn count(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }
    /// Elements of a tile that lie in the plane: for each, its place in the tile and in the plane.
    fn inside(&self, tile: usize) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let at = [tile / self.tiles[1] * TILE, tile % self.tiles[1] * TILE];
        let rows = (0..self.size).filter_map(move |i| {
            let y = (at[0] + i).checked_sub(self.pad[0])?;
            (y < self.plane[0]).then_some((i, y))
        });
        rows.flat_map(move |(i, y)| {
            (0..self.size).filter_map(move |j| {
                let x = (at[1] + j).checked_sub(self.pad[1])?;
                (x < self.plane[1]).then_some((i, j, y * self.plane[1] + x))
            })
        })
    }
    /// Runs over all channels and groups of tiles of an image: channel, first tile, tiles.
    fn groups(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let starts = move || (0..self.count()).step_by(LANES);
        (0..self.channels).flat_map(move |channel| {
            starts().map(move |first| (channel, first, LANES.min(self.count() - first)))
        })
    }
    /// Writes the transformed tiles of an image: position × channel × `columns`, from column `at`.
    fn spread(&self, image: &[f32], matrix: &mut [f32], columns: usize, at: usize) {
        let plane = self.plane[0] * self.plane[1];
        for (channel, first, count) in self.groups() {
            let data = &image[channel * plane..(channel + 1) * plane];
            let mut tiles: Tiles = [[[0.0; LANES]; MAX_INPUT]; MAX_INPUT];
            for (lane, tile) in (first..first + count).enumerate() {
                for (i, j, pixel) in self.inside(tile) {
                    tiles[i][j][lane] = data[pixel];
                }
            }
            let transformed = sandwich(&self.to, self.domain, self.size, &tiles);
            for position in 0..self.domain * self.domain {
                let row = (position * self.channels + channel) * columns + at + first;
                let lanes = &transformed[position / self.domain][position % self.domain];
                matrix[row..row + count].copy_from_slice(&lanes[..count]);
            }
        }
    }
    /// Adds to an image what the transformed tiles amount to: the transpose of [`Side::spread`].
    fn collect(&self, matrix: &[f32], columns: usize, at: usize, image: &mut [f32]) {
        let plane = self.plane[0] * self.plane[1];
        for (channel, first, count) in self.groups() {
            let mut tiles: Tiles = [[[0.0; LANES]; MAX_INPUT]; MAX_INPUT];
            for position in 0..self.domain * self.domain {
                let row = (position * self.channels + channel) * columns + at + first;
                let lanes = &mut tiles[position / self.domain][position % self.domain];
                lanes[..count].copy_from_slice(&matrix[row..row + count]);
            }
            let pixels = sandwich(&self.back, self.size, self.domain, &tiles);
            let data = &mut image[channel * plane..(channel + 1) * plane];
            for (lane, tile) in (first..first + count).enumerate() {
                for (i, j, pixel) in self.inside(tile) {
                    data[pixel] += pixels[i][j][lane];
                }
            }
        }
    }
}

/// a·x·aᵀ for several tiles, with a of rows × columns.
fn sandwich(a: &Square, rows: usize, columns: usize, x: &Tiles) -> Tiles {
    let mut half: Tiles = [[[0.0; LANES]; MAX_INPUT]; MAX_INPUT];
    let mut result: Tiles = [[[0.0; LANES]; MAX_INPUT]; MAX_INPUT];
    let add = |sum: &mut [f32; LANES], factor: f32, x: &[f32; LANES]| {
        sum.iter_mut()
            .zip(x)
            .for_each(|(sum, x)| *sum += factor * x);
    };
    for (i, k) in (0..rows).flat_map(|i| (0..columns).map(move |k| (i, k))) {
        if a[i][k] != 0.0 {
            (0..columns).for_each(|j| add(&mut half[i][j], a[i][k], &x[k][j]));
        }
    }
    for (j, k) in (0..rows).flat_map(|j| (0..columns).map(move |k| (j, k))) {
        if a[j][k] != 0.0 {
            (0..rows).for_each(|i| add(&mut result[i][j], a[j][k], &half[i][k]));
        }
    }
    result
}

fn transposed(a: &Square) -> Square {
    let mut t = [[0.0; MAX_INPUT]; MAX_INPUT];
    for (i, line) in t.iter_mut().enumerate() {
        line.iter_mut().zip(a).for_each(|(to, from)| *to = from[i]);
    }
    t
}

/// Convolution in the Winograd domain.
pub struct Winograd {
    groups: usize,
    images: usize,
    input: Side,
    output: Side,
    /// Products per pair of channels: m².
    positions: usize,
}

impl Winograd {
    /// From attributes and shapes.
    pub fn new(op: &ops::WinogradConvolution, input: &Shape, output: &Shape) -> Result<Self> {
        let matrices = WinogradTransform::of(op.kernel).ok_or_else(|| {
            Error::new(op.kernel.to_string())
                .field("convolution_param.kernel_size")
                .expected("3 or 5")
        })?;
        let m = matrices.input;
        let single = |rows: &[[f64; MAX_INPUT]]| {
            let mut square = [[0.0; MAX_INPUT]; MAX_INPUT];
            for (to, from) in square.iter_mut().zip(rows) {
                to.iter_mut()
                    .zip(from)
                    .for_each(|(to, from)| *to = *from as f32);
            }
            square
        };
        let plane = |shape: &Shape| [2, 3].map(|axis| shape.dim(axis) as usize);
        let tiles = plane(output).map(|size| size.div_ceil(TILE));
        let side = |shape: &Shape, size: usize, pad: [usize; 2], back: Square| Side {
            channels: shape.dim(1) as usize,
            plane: plane(shape),
            size,
            pad,
            tiles,
            domain: m,
            to: transposed(&back),
            back,
        };
        let pad = op.pad.map(|pad| pad as usize);
        Ok(Self {
            groups: op.groups as usize,
            images: input.dim(0) as usize,
            input: side(input, m, pad, transposed(&single(&matrices.bt))),
            output: side(output, TILE, [0, 0], single(&matrices.at)),
            positions: m * m,
        })
    }
    /// Images whose tiles are multiplied together.
    fn batch(&self) -> usize {
        let channels = self.input.channels + self.output.channels;
        let image = self.positions * channels * self.output.count();
        (SCRATCH / image.max(1)).max(1)
    }
    /// Weights, inputs and outputs of each position and group.
    fn products(&self, columns: usize) -> impl Iterator<Item = [std::ops::Range<usize>; 3]> {
        let (oc, ic) = (
            self.output.channels / self.groups,
            self.input.channels / self.groups,
        );
        (0..self.positions * self.groups).map(move |index| {
            [oc * ic, ic * columns, oc * columns].map(|count| index * count..(index + 1) * count)
        })
    }
    /// outputs × inputs of a group.
    fn weights<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        let (oc, ic) = (self.output.channels, self.input.channels);
        Matrix::new(data, oc / self.groups, ic / self.groups)
    }
    fn inputs<'a>(&self, data: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix::new(data, self.input.channels / self.groups, columns)
    }
    fn outputs<'a>(&self, data: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix::new(data, self.output.channels / self.groups, columns)
    }
    /// The transformed tiles of some images.
    fn spread(&self, side: &Side, images: &[f32], matrix: &mut Vec<f32>) -> usize {
        let columns = images.len() / side.image() * side.count();
        matrix.resize(self.positions * side.channels * columns, 0.0);
        for (index, image) in images.chunks_exact(side.image()).enumerate() {
            side.spread(image, matrix, columns, index * side.count());
        }
        columns
    }
    fn forward_batch(&self, input: &[f32], u: &[f32], output: &mut [f32], scratch: &mut Scratch) {
        let columns = self.spread(&self.input, input, &mut scratch.inputs);
        scratch
            .outputs
            .resize(self.positions * self.output.channels * columns, 0.0);
        for [w, x, y] in self.products(columns) {
            let (w, x) = (
                self.weights(&u[w]),
                self.inputs(&scratch.inputs[x], columns),
            );
            multiply(w, x, &mut scratch.outputs[y], false);
        }
        let images = output.chunks_exact_mut(self.output.image());
        for (index, image) in images.enumerate() {
            let at = index * self.output.count();
            self.output.collect(&scratch.outputs, columns, at, image);
        }
    }
    /// Gradients of some images: adds to those of the weights, overwrites those of the inputs.
    fn backward_batch(
        &self,
        images: [&[f32]; 2],
        u: &[f32],
        weights: Option<&mut Vec<f32>>,
        into: Option<&mut [f32]>,
        scratch: &mut Scratch,
    ) {
        let [input, gradient] = images;
        let columns = self.spread(&self.output, gradient, &mut scratch.outputs);
        if let Some(sum) = weights {
            self.spread(&self.input, input, &mut scratch.inputs);
            for [w, x, y] in self.products(columns) {
                let q = self.outputs(&scratch.outputs[y], columns);
                let v = self.inputs(&scratch.inputs[x], columns);
                multiply(q, v.t(), &mut sum[w], true);
            }
        }
        let Some(into) = into else { return };
        scratch
            .inputs
            .resize(self.positions * self.input.channels * columns, 0.0);
        for [w, x, y] in self.products(columns) {
            let q = self.outputs(&scratch.outputs[y], columns);
            let w = self.weights(&u[w]).t();
            multiply(w, q, &mut scratch.inputs[x], false);
        }
        let images = into.chunks_exact_mut(self.input.image());
        for (index, image) in images.enumerate() {
            image.fill(0.0);
            let at = index * self.input.count();
            self.input.collect(&scratch.inputs, columns, at, image);
        }
    }
}

/// Transformed tiles of one task.
#[derive(Default)]
struct Scratch {
    inputs: Vec<f32>,
    outputs: Vec<f32>,
}

impl Layer for Winograd {
    fn forward(&mut self, run: Forward<'_>) {
        let (weights, bias) = (&run.weights[0], run.weights.get(1));
        let (input, output) = (self.input.image(), self.output.image());
        // Any number of images gives the same sums: products run over channels.
        let batch = self.batch().min(images_of_block(self.images));
        let batches = run.output.par_chunks_mut(batch * output);
        let batches = batches.zip(run.inputs[0].par_chunks(batch * input));
        batches.for_each_init(Scratch::default, |scratch, (output_images, images)| {
            let plane = self.output.plane[0] * self.output.plane[1];
            for (index, plane) in output_images.chunks_exact_mut(plane).enumerate() {
                plane.fill(bias.map_or(0.0, |bias| bias[index % bias.len()]));
            }
            self.forward_batch(images, weights, output_images, scratch);
        });
    }

    fn backward(&mut self, run: Backward<'_>) {
        let u = &run.weights[0];
        let channels = self.output.channels;
        let (input, output) = (self.input.image(), self.output.image());
        let batch = self.batch();
        blocks::backward(run, self.images, |[dy, x], mut into, partial| {
            let mut scratch = Scratch::default();
            let planes = dy.chunks_exact(output / channels).enumerate();
            for (index, plane) in planes {
                if let Some(sum) = partial.bias.get_mut(index % channels) {
                    *sum += total(plane);
                }
            }
            let batches = dy.chunks(batch * output).zip(x.chunks(batch * input));
            for (index, (dy, x)) in batches.enumerate() {
                let first = index * batch * input;
                let range = first..first + x.len();
                let into = into.as_deref_mut().map(|into| &mut into[range]);
                let sum = Some(&mut partial.weights).filter(|sum| !sum.is_empty());
                self.backward_batch([x, dy], u, sum, into, &mut scratch);
            }
        });
    }
}
