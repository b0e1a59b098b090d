//! What each layer computes: attributes, shape rule, slow reference.
//!
//! One file per op. A new op is a variant of [`Op`] and an `Operation`; the exhaustive matches below
//! list what else it needs.

mod accuracy;
mod activation;
mod arg_extreme;
mod arg_max;
mod axes;
mod batch_norm;
mod batch_rows;
mod binary;
mod concat;
mod convolution;
mod crop;
mod cum_sum;
mod deconvolution;
mod depth_space;
mod detection_output;
mod eltwise;
mod embed;
mod erf;
mod expand;
mod gather;
mod identity;
mod im2col;
mod inner_product;
mod log_softmax;
mod loss;
mod lp_normalize;
mod lrn;
mod lstm_unit;
mod mat_mul;
mod mvn;
mod non_max_suppression;
mod normalize;
mod operands;
mod operation;
mod pad;
mod permute;
mod pooling;
mod prelu;
mod prior_box;
mod recurrent;
mod reduce;
mod reduction;
mod reshape;
mod resize;
mod scale;
mod select;
mod sequence;
mod slice;
mod softmax;
mod standardize;
mod tile;
mod top_k;
mod window;
pub mod winograd;
mod winograd_convolution;

pub use accuracy::Accuracy;
pub use activation::Activation;
pub use arg_extreme::ArgExtreme;
pub use arg_max::ArgMax;
pub use batch_norm::BatchNorm;
pub use binary::{Binary, BinaryOp};
pub use convolution::Convolution;
pub use crop::Crop;
pub use depth_space::DepthOrder;
pub use detection_output::{BoxCode, DetectionOutput};
pub use eltwise::{Eltwise, EltwiseOp};
pub use embed::Embed;
pub use gather::Gather;
pub use im2col::Im2col;
pub use inner_product::InnerProduct;
pub use loss::{Loss, Normalization};
pub use lrn::Lrn;
pub use lstm_unit::LstmUnit;
pub use mvn::Mvn;
pub use non_max_suppression::NonMaxSuppression;
pub use normalize::Normalize;
pub use pad::{Pad, PadMode};
pub use pooling::{PoolMethod, PoolRange, Pooling, Rounding};
pub use prelu::PRelu;
pub use prior_box::PriorBox;
pub use recurrent::{Cell, Recurrent};
pub use reduce::{Reduce, ReduceOp};
pub use reduction::{Reduction, ReductionOp};
pub use reshape::Reshape;
pub use resize::{Coordinates, NearestRounding, Resize, ResizeAxis, ResizeMethod, ResizeSize};
pub use scale::Scale;
pub use sequence::{Direction, Sequence, SequenceActivation, SequenceCell, SequenceOutput};
pub use slice::Slice;
pub use standardize::Standardize;
pub use top_k::{TopK, TopKOutput};
pub use window::{MAX_PADDED_PLANE, MAX_STEP, PostOps, Window};
pub use winograd_convolution::WinogradConvolution;

use crate::{Result, Shape, TensorRef, Weight, WeightId};
use operation::Operation;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    /// Copy of the operand.
    Identity,
    /// Copy of the operand, of which training drops elements.
    Dropout {
        /// Share of the elements that are dropped, less than 1 where the network is trained; what is left is
        /// divided by its share.
        ratio: f32,
    },
    /// A constant (DummyData, Parameter).
    Constant(WeightId),
    /// Rows of a table.
    Embed(Embed),
    /// Mean-variance normalisation.
    Mvn(Mvn),
    /// The windows of a convolution as channels.
    Im2col(Im2col),
    /// LSTM and RNN.
    Recurrent(Recurrent),
    /// One step of an LSTM.
    LstmUnit(LstmUnit),
    /// Images by their indices.
    BatchReindex,
    /// Chosen images first, then zeros.
    Filter,
    /// SSD's normalisation by the root of the sum of squares.
    Normalize(Normalize),
    /// SSD's prior boxes.
    PriorBox(PriorBox),
    /// SSD's detections.
    DetectionOutput(DetectionOutput),
    /// Elementwise function of two operands that are broadcast.
    Binary(Binary),
    /// Elements of the second operand where the first is not 0, else of the third; all are broadcast.
    Select,
    /// The operand, broadcast with an array of these dims.
    Expand {
        /// Dims, of which those of 1 leave the operand's as they are.
        dims: Vec<u32>,
    },
    /// Padding and cropping.
    Pad(Pad),
    /// Chosen elements of an axis.
    Gather(Gather),
    /// Resampling.
    Resize(Resize),
    /// Groups of channels become blocks of pixels.
    DepthToSpace {
        /// Height and width of a block.
        block: u32,
        /// What the channels are.
        order: DepthOrder,
    },
    /// Blocks of pixels become groups of channels.
    SpaceToDepth {
        /// Height and width of a block.
        block: u32,
    },
    /// Reduction of any axes.
    Reduce(Reduce),
    /// Logarithm of softmax along an axis (not negative).
    LogSoftmax {
        /// Axis.
        axis: u32,
    },
    /// Mean 0 and variance 1.
    Standardize(Standardize),
    /// Vectors along an axis (not negative), of norm 1.
    LpNormalize {
        /// Axis.
        axis: u32,
        /// Exponent of the norm, 1 or 2.
        p: u32,
    },
    /// Product of two operands as numpy's `matmul` has it.
    MatMul,
    /// Index of the greatest or smallest element along an axis.
    ArgExtreme(ArgExtreme),
    /// The greatest or smallest elements along an axis.
    TopK(TopK),
    /// Running sums along an axis (not negative).
    CumSum {
        /// Axis.
        axis: u32,
        /// An element's sum is without the element.
        exclusive: bool,
        /// Sums begin with the last element.
        reverse: bool,
    },
    /// ONNX's RNN, GRU and LSTM.
    Sequence(Sequence),
    /// The best of boxes that overlap.
    NonMaxSuppression(NonMaxSuppression),
}

