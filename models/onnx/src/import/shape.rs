//! Shapes of tensors, and other dims for the same elements.

use super::build::{Known, Value};
use super::node::{Node, absolute, sorted_axes};
use crate::constant::{Constant, Int, Source, times};
use crate::element::Kind;
use crate::tensor;
use skimjit_models::ops::Reshape;
use skimjit_models::{Error, Op, Result, Shape};

/// Dims of the operand as integers that know whether they are the batch.
fn dims(node: &Node<'_>) -> Result<Vec<Int>> {
    match node.input(0) {
        None => Err(Error::new("nothing")
            .field("input[0]")
            .expected("an operand")),
        Some(Known::Constant(constant)) => Ok(constant
            .dims
            .iter()
            .map(|&dim| Int::known(dim as i64))
            .collect()),
        Some(Known::Value(value)) => {
            let axes = 0..node.rank(value.id);
            Ok(axes.map(|axis| node.build.dim(value.id, axis)).collect())
        }
    }
}

pub(super) fn shape(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let dims = dims(node)?;
    let rank = dims.len() as i64;
    let place = |name, default: i64| -> Result<usize> {
        let place = node.attributes.int(name)?.unwrap_or(default);
        let place = if place < 0 {
            place.saturating_add(rank)
        } else {
            place
        };
        Ok(place.clamp(0, rank) as usize)
    };
    let (start, end) = (place("start", 0)?, place("end", rank)?);
    let part = dims.get(start..end).unwrap_or_default().to_vec();
    Ok(vec![
        Constant::ints(Kind::Int, vec![part.len()], part).into(),
    ])
}

pub(super) fn size(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let dims = dims(node)?;
    let one = Int::known(1);
    let count = dims
        .iter()
        .fold(one, |count, &dim| times(count, dim, node.build.batch));
    Ok(vec![
        Constant::ints(Kind::Int, Vec::new(), vec![count]).into(),
    ])
}

/// What one element of a target shape means for the graph.
enum Target {
    /// As the operand's axis of the same place.
    Same,
    /// What is left.
    Rest,
    Dim(i64),
}

