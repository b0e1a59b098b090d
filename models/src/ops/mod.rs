//! What each layer computes: attributes, shape rule, slow reference.

use crate::{Error, Result, Shape, Tensor, TensorRef, WeightId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Geometry of a sliding window, height before width.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// kh, kw.
    pub kernel: [u32; 2],
    /// stride_h, stride_w.
    pub stride: [u32; 2],
    /// pad_h, pad_w (the same at both ends).
    pub pad: [u32; 2],
    /// dil_h, dil_w.
    pub dilation: [u32; 2],
}

/// Activation fused behind a convolution or inner product.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct PostOps {
    /// `Some(slope)`: y = max(y, 0) + slope·min(y, 0).
    pub relu: Option<f32>,
}

/// Convolution or deconvolution. Weights: conv `oc × ic/groups × kh × kw`,
/// deconv `ic × oc/groups × kh × kw`; bias `oc`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Convolution {
    /// Kernel, stride, pad, dilation.
    pub window: Window,
    /// Output channels.
    pub oc: u32,
    /// Groups; divides ic and oc.
    pub groups: u32,
    /// Weight tensor.
    pub weights: WeightId,
    /// Bias tensor.
    pub bias: Option<WeightId>,
    /// Fused activation.
    pub post: PostOps,
}

/// Convolution whose weights are stored in the Winograd domain (spec §5): `m × m × oc × ic/groups`
/// for output tiles of 4×4; kernel 3 (m = 6) or 5 (m = 8), stride 1.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WinogradConvolution {
    /// 3 or 5.
    pub kernel: u32,
    /// pad_h, pad_w.
    pub pad: [u32; 2],
    /// Output channels.
    pub oc: u32,
    /// Groups.
    pub groups: u32,
    /// Weight tensor.
    pub weights: WeightId,
    /// Bias tensor.
    pub bias: Option<WeightId>,
}

/// Inner product over the dims from `axis` on. Weights `outputs × inputs`, or
/// `inputs × outputs` when `transpose`; bias `outputs`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InnerProduct {
    /// Outputs.
    pub outputs: u32,
    /// First axis that is summed over (not negative).
    pub axis: u32,
    /// Weights stored transposed.
    pub transpose: bool,
    /// Weight tensor.
    pub weights: WeightId,
    /// Bias tensor.
    pub bias: Option<WeightId>,
    /// Fused activation.
    pub post: PostOps,
}

/// Pooling method.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PoolMethod {
    /// Maximum.
    Max,
    /// Average with Caffe's divisor (padding inside `in + pad` counts).
    Average,
}

/// Pooling; the window of a global pooling is the whole plane.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pooling {
    /// Method.
    pub method: PoolMethod,
    /// Kernel, stride, pad (dilation 1). Ignored when `global`.
    pub window: Window,
    /// Window = plane.
    pub global: bool,
    /// Output size rounded down instead of up.
    pub round_down: bool,
    /// Running maximum starts at 0 (SkimCaffe's ReLUPooling); `Max` only.
    pub relu: bool,
    /// Output is the flat index (y·w + x) of the maximum inside its plane instead of its value.
    pub mask: bool,
}

/// Elementwise functions of one operand.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum Activation {
    /// max(x,0) + slope·min(x,0).
    ReLU {
        /// Slope below zero.
        slope: f32,
    },
    /// x > 0 ? x : alpha·(eˣ − 1).
    Elu {
        /// Scale below zero.
        alpha: f32,
    },
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// tanh.
    TanH,
    /// |x|.
    AbsVal,
    /// log(1 + eˣ).
    Bnll,
    /// (shift + scale·x)^power.
    Power {
        /// Exponent.
        power: f32,
        /// Factor.
        scale: f32,
        /// Offset.
        shift: f32,
    },
    /// base^(shift + scale·x); base −1 is e.
    Exp {
        /// Base.
        base: f32,
        /// Factor.
        scale: f32,
        /// Offset.
        shift: f32,
    },
    /// log_base(shift + scale·x); base −1 is e.
    Log {
        /// Base.
        base: f32,
        /// Factor.
        scale: f32,
        /// Offset.
        shift: f32,
    },
    /// x > t ? 1 : 0.
    Threshold {
        /// Threshold.
        threshold: f32,
    },
    /// x·σ(beta·x).
    Swish {
        /// Factor inside the sigmoid.
        beta: f32,
    },
    /// min(max(x, min), max).
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

