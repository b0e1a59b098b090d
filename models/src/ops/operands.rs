//! Checks that the shape rules share. Errors name operands, weights and attributes by the op's own words; a format
//! spells them its way.

use super::operation::Weights;
use crate::{Error, Result, Shape, Weight, WeightId};

/// The operands, when there are exactly `N`.
pub(super) fn exactly<'a, const N: usize>(inputs: &[&'a Shape]) -> Result<[&'a Shape; N]> {
    <[&Shape; N]>::try_from(inputs).map_err(|_| wrong_number(inputs.len(), &N.to_string()))
}

/// Error for a wrong number of operands.
pub(super) fn wrong_number(found: usize, expected: &str) -> Error {
    Error::new(format!("{found} operands"))
        .field("inputs")
        .expected(expected)
}

/// Checks that operand `index` is an image blob: N, C, H, W.
pub(super) fn image(shape: &Shape, index: usize) -> Result<[u32; 4]> {
    <[u32; 4]>::try_from(shape.dims()).map_err(|_| {
        Error::new(format!("a shape of {} axes ({shape})", shape.rank()))
            .field(format!("input[{index}]"))
            .expected("4 axes: N, C, H, W")
    })
}

/// Checks that operand `index` has at least `rank` axes.
pub(super) fn at_least_rank(shape: &Shape, index: usize, rank: usize) -> Result<()> {
    if shape.rank() >= rank {
        return Ok(());
    }
    Err(
        Error::new(format!("a shape of {} axes ({shape})", shape.rank()))
            .field(format!("input[{index}]"))
            .expected(format!("at least {rank}")),
    )
}

/// Checks that operand `index` has exactly `rank` axes.
pub(super) fn rank(shape: &Shape, index: usize, rank: usize) -> Result<()> {
    if shape.rank() == rank {
        return Ok(());
    }
    Err(
        Error::new(format!("a shape of {} axes ({shape})", shape.rank()))
            .field(format!("input[{index}]"))
            .expected(format!("{rank} axes")),
    )
}

/// Checks that operand `index` has exactly these dims.
pub(super) fn dims(shape: &Shape, index: usize, dims: &[u32]) -> Result<()> {
    if shape.dims() == dims {
        return Ok(());
    }
    let dims: Vec<String> = dims.iter().map(u32::to_string).collect();
    Err(Error::new(format!("shape {shape}"))
        .field(format!("input[{index}]"))
        .expected(dims.join("x")))
}

/// Checks that operand `index` has `count` elements.
pub(super) fn count(shape: &Shape, index: usize, count: usize) -> Result<()> {
    if shape.count() == count {
        return Ok(());
    }
    Err(
        Error::new(format!("{} elements (shape {shape})", shape.count()))
            .field(format!("input[{index}]"))
            .expected(format!("{count} elements")),
    )
}

/// Checks an axis that is not negative.
pub(super) fn axis(shape: &Shape, axis: u32, field: &str) -> Result<usize> {
    let index = axis as usize;
    if index < shape.rank() {
        return Ok(index);
    }
    Err(Error::new(axis.to_string()).field(field).expected(format!(
        "less than {}, the axes of shape {shape}",
        shape.rank()
    )))
}

/// Resolves an axis that may count from the end.
pub(super) fn signed_axis(shape: &Shape, axis: i32, field: &str) -> Result<usize> {
    let rank = shape.rank() as i64;
    let index = if axis < 0 {
        i64::from(axis) + rank
    } else {
        i64::from(axis)
    };
    if (0..rank).contains(&index) {
        return Ok(index as usize);
    }
    Err(Error::new(axis.to_string()).field(field).expected(format!(
        "-{rank} or more and less than {rank} for shape {shape}"
    )))
}

/// Checks that an attribute is one or more.
pub(super) fn positive(value: u32, field: &str) -> Result<()> {
    match value {
        0 => Err(Error::new("0").field(field).expected("at least 1")),
        _ => Ok(()),
    }
}

/// Weight tensor number `blob` of the layer.
pub(super) fn weight(weights: &Weights, id: WeightId, blob: usize) -> Result<&Weight> {
    weights
        .get(id.0 as usize)
        .map(AsRef::as_ref)
        .ok_or_else(|| {
            Error::new(format!("weight number {}", id.0))
                .field(format!("weights[{blob}]"))
                .expected(format!(
                    "less than {}, the weights of the network",
                    weights.len()
                ))
        })
}

/// Checks that weight tensor number `blob` has exactly these dims.
pub(super) fn weight_dims(
    weights: &Weights,
    id: WeightId,
    blob: usize,
    dims: &[u32],
) -> Result<()> {
    let found = weight(weights, id, blob)?.shape();
    if found.dims() == dims {
        return Ok(());
    }
    let dims: Vec<String> = dims.iter().map(u32::to_string).collect();
    Err(Error::new(format!("shape {found}"))
        .field(format!("weights[{blob}].shape"))
        .expected(dims.join("x"))
        .hint("the weights do not belong to this layer, or its parameters changed"))
}

/// Checks that weight tensor number `blob` has `count` elements (biases, per-channel factors).
pub(super) fn weight_count(
    weights: &Weights,
    id: WeightId,
    blob: usize,
    count: usize,
) -> Result<()> {
    let found = weight(weights, id, blob)?.shape();
    if found.count() == count {
        return Ok(());
    }
    Err(
        Error::new(format!("{} elements (shape {found})", found.count()))
            .field(format!("weights[{blob}].shape"))
            .expected(format!("{count} elements")),
    )
}

/// An element as an index below `count`: Caffe truncates it.
pub(super) fn index(element: f32, count: usize) -> Option<usize> {
    // Rejects NaN too.
    let inside = element > -1.0 && f64::from(element) < count as f64;
    inside.then_some(element as usize)
}

/// True when all operands have as many axes: then axis 0 of one that is broadcast is axis 0 of all.
pub(super) fn same_rank(inputs: &[&Shape]) -> bool {
    inputs
        .windows(2)
        .all(|pair| pair[0].rank() == pair[1].rank())
}

/// Refuses another number of elements along `axis` of the first operand than before.
pub(super) fn same_dim(before: &[&Shape], after: &[&Shape], axis: u32) -> Result<()> {
    let dim = |shapes: &[&Shape]| shapes.first().map(|shape| shape.dim(axis as usize));
    match (dim(before), dim(after)) {
        (Some(old), Some(new)) if old != new => {
            Err(Error::new(format!("{new} elements along axis {axis}"))
                .field("input[0]")
                .expected(format!("{old}, of which this is a part")))
        }
        _ => Ok(()),
    }
}
