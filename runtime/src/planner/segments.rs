//! Which nodes are computed image by image, and which for the whole batch.

use skimjit_models::{Graph, Op, Shape, ValueId};

/// True when the first axis is the batch. An input of which it is not belongs to the batch as a whole.
pub(super) fn is_batched(shape: &Shape, batch: u32) -> bool {
    shape.rank() > 0 && shape.dim(0) == batch
}

/// Nodes whose result depends on the whole batch, directly or through an operand.
pub(super) fn couplings(graph: &Graph, batch: u32) -> Vec<bool> {
    let batched = |id: &ValueId| is_batched(graph.shape(*id), batch);
    let mut whole = vec![false; graph.values.len()];
    for id in &graph.inputs {
        whole[id.0 as usize] = !batched(id);
    }
    graph
        .nodes
        .iter()
        .map(|node| {
            let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
            // A batch of one image has nothing to couple.
            let mixes = batch > 1 && !node.op.per_image(&shapes);
            let coupled = mixes
                || !batched(&node.output)
                || node.inputs.iter().any(|id| whole[id.0 as usize]);
            whole[node.output.0 as usize] = coupled;
            coupled
        })
        .collect()
}

/// Smallest weights of an inner product (bytes) that are worth waiting for the whole batch.
const BATCHED_WEIGHTS: usize = 64 << 10;

/// Runs of nodes that are computed image by image or for the whole batch.
pub(super) fn segments(graph: &Graph, batch: u32, coupled: &[bool]) -> (Vec<usize>, Vec<bool>) {
    let mut per_image = Vec::new();
    let mut segment_of = Vec::new();
    for (node, &coupled) in graph.nodes.iter().zip(coupled) {
        let heavy = match &node.op {
            Op::InnerProduct(op) => {
                batch > 1 && graph.weight(op.weights).shape().count() * 4 >= BATCHED_WEIGHTS
            }
            _ => false,
        };
        let single = !coupled && !heavy;
        if per_image.last() != Some(&single) {
            per_image.push(single);
        }
        segment_of.push(per_image.len() - 1);
    }
    if per_image.is_empty() {
        per_image.push(true);
    }
    (segment_of, per_image)
}
