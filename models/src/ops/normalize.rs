//! SSD's Normalize.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape, WeightId};
use serde::{Deserialize, Serialize};

/// x / √(Σx² + eps) · scale, the sum over the channels of each position or over each image.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Normalize {
    /// The sum is over an image, not over the channels of a position.
    pub across_spatial: bool,
    /// Added to the sum.
    pub eps: f32,
    /// One factor, or one per channel.
    pub scale: WeightId,
}

impl Operation for Normalize {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::at_least_rank(input, 0, 2)?;
        let found = operands::weight(weights, self.scale, 0)?.shape();
        if ![1, input.dim(1) as usize].contains(&found.count()) {
            return Err(Error::new(format!("{} elements", found.count()))
                .field("weights[0].shape")
                .expected(format!("1 or {}, the channels", input.dim(1))));
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let scale = weights[self.scale.0 as usize].data();
        let plane = shape.count_of(2, shape.rank());
        let image = shape.dim(1) as usize * plane;
        let squares = |src: &[f32]| src.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let eps = f64::from(self.eps);
        for (dst, src) in output
            .chunks_exact_mut(image)
            .zip(inputs[0].data.chunks_exact(image))
        {
            let whole = squares(src);
            for position in 0..plane {
                let channels = || src.iter().skip(position).step_by(plane);
                let sum = if self.across_spatial {
                    whole
                } else {
                    channels().map(|&x| f64::from(x).powi(2)).sum::<f64>()
                };
                let norm = (sum + eps).sqrt();
                let results = dst.iter_mut().skip(position).step_by(plane);
                for (c, (value, &x)) in results.zip(channels()).enumerate() {
                    let factor = f64::from(scale[c.min(scale.len() - 1)]);
                    *value = (f64::from(x) / norm * factor) as f32;
                }
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::TensorRef;

    #[test]
    fn over_channels_and_over_everything() {
        let shape = Shape::new([1, 2, 1, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[3.0, 0.0, 4.0, 2.0],
        };
        let scale = Tensor::new(Shape::new([2]).unwrap(), vec![10.0, 1.0]);
        let weights = [scale.into()];
        let mut op = Normalize {
            across_spatial: false,
            eps: 0.0,
            scale: WeightId(0),
        };
        let mut dst = [0.0; 4];
        op.evaluate(&[src], &weights, &shape, &mut dst);
        assert_eq!(dst, [6.0, 0.0, 0.8, 1.0]);
        (op.across_spatial, op.eps) = (true, 7.0);
        op.evaluate(&[src], &weights, &shape, &mut dst);
        assert_eq!(dst, [5.0, 0.0, 4.0 / 6.0, 2.0 / 6.0]);
    }
}
