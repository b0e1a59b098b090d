//! Resampling of axes: ONNX's Resize, version 19.
//!
//! The coordinate of an element of the result, mapped back, lies between elements of the operand; those around it are
//! weighted by the method. Axes are independent of each other, so an element's weight is the product of
//! its weights along all axes. What is said here is what `onnx.reference.ops.op_resize` computes.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// How large an axis becomes.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum ResizeSize {
    /// ⌊in·scale⌋; coordinates are mapped with this scale.
    Scale(f32),
    /// This; the scale is size / in.
    Size(u32),
}

/// A resized axis.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ResizeAxis {
    /// Axis (not negative).
    pub axis: u32,
    /// How large it becomes.
    pub size: ResizeSize,
    /// Part of the operand, in shares of its last index; [`Coordinates::TfCropAndResize`] only.
    pub roi: [f32; 2],
}

/// Which elements count how much.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum ResizeMethod {
    /// One element.
    Nearest(NearestRounding),
    /// The two around the coordinate, by their distance.
    Linear,
    /// Keys' convolution of the four around it: R. Keys, "Cubic convolution interpolation for digital image
    /// processing", 1981.
    Cubic {
        /// Its parameter, −0.5 or −0.75 as a rule.
        a: f32,
    },
}

/// Which element is the nearest one to a coordinate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum NearestRounding {
    /// The nearer one, in the middle the first.
    RoundPreferFloor,
    /// The nearer one, in the middle the second.
    RoundPreferCeil,
    /// The one before.
    Floor,
    /// The one behind.
    Ceil,
}

/// The operand's coordinate of index i of the result, with `size` = scale·in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Coordinates {
    /// (i + 0.5) / scale − 0.5.
    HalfPixel,
    /// The same around the middle of the whole elements: in/2·(1 − out/size) + (i + 0.5) / scale − 0.5.
    HalfPixelSymmetric,
    /// [`Coordinates::HalfPixel`], but −0.5 where `size` is 1.
    PytorchHalfPixel,
    /// i·(in − 1) / (size − 1); 0 where `size` is 1.
    AlignCorners,
    /// i / scale.
    Asymmetric,
    /// Of the part that `roi` says, ends on ends. Outside of the operand is the extrapolation value.
    TfCropAndResize,
}

/// Resampling of some axes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Resize {
    /// The axes, each at most once.
    pub axes: Vec<ResizeAxis>,
    /// Which elements count how much.
    pub method: ResizeMethod,
    /// How coordinates are mapped.
    pub coordinates: Coordinates,
    /// Where an axis shrinks, the window is as much wider as it shrinks; not for the nearest element.
    pub antialias: bool,
    /// Elements outside of the operand don't count; otherwise they are those at its ends.
    pub exclude_outside: bool,
    /// What stands outside; [`Coordinates::TfCropAndResize`] only.
    pub extrapolation: f32,
}

/// How one axis changes.
#[derive(Clone, Copy)]
struct Change {
    input: u32,
    output: u32,
    scale: f64,
    roi: [f64; 2],
}

impl Change {
    fn of(axis: &ResizeAxis, input: u32) -> Self {
        let (scale, output) = match axis.size {
            // As an `as` does: numbers that are too large are the largest.
            ResizeSize::Scale(scale) => (
                f64::from(scale),
                (f64::from(scale) * f64::from(input)) as u32,
            ),
            ResizeSize::Size(size) => (f64::from(size) / f64::from(input), size),
        };
        Self {
            input,
            output,
            scale,
            roi: axis.roi.map(f64::from),
        }
    }

    /// Coordinate of index `to` of the result.
    fn coordinate(&self, coordinates: Coordinates, to: usize) -> f64 {
        let (input, to) = (f64::from(self.input), to as f64);
        let size = self.scale * input;
        let half_pixel = (to + 0.5) / self.scale - 0.5;
        let [begin, end] = self.roi;
        match coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                input / 2.0 * (1.0 - f64::from(self.output) / size) + half_pixel
            }
            Coordinates::PytorchHalfPixel if size == 1.0 => -0.5,
            Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::AlignCorners if size == 1.0 => 0.0,
            Coordinates::AlignCorners => to * (input - 1.0) / (size - 1.0),
            Coordinates::Asymmetric => to / self.scale,
            Coordinates::TfCropAndResize if size == 1.0 => {
                (begin + (end - begin) / 2.0) * (input - 1.0)
            }
            Coordinates::TfCropAndResize => {
                to * (end - begin) * (input - 1.0) / (size - 1.0) + begin * (input - 1.0)
            }
        }
    }

    fn is_outside(&self, coordinate: f64) -> bool {
        !(0.0..=f64::from(self.input - 1)).contains(&coordinate)
    }
}

