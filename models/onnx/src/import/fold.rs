//! Nodes whose operands are all known: what they compute is known too.

use super::build::{Build, Known};
use super::node::Node;
use super::table::{Fold, Row};
use crate::constant::{Constant, Int, Source, at, times};
use crate::element::{Element, Kind};
use half::{bf16, f16};
use skimjit_host::memory;
use skimjit_models::interpreter;
use skimjit_models::{Error, Result};
use std::rc::Rc;

/// Results of a node of constants. The node of the graph that it would become is made in a graph of its own, and
/// evaluated by the reference.
pub(super) fn fold(node: Node<'_>, row: &Row) -> Result<Vec<Known>> {
    let constants: Vec<Option<Rc<Constant>>> = node.inputs.iter().map(constant).collect();
    if let Some(result) = integers(row.op, &node, &constants)? {
        return Ok(vec![result.into()]);
    }
    let from = constants.iter().flatten().map(|one| one.source()).max();
    let from = from.unwrap_or_default();
    let moves = row.fold == Fold::Moves;
    let mut scratch = Build::scratch(node.build.batch, moves);
    let mut inside = Node {
        build: &mut scratch,
        ..node
    };
    let results = (row.convert)(&mut inside)?;
    let from = from.max(inside.from);
    let mut outputs = Vec::new();
    for result in &results {
        if let Known::Value(value) = result {
            outputs.push(value.id);
        }
    }
    scratch.graph.outputs = outputs;
    room(
        scratch
            .graph
            .values
            .iter()
            .map(|value| value.shape.count())
            .sum(),
    )?;
    let mut evaluated = interpreter::run_outputs(&scratch.graph, &[])?.into_iter();
    results
        .into_iter()
        .map(|result| match result {
            Known::Constant(_) => Ok(result),
            Known::Value(value) => {
                let tensor = evaluated.next().ok_or_else(|| Error::new("no result"))?;
                Ok(scratch.evaluated(value, tensor.into_data(), from)?.into())
            }
        })
        .collect()
}

/// Refuses so many elements where there is no memory for them, as floats and as integers that know their source.
fn room(elements: usize) -> Result<()> {
    const EACH: u64 = (size_of::<Int>() + size_of::<f32>()) as u64;
    memory::check((elements as u64).saturating_mul(EACH)).map_err(Error::from)
}

fn constant(input: &Option<Known>) -> Option<Rc<Constant>> {
    match input {
        Some(Known::Constant(constant)) => Some(Rc::clone(constant)),
        _ => None,
    }
}

/// What arithmetic of integers gives, which knows how its results depend on the batch.
fn integers(
    op: &str,
    node: &Node<'_>,
    constants: &[Option<Rc<Constant>>],
) -> Result<Option<Constant>> {
    let batch = node.build.batch;
    let Some(operands) = constants.iter().cloned().collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let lists: Option<Vec<&[Int]>> = operands.iter().map(|one| one.as_ints()).collect();
    if op == "Cast" {
        return cast(node, &operands, batch);
    }
    if op == "Where"
        && let [condition, then, otherwise] = &operands[..]
        && let Some(conditions) = condition.as_ints()
        && let (Some(_), Some(_)) = (then.as_ints(), otherwise.as_ints())
    {
        let holds: Vec<Int> = conditions.to_vec();
        let chosen = |[condition, then, otherwise]: [Int; 3]| {
            let chosen = if condition.at(batch) != 0 {
                then
            } else {
                otherwise
            };
            Int {
                from: chosen.from.max(condition.source()),
                ..chosen
            }
        };
        let condition = Constant::ints(Kind::Int, condition.dims.clone(), holds);
        return broadcast([&condition, then, otherwise], then.kind(), chosen).map(Some);
    }
    if lists.is_none() || operands.is_empty() {
        return Ok(None);
    }
    if let Some((kind, of)) = unary(op) {
        let [operand] = &operands[..] else {
            return Ok(None);
        };
        let kind = kind.unwrap_or(operand.kind());
        return broadcast([operand], kind, |[one]| of(one, batch)).map(Some);
    }
    let op = match op {
        "Mod" if node.attributes.flag("fmod", false)? => "Fmod",
        op => op,
    };
    let Some((kind, of)) = pair(op) else {
        return reduced(op, node, &operands);
    };
    let mut result = operands[0].as_ref().clone();
    for next in &operands[1..] {
        let kind = kind.unwrap_or(result.kind());
        result = broadcast([&result, next], kind, |[a, b]| of(a, b, batch))?;
    }
    Ok(Some(result))
}

/// A function of integers for a batch, and the kind of its result where it is another one.
type Unary = (Option<Kind>, fn(Int, u32) -> Int);
type Pair = (Option<Kind>, fn(Int, Int, u32) -> Int);