/// Parametric ReLU; `slope` has one element per channel (axis 1), or one in all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PRelu {
    /// Slopes below zero.
    pub slope: WeightId,
}

/// Local response normalisation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Lrn {
    /// Window size, odd.
    pub size: u32,
    /// Alpha (divided by the window's size across channels, by its area within a channel).
    pub alpha: f32,
    /// Beta.
    pub beta: f32,
    /// k; ignored (1) within a channel.
    pub k: f32,
    /// Window lies inside one channel's plane instead of across channels.
    pub within_channel: bool,
}

/// Batch normalisation without learned scale.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Running mean, variance and scale-factor blobs; `None`: statistics of this batch.
    pub statistics: Option<[WeightId; 3]>,
    /// Epsilon.
    pub eps: f32,
}

/// y = x·scale + bias, broadcast from `axis` on; the factor is a weight or the second operand.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// First axis of the broadcast shape (not negative).
    pub axis: u32,
    /// Factor; `None`: the second operand, or 1 when there is only one operand (Bias layer).
    pub scale: Option<WeightId>,
    /// Offset as weight.
    pub bias: Option<WeightId>,
    /// Bias layer with two operands: the second operand is added instead of multiplied.
    pub add_operand: bool,
}

/// Elementwise combination of operands of the same shape.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum EltwiseOp {
    /// Product.
    Product,
    /// Σ coefficient·operand.
    Sum {
        /// One per operand.
        coefficients: Vec<f32>,
    },
    /// Maximum.
    Max,
}

/// Elementwise combination, with an activation fused behind it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Eltwise {
    /// How operands are combined.
    pub op: EltwiseOp,
    /// Fused activation.
    pub post: PostOps,
}

/// Half-open range of one axis (one top of a Slice layer).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Axis (not negative).
    pub axis: u32,
    /// First index.
    pub begin: u32,
    /// One past the last index.
    pub end: u32,
}

/// Reshape with Caffe's rules: 0 copies, −1 infers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reshape {
    /// New dims for the span.
    pub dims: Vec<i64>,
    /// First axis of the span; negative counts from rank + 1.
    pub axis: i32,
    /// Axes of the span; −1: to the end.
    pub num_axes: i32,
}

/// Crop of the first operand to the second's dims from `axis` on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Crop {
    /// First cropped axis (not negative).
    pub axis: u32,
    /// None: 0; one: for all; else one per cropped axis.
    pub offset: Vec<u32>,
}

/// Indices (or values) of the largest elements.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArgMax {
    /// How many.
    pub top_k: u32,
    /// Also (without axis) or instead (with axis) the values.
    pub out_max_val: bool,
    /// Axis; `None`: over all but the batch.
    pub axis: Option<i32>,
}

/// Reduction method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReductionOp {
    /// Σ x.
    Sum,
    /// Σ |x|.
    AbsSum,
    /// Σ x².
    SumOfSquares,
    /// Mean.
    Mean,
}

/// Reduction over all axes from `axis` on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reduction {
    /// Method.
    pub op: ReductionOp,
    /// First reduced axis.
    pub axis: i32,
    /// Factor of the result.
    pub coeff: f32,
}

/// What a loss is divided by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Normalization {
    /// outer·inner.
    Full,
    /// Positions that are not ignored.
    Valid,
    /// outer.
    BatchSize,
    /// 1.
    None,
}

