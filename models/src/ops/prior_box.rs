//! SSD's prior boxes.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Boxes around every position of a feature map (operand 0), as shares of an image's width and height
/// (operand 1). Only the operands' shapes matter.
///
/// The result is `1 × 2 × 4·h·w·priors`: corners xmin, ymin, xmax, ymax of each box, then four variances
/// of each box. At each position come, for each least size s: the square of side s, the square of side
/// √(s·greatest), and for each ratio but 1 the box of √ratio·s by s/√ratio.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PriorBox {
    /// Least sides in pixels. Caffe drops the fraction of sides, so these have none.
    pub min_sizes: Vec<u32>,
    /// Greatest sides in pixels, none or one for each least side.
    pub max_sizes: Vec<u32>,
    /// Width over height, the first of them 1, each once.
    pub aspect_ratios: Vec<f32>,
    /// Boxes are cut off at the image's border.
    pub clip: bool,
    /// x, y, width, height.
    pub variance: [f32; 4],
    /// Height and width of the image, instead of operand 1's.
    pub image: Option<[u32; 2]>,
    /// Pixels from one position to the next, down and right, instead of image over feature map.
    pub step: Option<[f32; 2]>,
    /// Where in its cell a position lies.
    pub offset: f32,
}

impl PriorBox {
    /// Boxes at each position.
    fn priors(&self) -> usize {
        self.min_sizes.len() * self.aspect_ratios.len() + self.max_sizes.len()
    }

    /// Calls `each` with the height and width of every box at a position.
    fn sides(&self, mut each: impl FnMut(f64, f64)) {
        for (index, &min) in self.min_sizes.iter().enumerate() {
            let min = f64::from(min);
            each(min, min);
            if let Some(&max) = self.max_sizes.get(index) {
                let side = (min * f64::from(max)).sqrt();
                each(side, side);
            }
            for &ratio in self.aspect_ratios.iter().skip(1) {
                let root = f64::from(ratio).sqrt();
                each(min / root, min * root);
            }
        }
    }

    fn check(&self) -> Result<()> {
        let fault = |field: &str, found: String, expected: &str| {
            Err(Error::new(found).field(field).expected(expected))
        };
        if self.min_sizes.is_empty() || self.min_sizes.contains(&0) {
            let found = format!("{:?}", self.min_sizes);
            return fault("min_size", found, "sizes of 1 pixel or more");
        }
        let pairs = self.min_sizes.iter().zip(&self.max_sizes);
        let fits = [0, self.min_sizes.len()].contains(&self.max_sizes.len());
        if !fits || pairs.clone().any(|(min, max)| max < min) {
            let found = format!("{:?}", self.max_sizes);
            return fault("max_size", found, "none, or one above each min_size");
        }
        let positive = |x: &f32| x.is_finite() && *x > 0.0;
        if self.aspect_ratios.first() != Some(&1.0) || !self.aspect_ratios.iter().all(positive) {
            let found = format!("{:?}", self.aspect_ratios);
            return fault("aspect_ratio", found, "1, then numbers above 0");
        }
        if !self.variance.iter().all(positive) {
            let found = format!("{:?}", self.variance);
            return fault("variance", found, "numbers above 0");
        }
        if self.image.is_some_and(|image| image.contains(&0)) {
            return fault("img_size", "0".to_owned(), "1 or more");
        }
        if !self.step.iter().flatten().all(positive) || !self.offset.is_finite() {
            let found = format!("{:?}, offset {}", self.step, self.offset);
            return fault("step", found, "numbers above 0");
        }
        Ok(())
    }
}

impl Operation for PriorBox {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [map, image] = operands::exactly(inputs)?;
        self.check()?;
        let [_, _, h, w] = operands::image(map, 0)?;
        operands::image(image, 1)?;
        let count = [h, w, 4].iter().try_fold(self.priors() as u64, |n, &dim| {
            n.checked_mul(u64::from(dim))
                .filter(|&n| n <= Shape::MAX_COUNT)
        });
        let count = count.ok_or_else(|| {
            Error::new(format!("{} boxes at {h}x{w} positions", self.priors()))
                .expected(format!("at most {} elements", Shape::MAX_COUNT))
        })?;
        Shape::new([1, 2, count as u32])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [h, w] = [2, 3].map(|axis| inputs[0].shape.dim(axis));
        let image = [2, 3].map(|axis| inputs[1].shape.dim(axis));
        let [ih, iw] = self.image.unwrap_or(image).map(f64::from);
        let step = [ih / f64::from(h), iw / f64::from(w)];
        let [step_h, step_w] = self.step.map_or(step, |step| step.map(f64::from));
        let offset = f64::from(self.offset);
        let (boxes, variances) = output.split_at_mut(output.len() / 2);
        let mut boxes = boxes.chunks_exact_mut(4);
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let [cy, cx] =
                [(y, step_h), (x, step_w)].map(|(i, step)| (f64::from(i) + offset) * step);
            self.sides(|bh, bw| {
                let corners = [
                    (cx - bw / 2.0) / iw,
                    (cy - bh / 2.0) / ih,
                    (cx + bw / 2.0) / iw,
                    (cy + bh / 2.0) / ih,
                ];
                for (value, corner) in boxes.next().into_iter().flatten().zip(corners) {
                    *value = if self.clip {
                        corner.clamp(0.0, 1.0)
                    } else {
                        corner
                    } as f32;
                }
            });
        }
        for variance in variances.chunks_exact_mut(4) {
            variance.copy_from_slice(&self.variance);
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn boxes_of_one_position() {
        let op = PriorBox {
            min_sizes: vec![10],
            max_sizes: vec![40],
            aspect_ratios: vec![1.0, 4.0],
            clip: true,
            variance: [0.1, 0.1, 0.2, 0.2],
            image: None,
            step: None,
            offset: 0.5,
        };
        let (map, image) = (
            Shape::new([3, 5, 1, 2]).unwrap(),
            Shape::new([3, 1, 50, 100]).unwrap(),
        );
        let shape = op.infer_shape(&[&map, &image], &[]).unwrap();
        assert_eq!(shape.dims(), [1, 2, 24]);
        let operand = |shape| TensorRef { shape, data: &[] };
        let mut out = [0.0; 48];
        op.evaluate(&[operand(&map), operand(&image)], &[], &shape, &mut out);
        // Centre (25, 25); sides 10x10, 20x20, 20 wide and 5 high.
        assert_eq!(out[..4], [0.2, 0.4, 0.3, 0.6]);
        assert_eq!(out[4..8], [0.15, 0.3, 0.35, 0.7]);
        assert_eq!(out[8..12], [0.15, 0.45, 0.35, 0.55]);
        assert_eq!(out[12..16], [0.7, 0.4, 0.8, 0.6]);
        assert_eq!(out[24..28], [0.1, 0.1, 0.2, 0.2]);
    }
}