/// The elements around a coordinate along one axis.
#[derive(Clone, Copy)]
struct Taps {
    /// Element before the coordinate, which is more than it and at most 1 more.
    base: f64,
    /// How much more.
    ratio: f64,
    /// Elements on each side that count.
    reach: i64,
    /// Factor of distances: less than 1 with a wider window.
    narrow: f64,
    /// Elements along the axis.
    input: u32,
    /// Sum of all weights.
    sum: f64,
}

impl Taps {
    /// One element, as it is.
    const ONE: Self = Self {
        base: -1.0,
        ratio: 1.0,
        reach: 1,
        narrow: 1.0,
        input: 1,
        sum: 1.0,
    };

    /// Number of elements that count.
    fn count(&self) -> i64 {
        2 * self.reach
    }

    /// Index, perhaps outside, of element `tap`.
    fn place(&self, tap: i64) -> f64 {
        self.base + (tap + 1 - self.reach) as f64
    }

    /// The same, moved to the nearest end.
    fn index(&self, tap: i64) -> usize {
        self.place(tap).clamp(0.0, f64::from(self.input - 1)) as usize
    }
}

impl Resize {
    /// See [`Op::only_moves`](super::Op::only_moves).
    pub(super) fn only_moves(&self) -> bool {
        let nearest = matches!(self.method, ResizeMethod::Nearest(_));
        let extrapolates = self.coordinates == Coordinates::TfCropAndResize;
        nearest && !extrapolates && !self.exclude_outside
    }

    /// Elements along an axis of `input` that count for index `to` of the result, and how much; one at an end
    /// also in place of those outside. For [`Coordinates::TfCropAndResize`] as if all were inside.
    pub fn elements(&self, axis: usize, input: u32, to: usize) -> Vec<(u32, f32)> {
        let Some(change) = self.change(axis, input) else {
            return vec![(to as u32, 1.0)];
        };
        let taps = self.taps(&change, change.coordinate(self.coordinates, to));
        let element = |tap| (taps.index(tap) as u32, self.weight(&taps, tap) as f32);
        let elements = (0..taps.count()).map(element);
        elements.filter(|&(_, weight)| weight != 0.0).collect()
    }

    /// How `axis` changes; `None` for one that stays.
    fn change(&self, axis: usize, input: u32) -> Option<Change> {
        let resized = self
            .axes
            .iter()
            .find(|resized| resized.axis as usize == axis)?;
        Some(Change::of(resized, input))
    }

    fn check(&self, input: &Shape) -> Result<()> {
        for (index, resized) in self.axes.iter().enumerate() {
            operands::axis(input, resized.axis, "axes")?;
            if self.axes[..index]
                .iter()
                .any(|one| one.axis == resized.axis)
            {
                return Err(Error::new(format!("axis {} twice", resized.axis))
                    .field("axes")
                    .expected("each axis once"));
            }
            if let ResizeSize::Scale(scale) = resized.size
                && !(scale > 0.0 && scale.is_finite())
            {
                return Err(Error::new(scale.to_string())
                    .field("scales")
                    .expected("positive numbers"));
            }
            if !resized.roi.iter().all(|end| end.is_finite()) {
                return Err(Error::new(format!("{:?}", resized.roi))
                    .field("roi")
                    .expected("finite numbers"));
            }
        }
        if self.antialias && matches!(self.method, ResizeMethod::Nearest(_)) {
            return Err(Error::new("antialias")
                .field("antialias")
                .expected("linear or cubic for it, not nearest"));
        }
        Ok(())
    }

