//! Who computes and who reads each value.

use crate::{Graph, ValueId};

/// Index of a graph's values.
pub(super) struct Uses {
    producer: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
    is_output: Vec<bool>,
}

impl Uses {
    /// Indexes `graph`; holds until its nodes change.
    pub fn of(graph: &Graph) -> Self {
        let count = graph.values.len();
        let mut uses = Self {
            producer: vec![None; count],
            readers: vec![Vec::new(); count],
            is_output: vec![false; count],
        };
        for (index, node) in graph.nodes.iter().enumerate() {
            uses.producer[node.output.0 as usize] = Some(index);
            for id in &node.inputs {
                uses.readers[id.0 as usize].push(index);
            }
        }
        for id in &graph.outputs {
            uses.is_output[id.0 as usize] = true;
        }
        uses
    }

    /// Node that computes the value; `None` for network inputs.
    pub fn producer(&self, id: ValueId) -> Option<usize> {
        self.producer[id.0 as usize]
    }

    /// The node that is alone in reading the value, when it reads it once and the value is no
    /// network output.
    pub fn only_reader(&self, id: ValueId) -> Option<usize> {
        match self.readers[id.0 as usize].as_slice() {
            [reader] if !self.is_output(id) => Some(*reader),
            _ => None,
        }
    }

    /// Nodes that read the value, in their order; one that reads it twice is there twice.
    pub fn readers(&self, id: ValueId) -> &[usize] {
        &self.readers[id.0 as usize]
    }

    /// True for network outputs.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.is_output[id.0 as usize]
    }
}