/// Binds the [`Operation`] of an [`Op`] to a name and evaluates an expression with it.
macro_rules! dispatch {
    ($op:expr, $operation:ident => $result:expr) => {
        match $op {
            Op::Convolution($operation) => $result,
            Op::Deconvolution(convolution) => {
                let $operation = deconvolution::Deconvolution(convolution);
                $result
            }
            Op::WinogradConvolution($operation) => $result,
            Op::InnerProduct($operation) => $result,
            Op::Pooling($operation) => $result,
            Op::Activation($operation) => $result,
            Op::PRelu($operation) => $result,
            Op::Lrn($operation) => $result,
            Op::BatchNorm($operation) => $result,
            Op::Scale($operation) => $result,
            Op::Eltwise($operation) => $result,
            &Op::Concat { axis } => {
                let $operation = concat::Concat { axis };
                $result
            }
            Op::Slice($operation) => $result,
            &Op::Flatten { axis, end_axis } => {
                let $operation = reshape::Flatten { axis, end_axis };
                $result
            }
            Op::Reshape($operation) => $result,
            Op::Permute { order } => {
                let $operation = permute::Permute { order };
                $result
            }
            Op::Crop($operation) => $result,
            &Op::Tile { axis, tiles } => {
                let $operation = tile::Tile { axis, tiles };
                $result
            }
            Op::ArgMax($operation) => $result,
            Op::Reduction($operation) => $result,
            &Op::Softmax { axis } => {
                let $operation = softmax::Softmax { axis };
                $result
            }
            Op::Loss($operation) => $result,
            Op::Accuracy($operation) => $result,
            Op::Identity | Op::Dropout { .. } => {
                let $operation = identity::Identity;
                $result
            }
            &Op::Constant(weight) => {
                let $operation = identity::Constant(weight);
                $result
            }
            Op::Embed($operation) => $result,
            Op::Mvn($operation) => $result,
            Op::Im2col($operation) => $result,
            Op::Recurrent($operation) => $result,
            Op::LstmUnit($operation) => $result,
            Op::BatchReindex => {
                let $operation = batch_rows::BatchReindex;
                $result
            }
            Op::Filter => {
                let $operation = batch_rows::Filter;
                $result
            }
            Op::Normalize($operation) => $result,
            Op::PriorBox($operation) => $result,
            Op::DetectionOutput($operation) => $result,
            Op::Binary($operation) => $result,
            Op::Select => {
                let $operation = select::Select;
                $result
            }
            Op::Expand { dims } => {
                let $operation = expand::Expand { dims };
                $result
            }
            Op::Pad($operation) => $result,
            Op::Gather($operation) => $result,
            Op::Resize($operation) => $result,
            &Op::DepthToSpace { block, order } => {
                let $operation = depth_space::DepthToSpace { block, order };
                $result
            }
            &Op::SpaceToDepth { block } => {
                let $operation = depth_space::SpaceToDepth { block };
                $result
            }
            Op::Reduce($operation) => $result,
            &Op::LogSoftmax { axis } => {
                let $operation = log_softmax::LogSoftmax { axis };
                $result
            }
            Op::Standardize($operation) => $result,
            &Op::LpNormalize { axis, p } => {
                let $operation = lp_normalize::LpNormalize { axis, p };
                $result
            }
            Op::MatMul => {
                let $operation = mat_mul::MatMul;
                $result
            }
            Op::ArgExtreme($operation) => $result,
            Op::TopK($operation) => $result,
            &Op::CumSum {
                axis,
                exclusive,
                reverse,
            } => {
                let $operation = cum_sum::CumSum {
                    axis,
                    exclusive,
                    reverse,
                };
                $result
            }
            Op::Sequence($operation) => $result,
            Op::NonMaxSuppression($operation) => $result,
        }
    };
}

