//! Deconvolution: the data gradient of a convolution.

use super::convolution::{Convolution, bias_of, check_bias, check_channels, check_groups};
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Result, Shape, TensorRef};

/// A [`Convolution`]'s attributes read as a deconvolution.
pub(super) struct Deconvolution<'a>(pub &'a Convolution);

impl Operation for Deconvolution<'_> {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, ic, ih, iw] = operands::image(input, 0)?;
        let window = &self.0.window;
        let size = [
            window.transposed_output_size(0, ih)?,
            window.transposed_output_size(1, iw)?,
        ];
        window.check_padded(size)?;
        let [_, group_oc] = check_groups(self.0.groups, ic, self.0.oc)?;
        let [kh, kw] = window.kernel;
        operands::weight_dims(weights, self.0.weights, 0, &[ic, group_oc, kh, kw])?;
        check_bias(weights, self.0.bias, self.0.oc)?;
        Shape::new([n, self.0.oc, size[0], size[1]])
    }

    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        check_channels(before, after)
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [oc, oh, ow] = [1, 2, 3].map(|axis| shape.dim(axis) as usize);
        for (index, value) in output.iter_mut().enumerate() {
            let (x, y) = (index % ow, index / ow % oh);
            let (o, n) = (index / ow / oh % oc, index / ow / oh / oc);
            let bias = bias_of(weights, self.0.bias, o);
            let sum = self.sum(inputs[0], weights, [n, o], [y, x]);
            *value = self.0.post.apply(bias + sum) as f32;
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }

    fn macs(&self, inputs: &[&Shape], weights: &Weights, _output: &Shape) -> u64 {
        let weights = weights[self.0.weights.0 as usize].shape().count() as u64;
        (inputs[0].count() as u64).saturating_mul(weights / u64::from(inputs[0].dim(1)))
    }
}

impl Deconvolution<'_> {
    /// Σ w[c,o,u,v]·x[c,i,j] over the inputs that the convolution would connect with output (y, x).
    fn sum(
        &self,
        src: TensorRef<'_>,
        weights: &Weights,
        [n, o]: [usize; 2],
        at: [usize; 2],
    ) -> f64 {
        let [ic, ih, iw] = [1, 2, 3].map(|axis| src.shape.dim(axis) as usize);
        let [kh, kw] = self.0.window.kernel.map(|k| k as usize);
        let groups = self.0.groups as usize;
        let (group_ic, group_oc) = (ic / groups, self.0.oc as usize / groups);
        let kernel = weights[self.0.weights.0 as usize].data();
        let mut sum = 0.0;
        for u in 0..kh {
            let Some(iy) = self.source(0, at[0], u, ih) else {
                continue;
            };
            for v in 0..kw {
                let Some(ix) = self.source(1, at[1], v, iw) else {
                    continue;
                };
                for c in o / group_oc * group_ic..(o / group_oc + 1) * group_ic {
                    let weight = kernel[((c * group_oc + o % group_oc) * kh + u) * kw + v];
                    let x = src.data[((n * ic + c) * ih + iy) * iw + ix];
                    // A weight of zero is absent: it does not make an infinity NaN.
                    if weight != 0.0 {
                        sum += f64::from(weight) * f64::from(x);
                    }
                }
            }
        }
        sum
    }

    /// Input index i with i·stride − pad + tap·dilation = output.
    fn source(&self, axis: usize, output: usize, tap: usize, input: usize) -> Option<usize> {
        let window = &self.0.window;
        let [stride, pad, dilation] = [
            window.stride[axis],
            window.pad_begin[axis],
            window.dilation[axis],
        ]
        .map(|x| x as usize);
        let position = (output + pad).checked_sub(tap * dilation)?;
        (position.is_multiple_of(stride) && position / stride < input).then(|| position / stride)
    }
}