    /// What counts along an axis at a coordinate.
    fn taps(&self, change: &Change, coordinate: f64) -> Taps {
        let narrow = if self.antialias {
            change.scale.min(1.0)
        } else {
            1.0
        };
        let radius = match self.method {
            ResizeMethod::Nearest(_) | ResizeMethod::Linear => 1.0,
            ResizeMethod::Cubic { .. } => 2.0,
        };
        let base = coordinate.ceil() - 1.0;
        let mut taps = Taps {
            base,
            ratio: coordinate - base,
            reach: -((-radius / narrow).floor() as i64),
            narrow,
            input: change.input,
            sum: 1.0,
        };
        if self.antialias || self.exclude_outside {
            let sum = (0..taps.count()).map(|tap| self.weight(&taps, tap)).sum();
            taps.sum = if sum == 0.0 { 1.0 } else { sum };
        }
        taps
    }

    /// Weight of element `tap`.
    fn weight(&self, taps: &Taps, tap: i64) -> f64 {
        let outside = !(0.0..f64::from(taps.input)).contains(&taps.place(tap));
        if self.exclude_outside && outside {
            return 0.0;
        }
        let distance = ((tap + 1 - taps.reach) as f64 - taps.ratio).abs() * taps.narrow;
        let weight = match self.method {
            ResizeMethod::Nearest(rounding) => {
                let second = rounding.takes_second(taps.ratio);
                f64::from(u8::from(second == (tap == 1)))
            }
            ResizeMethod::Linear => (1.0 - distance).max(0.0),
            ResizeMethod::Cubic { a } => cubic(distance, a.into()),
        };
        weight / taps.sum
    }

    /// Weighted sum over all axes from `axis` on, of the elements at `offset`.
    fn sum(&self, src: &Source<'_>, axis: usize, offset: usize) -> f64 {
        let Some(taps) = src.taps.get(axis) else {
            return f64::from(src.data[offset]);
        };
        let mut sum = 0.0;
        for tap in 0..taps.count() {
            let weight = self.weight(taps, tap);
            // 0 times what does not count may be no number.
            if weight != 0.0 {
                let index = src.first[axis] + taps.index(tap);
                sum += weight * self.sum(src, axis + 1, offset + index * src.strides[axis]);
            }
        }
        sum
    }
}

/// Keys' kernel.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * a * x - 4.0 * a
    } else {
        0.0
    }
}

impl NearestRounding {
    /// Whether the element behind the coordinate is taken, `ratio` being its distance from the one before:
    /// more than 0, and 1 on the element itself.
    fn takes_second(self, ratio: f64) -> bool {
        ratio == 1.0
            || match self {
                Self::RoundPreferFloor => ratio > 0.5,
                Self::RoundPreferCeil => ratio >= 0.5,
                Self::Floor => false,
                Self::Ceil => true,
            }
    }
}

/// The operand, and what counts for one element of the result.
struct Source<'a> {
    data: &'a [f32],
    strides: axes::Strides,
    taps: &'a [Taps],
    /// Added to the taps' indices.
    first: [usize; Shape::MAX_RANK],
}

