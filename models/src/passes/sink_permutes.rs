//! Lets permutations of axes meet their opposites.

use super::drop_identity;
use crate::ops::{Convolution, InnerProduct, Pad, Reduce, Scale, Slice, Standardize, Window};
use crate::{Graph, Node, Op, Shape, Tensor, ValueId};
use std::collections::HashMap;

/// Moves permutations behind what computes element by element or along axes that can be named either way. Those that
/// converters write around each layer of a network with its channels last become neighbours there, and go. Done where
/// fewer of them are left.
#[must_use]
pub fn run(graph: Graph) -> Graph {
    let count = |graph: &Graph| {
        let nodes = graph.nodes.iter();
        nodes.filter(|node| is_permutation(&node.op)).count()
    };
    if count(&graph) < 2 {
        return graph;
    }
    let sunk = drop_identity(sink(graph.clone()));
    match count(&sunk) < count(&graph) {
        true => sunk,
        false => graph,
    }
}

fn is_permutation(op: &Op) -> bool {
    matches!(op, Op::Permute { .. })
}

/// A value whose axis i is axis `order[i]` of another.
#[derive(Clone, PartialEq)]
struct Turned {
    of: ValueId,
    order: Vec<u32>,
}

fn sink(mut graph: Graph) -> Graph {
    let mut turned: HashMap<ValueId, Turned> = HashMap::new();
    for node in std::mem::take(&mut graph.nodes) {
        let operands: Option<Vec<&Turned>> = node.inputs.iter().map(|id| turned.get(id)).collect();
        let behind = match (&node.op, operands.as_deref()) {
            (Op::Permute { order }, None) => Some((node.inputs.clone(), None, order.clone())),
            (Op::Permute { order }, Some([x])) => {
                let order = order.iter().map(|&axis| x.order[axis as usize]);
                Some((vec![x.of], None, order.collect()))
            }
            (op, Some([first, rest @ ..])) if rest.iter().all(|x| x.order == first.order) => {
                let sources = [*first].into_iter().chain(rest.iter().copied());
                let sources = sources.map(|x| x.of).collect();
                let order = first.order.clone();
                before(op, &order, &mut graph).map(|(op, order)| (sources, Some(op), order))
            }
            _ => None,
        };
        match behind {
            None => graph.nodes.push(node),
            Some((sources, op, order)) => {
                let output = node.output;
                let source = push(&mut graph, node, sources, op, &order);
                if !is_identity(&order) {
                    turned.insert(output, Turned { of: source, order });
                }
            }
        }
    }
    graph
}

fn is_identity(order: &[u32]) -> bool {
    order.iter().copied().eq(0..order.len() as u32)
}

/// Adds what becomes of a node: an op before the permutation, if it is not one itself, and the permutation. Returns
/// what is permuted.
fn push(
    graph: &mut Graph,
    node: Node,
    sources: Vec<ValueId>,
    op: Option<Op>,
    order: &[u32],
) -> ValueId {
    let permutation = match is_identity(order) {
        true => Op::Identity,
        false => Op::Permute {
            order: order.to_vec(),
        },
    };
    let Some(op) = op else {
        let source = sources[0];
        graph.nodes.push(Node {
            op: permutation,
            inputs: sources,
            ..node
        });
        return source;
    };
    let shape = unpermuted(graph.shape(node.output), order);
    let name = format!("{}/unordered", graph.value(node.output).name);
    let source = graph.add_value(name, shape);
    graph.nodes.push(Node {
        op,
        inputs: sources,
        output: source,
        ..node.clone()
    });
    graph.nodes.push(Node {
        name: format!("{}/order", node.name),
        part_of: Some(node.part_of.clone().unwrap_or_else(|| node.name.clone())),
        op: permutation,
        inputs: vec![source],
        ..node
    });
    source
}

/// The shape that is `shape` once its axes are put into an order.
fn unpermuted(shape: &Shape, order: &[u32]) -> Shape {
    let mut dims = vec![1; order.len()];
    for (&axis, &dim) in order.iter().zip(shape.dims()) {
        dims[axis as usize] = dim;
    }
    // The same elements as before.
    Shape::new(dims).unwrap_or_else(|_| shape.clone())
}

