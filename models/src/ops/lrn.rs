//! Local response normalisation.

use super::operation::{Inputs, Operation, Weights};
use super::{PoolMethod, Pooling, Rounding, Window, operands, pooling};
use crate::{Error, Result, Shape, TensorRef};
use serde::{Deserialize, Serialize};

/// Local response normalisation: y = x·(k + alpha/size·Σ x²)^−beta over the window around each
/// element; what lies outside the blob counts as 0, and the divisor does not shrink there.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Lrn {
    /// Window size, odd.
    pub size: u32,
    /// Alpha (divided by the window's size across channels, by its area within a channel).
    pub alpha: f32,
    /// Beta.
    pub beta: f32,
    /// k; ignored (1) within a channel.
    pub k: f32,
    /// Window lies inside one channel's plane instead of across channels.
    pub within_channel: bool,
}

impl Operation for Lrn {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::image(input, 0)?;
        if self.size.is_multiple_of(2) {
            return Err(Error::new(self.size.to_string())
                .field("size")
                .expected("an odd number"));
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        if self.within_channel {
            self.evaluate_within(inputs[0], output);
        } else {
            self.evaluate_across(inputs[0], output);
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

impl Lrn {
    fn evaluate_across(&self, src: TensorRef<'_>, output: &mut [f32]) {
        let channels = src.shape.dim(1) as usize;
        let plane = src.shape.count_of(2, src.shape.rank());
        let half = (self.size / 2) as usize;
        let alpha = f64::from(self.alpha) / f64::from(self.size);
        for (index, value) in output.iter_mut().enumerate() {
            let c = index / plane % channels;
            let first = index - c * plane;
            let window = c.saturating_sub(half)..(c + half + 1).min(channels);
            let squares: f64 = window
                .map(|other| f64::from(src.data[first + other * plane]).powi(2))
                .sum();
            let scale = f64::from(self.k) + alpha * squares;
            *value = (f64::from(src.data[index]) * scale.powf(-f64::from(self.beta))) as f32;
        }
    }

    fn evaluate_within(&self, src: TensorRef<'_>, output: &mut [f32]) {
        let [height, width] = [src.shape.dim(2), src.shape.dim(3)];
        let mean = Pooling {
            method: PoolMethod::Average,
            window: Window::square(self.size, 1, self.size / 2),
            global: false,
            made_for: None,
            rounding: Rounding::Up,
            relu: false,
            mask: false,
        };
        let plane = height as usize * width as usize;
        for (dst, src) in output
            .chunks_exact_mut(plane)
            .zip(src.data.chunks_exact(plane))
        {
            for (index, value) in dst.iter_mut().enumerate() {
                let rows = mean.range(0, height, index as u32 / width);
                let columns = mean.range(1, width, index as u32 % width);
                let square = pooling::average(src, width as usize, rows, columns, |x| x * x);
                let scale = 1.0 + f64::from(self.alpha) * square;
                *value = (f64::from(src[index]) * scale.powf(-f64::from(self.beta))) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_computed() {
        let shape = Shape::new([1, 3, 1, 1]).unwrap();
        let lrn = Lrn {
            size: 3,
            alpha: 3.0,
            beta: 1.0,
            k: 2.0,
            within_channel: false,
        };
        let mut dst = [0.0; 3];
        lrn.evaluate(
            &[TensorRef {
                shape: &shape,
                data: &[1., 2., 3.],
            }],
            &[],
            &shape,
            &mut dst,
        );
        assert_eq!(dst, [1.0 / 7.0, 2.0 / 16.0, 3.0 / 15.0]);

        let shape = Shape::new([1, 1, 1, 3]).unwrap();
        let lrn = Lrn {
            size: 3,
            alpha: 9.0,
            beta: 1.0,
            k: 2.0,
            within_channel: true,
        };
        lrn.evaluate(
            &[TensorRef {
                shape: &shape,
                data: &[1., 2., 3.],
            }],
            &[],
            &shape,
            &mut dst,
        );
        assert_eq!(dst, [1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]);
        assert!(Lrn { size: 4, ..lrn }.infer_shape(&[&shape], &[]).is_err());
    }
}
