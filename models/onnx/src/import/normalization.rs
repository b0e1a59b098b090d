//! Normalisations.

use super::build::Known;
use super::node::{Node, absolute, floats};
use skimjit_models::ops::{
    Activation, BatchNorm, BinaryOp, Lrn, Reduce, ReduceOp, Reshape, Standardize,
};
use skimjit_models::{Error, Op, Result, ValueId, WeightId};

/// Operand `index`: one number for each channel.
fn per_channel(node: &mut Node<'_>, index: usize, channels: u32) -> Result<WeightId> {
    let weight = node.weights(index)?;
    if weight.shape().dims() != [channels] {
        return Err(Error::new(format!("dims {}", weight.shape()))
            .field(super::node::field(index))
            .expected(format!("{channels}, one for each channel")));
    }
    Ok(node.build.weight(&weight))
}

pub(super) fn batch_normalization(node: &mut Node<'_>) -> Result<Vec<Known>> {
    if node.attributes.flag("training_mode", false)? || node.outputs > 1 {
        return Err(Error::new("a normalisation by the statistics of the batch")
            .field("training_mode")
            .expected("0")
            .hint("export the network for inference (in PyTorch: model.eval())"));
    }
    // Up to opset 6, this says that it is not trained, and more results that it is.
    node.attributes.flag("is_test", true)?;
    if !node.attributes.flag("spatial", true)? {
        return Err(Error::new("0")
            .field("spatial")
            .expected("1, statistics of channels"));
    }
    let x = node.float(0)?;
    let channels = node.shape(x).dim(1);
    let [scale, bias, mean, variance] =
        [1, 2, 3, 4].map(|index| per_channel(node, index, channels));
    let (scale, bias, mean, variance) = (scale?, bias?, mean?, variance?);
    let factor = node.new_weight(&[1], vec![1.0])?;
    let normalised = BatchNorm {
        statistics: Some([mean, variance, factor]),
        running: true,
        momentum: node.attributes.float("momentum", 0.9)?,
        eps: node.attributes.float("epsilon", 1e-5)?,
    };
    let y = node.add(Op::BatchNorm(normalised), &[x])?;
    Ok(floats(node.scale(y, 1, Some(scale), Some(bias))?))
}

fn standardize(node: &mut Node<'_>, x: ValueId, axis: usize) -> Result<ValueId> {
    let standardize = Standardize {
        axis: axis as u32,
        end: None,
        eps: node.attributes.float("epsilon", 1e-5)?,
    };
    node.add(Op::Standardize(standardize), &[x])
}

pub(super) fn instance_normalization(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let channels = node.shape(x).dim(1);
    let (scale, bias) = (
        per_channel(node, 1, channels)?,
        per_channel(node, 2, channels)?,
    );
    if node.rank(x) < 3 {
        return Err(Error::new(format!("{} axes", node.rank(x)))
            .field("input[0]")
            .expected("3 or more"));
    }
    let y = standardize(node, x, 2)?;
    Ok(floats(node.scale(y, 1, Some(scale), Some(bias))?))
}

pub(super) fn layer_normalization(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let axis = node.attributes.int("axis")?.unwrap_or(-1);
    let axis = node.axis(x, axis, "axis")?;
    let dims = node.shape(x).dims()[axis..].to_vec();
    let mut factors = [None, None];
    for (index, factor) in [1, 2].into_iter().zip(&mut factors) {
        if !node.has(index) {
            continue;
        }
        let weight = node.weights(index)?;
        if weight.shape().dims() != dims {
            return Err(Error::new(format!("dims {}", weight.shape()))
                .field(super::node::field(index))
                .expected(format!("{dims:?}, the dims that are normalised")));
        }
        *factor = Some(node.build.weight(&weight));
    }
    // In which type the steps between are computed: never in less than the file says.
    node.attributes.int("stash_type")?;
    let mut results = match node.outputs {
        0 | 1 => Vec::new(),
        _ => statistics(node, x, axis)?,
    };
    let y = standardize(node, x, axis)?;
    let [scale, bias] = factors;
    let y = node.scale(y, axis, scale, bias)?;
    results.splice(0..0, floats(y));
    Ok(results)
}

