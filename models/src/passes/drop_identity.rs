//! Drops copies.

use super::dead;
use super::uses::Uses;
use crate::{Graph, Op, ValueId};

/// Lets the readers of a copy read the original. A copy that is an output takes the original's
/// place, so that its name stays; where the original is a network input or an output itself, the
/// copy stays.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let uses = Uses::of(&graph);
    let mut places = Places::of(&graph);
    let mut gone = vec![false; graph.nodes.len()];
    for (node, gone) in graph.nodes.iter().zip(&mut gone) {
        let (Op::Identity | Op::Dropout { .. }, &[original]) = (&node.op, node.inputs.as_slice())
        else {
            continue;
        };
        let (original, copy) = (places.find(original), node.output);
        *gone = true;
        if !uses.is_output(copy) {
            places.give(copy, original);
        } else if uses.producer(original).is_some() && !uses.is_output(original) {
            places.give(original, copy);
        } else {
            *gone = false;
        }
    }
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| gone.next() == Some(false));
    for node in &mut graph.nodes {
        let values = node.inputs.iter_mut().chain([&mut node.output]);
        values.for_each(|id| *id = places.find(*id));
    }
    dead(graph)
}

/// Which value stands for each.
struct Places(Vec<ValueId>);

impl Places {
    /// Each for itself.
    fn of(graph: &Graph) -> Self {
        Self((0..graph.values.len() as u32).map(ValueId).collect())
    }

    /// Lets `other` stand for `id` and for what `id` stands for.
    fn give(&mut self, id: ValueId, other: ValueId) {
        self.0[id.0 as usize] = other;
    }

    fn find(&self, mut id: ValueId) -> ValueId {
        // An output stands for itself and all others stand for an original or for an output, so this is
        // at most two steps.
        while self.0[id.0 as usize] != id {
            id = self.0[id.0 as usize];
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activation;
    use crate::{Shape, Tensor, interpreter};

    /// data → relu → {copy, other}; copy → abs.
    fn graph(outputs: &[&str]) -> Graph {
        let shape = Shape::new([2]).unwrap();
        let mut graph = Graph::default();
        let data = graph.add_value("data", shape);
        graph.inputs = vec![data];
        let relu = Op::Activation(Activation::ReLU { slope: 0.5 });
        let first = graph
            .add_node("copy0", Op::Identity, vec![data], "copy0")
            .unwrap();
        let x = graph.add_node("relu", relu, vec![first], "x").unwrap();
        let copy = graph
            .add_node("copy", Op::Identity, vec![x], "copy")
            .unwrap();
        graph
            .add_node("other", Op::Identity, vec![x], "other")
            .unwrap();
        let abs = Op::Activation(Activation::AbsVal);
        graph.add_node("abs", abs, vec![copy], "abs").unwrap();
        graph.outputs = outputs
            .iter()
            .map(|name| graph.find(name).unwrap())
            .collect();
        graph
    }

    #[track_caller]
    fn check(outputs: &[&str], nodes: &[&str]) {
        let before = graph(outputs);
        let after = run(before.clone());
        after.check().unwrap();
        let names: Vec<&str> = after.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, nodes);
        let kept: Vec<&str> = after
            .outputs
            .iter()
            .map(|&id| after.value(id).name.as_str())
            .collect();
        assert_eq!(kept, outputs);
        let input = [Tensor::new(Shape::new([2]).unwrap(), vec![-4.0, 3.0])];
        let run = |graph| interpreter::run_outputs(graph, &input).unwrap();
        assert_eq!(run(&before), run(&after));
    }

    #[test]
    fn copies_go_and_names_stay() {
        check(&["abs"], &["relu", "abs"]);
        check(&["abs", "copy"], &["relu", "abs"]);
        check(&["copy", "other"], &["relu", "other"]);
        check(&["x", "copy"], &["relu", "copy"]);
        check(&["copy0"], &["copy0"]);
    }
}
