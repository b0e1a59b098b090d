//! Batch normalisation.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape, TensorRef, Weight, WeightId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Batch normalisation without learned scale: y = (x − μ) / √(σ² + eps) per channel (axis 1; a
/// blob of one axis is one channel). Mean and variance blobs are divided by the scale-factor blob,
/// or count as 0 when that is 0.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Running mean, variance and scale-factor blobs; `None`: there are only statistics of this batch.
    pub statistics: Option<[WeightId; 3]>,
    /// Running statistics are used, where there are any; else those of this batch.
    pub running: bool,
    /// Share of the running statistics that stays when training adds those of a batch.
    pub momentum: f32,
    /// Epsilon.
    pub eps: f32,
}

impl Operation for BatchNorm {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::at_least_rank(input, 0, 1)?;
        if let Some([mean, variance, factor]) = self.statistics {
            let channels = channels(input)[1];
            operands::weight_count(weights, mean, 0, channels)?;
            operands::weight_count(weights, variance, 1, channels)?;
            operands::weight_count(weights, factor, 2, 1)?;
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let src = inputs[0];
        let [images, channels, inner] = channels(src.shape);
        for c in 0..channels {
            let [mean, variance] = match self.uses_running() {
                true => self.running_statistics(weights, c),
                false => batch_statistics(src, c),
            };
            let factor = 1.0 / (variance + f64::from(self.eps)).sqrt();
            for n in 0..images {
                let plane = (n * channels + c) * inner..(n * channels + c + 1) * inner;
                for (value, &x) in output[plane.clone()].iter_mut().zip(&src.data[plane]) {
                    *value = ((f64::from(x) - mean) * factor) as f32;
                }
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.uses_running()
    }
}

impl BatchNorm {
    /// The usual momentum.
    pub const MOMENTUM: f32 = 0.999;

    /// Whether it normalises with running statistics, not those of the batch.
    pub fn uses_running(&self) -> bool {
        self.running && self.statistics.is_some()
    }

    /// Mean and variance of channel `c` from the running statistics; 0 without any.
    pub fn running_statistics(&self, weights: &[Arc<Weight>], c: usize) -> [f64; 2] {
        let Some([mean, variance, factor]) = self.statistics else {
            return [0.0; 2];
        };
        let value = |id: WeightId, index: usize| f64::from(weights[id.0 as usize].data()[index]);
        let divisor = value(factor, 0);
        if divisor == 0.0 {
            return [0.0; 2];
        }
        [value(mean, c) / divisor, value(variance, c) / divisor]
    }
}

/// Images, channels, elements per channel.
fn channels(shape: &Shape) -> [usize; 3] {
    if shape.rank() == 1 {
        [1, 1, shape.count()]
    } else {
        axes::split(shape, 1)
    }
}

/// Mean and biased variance of channel `c` over the whole batch.
fn batch_statistics(src: TensorRef<'_>, c: usize) -> [f64; 2] {
    let [images, channels, inner] = channels(src.shape);
    let count = (images * inner) as f64;
    let mean_of = |of: &dyn Fn(f64) -> f64| {
        let mut sum = 0.0;
        for plane in src.data.chunks_exact(inner).skip(c).step_by(channels) {
            sum += plane.iter().map(|&x| of(x.into())).sum::<f64>();
        }
        sum / count
    };
    let mean = mean_of(&|x| x);
    [mean, mean_of(&|x| (x - mean) * (x - mean))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;
    use crate::Weight;
    use std::sync::Arc;

    fn weights(values: [&[f32]; 3]) -> Vec<Arc<Weight>> {
        let tensor = |v: &[f32]| Tensor::new(Shape::new([v.len() as u32]).unwrap(), v.to_vec());
        values.map(|v| tensor(v).into()).into()
    }

    #[test]
    fn running_and_batch_statistics() {
        let shape = Shape::new([2, 2, 1, 1]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 10., 3., 30.],
        };
        let mut dst = [0.0; 4];
        let norm = BatchNorm {
            statistics: Some([WeightId(0), WeightId(1), WeightId(2)]),
            running: true,
            momentum: 0.0,
            eps: 0.,
        };
        let half = weights([&[1.0, 5.0], &[2.0, 8.0], &[0.5]]);
        norm.evaluate(&[src], &half, &shape, &mut dst);
        assert_eq!(dst, [-0.5, 0.0, 0.5, 5.0]);
        let none = weights([&[1.0, 5.0], &[2.0, 8.0], &[0.0]]);
        let norm = BatchNorm { eps: 4.0, ..norm };
        norm.evaluate(&[src], &none, &shape, &mut dst);
        assert_eq!(dst, [0.5, 5.0, 1.5, 15.0]);
        let batch = BatchNorm {
            eps: 0.0,
            running: false,
            ..norm.clone()
        };
        batch.evaluate(&[src], &half, &shape, &mut dst);
        assert_eq!(dst, [-1.0, -1.0, 1.0, 1.0]);
        let none = BatchNorm {
            eps: 0.0,
            statistics: None,
            ..norm.clone()
        };
        none.evaluate(&[src], &[], &shape, &mut dst);
        assert_eq!(dst, [-1.0, -1.0, 1.0, 1.0]);
        assert!(!batch.per_image(&[&shape]) && norm.per_image(&[&shape]));
    }
}