/// Mean and 1/√(variance + eps) over the axes from one on.
fn statistics(node: &mut Node<'_>, x: ValueId, axis: usize) -> Result<Vec<Known>> {
    let axes: Vec<u32> = (axis as u32..node.rank(x) as u32).collect();
    let mean_of = |axes: &[u32]| {
        Op::Reduce(Reduce {
            op: ReduceOp::Mean,
            axes: axes.to_vec(),
            keep: true,
        })
    };
    let mean = node.add(mean_of(&axes), &[x])?;
    let centred = node.binary(BinaryOp::Sub, x, mean)?;
    let square = Activation::Power {
        power: 2.0,
        scale: 1.0,
        shift: 0.0,
    };
    let squares = node.add(Op::Activation(square), &[centred])?;
    let variance = node.add(mean_of(&axes), &[squares])?;
    let inverse = Activation::Power {
        power: -0.5,
        scale: 1.0,
        shift: node.attributes.float("epsilon", 1e-5)?,
    };
    let deviation = node.add(Op::Activation(inverse), &[variance])?;
    Ok([floats(mean), floats(deviation)].concat())
}

pub(super) fn group_normalization(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let shape = node.shape(x).clone();
    let channels = shape.dim(1);
    let groups = node.attributes.int("num_groups")?.unwrap_or(0);
    let groups = u32::try_from(groups)
        .ok()
        .filter(|&groups| groups > 0 && channels.is_multiple_of(groups));
    let (Some(groups), 3..) = (groups, shape.rank()) else {
        return Err(Error::new("groups or axes that do not fit")
            .field("num_groups")
            .expected(format!(
                "a divisor of {channels} channels, and 3 axes or more"
            )));
    };
    node.attributes.int("stash_type")?;
    let split = node.reshape(x, &[0, groups.into(), -1])?;
    let normalised = standardize(node, split, 2)?;
    let dims = shape.dims()[1..].iter().map(|&dim| i64::from(dim));
    let whole = Reshape {
        dims: dims.collect(),
        axis: 1,
        num_axes: 2,
    };
    node.from = node.from.max(crate::constant::Source::Sizes);
    // Factors were those of groups up to opset 20.
    if node.opset < 21 {
        let (scale, bias) = (per_channel(node, 1, groups)?, per_channel(node, 2, groups)?);
        let y = node.scale(normalised, 1, Some(scale), Some(bias))?;
        return node.result(Op::Reshape(whole), &[y]);
    }
    let (scale, bias) = (
        per_channel(node, 1, channels)?,
        per_channel(node, 2, channels)?,
    );
    let y = node.add(Op::Reshape(whole), &[normalised])?;
    Ok(floats(node.scale(y, 1, Some(scale), Some(bias))?))
}

pub(super) fn lrn(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let size = node.attributes.int("size")?.unwrap_or(0);
    let size = u32::try_from(size).map_err(|_| {
        Error::new(size.to_string())
            .field("size")
            .expected("1 or more")
    })?;
    let lrn = Lrn {
        size,
        alpha: node.attributes.float("alpha", 1e-4)?,
        beta: node.attributes.float("beta", 0.75)?,
        k: node.attributes.float("bias", 1.0)?,
        within_channel: false,
    };
    node.result(Op::Lrn(lrn), &[x])
}

pub(super) fn lp_normalization(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let axis = node.attributes.int("axis")?.unwrap_or(-1);
    let axis = absolute(axis, node.rank(x), "axis")? as u32;
    let p = node.attributes.int("p")?.unwrap_or(2);
    match p {
        1 | 2 => node.result(Op::LpNormalize { axis, p: p as u32 }, &[x]),
        _ => Err(Error::new(p.to_string()).field("p").expected("1 or 2")),
    }
}
