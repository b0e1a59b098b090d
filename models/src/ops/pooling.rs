//! Pooling with Caffe's rounding and divisor.

use super::operation::{Inputs, Operation, Weights};
use super::window::AXIS_SUFFIX;
use super::{Window, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Pooling method.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PoolMethod {
    /// Maximum.
    Max,
    /// Average with Caffe's divisor (padding inside `in + pad` counts).
    Average,
}

/// Pooling; the window of a global pooling is the whole plane.
///
/// A maximum starts at −FLT_MAX (at 0 with `relu`) and only a greater value replaces it, so the
/// first of equal maxima wins and NaN never does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pooling {
    /// Method.
    pub method: PoolMethod,
    /// Kernel, stride, pad (dilation 1). Ignored when `global`.
    pub window: Window,
    /// Window = plane.
    pub global: bool,
    /// Plane (h, w) that the window was computed from (SPP): for another one it would be another.
    pub made_for: Option<[u32; 2]>,
    /// Output size rounded down instead of up.
    pub round_down: bool,
    /// Running maximum starts at 0 (SkimCaffe's ReLUPooling); `Max` only.
    pub relu: bool,
    /// Output is the flat index (y·w + x) of the maximum inside its plane instead of its value
    /// (−1 when nothing beats the start value); `Max` only.
    pub mask: bool,
}

/// What one output covers along one axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolRange {
    /// First input index inside the input.
    pub start: u32,
    /// One past the last input index inside the input; `start` when the window misses the input,
    /// as the last one can when stride > kernel and nothing is padded.
    pub end: u32,
    /// Factor of the average's divisor: the window's length within `−pad .. input + pad`; 1 when
    /// the window misses the input.
    pub divisor: u32,
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

    /// Output size along `axis` (0 = h, 1 = w). Caffe rounds up, then drops a last window that
    /// would start in the padding behind the input, but only when there is padding on any axis.
    pub fn output_size(&self, axis: usize, input: u32) -> Result<u32> {
        let window = self.effective_window([input; 2]);
        check_window(&window)?;
        let (kernel, stride) = (
            i64::from(window.kernel[axis]),
            i64::from(window.stride[axis]),
        );
        let input = i64::from(input);
        let [begin, pads] = [window.pad_begin[axis].into(), window.pads(axis) as i64];
        let room = input + pads - kernel;
        let steps = if self.round_down {
            room.div_euclid(stride)
        } else {
            -(-room).div_euclid(stride)
        };
        let mut size = steps + 1;
        if window.is_padded() && (size - 1) * stride >= input + begin {
            size -= 1;
        }
        match u32::try_from(size) {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(Error::new(format!("a kernel of {kernel}"))
                .field(format!("kernel_{}", AXIS_SUFFIX[axis]))
                .expected(format!("at most {}, the padded input", input + pads))),
        }
    }

    /// Input range and divisor of output `index` along `axis`.
    pub fn range(&self, axis: usize, input: u32, index: u32) -> PoolRange {
        let window = self.effective_window([input; 2]);
        let [begin, end] = [window.pad_begin[axis], window.pad_end[axis]].map(i64::from);
        let start = i64::from(index) * i64::from(window.stride[axis]) - begin;
        let padded_end = (start + i64::from(window.kernel[axis])).min(i64::from(input) + end);
        let (first, end) = (start.max(0), padded_end.min(i64::from(input)));
        if first >= end {
            return PoolRange {
                start: input,
                end: input,
                divisor: 1,
            };
        }
        PoolRange {
            start: first as u32,
            end: end as u32,
            divisor: (padded_end - start) as u32,
        }
    }

    fn maximum(&self, plane: &[f32], width: usize, rows: PoolRange, columns: PoolRange) -> f32 {
        let (mut best, mut best_index) = (if self.relu { 0.0 } else { -f32::MAX }, None);
        for y in rows.start as usize..rows.end as usize {
            for x in columns.start as usize..columns.end as usize {
                if plane[y * width + x] > best {
                    best = plane[y * width + x];
                    best_index = Some(y * width + x);
                }
            }
        }
        if self.mask {
            best_index.map_or(-1.0, |index| index as f32)
        } else {
            best
        }
    }
}

/// Mean of `of(x)` over the window, as [`PoolMethod::Average`] divides.
pub(super) fn average(
    plane: &[f32],
    width: usize,
    rows: PoolRange,
    columns: PoolRange,
    of: impl Fn(f64) -> f64,
) -> f64 {
    let mut sum = 0.0;
    for y in rows.start as usize..rows.end as usize {
        let row = &plane[y * width..(y + 1) * width];
        for &x in &row[columns.start as usize..columns.end as usize] {
            sum += of(f64::from(x));
        }
    }
    sum / (f64::from(rows.divisor) * f64::from(columns.divisor))
}

fn check_window(window: &Window) -> Result<()> {
    window.check()?;
    for (axis, suffix) in AXIS_SUFFIX.iter().enumerate() {
        let pad = window.pad_begin[axis].max(window.pad_end[axis]);
        if pad >= window.kernel[axis] {
            return Err(Error::new(pad.to_string())
                .field(format!("pad_{suffix}"))
                .expected(format!("less than the kernel's {}", window.kernel[axis])));
        }
        if window.dilation[axis] != 1 {
            return Err(Error::new(window.dilation[axis].to_string())
                .field("dilation")
                .expected("1"));
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
                    PoolMethod::Max => self.maximum(plane, width, rows, columns),
                    PoolMethod::Average => average(plane, width, rows, columns, |x| x) as f32,
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
            round_down: false,
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
            round_down: true,
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
                divisor: 3
            }
        );
        assert_eq!(
            pool.range(0, 4, 1),
            PoolRange {
                start: 1,
                end: 4,
                divisor: 3
            }
        );
        // Starts at 3, is cut at 4 + 1.
        assert_eq!(
            pool.range(0, 4, 2),
            PoolRange {
                start: 3,
                end: 4,
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
