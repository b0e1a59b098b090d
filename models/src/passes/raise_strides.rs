//! Leaves out pixels that every reader leaves out.

use super::uses::Uses;
use super::{dead, drop_identity};
use crate::ops::{PoolMethod, Pooling, Rounding, Window};
use crate::{Graph, Node, Op, Shape, ValueId};
use std::collections::HashSet;

/// Where all that read a convolution are windows of one pixel with a stride, the convolution takes the stride: a ResNet
/// of Caffe computes its last block of a stage in full and reads a quarter of it. A sum or product of values on the way
/// takes thinned operands.
#[must_use]
pub fn run(graph: Graph) -> Graph {
    let mut raising = Raising::of(graph);
    let count = raising.graph.nodes.len();
    for index in (0..count).rev() {
        let output = raising.graph.nodes[index].output;
        let Some(stride) = raising.stride_of_readers(output) else {
            continue;
        };
        let raised = match &raising.graph.nodes[index].op {
            Op::Convolution(_) => raising.stride_convolution(index, stride),
            Op::Eltwise(_) => raising.thin_operands(index, stride),
            _ => false,
        };
        if raised {
            raising.release_readers(output, stride);
        }
    }
    match raising.changed {
        true => dead(drop_identity(raising.in_order(count))),
        false => raising.graph,
    }
}

/// A graph whose nodes are in order but for those that were added, which are the last.
struct Raising {
    graph: Graph,
    uses: Uses,
    /// Of each value, as they are by now.
    readers: Vec<Vec<usize>>,
    /// The nodes that were added, and the node behind which each belongs.
    added: Vec<Option<usize>>,
    /// Names of nodes.
    names: HashSet<String>,
    changed: bool,
}

impl Raising {
    fn of(graph: Graph) -> Self {
        let uses = Uses::of(&graph);
        let ids = (0..graph.values.len() as u32).map(ValueId);
        let readers = ids.map(|id| uses.readers(id).to_vec()).collect();
        let names = graph.nodes.iter().map(|node| node.name.clone()).collect();
        Self {
            names,
            graph,
            uses,
            readers,
            added: Vec::new(),
            changed: false,
        }
    }

    /// The one stride of all readers of a value that nobody else sees.
    fn stride_of_readers(&self, value: ValueId) -> Option<[u32; 2]> {
        let readers = &self.readers[value.0 as usize];
        if self.uses.is_output(value) || self.graph.shape(value).rank() != 4 {
            return None;
        }
        let mut strides = readers
            .iter()
            .map(|&reader| pixel_stride(&self.graph.nodes[reader].op));
        let first = strides.next()??;
        strides.all(|stride| stride == Some(first)).then_some(first)
    }

    /// Readers of a value that is thinned now have no stride any more.
    fn release_readers(&mut self, value: ValueId, stride: [u32; 2]) {
        self.changed = true;
        self.graph.values[value.0 as usize].shape = thinned(self.graph.shape(value), stride);
        for &reader in &self.readers[value.0 as usize] {
            match &mut self.graph.nodes[reader].op {
                Op::Convolution(op) => op.window.stride = [1, 1],
                op => *op = Op::Identity,
            }
        }
    }

    fn stride_convolution(&mut self, index: usize, stride: [u32; 2]) -> bool {
        let Op::Convolution(op) = &mut self.graph.nodes[index].op else {
            return false;
        };
        let mut window = op.window;
        for (old, more) in window.stride.iter_mut().zip(stride) {
            *old = old.saturating_mul(more);
        }
        if window.check().is_err() {
            return false;
        }
        op.window = window;
        true
    }

    /// Whether a convolution that only this node reads would compute less.
    fn saves_work(&self, index: usize) -> bool {
        self.graph.nodes[index].inputs.iter().any(|&id| {
            let producer = self.uses.producer(id);
            let producer = producer.map(|producer| &self.graph.nodes[producer].op);
            self.uses.only_reader(id).is_some() && matches!(producer, Some(Op::Convolution(_)))
        })
    }

    /// Adds nodes that thin the operands, right behind what computes them.
    fn thin_operands(&mut self, index: usize, stride: [u32; 2]) -> bool {
        if !self.saves_work(index) {
            return false;
        }
        let Node { name, inputs, .. } = self.graph.nodes[index].clone();
        for (at, &id) in inputs.iter().enumerate() {
            let shape = thinned(self.graph.shape(id), stride);
            let output = self
                .graph
                .add_value(format!("{}/thinned", self.graph.value(id).name), shape);
            let readers = &mut self.readers[id.0 as usize];
            let reader = readers.iter_mut().find(|reader| **reader == index);
            *reader.expect("an operand is read") = self.graph.nodes.len();
            self.readers.push(vec![index]);
            self.added.push(self.uses.producer(id));
            self.graph.nodes[index].inputs[at] = output;
            let mut thin = format!("{name}/thin{at}");
            while !self.names.insert(thin.clone()) {
                thin.push('_');
            }
            self.graph.nodes.push(Node {
                name: thin,
                part_of: Some(name.clone()),
                op: Op::Pooling(thinning(stride)),
                inputs: vec![id],
                output,
                derived: Default::default(),
            });
        }
        true
    }

    /// The graph with every node behind its operands; `count` were there before.
    fn in_order(self, count: usize) -> Graph {
        let mut graph = self.graph;
        let mut nodes = std::mem::take(&mut graph.nodes);
        let mut behind: Vec<Vec<Node>> = vec![Vec::new(); count + 1];
        for (node, producer) in nodes.drain(count..).zip(self.added) {
            behind[producer.map_or(0, |producer| producer + 1)].push(node);
        }
        let mut behind = behind.into_iter();
        graph.nodes.extend(behind.next().unwrap_or_default());
        for (node, added) in nodes.into_iter().zip(behind) {
            graph.nodes.push(node);
            graph.nodes.extend(added);
        }
        graph
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
