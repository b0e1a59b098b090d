//! Nodes and initializers of the model that is written.

use super::{ExportOptions, Written};
use crate::element::{FLOAT, INT64};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto};
use skimjit_models::{Graph, Node, ValueId, Weight, WeightId};
use std::collections::{HashMap, HashSet};

/// A value of an attribute.
pub(super) enum Value<'a> {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'a str),
}

/// The model so far.
pub(super) struct Writer<'a> {
    pub graph: &'a Graph,
    options: ExportOptions,
    made: GraphProto,
    names: HashMap<ValueId, String>,
    used: HashMap<String, usize>,
    /// Names of operators, which are a matter of their own.
    operators: HashMap<String, usize>,
    /// Initializers of the graph's weights, by the dims that they were written with.
    weights: HashMap<(WeightId, Vec<u32>), String>,
    /// Of each weight once.
    counted: HashSet<WeightId>,
    written: Written,
    /// The graph's node that is written, and its operators so far.
    node: (String, usize),
}

impl<'a> Writer<'a> {
    pub fn new(graph: &'a Graph, options: ExportOptions) -> Self {
        let mut writer = Self {
            graph,
            options,
            made: GraphProto::default(),
            names: HashMap::new(),
            used: HashMap::new(),
            operators: HashMap::new(),
            weights: HashMap::new(),
            counted: HashSet::new(),
            written: Written::default(),
            node: (String::new(), 0),
        };
        // Values of one name (of in-place layers) get one each; the last keeps it, as outputs are the last.
        for (index, value) in graph.values.iter().enumerate().rev() {
            let name = writer.free(&value.name);
            writer.names.insert(ValueId(index as u32), name);
        }
        writer
    }

    /// A name that no value has yet.
    fn free(&mut self, name: &str) -> String {
        free(&mut self.used, if name.is_empty() { "value" } else { name })
    }

    pub fn name(&self, id: ValueId) -> &str {
        &self.names[&id]
    }

    pub fn operand(&self, node: &Node, index: usize) -> String {
        self.name(node.inputs[index]).to_owned()
    }

    /// Adds an operator; the name of its result.
    pub fn add(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Value<'_>)]) -> String {
        let result = self.free(&format!("{}/{op}", self.current()));
        let name = free(&mut self.operators, &result);
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let mut input: Vec<String> = owned(inputs);
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        self.made.node.push(NodeProto {
            input,
            output: vec![result.clone()],
            name: Some(name),
            op_type: Some(op.to_owned()),
            attribute: attributes
                .iter()
                .map(|(name, value)| attribute(name, value))
                .collect(),
            ..NodeProto::default()
        });
        self.node.1 += 1;
        result
    }

    /// An operator of all operands of a node.
    pub fn plain(&mut self, op: &str, node: &Node) -> String {
        let names: Vec<String> = node
            .inputs
            .iter()
            .map(|&id| self.name(id).to_owned())
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.add(op, &names, &[])
    }

    /// Name of the graph's node that is written.
    fn current(&self) -> &str {
        &self.node.0
    }

    /// Begins a node of the graph.
    pub fn begin(&mut self, node: &Node) {
        self.node = (node.name.clone(), 0);
    }

    /// Ends a node of the graph: its result gets its name, and the last operator that of the node.
    pub fn end(&mut self, result: String, node: &Node) {
        let wanted = self.name(node.output).to_owned();
        let name = free(&mut self.operators, &node.name);
        // The operator that made it is one of this node's.
        let own = self.made.node.iter_mut().rev().take(self.node.1);
        for operator in own {
            for output in operator.output.iter_mut().chain(&mut operator.input) {
                if *output == result {
                    output.clone_from(&wanted);
                }
            }
        }
        if let Some(last) = self.made.node.last_mut() {
            last.name = Some(name);
        }
    }

    /// An initializer of a weight of the graph, as it is.
    pub fn weight(&mut self, id: WeightId) -> String {
        let dims = self.graph.weight(id).shape().dims().to_vec();
        self.weight_as(id, &dims)
    }

