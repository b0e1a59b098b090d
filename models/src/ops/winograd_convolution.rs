//! Convolution with weights in the Winograd domain.

use super::convolution::{bias_of, check_bias, check_channels, check_groups};
use super::operation::{Inputs, Operation, Weights};
use super::winograd::{MAX_INPUT, TILE, WinogradTransform};
use super::{Window, operands};
use crate::{Error, Result, Shape, TensorRef, WeightId};
use serde::{Deserialize, Serialize};

/// Convolution whose weights are stored in the Winograd domain (spec §5): `m × m × oc × ic/groups`
/// for output tiles of 4×4; kernel 3 (m = 6) or 5 (m = 8), stride 1.
///
/// Per tile Y = Aᵀ (Σ U∘(Bᵀ d B)) A, summed over input channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WinogradConvolution {
    /// 3 or 5.
    pub kernel: u32,
    /// pad_h, pad_w.
    pub pad: [u32; 2],
    /// Output channels.
    pub oc: u32,
    /// Groups.
    pub groups: u32,
    /// Weight tensor.
    pub weights: WeightId,
    /// Bias tensor.
    pub bias: Option<WeightId>,
}

/// Output channels that share one transformed input tile.
const CHANNELS: usize = 8;

type InputTile = [[f64; MAX_INPUT]; MAX_INPUT];

impl Operation for WinogradConvolution {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, ic, ih, iw] = operands::image(input, 0)?;
        if self.kernel != 3 && self.kernel != 5 {
            return Err(Error::new(self.kernel.to_string())
                .field("kernel")
                .expected("3 or 5"));
        }
        let window = self.window();
        window.check_padded([ih, iw])?;
        let size = [window.output_size(0, ih)?, window.output_size(1, iw)?];
        let [group_ic, _] = check_groups(self.groups, ic, self.oc)?;
        let m = self.tile_input() as u32;
        operands::weight_dims(weights, self.weights, 0, &[m, m, self.oc, group_ic])?;
        check_bias(weights, self.bias, self.oc)?;
        Shape::new([n, self.oc, size[0], size[1]])
    }

    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        check_channels(before, after)
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [n, oc, oh, ow] = [0, 1, 2, 3].map(|axis| shape.dim(axis) as usize);
        let group_oc = oc / self.groups as usize;
        let tiles = oh.div_ceil(TILE) * ow.div_ceil(TILE);
        for (image, tile) in (0..n).flat_map(|image| (0..tiles).map(move |tile| (image, tile))) {
            let at = [
                tile / ow.div_ceil(TILE) * TILE,
                tile % ow.div_ceil(TILE) * TILE,
            ];
            for group in (0..oc).step_by(group_oc) {
                for first in (group..group + group_oc).step_by(CHANNELS) {
                    let channels = first..(first + CHANNELS).min(group + group_oc);
                    let sums = self.products(inputs[0], weights, image, channels.clone(), at);
                    for (o, sum) in channels.zip(&sums) {
                        let bias = bias_of(weights, self.bias, o);
                        let plane = &mut output[(image * oc + o) * oh * ow..][..oh * ow];
                        self.store(sum, bias, plane, at, [oh, ow]);
                    }
                }
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }

    /// Of the spatial convolution with the same result, so that layers can be compared.
    fn macs(&self, inputs: &[&Shape], _weights: &Weights, output: &Shape) -> u64 {
        let kernel = u64::from(inputs[0].dim(1) / self.groups) * u64::from(self.kernel).pow(2);
        (output.count() as u64).saturating_mul(kernel)
    }
}

impl WinogradConvolution {
    /// Geometry of the spatial convolution with the same result.
    pub fn window(&self) -> Window {
        Window {
            pad_begin: self.pad,
            pad_end: self.pad,
            ..Window::square(self.kernel, 1, 0)
        }
    }

