//! Vectors of norm 1.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};

/// x / (Σ |x|^p)^(1/p) along `axis`, p being 1 or 2; 0 where the norm is 0.
pub(super) struct LpNormalize {
    pub axis: u32,
    pub p: u32,
}

impl Operation for LpNormalize {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::axis(input, self.axis, "axis")?;
        if !(1..=2).contains(&self.p) {
            return Err(Error::new(self.p.to_string()).field("p").expected("1 or 2"));
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [outer, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |k: usize| (o * dim + k) * inner + i;
            let x = |k: usize| f64::from(inputs[0].data[at(k)]);
            let norm = match self.p {
                1 => (0..dim).map(|k| x(k).abs()).sum::<f64>(),
                _ => (0..dim).map(|k| x(k) * x(k)).sum::<f64>().sqrt(),
            };
            for k in 0..dim {
                output[at(k)] = if norm == 0.0 { 0.0 } else { x(k) / norm } as f32;
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn both_norms() {
        let shape = Shape::new([3, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[3., -4., 0., 0., -5., 0.],
        };
        let run = |p| {
            let mut dst = [0.0; 6];
            LpNormalize { axis: 1, p }.evaluate(&[src], &[], &shape, &mut dst);
            dst
        };
        assert_eq!(run(2), [0.6, -0.8, 0., 0., -1., 0.]);
        assert_eq!(run(1)[..2], [3.0 / 7.0, -4.0 / 7.0]);
        let refused = |axis, p| LpNormalize { axis, p }.infer_shape(&[&shape], &[]).is_err();
        assert!(refused(2, 1) && refused(0, 0) && refused(0, 3));
    }
}
