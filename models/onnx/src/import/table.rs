//! The operators: what each becomes, and which attributes it has.

use super::build::Known;
use super::node::Node;
use super::{
    arithmetic, convolution, elementwise, matrix, movement, normalization, pooling, reduction,
    resize, sequence, shape,
};
use skimjit_models::Result;

/// What becomes of a node whose operands are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fold {
    /// Its converter knows.
    Itself,
    /// The elements of its operands in other places.
    Moves,
    /// What the reference computes.
    Computes,
}

/// An operator of the domain `ai.onnx`.
pub(crate) struct Row {
    pub op: &'static str,
    pub convert: fn(&mut Node<'_>) -> Result<Vec<Known>>,
    /// Its attributes, of all versions.
    pub attributes: &'static str,
    pub fold: Fold,
    /// Operands that must be known when the network is imported, and other limits.
    pub limits: &'static str,
}

const fn row(
    op: &'static str,
    convert: fn(&mut Node<'_>) -> Result<Vec<Known>>,
    attributes: &'static str,
    fold: Fold,
    limits: &'static str,
) -> Row {
    Row {
        op,
        convert,
        attributes,
        fold,
        limits,
    }
}

use Fold::{Computes, Itself, Moves};

/// Up to opset 6.
const PAIR: &str = "axis broadcast";
const SEQUENCE: &str = "activation_alpha activation_beta activations clip direction hidden_size input_forget layout linear_before_reset";
const REDUCED: &str = "axes keepdims noop_with_empty_axes";
const WEIGHTS: &str = "weights and bias known; 1-D to 3-D";
const TRANSPOSED: &str = "weights and bias known; 1-D and 2-D";
const SHAPES: &str = "axes and sizes known";

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("Abs", elementwise::abs, "", Computes, ""),
    row("Acos", elementwise::acos, "", Computes, ""),
    row("Acosh", elementwise::acosh, "", Computes, ""),
    row("Add", arithmetic::add, PAIR, Computes, ""),
    row("And", arithmetic::and, PAIR, Computes, ""),
    row("ArgMax", reduction::arg_max, "axis keepdims select_last_index", Computes, ""),
    row("ArgMin", reduction::arg_min, "axis keepdims select_last_index", Computes, ""),
    row("Asin", elementwise::asin, "", Computes, ""),
    row("Asinh", elementwise::asinh, "", Computes, ""),
    row("Atan", elementwise::atan, "", Computes, ""),
    row("Atanh", elementwise::atanh, "", Computes, ""),
    row("AveragePool", pooling::average_pool, "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides", Computes, "1-D to 3-D"),
    row("BatchNormalization", normalization::batch_normalization, "epsilon is_test momentum spatial training_mode", Computes, "running statistics, all known"),
    row("Cast", elementwise::cast, "round_mode saturate to", Computes, "to float, int32, int64 or bool"),
    row("CastLike", elementwise::cast_like, "round_mode saturate", Computes, "to float, int64 or bool"),
    row("Ceil", elementwise::ceil, "", Computes, ""),
    row("Celu", elementwise::celu, "alpha", Computes, ""),
    row("Clip", elementwise::clip, "max min", Computes, "bounds known"),
    row("Concat", movement::concat, "axis", Moves, ""),
    row("Constant", shape::constant, "sparse_value value value_float value_floats value_int value_ints", Itself, "numbers"),
    row("ConstantOfShape", shape::constant_of_shape, "value", Itself, "shape known"),
    row("Conv", convolution::conv, "auto_pad dilations group kernel_shape pads strides", Computes, WEIGHTS),
    row("ConvTranspose", convolution::conv_transpose, "auto_pad dilations group kernel_shape output_padding output_shape pads strides", Computes, TRANSPOSED),
    row("Cos", elementwise::cos, "", Computes, ""),
    row("Cosh", elementwise::cosh, "", Computes, ""),
    row("CumSum", movement::cum_sum, "exclusive reverse", Computes, "axis known"),
    row("DepthToSpace", movement::depth_to_space, "blocksize mode", Moves, ""),
    row("Div", arithmetic::div, PAIR, Computes, ""),
    row("Dropout", elementwise::dropout, "is_test ratio seed", Computes, "not in training"),
    row("Elu", elementwise::elu, "alpha", Computes, ""),
    row("Equal", arithmetic::equal, PAIR, Computes, ""),
    row("Erf", elementwise::erf, "", Computes, ""),
    row("Exp", elementwise::exp, "", Computes, ""),
    row("Expand", shape::expand, "", Moves, "shape known"),
    row("Flatten", shape::flatten, "axis", Moves, ""),
    row("Floor", elementwise::floor, "", Computes, ""),
    row("GRU", sequence::gru, SEQUENCE, Computes, "weights known; whole sequences"),
    row("Gather", movement::gather, "axis", Moves, "indices known"),
    row("Gelu", elementwise::gelu, "approximate", Computes, ""),
    row("Gemm", matrix::gemm, "alpha beta broadcast transA transB", Computes, ""),
    row("GlobalAveragePool", pooling::global_average_pool, "", Computes, "1-D to 3-D"),
    row("GlobalLpPool", pooling::global_lp_pool, "p", Computes, "1-D to 3-D"),
    row("GlobalMaxPool", pooling::global_max_pool, "", Computes, "1-D to 3-D"),
    row("Greater", arithmetic::greater, PAIR, Computes, ""),
    row("GreaterOrEqual", arithmetic::greater_or_equal, "", Computes, ""),
    row("GroupNormalization", normalization::group_normalization, "epsilon num_groups stash_type", Computes, "factors known"),
    row("HardSigmoid", elementwise::hard_sigmoid, "alpha beta", Computes, ""),
    row("HardSwish", elementwise::hard_swish, "", Computes, ""),
    row("Identity", elementwise::identity, "", Itself, ""),
    row("InstanceNormalization", normalization::instance_normalization, "epsilon", Computes, "factors known"),
    row("IsInf", elementwise::is_inf, "detect_negative detect_positive", Computes, ""),
    row("IsNaN", elementwise::is_nan, "", Computes, ""),
    row("LRN", normalization::lrn, "alpha beta bias size", Computes, "4 axes, odd sizes"),
    row("LSTM", sequence::lstm, SEQUENCE, Computes, "weights known; whole sequences"),
    row("LayerNormalization", normalization::layer_normalization, "axis epsilon stash_type", Computes, "factors known"),
    row("LeakyRelu", elementwise::leaky_relu, "alpha", Computes, ""),
    row("Less", arithmetic::less, PAIR, Computes, ""),
    row("LessOrEqual", arithmetic::less_or_equal, "", Computes, ""),
    row("Log", elementwise::log, "", Computes, ""),
    row("LogSoftmax", reduction::log_softmax, "axis", Computes, ""),
    row("LpNormalization", normalization::lp_normalization, "axis p", Computes, ""),
    row("LpPool", pooling::lp_pool, "auto_pad ceil_mode dilations kernel_shape p pads strides", Computes, "1-D to 3-D"),
    row("MatMul", matrix::mat_mul, "", Computes, ""),
    row("Max", arithmetic::max, "", Computes, ""),
    row("MaxPool", pooling::max_pool, "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", Computes, "1-D to 3-D; no indices"),
    row("Mean", arithmetic::mean, "", Computes, ""),
    row("Min", arithmetic::min, "", Computes, ""),
    row("Mish", elementwise::mish, "", Computes, ""),
    row("Mod", arithmetic::modulo, "fmod", Computes, ""),
    row("Mul", arithmetic::mul, PAIR, Computes, ""),
    row("Neg", elementwise::neg, "", Computes, ""),
    row("NonMaxSuppression", reduction::non_max_suppression, "center_point_box", Computes, "numbers known; a row for every box that may be chosen, -1 where none is"),
    row("Not", elementwise::not, "", Computes, ""),
    row("Or", arithmetic::or, PAIR, Computes, ""),
    row("PRelu", elementwise::prelu, "", Computes, ""),
    row("Pad", movement::pad, "mode pads value", Computes, "pads known"),
    row("Pow", arithmetic::pow, PAIR, Computes, ""),
    row("RNN", sequence::rnn, SEQUENCE, Computes, "weights known; whole sequences"),
    row("Range", shape::range, "", Itself, "all known"),
    row("Reciprocal", elementwise::reciprocal, "", Computes, ""),
    row("ReduceL1", reduction::reduce_l1, REDUCED, Computes, SHAPES),
    row("ReduceL2", reduction::reduce_l2, REDUCED, Computes, SHAPES),
    row("ReduceLogSum", reduction::reduce_log_sum, REDUCED, Computes, SHAPES),
    row("ReduceLogSumExp", reduction::reduce_log_sum_exp, REDUCED, Computes, SHAPES),
    row("ReduceMax", reduction::reduce_max, REDUCED, Computes, SHAPES),
    row("ReduceMean", reduction::reduce_mean, REDUCED, Computes, SHAPES),
    row("ReduceMin", reduction::reduce_min, REDUCED, Computes, SHAPES),
    row("ReduceProd", reduction::reduce_prod, REDUCED, Computes, SHAPES),
    row("ReduceSum", reduction::reduce_sum, REDUCED, Computes, SHAPES),
    row("ReduceSumSquare", reduction::reduce_sum_square, REDUCED, Computes, SHAPES),
    row("Relu", elementwise::relu, "", Computes, ""),
    row("Reshape", shape::reshape, "allowzero shape", Moves, "shape known"),
    row("Resize", resize::resize, "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode scales", Computes, SHAPES),
    row("Round", elementwise::round, "", Computes, ""),
    row("Selu", elementwise::selu, "alpha gamma", Computes, ""),
    row("Shape", shape::shape, "end start", Itself, ""),
    row("Shrink", elementwise::shrink, "bias lambd", Computes, ""),
    row("Sigmoid", elementwise::sigmoid, "", Computes, ""),
    row("Sign", elementwise::sign, "", Computes, ""),
    row("Sin", elementwise::sin, "", Computes, ""),
    row("Sinh", elementwise::sinh, "", Computes, ""),
    row("Size", shape::size, "", Itself, ""),
    row("Slice", movement::slice, "axes ends starts", Moves, SHAPES),
    row("Softmax", reduction::softmax, "axis", Computes, ""),
    row("Softplus", elementwise::softplus, "", Computes, ""),
    row("Softsign", elementwise::softsign, "", Computes, ""),
    row("SpaceToDepth", movement::space_to_depth, "blocksize mode", Moves, ""),
    row("Split", movement::split, "axis num_outputs split", Moves, SHAPES),
    row("Sqrt", elementwise::sqrt, "", Computes, ""),
    row("Squeeze", shape::squeeze, "axes", Moves, SHAPES),
    row("Sub", arithmetic::sub, PAIR, Computes, ""),
    row("Sum", arithmetic::sum, "", Computes, ""),
    row("Swish", elementwise::swish, "alpha", Computes, ""),
    row("Tan", elementwise::tan, "", Computes, ""),
    row("Tanh", elementwise::tanh, "", Computes, ""),
    row("ThresholdedRelu", elementwise::thresholded_relu, "alpha", Computes, ""),
    row("Tile", movement::tile, "", Moves, "repeats known"),
    row("TopK", reduction::top_k, "axis k largest sorted", Computes, "k known"),
    row("Transpose", movement::transpose, "perm", Moves, ""),
    row("Unsqueeze", shape::unsqueeze, "axes", Moves, SHAPES),
    row("Upsample", resize::upsample, "mode scales", Computes, "scales known; nearest and linear"),
    row("Where", arithmetic::select, "", Computes, ""),
    row("Xor", arithmetic::xor, PAIR, Computes, ""),
];

/// The operator of that name.
pub(crate) fn find(op: &str) -> Option<&'static Row> {
    ROWS.binary_search_by(|row| row.op.cmp(op))
        .ok()
        .map(|index| &ROWS[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(ROWS.is_sorted_by(|one, next| one.op < next.op));
    }
}