fn unary(op: &str) -> Option<Unary> {
    Some(match op {
        "Neg" => (None, |one, batch| times(one, Int::known(-1), batch)),
        "Abs" => (None, |one, batch| {
            at(&[one], batch, |[x]| x.saturating_abs())
        }),
        "Sign" => (None, |one, batch| at(&[one], batch, |[x]| x.signum())),
        "Not" => (Some(Kind::Bool), |one, batch| {
            at(&[one], batch, |[x]| i64::from(x == 0))
        }),
        "Floor" | "Ceil" | "Round" => (None, |one, _| one),
        _ => return None,
    })
}

fn pair(op: &str) -> Option<Pair> {
    const TRUTH: Option<Kind> = Some(Kind::Bool);
    Some(match op {
        "Add" | "Sum" => (None, plus),
        "Sub" => (None, |a, b, batch| {
            plus(a, times(b, Int::known(-1), batch), batch)
        }),
        "Mul" => (None, times),
        "Div" => (None, over),
        "Mod" => (None, |a, b, batch| {
            at(&[a, b], batch, |[a, b]| {
                a.checked_rem_euclid(b).map_or(0, |rest| {
                    // The result has the sign of the divisor.
                    if b < 0 && rest != 0 {
                        rest.saturating_add(b)
                    } else {
                        rest
                    }
                })
            })
        }),
        // That of the dividend.
        "Fmod" => (None, |a, b, batch| {
            at(&[a, b], batch, |[a, b]| a.checked_rem(b).unwrap_or(0))
        }),
        "Min" => (None, |a, b, batch| choose(a, b, batch, |a, b| a <= b)),
        "Max" => (None, |a, b, batch| choose(a, b, batch, |a, b| a >= b)),
        "Equal" => (TRUTH, |a, b, batch| compare(a, b, batch, |a, b| a == b)),
        "Less" => (TRUTH, |a, b, batch| compare(a, b, batch, |a, b| a < b)),
        "LessOrEqual" => (TRUTH, |a, b, batch| compare(a, b, batch, |a, b| a <= b)),
        "Greater" => (TRUTH, |a, b, batch| compare(a, b, batch, |a, b| a > b)),
        "GreaterOrEqual" => (TRUTH, |a, b, batch| compare(a, b, batch, |a, b| a >= b)),
        "And" => (TRUTH, |a, b, batch| {
            compare(a, b, batch, |a, b| a != 0 && b != 0)
        }),
        "Or" => (TRUTH, |a, b, batch| {
            compare(a, b, batch, |a, b| a != 0 || b != 0)
        }),
        "Xor" => (TRUTH, |a, b, batch| {
            compare(a, b, batch, |a, b| (a != 0) != (b != 0))
        }),
        _ => return None,
    })
}

fn plus(a: Int, b: Int, _batch: u32) -> Int {
    Int {
        images: a.images.saturating_add(b.images),
        rest: a.rest.saturating_add(b.rest),
        from: a.from.max(b.from),
    }
}

/// The quotient, rounded towards zero.
fn over(a: Int, b: Int, batch: u32) -> Int {
    let from = a.from.max(b.from);
    let exact = |a: i64, b: i64| (a.checked_rem(b) == Some(0)).then(|| a / b);
    if b.images == 0
        && let (Some(images), Some(rest)) = (exact(a.images, b.rest), exact(a.rest, b.rest))
    {
        return Int { images, rest, from };
    }
    // The batch cancels out.
    if a.rest == 0
        && b.rest == 0
        && let Some(quotient) = exact(a.images, b.images)
    {
        return Int {
            from,
            ..Int::known(quotient)
        };
    }
    at(&[a, b], batch, |[a, b]| a.checked_div(b).unwrap_or(0))
}

fn choose(a: Int, b: Int, batch: u32, first: fn(i64, i64) -> bool) -> Int {
    let chosen = if first(a.at(batch), b.at(batch)) {
        a
    } else {
        b
    };
    // Which one it is may be another matter for another batch.
    let from = match (a.images, b.images) {
        (0, 0) => a.from.max(b.from),
        _ => Source::Batch,
    };
    Int { from, ..chosen }
}

fn compare(a: Int, b: Int, batch: u32, holds: fn(i64, i64) -> bool) -> Int {
    // No batch makes a size negative, which is what files compare with.
    let sign = |int: Int| (int.images > 0 && int.rest >= 0).then_some(1);
    let (small, large) = (a.images == 0 && a.rest < 0, b.images == 0 && b.rest < 0);
    let from = a.from.max(b.from);
    let certain = match (sign(a), sign(b)) {
        (Some(_), _) if large => Some(holds(1, -1)),
        (_, Some(_)) if small => Some(holds(-1, 1)),
        _ if (a.images, a.rest) == (b.images, b.rest) => Some(holds(a.rest, b.rest)),
        _ => None,
    };
    match certain {
        Some(holds) => Int {
            from,
            ..Int::known(holds.into())
        },
        None => at(&[a, b], batch, |[a, b]| i64::from(holds(a, b))),
    }
}

