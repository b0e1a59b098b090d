//! Pooling, with the roundings and divisors of Caffe and of ONNX.

use super::operation::{Inputs, Operation, Weights};
use super::window::AXIS_SUFFIX;
use super::{Window, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Deserializer, Serialize};

/// Pooling method.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PoolMethod {
    /// Maximum.
    Max,
    /// Average with Caffe's divisor (padding inside `in + pad` counts).
    Average,
    /// Average of what lies inside the input.
    AverageInside,
    /// (Σ |x|^p)^(1/p).
    Lp {
        /// The exponent, 1 or more.
        p: u32,
    },
}

/// How many windows there are where the last one does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Rounding {
    /// Those that fit into the padded input.
    Down,
    /// One more, unless something is padded and it would start in the padding behind the input (Caffe).
    Up,
    /// One more, unless it would start behind the input (ONNX, PyTorch).
    UpInside,
}

/// Pooling; the window of a global pooling is the whole plane.
///
/// A maximum starts at −FLT_MAX (at 0 with `relu`) and only a greater value replaces it, so the
/// first of equal maxima wins and NaN never does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pooling {
    /// Method.
    pub method: PoolMethod,
    /// Kernel, stride, pad, dilation. Ignored when `global`.
    pub window: Window,
    /// Window = plane.
    pub global: bool,
    /// Plane (h, w) that the window was computed from (SPP): for another one it would be another.
    pub made_for: Option<[u32; 2]>,
    /// How many windows there are.
    #[serde(alias = "round_down", deserialize_with = "rounding")]
    pub rounding: Rounding,
    /// Running maximum starts at 0 (SkimCaffe's ReLUPooling); `Max` only.
    pub relu: bool,
    /// Output is the flat index (y·w + x) of the maximum inside its plane instead of its value
    /// (−1 when nothing beats the start value); `Max` only.
    pub mask: bool,
}

/// Format 3 said whether the output size is rounded down.
fn rounding<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Rounding, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Down(bool),
        Rounding(Rounding),
    }
    Ok(match Said::deserialize(from)? {
        Said::Down(true) => Rounding::Down,
        Said::Down(false) => Rounding::Up,
        Said::Rounding(rounding) => rounding,
    })
}

/// What one output covers along one axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolRange {
    /// First input index inside the input.
    pub start: u32,
    /// One past the last input index inside the input; `start` when the window misses the input,
    /// as the last one can when stride > kernel and nothing is padded.
    pub end: u32,
    /// Distance between the input indices: the dilation.
    pub step: u32,
    /// Factor of the average's divisor: the window's elements within `−pad .. input + pad`, or within the
    /// input; 1 when the window misses the input.
    pub divisor: u32,
}

impl PoolRange {
    /// The input indices.
    fn indices(self) -> impl Iterator<Item = usize> {
        (self.start as usize..self.end as usize).step_by(self.step as usize)
    }
}

impl Pooling {
    /// The window that is used on a plane of `input` (h, w) elements.
    pub fn effective_window(&self, input: [u32; 2]) -> Window {
        if self.global {
            Window {
                kernel: input,
                ..Window::square(1, 1, 0)
            }
        } else {
            self.window
        }
    }

    /// Output size along `axis` (0 = h, 1 = w).
    pub fn output_size(&self, axis: usize, input: u32) -> Result<u32> {
        let window = self.effective_window([input; 2]);
        check_window(&window)?;
        let (extent, stride) = (window.extent(axis) as i64, i64::from(window.stride[axis]));
        let input = i64::from(input);
        let [begin, pads] = [window.pad_begin[axis].into(), window.pads(axis) as i64];
        let room = input + pads - extent;
        let steps = match self.rounding {
            Rounding::Down => room.div_euclid(stride),
            Rounding::Up | Rounding::UpInside => -(-room).div_euclid(stride),
        };
        let mut size = steps + 1;
        let must_begin_inside = window.is_padded() || self.rounding == Rounding::UpInside;
        if must_begin_inside && (size - 1) * stride >= input + begin {
            size -= 1;
        }
        match u32::try_from(size) {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(Error::new(format!("a kernel that spans {extent}"))
                .field(format!("kernel_{}", AXIS_SUFFIX[axis]))
                .expected(format!("at most {}, the padded input", input + pads))),
        }
    }

