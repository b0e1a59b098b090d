//! The best of boxes that overlap.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// ONNX's NonMaxSuppression over operands boxes `N × B × 4` and scores `N × C × B`: of each class of each image the best
/// boxes, without those that overlap a better one of their class by more than `iou` of what both cover.
///
/// The result is `rows × 3`: image, class, box; sorted by image, class and falling score, of equal scores the
/// first box first. Rows behind the last box are −1 throughout; boxes beyond the last row are dropped.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NonMaxSuppression {
    /// Most boxes of a class of an image.
    pub most: u32,
    /// Share of the union of two boxes.
    pub iou: f32,
    /// Only boxes with a higher score count.
    pub score: Option<f32>,
    /// Boxes are centre x, y, width, height; otherwise y, x of two opposite corners.
    pub center: bool,
    /// Rows of the result.
    pub rows: u32,
}

/// Elements of a row.
const ROW: usize = 3;

/// Lower corner and upper corner.
type Corners = [[f64; 2]; 2];

/// Boxes of a class that compete: score and number; and those that are chosen.
type Lists = (Vec<(f32, u32)>, Vec<Corners>);

thread_local! {
    /// Kept from run to run, so that only the first runs of a thread allocate.
    static LISTS: RefCell<Lists> = RefCell::default();
}

impl NonMaxSuppression {
    fn corners(&self, numbers: &[f32]) -> Corners {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| f64::from(numbers[i]));
        if self.center {
            return [[a - c / 2.0, b - d / 2.0], [a + c / 2.0, b + d / 2.0]];
        }
        [[a.min(c), b.min(d)], [a.max(c), b.max(d)]]
    }

    /// Calls `take` with the chosen boxes of a class.
    fn of_class(
        &self,
        boxes: &[f32],
        scores: &[f32],
        (competing, chosen): &mut Lists,
        mut take: impl FnMut(u32),
    ) {
        competing.clear();
        chosen.clear();
        let above = |score: f32| self.score.is_none_or(|least| score > least);
        let scores = scores.iter().copied().zip(0..);
        competing.extend(scores.filter(|&(score, _)| above(score)));
        // Without heap, unlike the stable sort; the number decides ties in the same way.
        competing.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &(_, number) in competing.iter() {
            if chosen.len() >= self.most as usize {
                break;
            }
            let corners = self.corners(&boxes[4 * number as usize..]);
            let hides = |better: &Corners| overlap(&corners, better) > f64::from(self.iou);
            if !chosen.iter().any(hides) {
                chosen.push(corners);
                take(number);
            }
        }
    }
}

/// Intersection over union; 0 where one of them is empty.
fn overlap(a: &Corners, b: &Corners) -> f64 {
    let area = |low: [f64; 2], high: [f64; 2]| {
        let [h, w] = [0, 1].map(|axis| (high[axis] - low[axis]).max(0.0));
        h * w
    };
    let low = [0, 1].map(|axis| a[0][axis].max(b[0][axis]));
    let high = [0, 1].map(|axis| a[1][axis].min(b[1][axis]));
    let common = area(low, high);
    if common <= 0.0 {
        return 0.0;
    }
    common / (area(a[0], a[1]) + area(b[0], b[1]) - common)
}

impl Operation for NonMaxSuppression {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [boxes, scores] = operands::exactly(inputs)?;
        let fault = |index: usize, shape: &Shape, expected: String| {
            Err(Error::new(format!("shape {shape}"))
                .field(format!("input[{index}]"))
                .expected(expected))
        };
        let &[n, count, 4] = boxes.dims() else {
            return fault(0, boxes, "images x boxes x 4".to_owned());
        };
        match *scores.dims() {
            [images, _, each] if (images, each) == (n, count) => {}
            _ => return fault(1, scores, format!("{n} x classes x {count}")),
        }
        for (field, threshold) in [("iou", Some(self.iou)), ("score", self.score)] {
            if threshold.is_some_and(f32::is_nan) {
                return Err(Error::new("NaN").field(field).expected("a number"));
            }
        }
        operands::positive(self.rows, "rows")?;
        Shape::new([self.rows, ROW as u32])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [_, classes, count] = [0, 1, 2].map(|axis| inputs[1].shape.dim(axis) as usize);
        let mut rows = output.chunks_exact_mut(ROW);
        LISTS.with_borrow_mut(|lists| {
            for (index, scores) in inputs[1].data.chunks_exact(count).enumerate() {
                let (image, class) = (index / classes, index % classes);
                let boxes = &inputs[0].data[image * count * 4..][..count * 4];
                self.of_class(boxes, scores, lists, |number| {
                    if let Some(row) = rows.next() {
                        row.copy_from_slice(&[image as f32, class as f32, number as f32]);
                    }
                });
            }
        });
        rows.for_each(|row| row.fill(-1.0));
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    const BOXES: [[f32; 4]; 6] = [
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.1, 1.0, 1.1],
        [0.0, -0.1, 1.0, 0.9],
        [0.0, 10.0, 1.0, 11.0],
        [0.0, 10.1, 1.0, 11.1],
        [0.0, 100.0, 1.0, 101.0],
    ];
    const SCORES: [f32; 6] = [0.9, 0.75, 0.6, 0.95, 0.5, 0.3];

    #[track_caller]
    fn check(op: &NonMaxSuppression, boxes: &[[f32; 4]], expected: &[f32]) {
        let shapes = [[1, 6, 4], [1, 1, 6]].map(|dims| Shape::new(dims).unwrap());
        let inputs = [
            TensorRef {
                shape: &shapes[0],
                data: boxes.as_flattened(),
            },
            TensorRef {
                shape: &shapes[1],
                data: &SCORES,
            },
        ];
        let result = op.infer_shape(&shapes.each_ref(), &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        op.evaluate(&inputs, &[], &result, &mut output);
        let numbers: Vec<f32> = output.chunks_exact(ROW).map(|row| row[2]).collect();
        assert_eq!(numbers, expected);
    }

    /// The examples of ONNX's documentation.
    #[test]
    fn chooses_as_onnx_does() {
        let op = NonMaxSuppression {
            most: 3,
            iou: 0.5,
            score: Some(0.0),
            center: false,
            rows: 4,
        };
        check(&op, &BOXES, &[3., 0., 5., -1.]);
        let flipped = BOXES.map(|[y0, x0, y1, x1]| [y1, x1, y0, x0]);
        check(&op, &flipped, &[3., 0., 5., -1.]);
        let center =
            |[y0, x0, y1, x1]: [f32; 4]| [(x0 + x1) / 2.0, (y0 + y1) / 2.0, x1 - x0, y1 - y0];
        let centered = NonMaxSuppression {
            center: true,
            ..op.clone()
        };
        check(&centered, &BOXES.map(center), &[3., 0., 5., -1.]);
        let some = |most, score| NonMaxSuppression {
            most,
            score,
            ..op.clone()
        };
        check(&some(2, None), &BOXES, &[3., 0., -1., -1.]);
        check(&some(9, Some(0.4)), &BOXES, &[3., 0., -1., -1.]);
        check(&some(0, None), &BOXES, &[-1.; 4]);
    }
}