pub(super) fn reshape(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let zero_is_zero = node.attributes.flag("allowzero", false)?;
    let ints = match (node.attributes.ints("shape")?, node.has(1)) {
        (Some(dims), false) => dims.iter().map(|&dim| Int::known(dim)).collect(),
        _ => node.ints(1)?,
    };
    let mut has_rest = ints.iter().any(|int| int.images == 0 && int.rest == -1);
    let mut target = Vec::new();
    for (axis, &int) in ints.iter().enumerate() {
        let found = match (int.images, int.rest) {
            (0, -1) => Target::Rest,
            (0, 0) if !zero_is_zero => Target::Same,
            (0, dim) => {
                let written = axis == 0 && node.build.written_batch == Some(dim);
                match written && node.build.is_batch(x.id, 0) {
                    true => Target::Same,
                    false => Target::Dim(node.numbers(&[int])[0]),
                }
            }
            (images, rest) => {
                let here = node.build.dim(x.id, axis);
                if axis < node.rank(x.id) && (here.images, here.rest) == (images, rest) {
                    Target::Same
                } else if !has_rest {
                    has_rest = true;
                    Target::Rest
                } else {
                    Target::Dim(node.numbers(&[int])[0])
                }
            }
        };
        target.push(match found {
            Target::Same => 0,
            Target::Rest => -1,
            Target::Dim(dim) if dim > 0 => dim,
            Target::Dim(dim) => {
                return Err(Error::new(dim.to_string())
                    .field("shape")
                    .expected("sizes of 1 or more"));
            }
        });
    }
    let id = node.reshape(x.id, &target)?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

pub(super) fn flatten(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let rank = node.rank(x.id);
    let axis = match node.attributes.int("axis")?.unwrap_or(1) {
        axis if axis == rank as i64 => rank,
        axis => absolute(axis, rank, "axis")?,
    };
    let id = match (axis, rank) {
        (1, 2..) => {
            let (axis, end_axis) = (1, rank as u32 - 1);
            node.add(Op::Flatten { axis, end_axis }, &[x.id])?
        }
        (0, _) => node.reshape(x.id, &[1, -1])?,
        (axis, rank) if axis == rank => node.reshape(x.id, &[-1, 1])?,
        _ => {
            let (axis, end_axis) = (axis as u32, rank as u32 - 1);
            let behind = node.add(Op::Flatten { axis, end_axis }, &[x.id])?;
            let (end_axis, axis) = (axis - 1, 0);
            node.add(Op::Flatten { axis, end_axis }, &[behind])?
        }
    };
    Ok(vec![Known::Value(Value { id, ..x })])
}

/// Replaces an axis by others of size 1, or adds or drops such.
fn span(node: &mut Node<'_>, x: Value, axis: usize, axes: i32, dims: &[i64]) -> Result<Value> {
    let reshape = Reshape {
        dims: dims.to_vec(),
        axis: axis as i32,
        num_axes: axes,
    };
    let id = node.add(Op::Reshape(reshape), &[x.id])?;
    Ok(Value { id, ..x })
}

pub(super) fn squeeze(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let mut x = node.value(0)?;
    let rank = node.rank(x.id);
    let axes = match node.ints_or_attribute(1, "axes")? {
        Some(axes) => sorted_axes(&axes, rank, "axes")?,
        None => {
            // Which axes have the size 1 may be another matter for other sizes.
            node.from = node.from.max(Source::Sizes);
            let shape = node.shape(x.id);
            (0..rank).filter(|&axis| shape.dim(axis) == 1).collect()
        }
    };
    for &axis in axes.iter().rev() {
        if node.shape(x.id).dim(axis) != 1 {
            return Err(Error::new(format!("axis {axis} of {}", node.shape(x.id)))
                .field("axes")
                .expected("axes of size 1"));
        }
        x = span(node, x, axis, 1, &[])?;
    }
    Ok(vec![Known::Value(x)])
}

pub(super) fn unsqueeze(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let mut x = node.value(0)?;
    let Some(axes) = node.ints_or_attribute(1, "axes")? else {
        return Err(Error::new("nothing").field("axes").expected("axes"));
    };
    for axis in sorted_axes(&axes, node.rank(x.id) + axes.len(), "axes")? {
        x = span(node, x, axis, 0, &[1])?;
    }
    Ok(vec![Known::Value(x)])
}

pub(super) fn constant(node: &mut Node<'_>) -> Result<Vec<Known>> {
    const VALUES: &str = "value, value_float, value_floats, value_int, value_ints or sparse_value";
    let (attributes, folder) = (&node.attributes, node.folder);
    let ints = |dims: Vec<usize>, values: &[i64]| {
        let ints = values.iter().map(|&value| Int::known(value)).collect();
        Constant::ints(Kind::Int, dims, ints)
    };
    let constant = if let Some(value) = attributes.tensor("value")? {
        tensor::decode(value, folder).map_err(|error| error.field("value"))?
    } else if attributes.has("value_float") {
        Constant::floats(Vec::new(), vec![attributes.float("value_float", 0.0)?])?
    } else if let Some(values) = attributes.floats("value_floats")? {
        Constant::floats(vec![values.len()], values.to_vec())?
    } else if let Some(value) = attributes.int("value_int")? {
        ints(Vec::new(), &[value])
    } else if let Some(values) = attributes.ints("value_ints")? {
        ints(vec![values.len()], values)
    } else if let Some(value) = attributes.sparse_tensor("sparse_value")? {
        tensor::decode_sparse(value, folder).map_err(|error| error.field("sparse_value"))?
    } else {
        return Err(Error::new("a constant without numbers")
            .field("value")
            .expected(VALUES));
    };
    Ok(vec![constant.into()])
}

/// The most elements of a constant that is made of one.
const MOST: usize = 1 << 28;

pub(super) fn constant_of_shape(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let ints = node.ints(0)?;
    let sizes = node.numbers(&ints);
    let dims = tensor::dims(&sizes)?;
    let count = dims
        .iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let Some(count) = count.filter(|&count| count <= MOST) else {
        return Err(Error::new(format!("a tensor of dims {dims:?}"))
            .field("input[0]")
            .expected(format!("at most {MOST} elements")));
    };
    let value = match node.attributes.tensor("value")? {
        None => Constant::floats(vec![1], vec![0.0])?,
        Some(value) => tensor::decode(value, node.folder).map_err(|error| error.field("value"))?,
    };
    if value.count() != 1 {
        return Err(Error::new(format!("{} elements", value.count()))
            .field("value")
            .expected("one"));
    }
    skimjit_host::memory::check(24 * count as u64)?;
    let from = node.from;
    let constant = match value.as_ints() {
        Some(ints) => {
            let int = Int { from, ..ints[0] };
            Constant::ints(value.kind(), dims, vec![int; count])
        }
        None => Constant {
            from,
            ..Constant::floats(dims, vec![value.to_floats(1)[0]; count])?
        },
    };
    Ok(vec![constant.into()])
}

pub(super) fn range(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let [start, limit, delta] = [node.constant(0)?, node.constant(1)?, node.constant(2)?];
    let refuse =
        |found: String, expected: &str| Err(Error::new(found).expected(expected.to_owned()));
    let from = start.source().max(limit.source()).max(delta.source());
    let batch = node.build.batch;
    let Some([start, limit, delta]) = single_ints([&start, &limit, &delta], batch) else {
        let numbers = [start, limit, delta].map(|one| one.to_floats(batch));
        let [&[start], &[limit], &[delta]] = [&numbers[0][..], &numbers[1], &numbers[2]] else {
            return refuse("operands of several elements".to_owned(), "numbers");
        };
        let count = ((limit - start) / delta).ceil();
        if !(1.0..=1e7).contains(&count) {
            return refuse(format!("{count} elements"), "1 to 10000000");
        }
        let data = (0..count as u32)
            .map(|index| start + index as f32 * delta)
            .collect();
        let floats = Constant::floats(vec![count as usize], data)?;
        return Ok(vec![Constant { from, ..floats }.into()]);
    };
    if delta == 0 {
        return refuse("a step of 0".to_owned(), "another one");
    }
    let span = i128::from(limit) - i128::from(start);
    let count = (span + i128::from(delta) - i128::from(delta.signum())) / i128::from(delta);
    if count > 10_000_000 {
        return refuse(format!("{count} elements"), "at most 10000000");
    }
    let int = |index: i64| Int {
        from,
        ..Int::known((i128::from(start) + i128::from(index) * i128::from(delta)) as i64)
    };
    let ints: Vec<Int> = (0..count.max(0) as i64).map(int).collect();
    Ok(vec![
        Constant::ints(Kind::Int, vec![ints.len()], ints).into(),
    ])
}

fn single_ints(constants: [&Constant; 3], batch: u32) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    for (number, constant) in numbers.iter_mut().zip(constants) {
        match constant.as_ints()? {
            [one] => *number = one.at(batch),
            _ => return None,
        }
    }
    Some(numbers)
}

pub(super) fn expand(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let ints = node.ints(1)?;
    let rank = node.rank(x.id);
    let mut dims = Vec::new();
    for (index, int) in ints.iter().enumerate() {
        // Aligned at the end.
        let axis = (index + rank).checked_sub(ints.len());
        let here = axis.map(|axis| (axis, node.build.dim(x.id, axis)));
        let same = here.is_some_and(|(axis, here)| {
            let same = (here.images, here.rest) == (int.images, int.rest);
            let written =
                axis == 0 && int.images == 0 && node.build.written_batch == Some(int.rest);
            same || written && node.build.is_batch(x.id, 0)
        });
        let dim = if same { 1 } else { node.numbers(&[*int])[0] };
        dims.push(u32::try_from(dim).map_err(|_| {
            Error::new(dim.to_string())
                .field("input[1]")
                .expected("sizes")
        })?);
    }
    if dims.len() <= rank && dims.iter().all(|&dim| dim == 1) {
        return Ok(vec![Known::Value(x)]);
    }
    Shape::new(dims.clone()).map_err(|error| error.field("input[1]"))?;
    let id = node.add(Op::Expand { dims }, &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}
