//! Geometry of sliding windows.

use super::{Activation, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Deserializer, Serialize};
use std::ops::Range;

/// Geometry of a sliding window, height before width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// kh, kw.
    pub kernel: [u32; 2],
    /// stride_h, stride_w.
    pub stride: [u32; 2],
    /// Rows above and columns left of the input that count as zeros.
    pub pad_begin: [u32; 2],
    /// Rows below and columns right of it.
    pub pad_end: [u32; 2],
    /// dil_h, dil_w.
    pub dilation: [u32; 2],
}

/// Largest stride, pad and dilation. Offsets into planes are products of these with widths, in 32 bits;
/// networks have no use for a thousandth of it.
pub const MAX_STEP: u32 = 1 << 15;
/// Most elements of a plane with its padding, for the same reason.
pub const MAX_PADDED_PLANE: u64 = Shape::MAX_COUNT;

/// Suffixes of attributes' names per axis.
pub(super) const AXIS_SUFFIX: [&str; 2] = ["h", "w"];

impl Window {
    /// The same kernel, stride and pad along both axes, without dilation.
    pub fn square(kernel: u32, stride: u32, pad: u32) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            pad_begin: [pad; 2],
            pad_end: [pad; 2],
            dilation: [1; 2],
        }
    }

    /// Refuses kernels, strides and dilations of 0, and what is beyond [`MAX_STEP`].
    pub(crate) fn check(&self) -> Result<()> {
        for (axis, suffix) in AXIS_SUFFIX.iter().enumerate() {
            operands::positive(self.kernel[axis], &format!("kernel_{suffix}"))?;
            for (name, value, least) in [
                (format!("stride_{suffix}"), self.stride[axis], 1),
                (format!("pad_{suffix}"), self.pad_begin[axis], 0),
                (format!("pad_{suffix}"), self.pad_end[axis], 0),
                ("dilation".to_owned(), self.dilation[axis], 1),
            ] {
                if !(least..=MAX_STEP).contains(&value) {
                    return Err(Error::new(value.to_string())
                        .field(name)
                        .expected(format!("{least} to {MAX_STEP}")));
                }
            }
        }
        Ok(())
    }

    /// Refuses planes of `size` (h, w) that are too large with their padding, and windows that
    /// cannot be.
    pub fn check_padded(&self, size: [u32; 2]) -> Result<()> {
        self.check()?;
        let [h, w] = [0, 1].map(|axis| u64::from(size[axis]) + self.pads(axis));
        match h.checked_mul(w) {
            Some(..=MAX_PADDED_PLANE) => Ok(()),
            _ => Err(Error::new(format!("planes of {h}x{w} with their padding"))
                .field("pad")
                .expected(format!("at most {MAX_PADDED_PLANE} elements"))),
        }
    }

    /// Input elements that the kernel spans along `axis` (0 = h, 1 = w) with dilation. A `u64`, as
    /// attributes of untrusted files can be anything.
    pub fn extent(&self, axis: usize) -> u64 {
        u64::from(self.dilation[axis]) * u64::from(self.kernel[axis]).saturating_sub(1) + 1
    }

    /// Whether anything is padded.
    pub fn is_padded(&self) -> bool {
        [self.pad_begin, self.pad_end] != [[0; 2]; 2]
    }

    /// Pads at both ends of `axis` (0 = h, 1 = w) together.
    pub fn pads(&self, axis: usize) -> u64 {
        u64::from(self.pad_begin[axis]) + u64::from(self.pad_end[axis])
    }

    /// Convolution output size along `axis` (0 = h, 1 = w): ⌊(in + pads − extent) / stride⌋ + 1.
    pub fn output_size(&self, axis: usize, input: u32) -> Result<u32> {
        self.check()?;
        let padded = u64::from(input) + self.pads(axis);
        let extent = self.extent(axis);
        let Some(room) = padded.checked_sub(extent) else {
            return Err(Error::new(format!("a kernel that spans {extent}"))
                .field(format!("kernel_{}", AXIS_SUFFIX[axis]))
                .expected(format!("at most {padded}, the padded input")));
        };
        size(room / u64::from(self.stride[axis]) + 1, axis)
    }

    /// Deconvolution output size along `axis`: stride·(in − 1) + extent − pads.
    pub fn transposed_output_size(&self, axis: usize, input: u32) -> Result<u32> {
        self.check()?;
        let steps = u128::from(self.stride[axis]) * u128::from(input.saturating_sub(1));
        let full = steps + u128::from(self.extent(axis));
        let pads = u128::from(self.pads(axis));
        if full <= pads {
            return Err(Error::new(pads.to_string())
                .field(format!("pad_{}", AXIS_SUFFIX[axis]))
                .expected(format!(
                    "both pads together less than {full}, the unpadded output"
                )));
        }
        size(u64::try_from(full - pads).unwrap_or(u64::MAX), axis)
    }

    /// Outputs `o` along `axis` whose kernel element `tap` reads inside the input:
    /// 0 ≤ o·stride − pad_begin + tap·dilation < input.
    pub fn valid_outputs(&self, axis: usize, tap: u32, input: u32, outputs: u32) -> Range<u32> {
        let first =
            i64::from(tap) * i64::from(self.dilation[axis]) - i64::from(self.pad_begin[axis]);
        let stride = i64::from(self.stride[axis]);
        // Smallest o with o·stride ≥ bound.
        let reach = |bound: i64| (bound.max(0) + stride - 1) / stride;
        let end = reach(i64::from(input) - first).min(i64::from(outputs));
        let begin = reach(-first).min(end);
        begin as u32..end as u32
    }
}

