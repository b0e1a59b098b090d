//! Problems as callers state them.

use crate::error::{Error, Result};
use skimjit_models::ops::Window;
use skimjit_runtime::kernels::{ConvProblem, FcProblem, Fused, Planes, Problem, gap, limits};

/// A convolution of one image.
///
/// `dst[o][y][x] = post(bias[o] + Σ wei[o][c][i][j] · src[g·ic/groups + c][y·sh + i·dh − ph][x·sw + j·dw − pw])`,
/// with zero outside the picture. Weights are `oc × ic/groups × kh × kw`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Conv {
    /// Input channels.
    pub ic: u32,
    /// Output channels.
    pub oc: u32,
    /// Height and width of the source.
    pub input: [u32; 2],
    /// kh, kw.
    pub kernel: [u32; 2],
    /// sh, sw.
    pub stride: [u32; 2],
    /// ph, pw.
    pub pad: [u32; 2],
    /// dh, dw; 1: neighbouring pixels.
    pub dilation: [u32; 2],
    /// Groups.
    pub groups: u32,
    /// Slope below zero of the ReLU that follows; 0 for an ordinary one.
    pub relu: Option<f32>,
    /// An array that lies as the result does is added before the ReLU.
    pub residual: bool,
    /// Elements from one channel of the source to the next; default: whatever makes the kernel fast.
    /// Height times width is plain C, H, W.
    pub src_pitch: Option<u32>,
    /// The same for the result.
    pub dst_pitch: Option<u32>,
}

impl Conv {
    /// Without stride, padding, groups and post-ops.
    pub fn new(ic: u32, oc: u32, input: [u32; 2], kernel: [u32; 2]) -> Self {
        Self {
            ic,
            oc,
            input,
            kernel,
            stride: [1; 2],
            pad: [0; 2],
            dilation: [1; 2],
            groups: 1,
            relu: None,
            residual: false,
            src_pitch: None,
            dst_pitch: None,
        }
    }

    /// Height and width of the result.
    pub fn output(&self) -> Result<[u32; 2]> {
        let window = self.window();
        window.check_padded(self.input)?;
        Ok([
            window.output_size(0, self.input[0])?,
            window.output_size(1, self.input[1])?,
        ])
    }

    fn window(&self) -> Window {
        Window {
            kernel: self.kernel,
            stride: self.stride,
            pad_begin: self.pad,
            pad_end: self.pad,
            dilation: self.dilation,
        }
    }

    pub(super) fn problem(&self) -> Result<Problem> {
        let output = self.output()?;
        // Planes of one size share their gap, so that kernels can follow each other.
        let gap = match output == self.input {
            true => gap(&self.window(), self.input[1]),
            false => 0,
        };
        Ok(Problem::Conv(ConvProblem {
            src: planes("src_pitch", self.ic, self.input, gap, self.src_pitch)?,
            dst: planes("dst_pitch", self.oc, output, gap, self.dst_pitch)?,
            window: self.window(),
            groups: self.groups,
            post: self.relu.map(Fused::relu),
            residual: self.residual,
        }))
    }
}

/// An inner product of one row: `dst[o] = post(bias[o] + Σ wei[o][i] · src[i])`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fc {
    /// Row length of the weights.
    pub inputs: u32,
    /// Rows of the weights.
    pub outputs: u32,
    /// Slope below zero of the ReLU that follows.
    pub relu: Option<f32>,
}

impl Fc {
    pub(super) fn problem(&self) -> Problem {
        Problem::Fc(FcProblem {
            inputs: self.inputs,
            outputs: self.outputs,
            post: self.relu.map(Fused::relu),
        })
    }
}

/// A matrix product: `dst[r][c] = post(bias[r] + Σ wei[r][k] · src[k][c])`. For inner products of a
/// batch, a column is an image.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MatMul {
    /// Rows of the weights and of the result.
    pub rows: u32,
    /// Columns of the weights, rows of the source.
    pub inner: u32,
    /// Columns of source and result.
    pub columns: u32,
    /// Slope below zero of the ReLU that follows.
    pub relu: Option<f32>,
    /// A matrix that lies as the result does is added before the ReLU.
    pub residual: bool,
    /// Elements from one row of the source to the next; default: whatever makes the kernel fast.
    pub src_pitch: Option<u32>,
    /// The same for the result.
    pub dst_pitch: Option<u32>,
}

impl MatMul {
    /// Without post-ops.
    pub fn new(rows: u32, inner: u32, columns: u32) -> Self {
        Self {
            rows,
            inner,
            columns,
            relu: None,
            residual: false,
            src_pitch: None,
            dst_pitch: None,
        }
    }

    /// A 1×1 convolution over one row of pixels.
    pub(super) fn problem(&self) -> Result<Problem> {
        Conv {
            relu: self.relu,
            residual: self.residual,
            src_pitch: self.src_pitch,
            dst_pitch: self.dst_pitch,
            ..Conv::new(self.inner, self.rows, [1, self.columns], [1, 1])
        }
        .problem()
    }
}

fn planes(field: &str, c: u32, [h, w]: [u32; 2], gap: u64, pitch: Option<u32>) -> Result<Planes> {
    let pixels = u64::from(h) * u64::from(w);
    // Beyond the limit, what is added to sizes might not fit.
    if pixels.saturating_add(gap) > limits::OPERAND_ELEMS {
        return Err(Error::Usage(format!(
            "found planes of {h} x {w} pixels with {gap} of padding, expected at most {} elements",
            limits::OPERAND_ELEMS
        )));
    }
    match pitch {
        None => Ok(Planes::with_gap(c, h, w, gap as u32)),
        Some(pitch) if u64::from(pitch) >= pixels => Ok(Planes { c, h, w, pitch }),
        Some(pitch) => Err(Error::Usage(format!(
            "{field}: found {pitch}, expected {pixels} or more, the pixels of a plane"
        ))),
    }
}