    /// An initializer of a weight of the graph with other dims.
    pub fn weight_as(&mut self, id: WeightId, dims: &[u32]) -> String {
        let key = (id, dims.to_vec());
        if let Some(name) = self.weights.get(&key) {
            return name.clone();
        }
        let weight = self.graph.weight(id).clone();
        let name = self.free(&format!("{}.weight", self.current()));
        if self.counted.insert(id) {
            self.written.tensors += 1;
            self.written.elements += weight.shape().count() as u64;
            self.written.zeros += (weight.shape().count() - weight.nonzeros()) as u64;
        }
        let dims64: Vec<i64> = dims.iter().map(|&dim| dim.into()).collect();
        match self.options.sparse && 2 * weight.nonzeros() < weight.shape().count() {
            true => self
                .made
                .sparse_initializer
                .push(sparse(&name, &dims64, &weight)),
            false => self
                .made
                .initializer
                .push(floats(&name, &dims64, weight.data())),
        }
        self.weights.insert(key, name.clone());
        name
    }

    /// An initializer of new floats.
    pub fn floats(&mut self, dims: &[i64], data: &[f32]) -> String {
        let name = self.free(&format!("{}.constant", self.current()));
        self.made.initializer.push(floats(&name, dims, data));
        name
    }

    /// A number.
    pub fn number(&mut self, number: f32) -> String {
        self.floats(&[], &[number])
    }

    /// An initializer of a list of integers.
    pub fn ints(&mut self, ints: &[i64]) -> String {
        let name = self.free(&format!("{}.constant", self.current()));
        let raw: Vec<u8> = ints.iter().flat_map(|int| int.to_le_bytes()).collect();
        self.made.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: vec![ints.len() as i64],
            data_type: Some(INT64),
            raw_data: Some(raw.into()),
            ..TensorProto::default()
        });
        name
    }

    pub fn written(&self) -> Written {
        self.written
    }

    pub fn finish(self) -> GraphProto {
        self.made
    }
}

/// A name that is not among those that are used, and is from then on. Of each, the next number is kept.
fn free(used: &mut HashMap<String, usize>, name: &str) -> String {
    let mut free = name.to_owned();
    while used.contains_key(&free) {
        let next = used.entry(name.to_owned()).or_default();
        *next += 1;
        free = format!("{name}_{next}");
    }
    used.insert(free.clone(), 0);
    free
}

fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let raw: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(FLOAT),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// The elements that are not +0, with their places.
fn sparse(name: &str, dims: &[i64], weight: &Weight) -> SparseTensorProto {
    let data = weight.data();
    let stored = data
        .iter()
        .enumerate()
        .filter(|(_, value)| value.to_bits() != 0);
    let (places, values): (Vec<i64>, Vec<f32>) =
        stored.map(|(place, &value)| (place as i64, value)).unzip();
    let count = [values.len() as i64];
    let raw: Vec<u8> = places
        .iter()
        .flat_map(|place| place.to_le_bytes())
        .collect();
    SparseTensorProto {
        values: Some(floats(name, &count, &values)),
        indices: Some(TensorProto {
            dims: count.to_vec(),
            data_type: Some(INT64),
            raw_data: Some(raw.into()),
            ..TensorProto::default()
        }),
        dims: dims.to_vec(),
    }
}

fn attribute(name: &str, value: &Value<'_>) -> AttributeProto {
    let mut made = AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    let kind = match value {
        Value::Int(value) => {
            made.i = Some(*value);
            AttributeType::Int
        }
        Value::Ints(values) => {
            made.ints.clone_from(values);
            AttributeType::Ints
        }
        Value::Float(value) => {
            made.f = Some(*value);
            AttributeType::Float
        }
        Value::Text(text) => {
            made.s = Some(text.as_bytes().to_vec().into());
            AttributeType::String
        }
    };
    made.set_type(kind);
    made
}