impl Op {
    /// Checks operands, weights and attributes; shape of the result. Never panics, whatever the
    /// attributes are: graphs also come from files.
    pub fn infer_shape(&self, inputs: &[&Shape], weights: &[Arc<Weight>]) -> Result<Shape> {
        check_shapes(inputs)?;
        dispatch!(self, op => op.infer_shape(inputs, weights))
    }

    /// Refuses operands of other shapes than `before` where the attributes do not say what is to become
    /// of them. Both must have passed [`Op::infer_shape`] or come from a graph.
    pub(crate) fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        check_shapes(after)?;
        dispatch!(self, op => op.check_resize(before, after))
    }

    /// Slow reference: `f64` throughout and one rounding to `f32`. Writes every element of
    /// `output`, allocates nothing (DetectionOutput, NonMaxSuppression and Sequence: nothing after a thread's
    /// first run).
    ///
    /// # Panics
    /// When `output_shape` is not what [`Op::infer_shape`] says for these operands and weights, or
    /// `output` does not have its length.
    pub fn evaluate(
        &self,
        inputs: &[TensorRef<'_>],
        weights: &[Arc<Weight>],
        output_shape: &Shape,
        output: &mut [f32],
    ) {
        assert_eq!(
            output.len(),
            output_shape.count(),
            "{} {output_shape}",
            self.name()
        );
        dispatch!(self, op => op.evaluate(inputs, weights, output_shape, output));
    }

    /// True when image n (axis 0) of the result depends only on image n of each operand, so that
    /// the node can run image by image with a batch of 1. False where that is not certain.
    pub fn per_image(&self, inputs: &[&Shape]) -> bool {
        let Some(first) = inputs.first() else {
            return false;
        };
        let same_batch = |shape: &&Shape| shape.rank() > 0 && shape.dim(0) == first.dim(0);
        inputs.iter().all(same_batch)
            && check_shapes(inputs).is_ok()
            && dispatch!(self, op => op.per_image(inputs))
    }

    /// Multiply-adds of a dense execution of convolutions and products of matrices, biases not counted;
    /// 0 for all other ops and for operands that [`Op::infer_shape`] refuses.
    pub fn macs(&self, inputs: &[&Shape], weights: &[Arc<Weight>]) -> u64 {
        match self.infer_shape(inputs, weights) {
            Ok(output) => dispatch!(self, op => op.macs(inputs, weights, &output)),
            Err(_) => 0,
        }
    }

    /// Name in tables and messages; attributes decide it where one op stands for several layers.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Convolution(_) => "Convolution",
            Op::Deconvolution(_) => "Deconvolution",
            Op::WinogradConvolution(_) => "Winograd",
            Op::InnerProduct(_) => "InnerProduct",
            Op::Pooling(pooling) if pooling.relu => "ReLUPooling",
            Op::Pooling(_) => "Pooling",
            Op::Activation(activation) => activation.name(),
            Op::PRelu(_) => "PReLU",
            Op::Lrn(_) => "LRN",
            Op::BatchNorm(_) => "BatchNorm",
            Op::Scale(scale) if scale.add_operand => "Bias",
            Op::Scale(_) => "Scale",
            Op::Eltwise(_) => "Eltwise",
            Op::Concat { .. } => "Concat",
            Op::Slice(_) => "Slice",
            Op::Flatten { .. } => "Flatten",
            Op::Reshape(_) => "Reshape",
            Op::Permute { .. } => "Permute",
            Op::Crop(_) => "Crop",
            Op::Tile { .. } => "Tile",
            Op::ArgMax(_) => "ArgMax",
            Op::Reduction(_) => "Reduction",
            Op::Softmax { .. } => "Softmax",
            Op::Loss(loss) => loss.name(),
            Op::Accuracy(_) => "Accuracy",
            Op::Identity => "Identity",
            Op::Dropout { .. } => "Dropout",
            Op::Constant(_) => "Constant",
            Op::Embed(_) => "Embed",
            Op::Mvn(_) => "MVN",
            Op::Im2col(_) => "Im2col",
            Op::Recurrent(recurrent) => recurrent.name(),
            Op::LstmUnit(_) => "LSTMUnit",
            Op::BatchReindex => "BatchReindex",
            Op::Filter => "Filter",
            Op::Normalize(_) => "Normalize",
            Op::PriorBox(_) => "PriorBox",
            Op::DetectionOutput(_) => "DetectionOutput",
            Op::Binary(binary) => binary.op.name(),
            Op::Select => "Where",
            Op::Expand { .. } => "Expand",
            Op::Pad(_) => "Pad",
            Op::Gather(_) => "Gather",
            Op::Resize(_) => "Resize",
            Op::DepthToSpace { .. } => "DepthToSpace",
            Op::SpaceToDepth { .. } => "SpaceToDepth",
            Op::Reduce(reduce) => reduce.op.name(),
            Op::LogSoftmax { .. } => "LogSoftmax",
            Op::Standardize(_) => "Standardize",
            Op::LpNormalize { .. } => "LpNormalization",
            Op::MatMul => "MatMul",
            Op::ArgExtreme(extreme) if extreme.smallest => "ArgMin",
            Op::ArgExtreme(_) => "ArgMax",
            Op::TopK(_) => "TopK",
            Op::CumSum { .. } => "CumSum",
            Op::Sequence(sequence) => sequence.name(),
            Op::NonMaxSuppression(_) => "NonMaxSuppression",
        }
    }

    /// True when every element of the result is one of the operands' elements, and which one does not depend on
    /// their values.
    pub fn only_moves(&self) -> bool {
        match self {
            Op::Concat { .. }
            | Op::Slice(_)
            | Op::Flatten { .. }
            | Op::Reshape(_)
            | Op::Permute { .. }
            | Op::Crop(_)
            | Op::Tile { .. }
            | Op::Identity
            | Op::Dropout { .. }
            | Op::Expand { .. }
            | Op::Gather(_)
            | Op::DepthToSpace { .. }
            | Op::SpaceToDepth { .. } => true,
            Op::Pad(pad) => !matches!(pad.mode, PadMode::Constant { .. }),
            Op::Resize(resize) => resize.only_moves(),
            _ => false,
        }
    }

    /// Weights used, in the order of the op's own list.
    pub fn weights(&self) -> Vec<WeightId> {
        // Only the ids are wanted, but one list of the fields is less to keep true than two.
        self.clone()
            .weights_mut()
            .into_iter()
            .map(|id| *id)
            .collect()
    }

    /// Weights used, in the order of the op's own list, to be renumbered.
    pub fn weights_mut(&mut self) -> Vec<&mut WeightId> {
        match self {
            Op::Convolution(op) | Op::Deconvolution(op) => {
                [&mut op.weights].into_iter().chain(&mut op.bias).collect()
            }
            Op::WinogradConvolution(op) => {
                [&mut op.weights].into_iter().chain(&mut op.bias).collect()
            }
            Op::InnerProduct(op) => [&mut op.weights].into_iter().chain(&mut op.bias).collect(),
            Op::PRelu(op) => vec![&mut op.slope],
            Op::BatchNorm(op) => op.statistics.iter_mut().flatten().collect(),
            Op::Scale(op) => op.scale.iter_mut().chain(&mut op.bias).collect(),
            Op::Loss(Loss::Infogain { matrix, .. }) => matrix.iter_mut().collect(),
            Op::Constant(id) => vec![id],
            Op::Embed(op) => [&mut op.weights].into_iter().chain(&mut op.bias).collect(),
            Op::Recurrent(op) => op.weights_mut(),
            Op::Normalize(op) => vec![&mut op.scale],
            Op::Sequence(op) => op.weights_mut(),
            Op::Pooling(_)
            | Op::Activation(_)
            | Op::Lrn(_)
            | Op::Eltwise(_)
            | Op::Concat { .. }
            | Op::Slice(_)
            | Op::Flatten { .. }
            | Op::Reshape(_)
            | Op::Permute { .. }
            | Op::Crop(_)
            | Op::Tile { .. }
            | Op::ArgMax(_)
            | Op::Reduction(_)
            | Op::Softmax { .. }
            | Op::Loss(_)
            | Op::Accuracy(_)
            | Op::Identity
            | Op::Dropout { .. }
            | Op::Mvn(_)
            | Op::Im2col(_)
            | Op::LstmUnit(_)
            | Op::BatchReindex
            | Op::Filter
            | Op::PriorBox(_)
            | Op::DetectionOutput(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Expand { .. }
            | Op::Pad(_)
            | Op::Gather(_)
            | Op::Resize(_)
            | Op::DepthToSpace { .. }
            | Op::SpaceToDepth { .. }
            | Op::Reduce(_)
            | Op::LogSoftmax { .. }
            | Op::Standardize(_)
            | Op::LpNormalize { .. }
            | Op::MatMul
            | Op::ArgExtreme(_)
            | Op::TopK(_)
            | Op::CumSum { .. }
            | Op::NonMaxSuppression(_) => Vec::new(),
        }
    }
}

/// Checks the operands' shapes again: deserialised ones have not been checked yet.
fn check_shapes(shapes: &[&Shape]) -> Result<()> {
    for (index, shape) in shapes.iter().enumerate() {
        Shape::new(shape.dims()).map_err(|error| error.field(format!("input[{index}]")))?;
    }
    Ok(())
}