    /// Input range and divisor of output `index` along `axis`.
    pub fn range(&self, axis: usize, input: u32, index: u32) -> PoolRange {
        let window = self.effective_window([input; 2]);
        let [begin, end] = [window.pad_begin[axis], window.pad_end[axis]].map(i64::from);
        let (input, step) = (i64::from(input), i64::from(window.dilation[axis]));
        let start = i64::from(index) * i64::from(window.stride[axis]) - begin;
        let padded_end = (start + window.extent(axis) as i64).min(input + end);
        // Elements of the window from `first` on and before `end`.
        let count = |first: i64, end: i64| (end - first + step - 1) / step;
        let first = start + count(start, start.max(0)) * step;
        let end = padded_end.min(input);
        if first >= end {
            return PoolRange {
                start: input as u32,
                end: input as u32,
                step: 1,
                divisor: 1,
            };
        }
        let divisor = match self.method {
            PoolMethod::AverageInside => count(first, end),
            PoolMethod::Max | PoolMethod::Average | PoolMethod::Lp { .. } => {
                count(start, padded_end)
            }
        };
        PoolRange {
            start: first as u32,
            end: end as u32,
            step: step as u32,
            divisor: divisor as u32,
        }
    }

    fn maximum(&self, plane: &[f32], indices: impl Iterator<Item = usize>) -> f32 {
        let (mut best, mut best_index) = (if self.relu { 0.0 } else { -f32::MAX }, None);
        for index in indices {
            if plane[index] > best {
                (best, best_index) = (plane[index], Some(index));
            }
        }
        if self.mask {
            best_index.map_or(-1.0, |index| index as f32)
        } else {
            best
        }
    }
}

/// Indices of a window in its plane.
fn indices(width: usize, rows: PoolRange, columns: PoolRange) -> impl Iterator<Item = usize> {
    rows.indices()
        .flat_map(move |y| columns.indices().map(move |x| y * width + x))
}

/// Mean of `of(x)` over the window, as [`PoolMethod::Average`] divides.
pub(super) fn average(
    plane: &[f32],
    width: usize,
    rows: PoolRange,
    columns: PoolRange,
    of: impl Fn(f64) -> f64,
) -> f64 {
    let elements = indices(width, rows, columns).map(|index| of(plane[index].into()));
    // From +0, as sums of the standard library begin with −0.
    elements.fold(0.0, |sum, x| sum + x) / (f64::from(rows.divisor) * f64::from(columns.divisor))
}

fn check_window(window: &Window) -> Result<()> {
    window.check()?;
    for (axis, suffix) in AXIS_SUFFIX.iter().enumerate() {
        let (pad, extent) = (
            window.pad_begin[axis].max(window.pad_end[axis]),
            window.extent(axis),
        );
        if u64::from(pad) >= extent {
            return Err(Error::new(pad.to_string())
                .field(format!("pad_{suffix}"))
                .expected(format!("less than the kernel's {extent}")));
        }
    }
    Ok(())
}

