//! SSD's detections: boxes from offsets and priors, and the best of those that overlap.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// How an offset and a prior make a box.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BoxCode {
    /// Offsets of the corners.
    Corner,
    /// Offset of the centre in sizes of the prior, logarithms of the growth of width and height.
    CenterSize,
    /// Offsets of the corners in sizes of the prior.
    CornerSize,
}

/// Detections of a batch. Operands: offsets `N × priors·4` (times classes unless shared), scores
/// `N × priors·classes`, priors `1 × 2 × priors·4` as of [`super::PriorBox`].
///
/// The result is `1 × 1 × N·most × 7`: image, class, score, xmin, ymin, xmax, ymax in shares of the image.
/// Rows are sorted by image, class and falling score; the rows behind the last detection are −1
/// throughout. (Caffe's result has as many rows as there are detections.)
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DetectionOutput {
    /// Classes, the background among them.
    pub classes: u32,
    /// All classes have the same boxes.
    pub share_location: bool,
    /// Class that is no detection.
    pub background: Option<u32>,
    /// Code of the offsets.
    pub code: BoxCode,
    /// Offsets are not multiplied by the priors' variances.
    pub variance_encoded: bool,
    /// Scores up to this one are no detections.
    pub confidence_threshold: Option<f32>,
    /// Boxes that overlap a better one of their class by more than this share go.
    pub nms_threshold: f32,
    /// Boxes of a class that compete, the best ones.
    pub top_k: Option<u32>,
    /// Factor of the threshold after each box that is kept, while it is above 0.5.
    pub eta: f32,
    /// Detections of an image, the best ones.
    pub keep_top_k: Option<u32>,
}

/// Elements of a detection.
const ROW: usize = 7;

/// A candidate: score, class, prior.
type Candidate = (f32, u32, u32);

/// xmin, ymin, xmax, ymax.
type Corners = [f64; 4];

/// What is gathered on the way.
#[derive(Default)]
struct Lists {
    /// Candidates of a class.
    class: Vec<Candidate>,
    /// Boxes of the class that are kept.
    boxes: Vec<Corners>,
    /// Candidates of an image that are kept.
    kept: Vec<Candidate>,
}

thread_local! {
    /// Kept from run to run, so that only the first runs of a thread allocate.
    static LISTS: RefCell<Lists> = RefCell::default();
}

impl DetectionOutput {
    /// Most detections of an image.
    fn most(&self, priors: u32) -> u64 {
        let competing = self.top_k.unwrap_or(priors).min(priors);
        let has_background = self.background.is_some_and(|class| class < self.classes);
        let classes = self.classes - u32::from(has_background);
        let all = u64::from(competing) * u64::from(classes);
        all.min(self.keep_top_k.map_or(u64::MAX, u64::from)).max(1)
    }

    fn check(&self) -> Result<()> {
        let fault = |field: &str, found: String, expected: &str| {
            Err(Error::new(found).field(field).expected(expected))
        };
        operands::positive(self.classes, "classes")?;
        if !(self.eta > 0.0 && self.eta <= 1.0) {
            return fault("eta", self.eta.to_string(), "more than 0, at most 1");
        }
        if self.nms_threshold.is_nan() || self.nms_threshold < 0.0 {
            return fault("nms_threshold", self.nms_threshold.to_string(), "0 or more");
        }
        if self.confidence_threshold.is_some_and(f32::is_nan) {
            return fault("confidence_threshold", "NaN".to_owned(), "a number");
        }
        for (field, limit) in [("nms_top_k", self.top_k), ("keep_top_k", self.keep_top_k)] {
            if limit == Some(0) {
                return fault(field, "0".to_owned(), "1 or more, or -1 for all");
            }
        }
        Ok(())
    }

    /// Leaves the detections of an image in `lists.kept`.
    fn of_image(&self, image: &Image<'_>, lists: &mut Lists) {
        lists.kept.clear();
        for class in (0..self.classes).filter(|&class| Some(class) != self.background) {
            let scores = image.scores.iter().skip(class as usize);
            let scores = scores.step_by(self.classes as usize).zip(0..);
            let above = |score: f32| self.confidence_threshold.is_none_or(|t| score > t);
            let candidates = scores
                .filter(|&(&score, _)| above(score))
                .map(|(&score, prior)| (score, class, prior));
            lists.class.clear();
            lists.class.extend(candidates);
            best_first(&mut lists.class, self.top_k);
            self.suppress(image, lists);
        }
        let kept = &mut lists.kept;
        if self
            .keep_top_k
            .is_some_and(|most| kept.len() > most as usize)
        {
            best_first(kept, self.keep_top_k);
            kept.sort_unstable_by(|a, b| {
                a.1.cmp(&b.1).then(b.0.total_cmp(&a.0)).then(a.2.cmp(&b.2))
            });
        }
    }

    /// Keeps the candidates of a class, best first, that no better one hides.
    fn suppress(&self, image: &Image<'_>, lists: &mut Lists) {
        let mut threshold = f64::from(self.nms_threshold);
        lists.boxes.clear();
        for &candidate in &lists.class {
            let corners = self.corners(image, candidate);
            let hides = |&better: &Corners| overlap(corners, better) > threshold;
            if !lists.boxes.iter().any(hides) {
                lists.boxes.push(corners);
                lists.kept.push(candidate);
                if threshold > 0.5 {
                    threshold *= f64::from(self.eta);
                }
            }
        }
    }