/// Casts between integers, and from integers to floats and back.
fn cast(node: &Node<'_>, operands: &[Rc<Constant>], batch: u32) -> Result<Option<Constant>> {
    let [operand] = operands else {
        return Ok(None);
    };
    let to = node.attributes.int("to")?.unwrap_or(0);
    let to = Element::of(i32::try_from(to).unwrap_or(-1)).map_err(|error| error.field("to"))?;
    let from = operand.source();
    let dims = operand.dims.clone();
    match (operand.as_ints(), to.kind) {
        (Some(ints), Kind::Int) => Ok(Some(Constant::ints(Kind::Int, dims, ints.to_vec()))),
        (Some(ints), Kind::Bool) => {
            let truth = ints
                .iter()
                .map(|&int| compare(int, Int::known(0), batch, |a, b| a != b));
            Ok(Some(Constant::ints(Kind::Bool, dims, truth.collect())))
        }
        (Some(_), Kind::Float) => Ok(Some(Constant {
            from,
            ..Constant::floats(dims, operand.to_floats(batch))?
        })),
        (None, Kind::Int | Kind::Bool) => {
            let int = |&float: &f32| Int {
                from,
                ..Int::known(match to.kind {
                    Kind::Bool => i64::from(float != 0.0),
                    _ => float as i64,
                })
            };
            let ints = operand.to_floats(batch).iter().map(int).collect();
            Ok(Some(Constant::ints(to.kind, dims, ints)))
        }
        // Numbers of the file are single floats here, but rounded to what has fewer bits.
        (None, Kind::Float) => {
            let rounded = |value: f32| match to.name {
                "float16" => f16::from_f32(value).to_f32(),
                "bfloat16" => bf16::from_f32(value).to_f32(),
                _ => value,
            };
            let floats = operand.to_floats(batch).into_iter().map(rounded).collect();
            Ok(Some(Constant {
                from,
                ..Constant::floats(dims, floats)?
            }))
        }
        (_, Kind::Other) => Ok(None),
    }
}

/// Reductions of a whole list.
fn reduced(op: &str, node: &Node<'_>, operands: &[Rc<Constant>]) -> Result<Option<Constant>> {
    let batch = node.build.batch;
    let of: fn(Int, Int, u32) -> Int = match op {
        "ReduceProd" => times,
        "ReduceSum" => plus,
        "ReduceMax" => |a, b, batch| choose(a, b, batch, |a, b| a >= b),
        "ReduceMin" => |a, b, batch| choose(a, b, batch, |a, b| a <= b),
        _ => return Ok(None),
    };
    let list = &operands[0];
    let Some((first, rest)) = list.as_ints().and_then(<[Int]>::split_first) else {
        return Ok(None);
    };
    if list.dims.len() > 1 {
        return Ok(None);
    }
    let keep = node.attributes.flag("keepdims", true)?;
    let dims = if keep {
        vec![1; list.dims.len()]
    } else {
        Vec::new()
    };
    let result = rest
        .iter()
        .fold(*first, |result, &next| of(result, next, batch));
    Ok(Some(Constant::ints(list.kind(), dims, vec![result])))
}

/// A function of integers, element by element.
fn broadcast<const N: usize>(
    operands: [&Constant; N],
    kind: Kind,
    of: impl Fn([Int; N]) -> Int,
) -> Result<Constant> {
    let rank = operands.iter().map(|one| one.dims.len()).max().unwrap_or(0);
    let mut dims = vec![1; rank];
    for operand in operands {
        let offset = rank - operand.dims.len();
        for (dim, &found) in dims[offset..].iter_mut().zip(&operand.dims) {
            match (*dim, found) {
                (1, _) => *dim = found,
                (same, found) if same == found || found == 1 => {}
                (dim, found) => {
                    return Err(Error::new(format!("sizes {dim} and {found}"))
                        .field("input[1]")
                        .expected("operands of one shape, or sizes of 1"));
                }
            }
        }
    }
    let count = dims
        .iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let count = count.unwrap_or(usize::MAX);
    room(count)?;
    let element = |index: usize| {
        let mut found = [Int::known(0); N];
        for (slot, operand) in found.iter_mut().zip(operands) {
            let (mut rest, mut place, mut step) = (index, 0, 1);
            for axis in (0..rank).rev() {
                let coordinate = rest % dims[axis];
                rest /= dims[axis];
                let own = (axis + operand.dims.len()).checked_sub(rank);
                if let Some(size) = own.map(|own| operand.dims[own]) {
                    place += if size == 1 { 0 } else { coordinate * step };
                    step *= size;
                }
            }
            *slot = operand.as_ints().map_or(Int::known(0), |ints| ints[place]);
        }
        of(found)
    };
    let ints = (0..count).map(element).collect();
    Ok(Constant::ints(kind, dims, ints))
}
