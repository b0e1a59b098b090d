//! Fuses ReLU into the layer before it.

use super::dead;
use super::uses::Uses;
use crate::ops::{Activation, PoolMethod};
use crate::{Graph, Op};

/// Fuses ReLU, of any slope, behind convolutions, inner products and elementwise combinations into
/// their post-op, and ReLU of slope 0 behind max pooling into the pooling's start value; where the
/// value in between is read by nothing else and is no output.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let uses = Uses::of(&graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let node = &graph.nodes[index];
        let (&Op::Activation(Activation::ReLU { slope }), &[x]) = (&node.op, &node.inputs[..])
        else {
            continue;
        };
        let (output, only) = (node.output, uses.only_reader(x));
        // A layer that has taken a ReLU already refuses a second one.
        let Some(before) = uses.producer(x).filter(|_| only == Some(index)) else {
            continue;
        };
        if attach(&mut graph.nodes[before].op, slope) {
            graph.nodes[before].output = output;
            *fused = true;
        }
    }
    let mut fused = fused.into_iter();
    graph.nodes.retain(|_| fused.next() == Some(false));
    dead(graph)
}

/// Attaches a ReLU to the op, if it can take one.
fn attach(op: &mut Op, slope: f32) -> bool {
    let post = match op {
        Op::Convolution(op) | Op::Deconvolution(op) => &mut op.post,
        Op::InnerProduct(op) => &mut op.post,
        Op::Eltwise(op) => &mut op.post,
        Op::Binary(op) => &mut op.post,
        Op::Pooling(op) => {
            let fits = op.method == PoolMethod::Max && !op.relu && !op.mask && slope == 0.0;
            op.relu |= fits;
            return fits;
        }
        _ => return false,
    };
    let free = post.relu.is_none();
    post.relu.get_or_insert(slope);
    free
}