    /// # Panics
    /// For kernels that the shape rule refuses.
    fn transform(&self) -> &'static WinogradTransform {
        WinogradTransform::of(self.kernel).expect("kernel 3 or 5")
    }

    /// m: inputs of a tile along one axis.
    fn tile_input(&self) -> usize {
        TILE + self.kernel as usize - 1
    }

    /// Σ U∘V over the input channels of the group, one tile per output channel of `channels`.
    fn products(
        &self,
        src: TensorRef<'_>,
        weights: &Weights,
        image: usize,
        channels: std::ops::Range<usize>,
        at: [usize; 2],
    ) -> [InputTile; CHANNELS] {
        let transformed = weights[self.weights.0 as usize].data();
        let (oc, groups) = (self.oc as usize, self.groups as usize);
        let group_ic = src.shape.dim(1) as usize / groups;
        let first_ic = channels.start / (oc / groups) * group_ic;
        let m = self.tile_input();
        let mut sums = [[[0.0; MAX_INPUT]; MAX_INPUT]; CHANNELS];
        for c in 0..group_ic {
            let v = self.transform_input(&self.input_tile(src, image, first_ic + c, at));
            for (o, sum) in channels.clone().zip(&mut sums) {
                for (i, j) in (0..m).flat_map(|i| (0..m).map(move |j| (i, j))) {
                    let u = transformed[((i * m + j) * oc + o) * group_ic + c];
                    sum[i][j] += f64::from(u) * v[i][j];
                }
            }
        }
        sums
    }

    /// Inputs under the tile of outputs that begins `at`, 0 outside.
    fn input_tile(&self, src: TensorRef<'_>, image: usize, c: usize, at: [usize; 2]) -> InputTile {
        let [ic, ih, iw] = [1, 2, 3].map(|axis| src.shape.dim(axis) as usize);
        let plane = &src.data[(image * ic + c) * ih * iw..][..ih * iw];
        let [pad_h, pad_w] = self.pad.map(|pad| pad as usize);
        let mut tile = [[0.0; MAX_INPUT]; MAX_INPUT];
        for (i, row) in tile.iter_mut().enumerate().take(self.tile_input()) {
            for (j, value) in row.iter_mut().enumerate().take(self.tile_input()) {
                let y = (at[0] + i).checked_sub(pad_h).filter(|&y| y < ih);
                let x = (at[1] + j).checked_sub(pad_w).filter(|&x| x < iw);
                if let (Some(y), Some(x)) = (y, x) {
                    *value = plane[y * iw + x].into();
                }
            }
        }
        tile
    }

    /// V = Bᵀ d B.
    fn transform_input(&self, d: &InputTile) -> InputTile {
        let bt = &self.transform().bt;
        let mut half = [[0.0; MAX_INPUT]; MAX_INPUT];
        let mut v = [[0.0; MAX_INPUT]; MAX_INPUT];
        for (i, j) in (0..MAX_INPUT).flat_map(|i| (0..MAX_INPUT).map(move |j| (i, j))) {
            half[i][j] = (0..MAX_INPUT).map(|k| bt[i][k] * d[k][j]).sum();
        }
        for (i, j) in (0..MAX_INPUT).flat_map(|i| (0..MAX_INPUT).map(move |j| (i, j))) {
            v[i][j] = (0..MAX_INPUT).map(|k| half[i][k] * bt[j][k]).sum();
        }
        v
    }

    /// Y = Aᵀ sum A + bias into the part of the tile that lies inside the output plane.
    fn store(
        &self,
        sum: &InputTile,
        bias: f64,
        plane: &mut [f32],
        at: [usize; 2],
        [oh, ow]: [usize; 2],
    ) {
        let a = &self.transform().at;
        for y in at[0]..(at[0] + TILE).min(oh) {
            for x in at[1]..(at[1] + TILE).min(ow) {
                let (i, j) = (y - at[0], x - at[1]);
                let row = |k: usize| (0..MAX_INPUT).map(|l| sum[k][l] * a[j][l]).sum::<f64>();
                let value: f64 = (0..MAX_INPUT).map(|k| a[i][k] * row(k)).sum();
                plane[y * ow + x] = (bias + value) as f32;
            }
        }
    }
}
