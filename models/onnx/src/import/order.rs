//! Names of a graph, and an order in which every operand is there before it is used.

use crate::proto::{GraphProto, NodeProto};
use skimjit_models::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Where an initializer is in the file.
#[derive(Clone, Copy)]
pub(super) enum Initializer {
    Dense(usize),
    Sparse(usize),
}

/// What is needed for the results, and in which order.
pub(super) struct Order<'a> {
    /// Indices of nodes.
    pub nodes: Vec<usize>,
    pub initializers: HashMap<&'a str, Initializer>,
    used: HashSet<&'a str>,
}

impl<'a> Order<'a> {
    pub fn of(graph: &'a GraphProto) -> Result<Self> {
        let initializers = initializers(graph)?;
        let makers = makers(graph, &initializers)?;
        let needed = needed(graph, &makers);
        let mut used: HashSet<&str> = graph.output.iter().map(|output| output.name()).collect();
        for &index in &needed {
            used.extend(graph.node[index].input.iter().map(String::as_str));
        }
        used.remove("");
        Ok(Self {
            nodes: sorted(graph, &makers, &needed)?,
            initializers,
            used,
        })
    }

    /// Whether anything reads the result of that name.
    pub fn is_used(&self, name: &str) -> bool {
        self.used.contains(name)
    }
}

/// The name of a node, or of its first result.
pub(super) fn node_name(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    }
}

fn initializers(graph: &GraphProto) -> Result<HashMap<&str, Initializer>> {
    let dense = graph.initializer.iter().map(|one| one.name()).enumerate();
    let dense = dense.map(|(index, name)| (name, Initializer::Dense(index)));
    let values = graph
        .sparse_initializer
        .iter()
        .map(|one| one.values.as_ref());
    let sparse = values
        .map(|values| values.map_or("", |values| values.name()))
        .enumerate();
    let sparse = sparse.map(|(index, name)| (name, Initializer::Sparse(index)));
    let mut found = HashMap::new();
    for (name, place) in dense.chain(sparse) {
        if name.is_empty() {
            return Err(Error::new("an initializer without a name").expected("a name"));
        }
        if found.insert(name, place).is_some() {
            return Err(Error::new("two initializers")
                .field(format!("initializer \"{name}\""))
                .expected("one of that name"));
        }
    }
    Ok(found)
}

/// The node that makes each name.
fn makers<'a>(
    graph: &'a GraphProto,
    initializers: &HashMap<&str, Initializer>,
) -> Result<HashMap<&'a str, usize>> {
    let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name()).collect();
    let mut makers = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            let name = output.as_str();
            let taken = inputs.contains(name) || initializers.contains_key(name);
            if makers.insert(name, index).is_some() || taken {
                return Err(Error::new(format!("a second thing named \"{name}\""))
                    .layer(node_name(node))
                    .field("output")
                    .expected("a name of its own"));
            }
        }
    }
    Ok(makers)
}

/// Nodes that the results depend on, in the file's order.
fn needed(graph: &GraphProto, makers: &HashMap<&str, usize>) -> Vec<usize> {
    let mut is_needed = vec![false; graph.node.len()];
    let mut open: Vec<&str> = graph.output.iter().map(|output| output.name()).collect();
    while let Some(name) = open.pop() {
        let Some(&maker) = makers.get(name) else {
            continue;
        };
        if !std::mem::replace(&mut is_needed[maker], true) {
            open.extend(graph.node[maker].input.iter().map(String::as_str));
        }
    }
    (0..graph.node.len())
        .filter(|&index| is_needed[index])
        .collect()
}

/// The nodes, each behind those that make its operands; otherwise as in the file.
fn sorted(
    graph: &GraphProto,
    makers: &HashMap<&str, usize>,
    needed: &[usize],
) -> Result<Vec<usize>> {
    let mut missing = vec![0; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for &index in needed {
        for input in &graph.node[index].input {
            if let Some(&maker) = makers.get(input.as_str()) {
                missing[index] += 1;
                readers[maker].push(index);
            }
        }
    }
    let mut ready: std::collections::BinaryHeap<_> = needed
        .iter()
        .filter(|&&index| missing[index] == 0)
        .map(|&index| std::cmp::Reverse(index))
        .collect();
    let mut order = Vec::with_capacity(needed.len());
    while let Some(std::cmp::Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(std::cmp::Reverse(reader));
            }
        }
    }
    match needed.iter().find(|&&index| missing[index] > 0) {
        None => Ok(order),
        Some(&index) => Err(Error::new("a node that needs its own result")
            .layer(node_name(&graph.node[index]))
            .expected("a graph without circles")),
    }
}
