//! Im2col: the windows of a convolution as channels.

use super::operation::{Inputs, Operation, Weights};
use super::{Window, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Output channel `(c·kh + ky)·kw + kx` holds what element (ky, kx) of the kernel reads of channel c at
/// each position, 0 outside of the input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Im2col {
    /// Kernel, stride, pad, dilation.
    pub window: Window,
}

impl Operation for Im2col {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, c, ih, iw] = operands::image(input, 0)?;
        self.window.check_padded([ih, iw])?;
        let size = [
            self.window.output_size(0, ih)?,
            self.window.output_size(1, iw)?,
        ];
        let [kh, kw] = self.window.kernel;
        let channels = u128::from(c) * u128::from(kh) * u128::from(kw);
        let channels = u32::try_from(channels).map_err(|_| {
            Error::new(format!("{channels} channels"))
                .field("kernel")
                .expected("a number of channels that fits 32 bits")
        })?;
        Shape::new([n, channels, size[0], size[1]])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [ih, iw] = [2, 3].map(|axis| inputs[0].shape.dim(axis));
        let [oh, ow] = [2, 3].map(|axis| shape.dim(axis));
        let [kh, kw] = self.window.kernel;
        let taps = (0..kh).flat_map(|ky| (0..kw).map(move |kx| [ky, kx]));
        let plane = ih as usize * iw as usize;
        let taps_of = |src| taps.clone().map(move |tap| (src, tap));
        let sources = inputs[0].data.chunks_exact(plane).flat_map(taps_of);
        let targets = output.chunks_exact_mut(oh as usize * ow as usize);
        for (dst, (src, tap)) in targets.zip(sources) {
            let lines = self.window.valid_outputs(0, tap[0], ih, oh);
            let columns = self.window.valid_outputs(1, tap[1], iw, ow);
            for (index, value) in dst.iter_mut().enumerate() {
                let (y, x) = (index as u32 / ow, index as u32 % ow);
                let inside = lines.contains(&y) && columns.contains(&x);
                *value = if inside {
                    let (y, x) = (self.read(0, tap, y), self.read(1, tap, x));
                    src[y * iw as usize + x]
                } else {
                    0.0
                };
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

impl Im2col {
    /// Input index along `axis` that output `o` reads through a tap inside the input.
    fn read(&self, axis: usize, tap: [u32; 2], o: u32) -> usize {
        let Window {
            stride,
            pad_begin,
            dilation,
            ..
        } = self.window;
        let [o, stride, tap, dilation] =
            [o, stride[axis], tap[axis], dilation[axis]].map(|n| n as usize);
        o * stride + tap * dilation - pad_begin[axis] as usize
    }
}
