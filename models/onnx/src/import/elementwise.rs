//! Functions of one operand, element by element.

use super::build::{Known, Value};
use super::node::{Node, affine, floats};
use crate::element::{Element, Kind};
use skimjit_models::ops::{Activation, BinaryOp, PRelu};
use skimjit_models::{Error, Op, Result, ValueId};

fn apply(node: &mut Node<'_>, activation: Activation) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    node.result(Op::Activation(activation), &[x])
}

/// Functions that are also those of integers.
fn apply_any(node: &mut Node<'_>, activation: Activation) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let id = node.add(Op::Activation(activation), &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

/// Functions that say whether something is so.
fn condition(node: &mut Node<'_>, x: ValueId, activation: Activation) -> Result<Vec<Known>> {
    let id = node.add(Op::Activation(activation), &[x])?;
    let kind = Kind::Bool;
    Ok(vec![Known::Value(Value { id, kind })])
}

/// Converters of functions without attributes.
macro_rules! plain {
    ($($name:ident => $activation:expr),* $(,)?) => {
        $(pub(super) fn $name(node: &mut Node<'_>) -> Result<Vec<Known>> {
            apply(node, $activation)
        })*
    };
}

plain! {
    relu => Activation::ReLU { slope: 0.0 },
    sigmoid => Activation::Sigmoid,
    tanh => Activation::TanH,
    softplus => Activation::Bnll,
    softsign => Activation::Softsign,
    hard_swish => Activation::HardSwish,
    mish => Activation::Mish,
    erf => Activation::Erf,
    exp => Activation::Exp { base: -1.0, scale: 1.0, shift: 0.0 },
    log => Activation::Log { base: -1.0, scale: 1.0, shift: 0.0 },
    sqrt => Activation::Sqrt,
    reciprocal => Activation::Reciprocal,
    floor => Activation::Floor,
    ceil => Activation::Ceil,
    round => Activation::Round,
    sin => Activation::Sin,
    cos => Activation::Cos,
    tan => Activation::Tan,
    asin => Activation::Asin,
    acos => Activation::Acos,
    atan => Activation::Atan,
    sinh => Activation::Sinh,
    cosh => Activation::Cosh,
    asinh => Activation::Asinh,
    acosh => Activation::Acosh,
    atanh => Activation::Atanh,
}

pub(super) fn abs(node: &mut Node<'_>) -> Result<Vec<Known>> {
    apply_any(node, Activation::AbsVal)
}

pub(super) fn sign(node: &mut Node<'_>) -> Result<Vec<Known>> {
    apply_any(node, Activation::Sign)
}

pub(super) fn neg(node: &mut Node<'_>) -> Result<Vec<Known>> {
    apply_any(node, affine(-1.0, 0.0))
}

pub(super) fn leaky_relu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let slope = node.attributes.float("alpha", 0.01)?;
    apply(node, Activation::ReLU { slope })
}

pub(super) fn elu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let alpha = node.attributes.float("alpha", 1.0)?;
    apply(node, Activation::Elu { alpha })
}

pub(super) fn celu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let alpha = node.attributes.float("alpha", 1.0)?;
    apply(node, Activation::Celu { alpha })
}

pub(super) fn selu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let activation = Activation::Selu {
        alpha: node.attributes.float("alpha", 1.673_263_2)?,
        gamma: node.attributes.float("gamma", 1.050_701)?,
    };
    apply(node, activation)
}

pub(super) fn thresholded_relu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let alpha = node.attributes.float("alpha", 1.0)?;
    apply(node, Activation::ThresholdedRelu { alpha })
}

pub(super) fn shrink(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let activation = Activation::Shrink {
        bias: node.attributes.float("bias", 0.0)?,
        lambda: node.attributes.float("lambd", 0.5)?,
    };
    apply(node, activation)
}

pub(super) fn hard_sigmoid(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let activation = Activation::HardSigmoid {
        alpha: node.attributes.float("alpha", 0.2)?,
        beta: node.attributes.float("beta", 0.5)?,
    };
    apply(node, activation)
}

pub(super) fn swish(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let beta = node.attributes.float("alpha", 1.0)?;
    apply(node, Activation::Swish { beta })
}

pub(super) fn gelu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let tanh = node
        .attributes
        .choice("approximate", &[("none", false), ("tanh", true)])?;
    apply(node, Activation::Gelu { tanh })
}

pub(super) fn is_nan(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    condition(node, x, Activation::IsNan)
}

pub(super) fn is_inf(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let activation = Activation::IsInf {
        negative: node.attributes.flag("detect_negative", true)?,
        positive: node.attributes.flag("detect_positive", true)?,
    };
    condition(node, x, activation)
}

pub(super) fn not(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    condition(node, x.id, Activation::Not)
}

/// Bounds are attributes up to opset 10, then operands.
pub(super) fn clip(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let bound = |node: &mut Node<'_>, index: usize, name: &str, default: f32| match (
        node.has(index),
        node.attributes.has(name),
    ) {
        (true, _) => node.scalar(index),
        (false, _) => node.attributes.float(name, default),
    };
    let min = bound(node, 1, "min", f32::MIN)?;
    let max = bound(node, 2, "max", f32::MAX)?;
    apply_any(node, Activation::Clip { min, max })
}

