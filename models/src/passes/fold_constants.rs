//! Computes prior boxes, and moves constants about, once.

use super::dead;
use crate::{Graph, Op, Tensor, TensorRef, ValueId, Weight};
use std::collections::HashMap;
use std::sync::Arc;

/// Replaces every PriorBox, and every layer that only moves elements of constants, by a constant.
/// Layers that compute with constants stay: DummyData may stand for the data of a network.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let mut constants = HashMap::new();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let id = match (&node.op, value(&graph, &constants, index)) {
            (Op::Constant(id), _) => *id,
            (_, Some(tensor)) => {
                let id = graph.add_weight(tensor);
                let node = &mut graph.nodes[index];
                (node.op, node.inputs) = (Op::Constant(id), Vec::new());
                id
            }
            _ => continue,
        };
        constants.insert(graph.nodes[index].output, Arc::clone(graph.weight(id)));
    }
    dead(graph)
}

/// Result of a node that can be computed now.
fn value(graph: &Graph, constants: &HashMap<ValueId, Arc<Weight>>, index: usize) -> Option<Tensor> {
    let node = &graph.nodes[index];
    let operand = |id: &ValueId| {
        let shape = graph.shape(*id);
        // A PriorBox reads no elements.
        let data = match node.op {
            Op::PriorBox(_) => &[],
            _ => constants.get(id)?.data(),
        };
        Some(TensorRef { shape, data })
    };
    // What is repeated takes less memory as it is.
    let repeats = matches!(node.op, Op::Tile { .. } | Op::Expand { .. } | Op::Resize(_));
    let moves = node.op.only_moves() && !repeats;
    let operands: Option<Vec<TensorRef<'_>>> = node.inputs.iter().map(operand).collect();
    let operands = operands.filter(|_| moves || matches!(node.op, Op::PriorBox(_)))?;
    let mut result = Tensor::zeros(graph.shape(node.output).clone());
    let shape = result.shape().clone();
    node.op
        .evaluate(&operands, &graph.weights, &shape, result.data_mut());
    Some(result)
}
