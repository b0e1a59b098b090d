//! What each layer computes: attributes, shape rule, slow reference.
//!
//! One file per op. A new op is a variant of [`Op`] and an `Operation`; the exhaustive matches below
//! list what else it needs.

mod accuracy;
mod activation;
mod arg_max;
mod axes;
mod batch_norm;
mod batch_rows;
mod concat;
mod convolution;
mod crop;
mod deconvolution;
mod detection_output;
mod eltwise;
mod embed;
mod identity;
mod im2col;
mod inner_product;
mod loss;
mod lrn;
mod lstm_unit;
mod mvn;
mod normalize;
mod operands;
mod operation;
mod permute;
mod pooling;
mod prelu;
mod prior_box;
mod recurrent;
mod reduction;
mod reshape;
mod scale;
mod slice;
mod softmax;
mod tile;
mod window;
pub mod winograd;
mod winograd_convolution;

pub use accuracy::Accuracy;
pub use activation::Activation;
pub use arg_max::ArgMax;
pub use batch_norm::BatchNorm;
pub use convolution::Convolution;
pub use crop::Crop;
pub use detection_output::{BoxCode, DetectionOutput};
pub use eltwise::{Eltwise, EltwiseOp};
pub use embed::Embed;
pub use im2col::Im2col;
pub use inner_product::InnerProduct;
pub use loss::{Loss, Normalization};
pub use lrn::Lrn;
pub use lstm_unit::LstmUnit;
pub use mvn::Mvn;
pub use normalize::Normalize;
pub use pooling::{PoolMethod, PoolRange, Pooling};
pub use prelu::PRelu;
pub use prior_box::PriorBox;
pub use recurrent::{Cell, Recurrent};
pub use reduction::{Reduction, ReductionOp};
pub use reshape::Reshape;
pub use scale::Scale;
pub use slice::Slice;
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
    /// `output`, allocates nothing (DetectionOutput: nothing after a thread's first run).
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

    /// Multiply-adds of a dense execution of convolutions and inner products, biases not counted;
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
            | Op::DetectionOutput(_) => Vec::new(),
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