impl Operation for Resize {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        self.check(input)?;
        let dims = input.dims().iter().enumerate();
        let dims = dims.map(|(axis, &dim)| self.change(axis, dim).map_or(dim, |to| to.output));
        Shape::new(dims.collect::<Vec<u32>>()).map_err(|error| error.field("scales or sizes"))
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let input = inputs[0].shape;
        let mut changes = [None; Shape::MAX_RANK];
        for (axis, &dim) in input.dims().iter().enumerate() {
            changes[axis] = self.change(axis, dim);
        }
        let cropped = self.coordinates == Coordinates::TfCropAndResize;
        for (index, value) in output.iter_mut().enumerate() {
            let to = axes::coordinates(shape, index);
            let (mut taps, mut first) = ([Taps::ONE; Shape::MAX_RANK], to);
            let mut outside = false;
            for axis in 0..input.rank() {
                if let Some(change) = &changes[axis] {
                    let coordinate = change.coordinate(self.coordinates, to[axis]);
                    outside |= cropped && change.is_outside(coordinate);
                    (taps[axis], first[axis]) = (self.taps(change, coordinate), 0);
                }
            }
            let src = Source {
                data: inputs[0].data,
                strides: axes::strides(input),
                taps: &taps[..input.rank()],
                first,
            };
            *value = match outside {
                true => self.extrapolation,
                false => self.sum(&src, 0, 0) as f32,
            };
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axes.iter().all(|resized| resized.axis != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;
    use Coordinates::*;
    use NearestRounding::*;
    use ResizeMethod::*;
    use ResizeSize::*;

    fn run(op: &Resize, dims: &[u32], data: &[f32]) -> (Shape, Vec<f32>) {
        let shape = Shape::new(dims).unwrap();
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        let shape = &shape;
        op.evaluate(&[TensorRef { shape, data }], &[], &result, &mut output);
        (result, output)
    }

    fn plain(axes: Vec<ResizeAxis>, method: ResizeMethod) -> Resize {
        Resize {
            axes,
            method,
            coordinates: HalfPixel,
            antialias: false,
            exclude_outside: false,
            extrapolation: 9.0,
        }
    }

    /// What `onnx.reference` makes of 1, 5, 2, −3, 4, with cubic weights in single precision: size, method, coordinates, antialias, exclude_outside, roi.
    #[test]
    #[rustfmt::skip]
    fn onnx_gives_the_same() {
        const CUBIC: ResizeMethod = Cubic { a: -0.75 };
        type Row = (ResizeSize, ResizeMethod, Coordinates, bool, bool, [f32; 2], &'static [f32]);
        let rows: [Row; 28] = [
            (Scale(2.0), Nearest(RoundPreferFloor), HalfPixel, false, false, [0.0, 1.0], &[1.0, 1.0, 5.0, 5.0, 2.0, 2.0, -3.0, -3.0, 4.0, 4.0]),
            (Scale(1.6), Nearest(RoundPreferFloor), Asymmetric, false, false, [0.0, 1.0], &[1.0, 5.0, 5.0, 2.0, 2.0, -3.0, 4.0, 4.0]),
            (Scale(2.0), Nearest(RoundPreferCeil), HalfPixel, false, false, [0.0, 1.0], &[1.0, 1.0, 5.0, 5.0, 2.0, 2.0, -3.0, -3.0, 4.0, 4.0]),
            (Scale(1.6), Nearest(RoundPreferCeil), Asymmetric, false, false, [0.0, 1.0], &[1.0, 5.0, 5.0, 2.0, 2.0, -3.0, 4.0, 4.0]),
            (Scale(2.0), Nearest(Floor), HalfPixel, false, false, [0.0, 1.0], &[1.0, 1.0, 1.0, 5.0, 5.0, 2.0, 2.0, -3.0, -3.0, 4.0]),
            (Scale(1.6), Nearest(Floor), Asymmetric, false, false, [0.0, 1.0], &[1.0, 1.0, 5.0, 5.0, 2.0, -3.0, -3.0, 4.0]),
            (Scale(2.0), Nearest(Ceil), HalfPixel, false, false, [0.0, 1.0], &[1.0, 5.0, 5.0, 2.0, 2.0, -3.0, -3.0, 4.0, 4.0, 4.0]),
            (Scale(1.6), Nearest(Ceil), Asymmetric, false, false, [0.0, 1.0], &[1.0, 5.0, 2.0, 2.0, -3.0, 4.0, 4.0, 4.0]),
            (Scale(1.5), Linear, HalfPixel, false, false, [0.0, 1.0], &[1.0, 3.0, 4.5, 2.5, -0.5, -1.833333, 2.833333]),
            (Scale(0.7), CUBIC, HalfPixel, false, false, [0.0, 1.0], &[1.84211, 3.821701, -2.830451]),
            (Scale(1.5), Linear, HalfPixelSymmetric, false, false, [0.0, 1.0], &[1.0, 3.666667, 4.0, 2.0, -1.333333, -0.666667, 4.0]),
            (Scale(0.7), CUBIC, HalfPixelSymmetric, false, false, [0.0, 1.0], &[3.635569, 2.0, -0.586006]),
            (Scale(1.5), Linear, PytorchHalfPixel, false, false, [0.0, 1.0], &[1.0, 3.0, 4.5, 2.5, -0.5, -1.833333, 2.833333]),
            (Scale(0.7), CUBIC, PytorchHalfPixel, false, false, [0.0, 1.0], &[1.84211, 3.821701, -2.830451]),
            (Scale(1.5), Linear, AlignCorners, false, false, [0.0, 1.0], &[1.0, 3.461539, 4.307693, 2.461539, -0.307692, -2.461539, 1.846154]),
            (Scale(0.7), CUBIC, AlignCorners, false, false, [0.0, 1.0], &[1.0, 3.992, -2.247998]),
            (Scale(1.5), Linear, Asymmetric, false, false, [0.0, 1.0], &[1.0, 3.666667, 4.0, 2.0, -1.333333, -0.666667, 4.0]),
            (Scale(0.7), CUBIC, Asymmetric, false, false, [0.0, 1.0], &[1.0, 4.553936, -2.985424]),
            (Size(1), Linear, PytorchHalfPixel, false, false, [0.0, 1.0], &[1.0]),
            (Size(1), Linear, AlignCorners, false, false, [0.0, 1.0], &[1.0]),
            (Size(8), Linear, HalfPixel, false, false, [0.0, 1.0], &[1.0, 2.75, 4.8125, 2.9375, 0.4375, -2.6875, 0.9375, 4.0]),
            (Size(4), Linear, TfCropAndResize, false, false, [0.25, 1.25], &[5.0, 0.333333, 1.666667, 9.0]),
            (Size(1), Linear, TfCropAndResize, false, false, [0.25, 1.0], &[-0.5]),
            (Scale(0.6), Linear, HalfPixel, true, false, [0.0, 1.0], &[2.5, 1.555556, 1.374999]),
            (Scale(0.6), CUBIC, HalfPixel, true, false, [0.0, 1.0], &[2.908436, 1.380954, 0.920483]),
            (Scale(0.6), CUBIC, HalfPixel, true, true, [0.0, 1.0], &[3.02041, 1.412038, 0.739797]),
            (Scale(1.5), CUBIC, HalfPixel, false, true, [0.0, 1.0], &[0.594594, 3.085714, 5.003469, 2.934027, -1.4375, -2.319681, 2.995739]),
            (Scale(1.5), CUBIC, HalfPixel, true, false, [0.0, 1.0], &[0.652779, 3.28125, 5.003468, 2.934026, -1.4375, -2.429395, 2.908565]),
        ];
        for (size, method, coordinates, antialias, exclude_outside, roi, expected) in rows {
            let axis = ResizeAxis { axis: 0, size, roi };
            let op = Resize { coordinates, antialias, exclude_outside, ..plain(vec![axis], method) };
            let (_, found) = run(&op, &[5], &[1., 5., 2., -3., 4.]);
            let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 5e-6);
            assert!(close && found.len() == expected.len(), "{op:?}: {found:?}, not {expected:?}");
        }
    }

    fn axis(axis: u32, scale: f32) -> ResizeAxis {
        ResizeAxis {
            axis,
            size: Scale(scale),
            roi: [0.0, 1.0],
        }
    }

    #[test]
    fn several_axes_and_others_between() {
        let op = plain(vec![axis(2, 2.0), axis(0, 1.5)], Linear);
        let data = [0., 1., 10., 11., 2., 3., 12., 13.];
        let (shape, found) = run(&op, &[2, 2, 2], &data);
        assert_eq!(shape.dims(), [3, 2, 4]);
        assert_eq!(found[..4], [0., 0.25, 0.75, 1.]);
        assert_eq!(found[12..16], [11., 11.25, 11.75, 12.]);
        assert_eq!(found[16..20], [2., 2.25, 2.75, 3.]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let shape = Shape::new([2, 3]).unwrap();
        let field = |op: Resize| op.infer_shape(&[&shape], &[]).unwrap_err().field.unwrap();
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(field(plain(vec![axis(1, scale)], Linear)), "scales");
        }
        for scale in [0.1, 1e30] {
            assert_eq!(
                field(plain(vec![axis(1, scale)], Linear)),
                "scales or sizes"
            );
        }
        assert_eq!(field(plain(vec![axis(2, 1.0)], Linear)), "axes");
        assert_eq!(field(plain(vec![axis(1, 1.0); 2], Linear)), "axes");
        let antialias = Resize {
            antialias: true,
            ..plain(vec![], Nearest(Floor))
        };
        assert_eq!(field(antialias), "antialias");
        let mut roi = axis(1, 1.0);
        roi.roi[0] = f32::NAN;
        assert_eq!(field(plain(vec![roi], Linear)), "roi");
    }
}
