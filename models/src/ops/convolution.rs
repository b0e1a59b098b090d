//! Convolution (cross-correlation).

use super::operation::{Inputs, Operation, Weights};
use super::{PostOps, Window, operands};
use crate::{Error, Result, Shape, TensorRef, WeightId};
use serde::{Deserialize, Serialize};

/// Convolution or deconvolution. Weights: conv `oc × ic/groups × kh × kw`,
/// deconv `ic × oc/groups × kh × kw`; bias `oc`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Convolution {
    /// Kernel, stride, pad, dilation.
    pub window: Window,
    /// Output channels.
    pub oc: u32,
    /// Groups; divides ic and oc.
    pub groups: u32,
    /// Weight tensor.
    pub weights: WeightId,
    /// Bias tensor.
    pub bias: Option<WeightId>,
    /// Fused activation.
    pub post: PostOps,
}

/// Output columns that are accumulated together on the stack.
const BLOCK: usize = 64;

/// Checks that `groups` divides both channel counts; channels per group of input and output.
pub(super) fn check_groups(groups: u32, ic: u32, oc: u32) -> Result<[u32; 2]> {
    operands::positive(oc, "outputs")?;
    operands::positive(groups, "groups")?;
    if ic.is_multiple_of(groups) && oc.is_multiple_of(groups) {
        return Ok([ic / groups, oc / groups]);
    }
    Err(Error::new(groups.to_string())
        .field("groups")
        .expected(format!("a divisor of {ic} input channels and {oc} outputs")))
}

/// Checks the optional bias of `oc` outputs.
pub(super) fn check_bias(weights: &Weights, bias: Option<WeightId>, oc: u32) -> Result<()> {
    bias.map_or(Ok(()), |id| {
        operands::weight_count(weights, id, 1, oc as usize)
    })
}

/// The weights fix the input channels of a convolution of any kind.
pub(super) fn check_channels(before: &[&Shape], after: &[&Shape]) -> Result<()> {
    let channels = |shapes: &[&Shape]| shapes.first().map(|shape| shape.dim(1));
    match (channels(before), channels(after)) {
        (Some(old), Some(new)) if old != new => {
            Err(Error::new(format!("{new} channels (shape {})", after[0]))
                .field("input[0]")
                .expected(format!("{old}, as the weights have")))
        }
        _ => Ok(()),
    }
}

/// Bias of output channel `o`, 0 without a bias tensor.
pub(super) fn bias_of(weights: &Weights, bias: Option<WeightId>, o: usize) -> f64 {
    bias.map_or(0.0, |id| f64::from(weights[id.0 as usize].data()[o]))
}

impl Operation for Convolution {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, ic, ih, iw] = operands::image(input, 0)?;
        self.window.check_padded([ih, iw])?;
        let size = [
            self.window.output_size(0, ih)?,
            self.window.output_size(1, iw)?,
        ];
        let [group_ic, _] = check_groups(self.groups, ic, self.oc)?;
        let [kh, kw] = self.window.kernel;
        operands::weight_dims(weights, self.weights, 0, &[self.oc, group_ic, kh, kw])?;
        check_bias(weights, self.bias, self.oc)?;
        Shape::new([n, self.oc, size[0], size[1]])
    }

    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        check_channels(before, after)
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [oc, oh, ow] = [1, 2, 3].map(|axis| shape.dim(axis) as usize);
        for (row, dst) in output.chunks_exact_mut(ow).enumerate() {
            let (y, o, n) = (row % oh, row / oh % oc, row / oh / oc);
            self.evaluate_row(inputs[0], weights, [n, o, y], dst);
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }

    fn macs(&self, _inputs: &[&Shape], weights: &Weights, output: &Shape) -> u64 {
        let kernel = weights[self.weights.0 as usize].shape().count() as u64 / u64::from(self.oc);
        (output.count() as u64).saturating_mul(kernel)
    }
}

impl Convolution {
    /// Row `y` of output channel `o` of image `n`, block by block of columns.
    fn evaluate_row(
        &self,
        src: TensorRef<'_>,
        weights: &Weights,
        [n, o, y]: [usize; 3],
        dst: &mut [f32],
    ) {
        let bias = bias_of(weights, self.bias, o);
        let columns = dst.len() as u32;
        for (block, dst) in dst.chunks_mut(BLOCK).enumerate() {
            let mut sums = [bias; BLOCK];
            self.accumulate(src, weights, [n, o, y], columns, block * BLOCK, &mut sums);
            for (value, sum) in dst.iter_mut().zip(sums) {
                *value = self.post.apply(sum) as f32;
            }
        }
    }

    /// Adds Σ w[o,c,u,v]·x[c, y·s − p + u·d, x·s − p + v·d] to `sums`, one per column from `begin`.
    fn accumulate(
        &self,
        src: TensorRef<'_>,
        weights: &Weights,
        [n, o, y]: [usize; 3],
        columns: u32,
        begin: usize,
        sums: &mut [f64; BLOCK],
    ) {
        let [ic, ih, iw] = [1, 2, 3].map(|axis| src.shape.dim(axis) as usize);
        let [kh, kw] = self.window.kernel.map(|k| k as usize);
        let group_ic = ic / self.groups as usize;
        let first_ic = o / (self.oc / self.groups) as usize * group_ic;
        let kernel = &weights[self.weights.0 as usize].data()[o * group_ic * kh * kw..];
        let [stride, pad, dilation] = [
            self.window.stride[1],
            self.window.pad_begin[1],
            self.window.dilation[1],
        ]
        .map(|x| x as usize);
        for v in 0..kw {
            let valid = self.window.valid_outputs(1, v as u32, iw as u32, columns);
            let first = (valid.start as usize).max(begin);
            let end = (valid.end as usize).min(begin + BLOCK);
            if first >= end {
                continue;
            }
            let sums = &mut sums[first - begin..end - begin];
            let first_ix = first * stride + v * dilation - pad;
            for (c, u) in (0..group_ic).flat_map(|c| (0..kh).map(move |u| (c, u))) {
                let Some(iy) = self.input_row(y, u, ih) else {
                    continue;
                };
                let row = ((n * ic + first_ic + c) * ih + iy) * iw + first_ix;
                let weight = f64::from(kernel[(c * kh + u) * kw + v]);
                // A weight of zero is absent: it does not make an infinity NaN.
                if weight != 0.0 {
                    add_row(sums, weight, &src.data[row..], stride);
                }
            }
        }
    }

    /// Input row under kernel row `u` for output row `y`, when it is inside the input.
    fn input_row(&self, y: usize, u: usize, ih: usize) -> Option<usize> {
        let [stride, dilation, pad] = [
            self.window.stride[0],
            self.window.dilation[0],
            self.window.pad_begin[0],
        ]
        .map(|x| x as usize);
        (y * stride + u * dilation)
            .checked_sub(pad)
            .filter(|&iy| iy < ih)
    }
}

/// sums[j] += weight·src[j·stride].
fn add_row(sums: &mut [f64], weight: f64, src: &[f32], stride: usize) {
    if stride == 1 {
        for (sum, &x) in sums.iter_mut().zip(src) {
            *sum += weight * f64::from(x);
        }
    } else {
        for (sum, &x) in sums.iter_mut().zip(src.iter().step_by(stride)) {
            *sum += weight * f64::from(x);
        }
    }
}