    fn corners(&self, image: &Image<'_>, (_, class, prior): Candidate) -> Corners {
        let prior = prior as usize;
        let locations = if self.share_location {
            1
        } else {
            self.classes as usize
        };
        let location = prior * locations + if locations == 1 { 0 } else { class as usize };
        let four = |of: &[f32], index: usize| [0, 1, 2, 3].map(|i| f64::from(of[index * 4 + i]));
        let (boxes, variances) = image.priors.split_at(image.priors.len() / 2);
        let mut offset = four(image.offsets, location);
        if !self.variance_encoded {
            let variance = four(variances, prior);
            offset.iter_mut().zip(variance).for_each(|(x, v)| *x *= v);
        }
        self.decode(four(boxes, prior), offset)
    }

    fn decode(&self, prior: Corners, offset: [f64; 4]) -> Corners {
        let [x0, y0, x1, y1] = prior;
        let (w, h) = (x1 - x0, y1 - y0);
        let scaled = |[sx, sy]: [f64; 2]| {
            [
                x0 + offset[0] * sx,
                y0 + offset[1] * sy,
                x1 + offset[2] * sx,
                y1 + offset[3] * sy,
            ]
        };
        match self.code {
            BoxCode::Corner => scaled([1.0, 1.0]),
            BoxCode::CornerSize => scaled([w, h]),
            BoxCode::CenterSize => {
                let cx = (x0 + x1) / 2.0 + offset[0] * w;
                let cy = (y0 + y1) / 2.0 + offset[1] * h;
                let (w, h) = (offset[2].exp() * w / 2.0, offset[3].exp() * h / 2.0);
                [cx - w, cy - h, cx + w, cy + h]
            }
        }
    }
}

/// Operands of one image.
struct Image<'a> {
    offsets: &'a [f32],
    scores: &'a [f32],
    priors: &'a [f32],
}

/// Sorts by falling score, of equal ones the earlier class and prior first, and keeps the best.
fn best_first(candidates: &mut Vec<Candidate>, most: Option<u32>) {
    // Without heap, unlike the stable sort; class and prior decide ties in the same way.
    candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    candidates.truncate(most.map_or(usize::MAX, |most| most as usize));
}

/// Intersection over union.
fn overlap(a: Corners, b: Corners) -> f64 {
    let size = |[x0, y0, x1, y1]: Corners| {
        if x1 < x0 || y1 < y0 {
            0.0
        } else {
            (x1 - x0) * (y1 - y0)
        }
    };
    let (w, h) = (
        a[2].min(b[2]) - a[0].max(b[0]),
        a[3].min(b[3]) - a[1].max(b[1]),
    );
    if w > 0.0 && h > 0.0 {
        w * h / (size(a) + size(b) - w * h)
    } else {
        0.0
    }
}

impl Operation for DetectionOutput {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [offsets, scores, priors] = operands::exactly(inputs)?;
        self.check()?;
        operands::at_least_rank(offsets, 0, 2)?;
        operands::at_least_rank(scores, 1, 2)?;
        let count = priors.dim(2);
        if priors.rank() < 3 || priors.dim(0) != 1 || priors.dim(1) != 2 || !count.is_multiple_of(4)
        {
            return Err(Error::new(format!("shape {priors}"))
                .field("input[2]")
                .expected("1x2x4·priors, as a PriorBox layer makes them"));
        }
        operands::count(priors, 2, 2 * count as usize)?;
        let (n, priors) = (offsets.dim(0), count / 4);
        let locations = if self.share_location { 1 } else { self.classes };
        for (index, shape, per_prior) in [
            (0, offsets, 4 * u64::from(locations)),
            (1, scores, self.classes.into()),
        ] {
            let row = shape.count_of(1, shape.rank()) as u64;
            if shape.dim(0) != n || row != per_prior * u64::from(priors) {
                return Err(Error::new(format!("shape {shape}"))
                    .field(format!("input[{index}]"))
                    .expected(format!(
                        "{n}x{}: {priors} priors",
                        per_prior * u64::from(priors)
                    )));
            }
        }
        let rows = self.most(priors).saturating_mul(n.into());
        let rows = u32::try_from(rows).map_err(|_| {
            Error::new(format!("{rows} detections"))
                .field("keep_top_k")
                .expected("a number that fits 32 bits")
        })?;
        Shape::new([1, 1, rows, ROW as u32])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let n = inputs[0].shape.dim(0) as usize;
        let row = |operand: usize, image: usize| {
            let count = inputs[operand].data.len() / n;
            &inputs[operand].data[image * count..][..count]
        };
        let mut rows = output.chunks_exact_mut(ROW);
        LISTS.with_borrow_mut(|lists| {
            for index in 0..n {
                let image = Image {
                    offsets: row(0, index),
                    scores: row(1, index),
                    priors: inputs[2].data,
                };
                self.of_image(&image, lists);
                for (&candidate, row) in lists.kept.iter().zip(&mut rows) {
                    let (score, class, _) = candidate;
                    row[..3].copy_from_slice(&[index as f32, class as f32, score]);
                    let corners = self.corners(&image, candidate);
                    row[3..].copy_from_slice(&corners.map(|corner| corner as f32));
                }
            }
        });
        rows.for_each(|row| row.fill(-1.0));
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}