/// The op for operands whose axes are not yet in an order, and the order of its result.
fn before(op: &Op, order: &[u32], graph: &mut Graph) -> Option<(Op, Vec<u32>)> {
    let axis = |axis: u32| order[axis as usize];
    let op = match op {
        Op::Activation(_) | Op::Eltwise(_) => op.clone(),
        // Operands of one rank: none has axes that are aligned at the end.
        Op::Binary(_) => op.clone(),
        Op::Scale(op) => {
            let mut weights = op.scale.iter().chain(&op.bias);
            let along_one = weights.all(|&id| graph.weight(id).shape().rank() == 1);
            let known = !op.add_operand && op.scale.or(op.bias).is_some();
            (along_one && known).then(|| {
                let axis = axis(op.axis);
                Op::Scale(Scale { axis, ..op.clone() })
            })?
        }
        Op::Standardize(op) => {
            let [only] = order[op.axes(order.len())] else {
                return None;
            };
            Op::Standardize(Standardize {
                axis: only,
                end: Some(only + 1),
                eps: op.eps,
            })
        }
        Op::InnerProduct(op) => Op::Convolution(pointwise(op, order, graph)?),
        Op::Concat { axis: along } => Op::Concat { axis: axis(*along) },
        Op::Slice(op) => {
            let axis = axis(op.axis);
            Op::Slice(Slice { axis, ..op.clone() })
        }
        Op::Pad(pad) => Op::Pad(Pad {
            begin: spread(&pad.begin, order),
            end: spread(&pad.end, order),
            mode: pad.mode,
        }),
        Op::Reduce(reduce) => return Some(reduced(reduce, order)),
        _ => return None,
    };
    Some((op, order.to_vec()))
}

/// An inner product along the last axis, which is the channels of planes: a convolution of one tap.
fn pointwise(op: &InnerProduct, order: &[u32], graph: &mut Graph) -> Option<Convolution> {
    let along_channels = order.len() == 4 && op.axis == 3 && order[0] == 0 && order[3] == 1;
    if !along_channels {
        return None;
    }
    let weights = std::sync::Arc::clone(graph.weight(op.weights));
    // Of any rank: Caffe's old files give such weights four axes.
    let outputs = op.outputs;
    let inputs = u32::try_from(weights.shape().count() / outputs.max(1) as usize).ok()?;
    let data = weights.data();
    let rows = match op.transpose {
        true => transposed(data, outputs as usize),
        false => data.to_vec(),
    };
    let shape = Shape::new([outputs, inputs, 1, 1]).ok()?;
    Some(Convolution {
        window: Window::square(1, 1, 0),
        oc: op.outputs,
        groups: 1,
        weights: graph.add_weight(Tensor::new(shape, rows)),
        bias: op.bias,
        post: op.post,
    })
}

