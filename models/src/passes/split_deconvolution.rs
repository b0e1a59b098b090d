//! Deconvolutions as convolutions, for which there are kernels.

use super::dead;
use crate::ops::{Convolution, Reshape, Slice, Window};
use crate::{Graph, Node, Op, Shape, Tensor, ValueId};

/// Replaces deconvolutions without dilation by a convolution and copies, but for those of each channel by itself, which
/// have few sums for many results.
///
/// With stride s, output y of an axis is the sum over taps u of w\[u\]·x\[(y + pad − u) / s\] where that
/// divides. For y + pad = q·s + r these are the taps u = r + t·s at x\[q − t\]: each remainder r is a
/// convolution of ⌈kernel / s⌉ taps. All remainders are channels of one convolution; then they are put
/// side by side, and what `pad` cuts off goes.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        match &node.op {
            Op::Deconvolution(op) if fits(&op.window) && !is_depthwise(&graph, &node, op) => {
                let parts = split(&mut graph, &node, op);
                // Too large to be split: the reference still computes it.
                graph.nodes.extend(parts.unwrap_or_else(|| vec![node]));
            }
            _ => graph.nodes.push(node),
        }
    }
    dead(graph)
}

fn is_depthwise(graph: &Graph, node: &Node, op: &Convolution) -> bool {
    [graph.shape(node.inputs[0]).dim(1), op.oc] == [op.groups; 2]
}

/// With a stride beyond the kernel most of the remainders' weights would be zeros.
fn fits(window: &Window) -> bool {
    let pairs = window.stride.iter().zip(window.kernel);
    window.dilation == [1, 1] && pairs.into_iter().all(|(&stride, kernel)| stride <= kernel)
}

/// One axis: stride, taps of a remainder, sizes of the operand, of the rows of all remainders and of
/// the result, and what is cut off in front.
struct Axis {
    stride: u32,
    taps: u32,
    rows: u32,
    output: u32,
    pad: u32,
}

impl Axis {
    fn new(window: &Window, axis: usize, input: u32, output: u32) -> Option<Self> {
        let (stride, kernel) = (window.stride[axis], window.kernel[axis]);
        let taps = kernel.div_ceil(stride);
        Some(Self {
            stride,
            taps,
            rows: input.checked_add(taps - 1)?,
            output,
            pad: window.pad_begin[axis],
        })
    }
    fn size(&self) -> Option<u32> {
        self.rows.checked_mul(self.stride)
    }
}

fn split(graph: &mut Graph, node: &Node, op: &Convolution) -> Option<Vec<Node>> {
    let input = graph.shape(node.inputs[0]).clone();
    let output = graph.shape(node.output).clone();
    let axis = |axis: usize| Axis::new(&op.window, axis, input.dim(axis + 2), output.dim(axis + 2));
    let [y, x] = [axis(0)?, axis(1)?];
    let channels = op.oc.checked_mul(y.stride)?.checked_mul(x.stride)?;
    let n = input.dim(0);
    let shapes = [
        Shape::new([n, channels, y.rows, x.rows]).ok()?,
        Shape::new([n, op.oc, y.stride, x.stride, y.rows, x.rows]).ok()?,
        Shape::new([n, op.oc, y.rows, y.stride, x.rows, x.stride]).ok()?,
        Shape::new([n, op.oc, y.size()?, x.size()?]).ok()?,
        Shape::new([n, op.oc, y.output, x.size()?]).ok()?,
    ];
    let reshape = |dims: &[u32]| {
        let behind = dims.iter().skip(1).map(|&dim| i64::from(dim));
        Op::Reshape(Reshape {
            dims: std::iter::once(0).chain(behind).collect(),
            axis: 0,
            num_axes: -1,
        })
    };
    let slice = |axis: u32, of: &Axis| {
        Op::Slice(Slice {
            axis,
            begin: of.pad,
            end: of.pad + of.output,
        })
    };
    let ops = [
        Op::Convolution(remainders(graph, op, [&y, &x])?),
        reshape(shapes[1].dims()),
        Op::Permute {
            order: vec![0, 1, 4, 2, 5, 3],
        },
        reshape(shapes[3].dims()),
        slice(2, &y),
        slice(3, &x),
    ];
    Some(chain(graph, node, ops, shapes))
}

/// One node after the other; the last has the name and the result of `node`.
fn chain(graph: &mut Graph, node: &Node, ops: [Op; 6], shapes: [Shape; 5]) -> Vec<Node> {
    const PARTS: [&str; 5] = ["remainders", "axes", "order", "rows", "height"];
    let mut shapes = shapes.into_iter().zip(PARTS);
    let mut operand = node.inputs[0];
    let mut nodes = Vec::new();
    for op in ops {
        let (name, result): (String, ValueId) = match shapes.next() {
            Some((shape, part)) => {
                let name = format!("{}/{part}", node.name);
                let value = graph.add_value(name.clone(), shape);
                (name, value)
            }
            None => (node.name.clone(), node.output),
        };
        let part_of = Some(node.layer().to_owned()).filter(|layer| *layer != name);
        nodes.push(Node {
            name,
            part_of,
            op,
            inputs: vec![operand],
            output: result,
            derived: node.derived,
        });
        operand = result;
    }
    nodes
}

/// The convolution of all remainders.
fn remainders(graph: &mut Graph, op: &Convolution, [y, x]: [&Axis; 2]) -> Option<Convolution> {
    let kernel = graph.weight(op.weights);
    let [kh, kw] = op.window.kernel;
    let (group_oc, group_ic) = (op.oc / op.groups, kernel.shape().dim(0) / op.groups);
    let phases = y.stride * x.stride;
    let shape = Shape::new([op.oc * phases, group_ic, y.taps, x.taps]).ok()?;
    let mut weights = Vec::with_capacity(shape.count());
    for (o, phase) in (0..op.oc).flat_map(|o| (0..phases).map(move |phase| (o, phase))) {
        let taps = (0..y.taps)
            .rev()
            .flat_map(|i| (0..x.taps).rev().map(move |j| [i, j]));
        for (c, [i, j]) in (0..group_ic).flat_map(|c| taps.clone().map(move |tap| (c, tap))) {
            let (u, v) = (
                phase / x.stride + i * y.stride,
                phase % x.stride + j * x.stride,
            );
            let row = (o / group_oc * group_ic + c) * group_oc + o % group_oc;
            let index = (row as usize * kh as usize + u as usize) * kw as usize + v as usize;
            weights.push(if u < kh && v < kw {
                kernel.data()[index]
            } else {
                0.0
            });
        }
    }
    let bias = op.bias.map(|id| {
        let bias = graph.weight(id).data().iter();
        bias.flat_map(|&b| std::iter::repeat_n(b, phases as usize))
            .collect::<Vec<f32>>()
    });
    let bias_shape = Shape::new([op.oc * phases]).ok()?;
    Some(Convolution {
        window: Window {
            kernel: [y.taps, x.taps],
            stride: [1, 1],
            pad_begin: [y.taps - 1, x.taps - 1],
            pad_end: [y.taps - 1, x.taps - 1],
            dilation: [1, 1],
        },
        oc: op.oc * phases,
        groups: op.groups,
        weights: graph.add_weight(Tensor::new(shape, weights)),
        bias: bias.map(|bias| graph.add_weight(Tensor::new(bias_shape, bias))),
        post: op.post,
    })
}