/// One slope for all, one for each channel, or any others.
pub(super) fn prelu(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let shape = node.shape(x).clone();
    let channels = shape.dim(1);
    if let Some(Known::Constant(_)) = node.input(1) {
        let slope = node.weights(1)?;
        if let &[slope] = slope.data() {
            return node.result(Op::Activation(Activation::ReLU { slope }), &[x]);
        }
        // Aligned at the end: channels are the axis behind the batch. Up to opset 6, they are told by their number.
        let dims = slope.shape().dims();
        let one_each = slope.shape().count() == channels as usize && shape.rank() > 1;
        let leading = dims.len() + 2 - shape.rank().min(dims.len() + 2);
        let aligned = (1..=2).contains(&leading) && dims[leading - 1] == channels;
        if one_each && (aligned || node.opset < 7) {
            let slope = node.new_weight(&[channels], slope.data().to_vec())?;
            return node.result(Op::PRelu(PRelu { slope }), &[x]);
        }
    }
    // max(x, 0) + slope · min(x, 0).
    let slope = node.float(1)?;
    let (min, max) = (f32::MIN, 0.0);
    let negative = node.add(Op::Activation(Activation::Clip { min, max }), &[x])?;
    let scaled = node.binary(BinaryOp::Mul, negative, slope)?;
    let positive = node.add(Op::Activation(Activation::ReLU { slope: 0.0 }), &[x])?;
    let id = node.binary(BinaryOp::Add, positive, scaled)?;
    Ok(floats(id))
}

/// The element types that a value can be made to have.
pub(super) fn cast(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let to = node.attributes.int("to")?.unwrap_or(0);
    let to = Element::of(i32::try_from(to).unwrap_or(-1)).map_err(|error| error.field("to"))?;
    // How numbers are rounded to types that there are none of here.
    node.attributes.text("round_mode", "up")?;
    node.attributes.flag("saturate", true)?;
    to_element(node, to)
}

pub(super) fn cast_like(node: &mut Node<'_>) -> Result<Vec<Known>> {
    node.attributes.text("round_mode", "up")?;
    node.attributes.flag("saturate", true)?;
    let kind = match node.input(1) {
        Some(Known::Value(value)) => value.kind,
        Some(Known::Constant(constant)) => constant.kind(),
        None => {
            return Err(Error::new("nothing")
                .field("input[1]")
                .expected("an operand"));
        }
    };
    let number = match kind {
        Kind::Float => crate::element::FLOAT,
        Kind::Bool => 9,
        _ => crate::element::INT64,
    };
    to_element(node, Element::of(number)?)
}

fn to_element(node: &mut Node<'_>, to: Element) -> Result<Vec<Known>> {
    if !matches!(to.name, "float" | "int64" | "int32" | "bool") {
        return Err(Error::new(to.name)
            .field("to")
            .expected("float, int32, int64 or bool"));
    }
    let x = node.value(0)?;
    let kind = to.kind;
    let id = match (x.kind, kind) {
        (from, to) if from == to => x.id,
        (_, Kind::Bool) => {
            let not = node.add(Op::Activation(Activation::Not), &[x.id])?;
            node.add(Op::Activation(Activation::Not), &[not])?
        }
        (Kind::Float, _) => node.add(Op::Activation(Activation::Truncate), &[x.id])?,
        _ => x.id,
    };
    Ok(vec![Known::Value(Value { id, kind })])
}

/// Dropout in use changes nothing, and its mask holds everywhere.
pub(super) fn dropout(node: &mut Node<'_>) -> Result<Vec<Known>> {
    node.attributes.int("seed")?;
    node.attributes.int("is_test")?;
    let ratio = match node.has(1) {
        true => node.scalar(1)?,
        false => node.attributes.float("ratio", 0.5)?,
    };
    if ratio != 0.0 && node.has(2) && node.scalar(2)? != 0.0 {
        return Err(Error::new("true")
            .field("input[2]")
            .expected("false")
            .hint("export the network for inference (in PyTorch: model.eval())"));
    }
    let x = node.value(0)?;
    let mask = match node.outputs > 1 {
        true => Some(node.add(Op::Activation(affine(0.0, 1.0)), &[x.id])?),
        false => None,
    };
    let id = node.add(Op::Dropout { ratio }, &[x.id])?;
    let mask = mask.map(|id| {
        let kind = Kind::Bool;
        Known::Value(Value { id, kind })
    });
    Ok([Known::Value(Value { id, ..x })]
        .into_iter()
        .chain(mask)
        .collect())
}

/// The operand itself.
pub(super) fn identity(node: &mut Node<'_>) -> Result<Vec<Known>> {
    match node.input(0) {
        Some(known) => Ok(vec![known.clone()]),
        None => Ok(floats(node.float(0)?)),
    }
}