/// Loss layers; the output is a scalar. `loss_weight` is not applied to the value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Loss {
    /// Operands: probabilities (a Softmax node before it), labels.
    SoftmaxWithLoss {
        /// Class axis (not negative).
        axis: u32,
        /// Skipped label.
        ignore_label: Option<i32>,
        /// Divisor.
        normalization: Normalization,
    },
    /// ½N⁻¹Σ(a−b)².
    Euclidean,
    /// Operands: scores, targets.
    SigmoidCrossEntropy {
        /// Skipped target.
        ignore_label: Option<i32>,
        /// Divisor.
        normalization: Normalization,
    },
    /// Operands: scores, labels.
    Hinge {
        /// L2 instead of L1.
        l2: bool,
    },
    /// Operands: probabilities, labels.
    MultinomialLogistic,
    /// Operands: probabilities, labels, and the matrix as third operand unless `matrix`.
    Infogain {
        /// Infogain matrix H.
        matrix: Option<WeightId>,
        /// Class axis (not negative).
        axis: u32,
        /// Skipped label.
        ignore_label: Option<i32>,
        /// Divisor.
        normalization: Normalization,
    },
    /// Operands: a, b, similarity.
    Contrastive {
        /// Margin.
        margin: f32,
        /// margin − d² instead of (margin − d)².
        legacy: bool,
    },
}

/// Share of correct predictions. Operands: scores, labels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    /// Correct when the label is among the k best.
    pub top_k: u32,
    /// Class axis (not negative).
    pub axis: u32,
    /// Skipped label.
    pub ignore_label: Option<i32>,
    /// Output is the accuracy of each class instead of the overall one.
    pub per_class: bool,
}

/// Everything a node can compute.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Convolution (cross-correlation).
    Convolution(Convolution),
    /// Transposed convolution.
    Deconvolution(Convolution),
    /// Convolution with Winograd-domain weights.
    WinogradConvolution(WinogradConvolution),
    /// Inner product.
    InnerProduct(InnerProduct),
    /// Pooling.
    Pooling(Pooling),
    /// Elementwise function.
    Activation(Activation),
    /// Parametric ReLU.
    PRelu(PRelu),
    /// Local response normalisation.
    Lrn(Lrn),
    /// Batch normalisation.
    BatchNorm(BatchNorm),
    /// Scale and Bias layers.
    Scale(Scale),
    /// Elementwise combination.
    Eltwise(Eltwise),
    /// Concatenation along an axis (not negative).
    Concat {
        /// Axis.
        axis: u32,
    },
    /// Part of an axis.
    Slice(Slice),
    /// Dims `axis..=end_axis` become one (neither negative).
    Flatten {
        /// First axis.
        axis: u32,
        /// Last axis.
        end_axis: u32,
    },
    /// Reshape.
    Reshape(Reshape),
    /// Axis permutation (SSD's Permute): output axis i is input axis `order[i]`.
    Permute {
        /// Full permutation.
        order: Vec<u32>,
    },
    /// Crop.
    Crop(Crop),
    /// Repetition along an axis (not negative).
    Tile {
        /// Axis.
        axis: u32,
        /// Repetitions.
        tiles: u32,
    },
    /// ArgMax.
    ArgMax(ArgMax),
    /// Reduction.
    Reduction(Reduction),
    /// Softmax along an axis (not negative).
    Softmax {
        /// Axis.
        axis: u32,
    },
    /// Loss layers.
    Loss(Loss),
    /// Accuracy.
    Accuracy(Accuracy),
    /// Copy of the operand (Dropout at test time, Split).
    Identity,
    /// A constant (DummyData).
    Constant(WeightId),
}

impl Op {
    /// Shape of the result.
    pub fn infer_shape(&self, _inputs: &[&Shape], _weights: &[Arc<Tensor>]) -> Result<Shape> { Err(Error::new("x")) }
    /// Weights used.
    pub fn weights(&self) -> Vec<WeightId> { vec![] }
    /// Slow reference; writes every element of `output`; allocates nothing.
    pub fn evaluate(&self, _inputs: &[TensorRef<'_>], _weights: &[Arc<Tensor>], _output_shape: &Shape, _output: &mut [f32]) {}
    /// True when image n of the result depends only on image n of each operand.
    pub fn per_image(&self, _inputs: &[&Shape]) -> bool { true }
    /// Multiply-adds.
    pub fn macs(&self, _inputs: &[&Shape], _weights: &[Arc<Tensor>]) -> u64 { 0 }
}
