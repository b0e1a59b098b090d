//! Fuses activations into the layer before them.

use super::dead;
use super::uses::Uses;
use crate::ops::{Activation, PoolMethod};
use crate::{Graph, Op};

/// Fuses activations that are 0 at 0 and that kernels apply in registers (ReLU of any slope, Clip, HardSwish, Swish) behind
/// convolutions, inner products and elementwise combinations into their post-op, and ReLU of slope 0 behind max
/// pooling into the pooling's start value; where the value in between is read by nothing else and is no output.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let uses = Uses::of(&graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let node = &graph.nodes[index];
        let (&Op::Activation(activation), &[x]) = (&node.op, &node.inputs[..]) else {
            continue;
        };
        let (output, only) = (node.output, uses.only_reader(x));
        // A layer that has taken one already refuses a second one.
        let Some(before) = uses.producer(x).filter(|_| only == Some(index)) else {
            continue;
        };
        if fits_registers(activation) && attach(&mut graph.nodes[before].op, activation) {
            graph.nodes[before].output = output;
            *fused = true;
        }
    }
    let mut fused = fused.into_iter();
    graph.nodes.retain(|_| fused.next() == Some(false));
    dead(graph)
}

fn fits_registers(activation: Activation) -> bool {
    match activation {
        Activation::ReLU { .. } | Activation::HardSwish => true,
        Activation::Swish { beta } => beta.is_finite(),
        Activation::Clip { min, max } => min <= 0.0 && max >= 0.0,
        _ => false,
    }
}

/// Attaches an activation to the op, if it can take one.
fn attach(op: &mut Op, activation: Activation) -> bool {
    let post = match op {
        Op::Convolution(op) | Op::Deconvolution(op) => &mut op.post,
        Op::InnerProduct(op) => &mut op.post,
        Op::Eltwise(op) => &mut op.post,
        Op::Binary(op) => &mut op.post,
        Op::Pooling(op) => {
            let relu = activation == Activation::ReLU { slope: 0.0 };
            let fits = op.method == PoolMethod::Max && !op.relu && !op.mask && relu;
            op.relu |= fits;
            return fits;
        }
        _ => return false,
    };
    let free = post.activation.is_none();
    post.activation.get_or_insert(activation);
    free
}