impl Operation for Pooling {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [n, c, ih, iw] = operands::image(input, 0)?;
        if self.method != PoolMethod::Max && (self.relu || self.mask) {
            return Err(Error::new("AVE with a fused ReLU or an index output")
                .field("pool")
                .expected("MAX"));
        }
        if self.method == (PoolMethod::Lp { p: 0 }) {
            return operands::positive(0, "p").map(|()| input.clone());
        }
        let window = self.effective_window([ih, iw]);
        window.check_padded([ih, iw])?;
        Shape::new([n, c, self.output_size(0, ih)?, self.output_size(1, iw)?])
    }

    fn check_resize(&self, _before: &[&Shape], after: &[&Shape]) -> Result<()> {
        let Some([h, w]) = self.made_for else {
            return Ok(());
        };
        match after.first().map(|shape| shape.dims()) {
            Some(&[_, _, height, width]) if [height, width] != [h, w] => {
                Err(Error::new(format!("planes of {height}x{width}"))
                    .field("input[0]")
                    .expected(format!(
                        "{h}x{w}, for which the pyramid's windows were made"
                    )))
            }
            _ => Ok(()),
        }
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [ih, iw] = [2, 3].map(|axis| inputs[0].shape.dim(axis));
        let [oh, ow] = [2, 3].map(|axis| shape.dim(axis) as usize);
        let width = iw as usize;
        let planes = inputs[0].data.chunks_exact(ih as usize * width);
        for (plane, dst) in planes.zip(output.chunks_exact_mut(oh * ow)) {
            for (index, value) in dst.iter_mut().enumerate() {
                let rows = self.range(0, ih, (index / ow) as u32);
                let columns = self.range(1, iw, (index % ow) as u32);
                *value = match self.method {
                    PoolMethod::Max => self.maximum(plane, indices(width, rows, columns)),
                    PoolMethod::Average | PoolMethod::AverageInside => {
                        average(plane, width, rows, columns, |x| x) as f32
                    }
                    PoolMethod::Lp { p } => {
                        let all = indices(width, rows, columns);
                        let powers = all.map(|index| f64::from(plane[index]).abs().powf(p.into()));
                        powers.sum::<f64>().powf(f64::from(p).recip()) as f32
                    }
                };
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
    use crate::TensorRef;

    fn pooling(method: PoolMethod, window: Window) -> Pooling {
        Pooling {
            method,
            window,
            global: false,
            made_for: None,
            rounding: Rounding::Up,
            relu: false,
            mask: false,
        }
    }

    #[test]
    fn rounds_up_and_drops_windows_in_the_padding() {
        let size = |window, input| pooling(PoolMethod::Max, window).output_size(0, input);
        assert_eq!(size(Window::square(3, 2, 0), 55), Ok(27));
        assert_eq!(size(Window::square(3, 2, 0), 112), Ok(56));
        // ⌈(4 + 2 − 2) / 2⌉ + 1 = 3 windows start at −1, 1, 3; a fourth axis value is not needed.
        assert_eq!(size(Window::square(2, 2, 1), 4), Ok(3));
        // ⌈(3 + 2 − 2) / 2⌉ + 1 = 3, but the third would start at 3 ≥ 3 inside the padding.
        assert_eq!(size(Window::square(2, 2, 1), 3), Ok(2));
        // The kernel may overhang as long as a whole stride does not fit.
        assert_eq!(size(Window::square(3, 2, 0), 2), Ok(1));
        assert!(size(Window::square(3, 1, 0), 2).is_err());
        let floor = Pooling {
            rounding: Rounding::Down,
            ..pooling(PoolMethod::Max, Window::square(3, 2, 0))
        };
        assert_eq!(floor.output_size(0, 112), Ok(55));
        assert!(floor.output_size(0, 2).is_err());
    }

    #[test]
    fn divisor_counts_padding_but_not_what_lies_behind() {
        let pool = pooling(PoolMethod::Average, Window::square(3, 2, 1));
        assert_eq!(
            pool.range(0, 4, 0),
            PoolRange {
                start: 0,
                end: 2,
                step: 1,
                divisor: 3
            }
        );
        assert_eq!(
            pool.range(0, 4, 1),
            PoolRange {
                start: 1,
                end: 4,
                step: 1,
                divisor: 3
            }
        );
        // Starts at 3, is cut at 4 + 1.
        assert_eq!(
            pool.range(0, 4, 2),
            PoolRange {
                start: 3,
                end: 4,
                step: 1,
                divisor: 2
            }
        );
    }

    #[test]
    fn windows_behind_the_input_hold_the_start_value() {
        let pool = pooling(PoolMethod::Max, Window::square(1, 2, 0));
        let shape = Shape::new([1, 1, 2, 2]).unwrap();
        assert_eq!(
            pool.infer_shape(&[&shape], &[]),
            Ok(Shape::new([1, 1, 2, 2]).unwrap())
        );
        let src = TensorRef {
            shape: &shape,
            data: &[5.0, 1.0, 1.0, 1.0],
        };
        let mut dst = [0.0; 4];
        pool.evaluate(&[src], &[], &shape, &mut dst);
        assert_eq!(dst, [5.0, -f32::MAX, -f32::MAX, -f32::MAX]);
    }

    #[test]
    fn onnx_drops_windows_behind_the_input() {
        let pool = |rounding, window| Pooling {
            rounding,
            ..pooling(PoolMethod::Max, window)
        };
        // Unpadded, ⌈(4 − 1) / 2⌉ + 1 = 3 windows start at 0, 2, 4; the last is behind the input.
        let window = Window::square(1, 2, 0);
        assert_eq!(pool(Rounding::Up, window).output_size(0, 4), Ok(3));
        assert_eq!(pool(Rounding::UpInside, window).output_size(0, 4), Ok(2));
        assert_eq!(pool(Rounding::UpInside, window).output_size(0, 5), Ok(3));
        let overhang = pool(Rounding::UpInside, Window::square(3, 2, 0));
        assert_eq!(overhang.output_size(0, 112), Ok(56));
    }

    #[track_caller]
    fn check(op: &Pooling, data: &[f32], expected: &[f32]) {
        let shape = Shape::new([1, 1, 1, data.len() as u32]).unwrap();
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        let src = TensorRef {
            shape: &shape,
            data,
        };
        op.evaluate(&[src], &[], &result, &mut output);
        assert_eq!(output, expected);
    }

    #[test]
    fn windows_with_holes_and_other_means() {
        let data = [1., 2., 6., 4., -5.];
        let window = Window {
            kernel: [1, 3],
            pad_begin: [0, 1],
            pad_end: [0, 1],
            ..Window::square(1, 1, 0)
        };
        let holes = Window {
            dilation: [1, 2],
            ..window
        };
        // Taps −1, 1, 3; 0, 2, 4; 1, 3, 5.
        check(&pooling(PoolMethod::Max, holes), &data, &[4., 6., 4.]);
        let inside = PoolMethod::AverageInside;
        check(
            &pooling(PoolMethod::Average, holes),
            &data,
            &[2., 2. / 3., 2.],
        );
        check(&pooling(inside, holes), &data, &[3., 2. / 3., 3.]);
        check(
            &pooling(inside, window),
            &data,
            &[1.5, 3., 4., 5. / 3., -0.5],
        );
        let lp = |p| pooling(PoolMethod::Lp { p }, window);
        check(&lp(1), &data, &[3., 9., 12., 15., 9.]);
        check(&lp(2), &data[..2], &[5f32.sqrt(); 2]);
        assert!(
            lp(0)
                .infer_shape(&[&Shape::new([1; 4]).unwrap()], &[])
                .is_err()
        );
    }

    #[test]
    fn roundings_of_format_3_are_read() {
        let read = |bytes: Vec<u8>| {
            let mut from = rmp_serde::Deserializer::new(&bytes[..]);
            rounding(&mut from).unwrap()
        };
        let said = |down: bool| read(rmp_serde::to_vec(&down).unwrap());
        assert_eq!([said(true), said(false)], [Rounding::Down, Rounding::Up]);
        let new = rmp_serde::to_vec(&Rounding::UpInside).unwrap();
        assert_eq!(read(new), Rounding::UpInside);
    }

    #[test]
    fn first_maximum_wins() {
        let shape = Shape::new([1, 1, 2, 2]).unwrap();
        let one = Shape::new([1, 1, 1, 1]).unwrap();
        let mut dst = [0.0];
        let mut pool = pooling(PoolMethod::Max, Window::square(2, 1, 0));
        pool.mask = true;
        pool.evaluate(
            &[TensorRef {
                shape: &shape,
                data: &[1., 7., 7., 2.],
            }],
            &[],
            &one,
            &mut dst,
        );
        assert_eq!(dst, [1.0]);
        pool.relu = true;
        let negative = TensorRef {
            shape: &shape,
            data: &[-1., -7., -7., -2.],
        };
        pool.evaluate(&[negative], &[], &one, &mut dst);
        assert_eq!(dst, [-1.0]);
    }
}
