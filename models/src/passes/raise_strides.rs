//! Leaves out pixels that every reader leaves out.

use super::uses::Uses;
use super::{dead, drop_identity};
use crate::ops::{PoolMethod, Pooling, Rounding, Window};
use crate::{Graph, Node, Op, Shape, ValueId};

/// Where all that read a convolution are windows of one pixel with a stride, the convolution takes the stride: a ResNet
/// of Caffe computes its last block of a stage in full and reads a quarter of it. A sum or product of values on the way
/// takes thinned operands.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let mut index = graph.nodes.len();
    let mut changed = false;
    while index > 0 {
        index -= 1;
        let uses = Uses::of(&graph);
        let Some(stride) = stride_of_readers(&graph, &uses, graph.nodes[index].output) else {
            continue;
        };
        match &graph.nodes[index].op {
            Op::Convolution(_) => changed |= stride_convolution(&mut graph, index, stride),
            Op::Eltwise(_) if saves_work(&graph, &uses, index) => {
                index += thin_operands(&mut graph, index, stride);
                changed = true;
            }
            _ => continue,
        };
    }
    match changed {
        true => dead(drop_identity(graph)),
        false => graph,
    }
}

/// The stride of a window of one pixel that is not beside the plane.
fn pixel_stride(op: &Op) -> Option<[u32; 2]> {
    let window = match op {
        Op::Convolution(op) => &op.window,
        Op::Pooling(op) if is_thinning(op) => &op.window,
        _ => return None,
    };
    let one = window.kernel == [1, 1] && !window.is_padded() && window.stride != [1, 1];
    one.then_some(window.stride)
}

fn is_thinning(op: &Pooling) -> bool {
    op.method == PoolMethod::Average && !op.global && op.rounding == Rounding::Down
}

/// The one stride of all readers of a value that nobody else sees.
fn stride_of_readers(graph: &Graph, uses: &Uses, value: ValueId) -> Option<[u32; 2]> {
    let readers = uses.readers(value);
    if graph.shape(value).rank() != 4 {
        return None;
    }
    let strides = readers
        .iter()
        .map(|&reader| pixel_stride(&graph.nodes[reader].op));
    let strides: Option<Vec<[u32; 2]>> = strides.collect();
    let strides = strides.filter(|_| !uses.is_output(value))?;
    let first = *strides.first()?;
    strides
        .iter()
        .all(|&stride| stride == first)
        .then_some(first)
}

/// Its readers have no stride any more.
fn release_readers(graph: &mut Graph, value: ValueId) {
    for node in &mut graph.nodes {
        if !node.inputs.contains(&value) {
            continue;
        }
        match &mut node.op {
            Op::Convolution(op) => op.window.stride = [1, 1],
            op => *op = Op::Identity,
        }
    }
}

fn stride_convolution(graph: &mut Graph, index: usize, stride: [u32; 2]) -> bool {
    let output = graph.nodes[index].output;
    let Op::Convolution(op) = &mut graph.nodes[index].op else {
        return false;
    };
    let old = op.window.stride;
    let new = [0, 1].map(|axis| old[axis].saturating_mul(stride[axis]));
    op.window.stride = new;
    if op.window.check().is_err() {
        op.window.stride = old;
        return false;
    }
    thin_value(graph, output, stride);
    release_readers(graph, output);
    true
}

/// Whether a convolution that only this node reads would compute less.
fn saves_work(graph: &Graph, uses: &Uses, index: usize) -> bool {
    graph.nodes[index].inputs.iter().any(|&id| {
        let producer = uses.producer(id).map(|producer| &graph.nodes[producer].op);
        uses.only_reader(id).is_some() && matches!(producer, Some(Op::Convolution(_)))
    })
}

/// Nodes in front of `index` that thin its operands; returns how many.
fn thin_operands(graph: &mut Graph, index: usize, stride: [u32; 2]) -> usize {
    let (inputs, output) = (graph.nodes[index].inputs.clone(), graph.nodes[index].output);
    let name = graph.nodes[index].name.clone();
    for (at, &id) in inputs.iter().enumerate() {
        let shape = thinned(graph.shape(id), stride);
        let value = graph.add_value(format!("{}/thinned", graph.value(id).name), shape);
        let node = Node {
            name: format!("{name}/thin{at}"),
            part_of: Some(name.clone()),
            op: Op::Pooling(thinning(stride)),
            inputs: vec![id],
            output: value,
            derived: Default::default(),
        };
        graph.nodes[index + at].inputs[at] = value;
        graph.nodes.insert(index + at, node);
    }
    thin_value(graph, output, stride);
    release_readers(graph, output);
    inputs.len()
}

/// One of `stride` pixels.
fn thinning(stride: [u32; 2]) -> Pooling {
    Pooling {
        method: PoolMethod::Average,
        window: Window {
            stride,
            ..Window::square(1, 1, 0)
        },
        global: false,
        made_for: None,
        rounding: Rounding::Down,
        relu: false,
        mask: false,
    }
}

fn thinned(shape: &Shape, [rows, columns]: [u32; 2]) -> Shape {
    let mut dims = shape.dims().to_vec();
    for (dim, stride) in dims.iter_mut().skip(2).zip([rows, columns]) {
        *dim = dim.div_ceil(stride);
    }
    Shape::new(dims).expect("no dim grows, and none becomes 0")
}

fn thin_value(graph: &mut Graph, value: ValueId, stride: [u32; 2]) {
    graph.values[value.0 as usize].shape = thinned(graph.shape(value), stride);
}