fn size(size: u64, axis: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| {
        Error::new(format!(
            "an output of {size} along axis {}",
            AXIS_SUFFIX[axis]
        ))
        .expected("a size that fits 32 bits")
    })
}

/// Activation fused behind a convolution, an inner product or an elementwise combination.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PostOps {
    /// What becomes of every element.
    #[serde(alias = "relu", deserialize_with = "activation")]
    pub activation: Option<Activation>,
}

impl PostOps {
    /// A ReLU with this slope below zero.
    pub fn relu(slope: f32) -> Self {
        Self {
            activation: Some(Activation::ReLU { slope }),
        }
    }
    /// The fused activation of one element.
    pub fn apply(&self, x: f64) -> f64 {
        self.activation.map_or(x, |activation| activation.apply(x))
    }
}

/// A ReLU of that slope, if there is one.
impl From<Option<f32>> for PostOps {
    fn from(slope: Option<f32>) -> Self {
        slope.map(Self::relu).unwrap_or_default()
    }
}

/// Format 3 had the slope of a ReLU.
fn activation<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Option<Activation>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Slope(f32),
        Activation(Activation),
    }
    Ok(Option::<Said>::deserialize(from)?.map(|said| match said {
        Said::Slope(slope) => Activation::ReLU { slope },
        Said::Activation(activation) => activation,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn caffenet_sizes() {
        assert_eq!(Window::square(11, 4, 0).output_size(0, 227), Ok(55));
        assert_eq!(Window::square(5, 1, 2).output_size(1, 27), Ok(27));
        assert_eq!(
            Window::square(4, 2, 1).transposed_output_size(0, 16),
            Ok(32)
        );
    }

    #[test]
    fn faults_name_the_field() {
        let error = Window::square(3, 0, 0).output_size(0, 9).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("stride_h"));
        let error = Window::square(9, 1, 0).output_size(1, 7).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("kernel_w"));
        assert!(
            Window::square(3, 1, 9)
                .transposed_output_size(0, 5)
                .is_err()
        );
    }

    /// Offsets wrapped in 32 bits: wrong numbers without a word.
    #[test]
    fn what_would_wrap_offsets_is_refused() {
        let usual = Window::square(3, 1, 1);
        for (window, field) in [
            (
                Window {
                    stride: [1, i32::MAX as u32],
                    ..usual
                },
                "stride_w",
            ),
            (
                Window {
                    pad_end: [u32::MAX, 1],
                    ..usual
                },
                "pad_h",
            ),
            (
                Window {
                    dilation: [1, MAX_STEP + 1],
                    ..usual
                },
                "dilation",
            ),
        ] {
            let error = window.output_size(0, 9).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
            let error = window.transposed_output_size(0, 9).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field));
        }
        let largest = Window {
            stride: [MAX_STEP; 2],
            pad_begin: [MAX_STEP; 2],
            pad_end: [MAX_STEP; 2],
            ..usual
        };
        assert_eq!(largest.output_size(0, 9), Ok(3));
        assert!(largest.check_padded([1, 1 << 14]).is_err());
        assert!(largest.check_padded([9, 9]).is_err());
        assert!(usual.check_padded([9, 9]).is_ok());
    }

    #[test]
    fn relu_lets_nan_through() {
        assert!(PostOps::relu(0.0).apply(f64::NAN).is_nan());
        assert_eq!(PostOps::relu(0.0).apply(f64::NEG_INFINITY), 0.0);
        assert_eq!(PostOps::relu(0.5).apply(-4.0), -2.0);
    }

    proptest! {
        #[test]
        fn valid_outputs_match_a_scan(
            kernel in 1u32..6, stride in 1u32..5, pad in 0u32..6, dilation in 1u32..4,
            input in 1u32..12, outputs in 1u32..12,
        ) {
            let window = Window { dilation: [dilation; 2], ..Window::square(kernel, stride, pad) };
            for tap in 0..kernel {
                let inside = |o: &u32| {
                    let i = i64::from(o * stride + tap * dilation) - i64::from(pad);
                    (0..i64::from(input)).contains(&i)
                };
                let scan: Vec<u32> = (0..outputs).filter(inside).collect();
                let range: Vec<u32> = window.valid_outputs(0, tap, input, outputs).collect();
                prop_assert_eq!(scan, range);
            }
        }
    }
}