/// Columns as rows.
fn transposed(data: &[f32], columns: usize) -> Vec<f32> {
    let column = |c: usize| data.iter().skip(c).step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

/// One number per axis, for the axes before they are put into an order.
fn spread(numbers: &[i32], order: &[u32]) -> Vec<i32> {
    let mut spread = vec![0; order.len()];
    for (&axis, &number) in order.iter().zip(numbers) {
        spread[axis as usize] = number;
    }
    spread
}

fn reduced(reduce: &Reduce, order: &[u32]) -> (Op, Vec<u32>) {
    let mut axes: Vec<u32> = reduce
        .axes
        .iter()
        .map(|&axis| order[axis as usize])
        .collect();
    axes.sort_unstable();
    let left = match reduce.keep {
        true => order.to_vec(),
        false => {
            let gone = |axis: &u32| axes.contains(axis);
            // An axis is as many places further to the front as axes before it are gone.
            let place = |axis: u32| axis - axes.iter().filter(|&&one| one < axis).count() as u32;
            let left = order.iter().filter(|axis| !gone(axis));
            left.map(|&axis| place(axis)).collect()
        }
    };
    let reduce = Reduce {
        axes,
        ..reduce.clone()
    };
    (Op::Reduce(reduce), left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Activation, Eltwise, EltwiseOp, PadMode, PostOps, ReduceOp};
    use crate::{Tensor, WeightId, interpreter};

    /// x (2×3×4×5), its channels last, and what is added to the graph behind that.
    fn graph(behind: impl FnOnce(&mut Graph, ValueId)) -> Graph {
        let mut graph = Graph::default();
        let x = graph.add_value("x", Shape::new([2, 3, 4, 5]).unwrap());
        graph.inputs = vec![x];
        let last = permute(&mut graph, "last", x, [0, 2, 3, 1]);
        behind(&mut graph, last);
        graph
    }

    fn permute(graph: &mut Graph, name: &str, x: ValueId, order: [u32; 4]) -> ValueId {
        let order = order.to_vec();
        graph
            .add_node(name, Op::Permute { order }, vec![x], name)
            .unwrap()
    }

    fn add(graph: &mut Graph, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        graph.add_node(name, op, inputs.to_vec(), name).unwrap()
    }

    fn numbers(graph: &mut Graph) -> WeightId {
        let shape = Shape::new([3]).unwrap();
        graph.add_weight(Tensor::new(shape, vec![0.5, -2.0, 3.0]))
    }

    /// Permutations before and after; the outputs are the same.
    #[track_caller]
    fn check(before: &Graph, expected: [usize; 2]) {
        before.check().unwrap();
        let after = run(before.clone());
        after.check().unwrap();
        let mut inferred = after.clone();
        inferred.infer_shapes().unwrap();
        let count = |graph: &Graph| {
            let nodes = graph.nodes.iter();
            nodes.filter(|node| is_permutation(&node.op)).count()
        };
        assert_eq!([count(before), count(&after)], expected);
        let shape = before.shape(before.inputs[0]).clone();
        let data = (0..shape.count()).map(|i| (i % 17) as f32 - 8.0).collect();
        let input = [Tensor::new(shape, data)];
        let run = |graph: &Graph| interpreter::run_outputs(graph, &input).unwrap();
        assert_eq!(run(before), run(&after));
    }

    #[test]
    fn layers_with_channels_last_are_computed_with_channels_first() {
        let graph = graph(|graph, x| {
            let (scale, bias) = (Some(numbers(graph)), Some(numbers(graph)));
            let scale = Scale {
                axis: 3,
                scale,
                bias,
                add_operand: false,
            };
            let scaled = add(graph, "scale", Op::Scale(scale), &[x]);
            let relu = Op::Activation(Activation::ReLU { slope: 0.0 });
            let relu = add(graph, "relu", relu, &[scaled]);
            let sum = Eltwise {
                op: EltwiseOp::Sum {
                    coefficients: vec![1.0, 0.5],
                },
                post: PostOps::default(),
            };
            let sum = add(graph, "sum", Op::Eltwise(sum), &[relu, x]);
            let both = add(graph, "both", Op::Concat { axis: 3 }, &[sum, relu]);
            let pad = Pad {
                begin: vec![0, 1, 2, 3],
                end: vec![0, 0, 1, 0],
                mode: PadMode::Edge,
            };
            let padded = add(graph, "pad", Op::Pad(pad), &[both]);
            let slice = Slice {
                axis: 2,
                begin: 1,
                end: 7,
            };
            let part = add(graph, "part", Op::Slice(slice), &[padded]);
            let first = permute(graph, "first", part, [0, 3, 1, 2]);
            graph.outputs = vec![first, relu];
        });
        // One is left for the output in between.
        check(&graph, [2, 1]);
    }

    #[test]
    fn standardization_and_inner_products_along_channels_need_no_order() {
        for transpose in [false, true] {
            let graph = graph(|graph, x| {
                let standardize = Standardize {
                    axis: 3,
                    end: None,
                    eps: 0.5,
                };
                let y = add(graph, "norm", Op::Standardize(standardize), &[x]);
                let shape = Shape::new(if transpose { [3, 2] } else { [2, 3] }).unwrap();
                let weights = Tensor::new(shape, vec![1.0, 2.0, -3.0, 0.0, 0.5, 4.0]);
                let bias = Tensor::new(Shape::new([2]).unwrap(), vec![0.25, -1.0]);
                let product = InnerProduct {
                    outputs: 2,
                    axis: 3,
                    transpose,
                    weights: graph.add_weight(weights),
                    bias: Some(graph.add_weight(bias)),
                    post: PostOps::default(),
                };
                let y = add(graph, "product", Op::InnerProduct(product), &[y]);
                let first = permute(graph, "first", y, [0, 3, 1, 2]);
                graph.outputs = vec![first];
            });
            check(&graph, [2, 0]);
        }
    }

    #[test]
    fn means_over_planes_need_no_order() {
        for (keep, left) in [(false, 0), (true, 1)] {
            let graph = graph(|graph, x| {
                let again = permute(graph, "again", x, [0, 3, 1, 2]);
                let reduce = Reduce {
                    op: ReduceOp::Mean,
                    axes: vec![1, 2],
                    keep,
                };
                let mean = add(graph, "mean", Op::Reduce(reduce), &[x]);
                graph.outputs = vec![again, mean];
            });
            check(&graph, [2, left]);
        }
    }

    #[test]
    fn what_does_not_become_less_stays() {
        // Nothing cancels: the reshape wants the order.
        let graph = graph(|graph, x| {
            let relu = Op::Activation(Activation::AbsVal);
            let relu = add(graph, "relu", relu, &[x]);
            let (axis, end_axis) = (1, 3);
            let rows = add(graph, "rows", Op::Flatten { axis, end_axis }, &[relu]);
            let other = permute(graph, "other", relu, [3, 2, 1, 0]);
            graph.outputs = vec![rows, other];
        });
        check(&graph, [2, 2]);
    }
}
