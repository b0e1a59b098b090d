//! Drops nodes, weights and values that no output needs.

use crate::{Graph, ValueId, WeightId};

/// Drops what no output needs and renumbers values and weights without gaps, in their old order.
/// Network inputs stay even when nothing reads them: they are the caller's interface.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let mut needed = vec![false; graph.values.len()];
    for id in graph.outputs.iter().chain(&graph.inputs) {
        needed[id.0 as usize] = true;
    }
    for node in graph.nodes.iter().rev() {
        if needed[node.output.0 as usize] {
            node.inputs
                .iter()
                .for_each(|id| needed[id.0 as usize] = true);
        }
    }
    graph.nodes.retain(|node| needed[node.output.0 as usize]);
    compact_values(&mut graph, &needed);
    compact_weights(&mut graph);
    graph
}

fn compact_values(graph: &mut Graph, needed: &[bool]) {
    let numbers = new_numbers(needed);
    let renumber = |id: &mut ValueId| id.0 = numbers[id.0 as usize];
    for node in &mut graph.nodes {
        node.inputs.iter_mut().for_each(renumber);
        renumber(&mut node.output);
    }
    graph
        .inputs
        .iter_mut()
        .chain(&mut graph.outputs)
        .for_each(renumber);
    let mut keep = needed.iter();
    graph.values.retain(|_| keep.next() == Some(&true));
}

fn compact_weights(graph: &mut Graph) {
    let mut needed = vec![false; graph.weights.len()];
    for id in graph.nodes.iter().flat_map(|node| node.op.weights()) {
        needed[id.0 as usize] = true;
    }
    let numbers = new_numbers(&needed);
    for id in graph
        .nodes
        .iter_mut()
        .flat_map(|node| node.op.weights_mut())
    {
        *id = WeightId(numbers[id.0 as usize]);
    }
    let mut keep = needed.iter();
    graph.weights.retain(|_| keep.next() == Some(&true));
}

/// For each kept item its number among the kept ones.
fn new_numbers(kept: &[bool]) -> Vec<u32> {
    let mut next = 0;
    let number = |&kept: &bool| {
        let number = next;
        next += u32::from(kept);
        number
    };
    kept.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, Shape, Tensor};

    #[test]
    fn keeps_only_what_outputs_need() {
        let shape = Shape::new([2]).unwrap();
        let mut graph = Graph::default();
        let unused = graph.add_value("label", shape.clone());
        let input = graph.add_value("data", shape.clone());
        graph.inputs = vec![unused, input];
        let lost = graph.add_weight(Tensor::zeros(shape.clone()));
        let kept = graph.add_weight(Tensor::new(shape, vec![1.0, 2.0]));
        graph
            .add_node("lost", Op::Constant(lost), vec![], "lost")
            .unwrap();
        let out = graph
            .add_node("kept", Op::Constant(kept), vec![], "kept")
            .unwrap();
        graph.outputs = vec![out];
        let graph = run(graph);
        assert_eq!(
            (graph.nodes.len(), graph.values.len(), graph.weights.len()),
            (1, 3, 1)
        );
        assert_eq!(graph.nodes[0].op, Op::Constant(WeightId(0)));
        assert_eq!(
            (graph.find("label"), graph.find("lost")),
            (Some(unused), None)
        );
        assert_eq!(graph.weights[0].data(), [1.0, 2.0]);
        graph.check().unwrap();
    }
}
