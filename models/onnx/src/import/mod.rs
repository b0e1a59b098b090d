//! How a model becomes a graph.
//!
//! Nodes are converted in the order of their operands, each by its row of the [`table`]. What is known at import,
//! shapes above all, is computed at import ([`fold`]); the batch stays open: the graph is made for one batch while
//! shapes for another one are kept beside it, and what changes with the batch is followed as `images·batch + rest`
//! ([`build`]). Where that is not possible, the graph is made again for the one batch that is asked for.

mod arithmetic;
mod attributes;
mod build;
mod convolution;
mod elementwise;
mod fold;
mod interface;
mod matrix;
mod movement;
mod node;
mod normalization;
mod order;
mod pooling;
mod reduction;
mod resize;
mod sequence;
mod shape;
mod spelling;
pub(crate) mod table;
mod volume;
mod window;

use crate::constant::Constant;
use crate::element::Kind;
use crate::model::Model;
use crate::proto::NodeProto;
use crate::tensor;
use attributes::Attributes;
use build::{Build, Known, Value};
use interface::Interface;
use node::Node;
use order::Order;
use skimjit_models::{
    Derived, Error, Graph, Imported, Op, Result, Shape, Training, ValueId, Warning,
};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use table::{Fold, Row};

/// What the caller decides.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Shapes of inputs that the file leaves open, or others than it says, by name; without a name: the first one.
    pub input_shapes: Vec<(Option<String>, Shape)>,
    /// Weights of convolutions and inner products of this magnitude and below become zero.
    pub zero_below: Option<f32>,
}

/// A node that cannot be read.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Name of the node, or of its first result.
    pub node: String,
    /// Operator, with its domain where it is not ONNX's own.
    pub op: String,
    /// Attribute or operand.
    pub field: String,
    /// What was found and what was expected.
    pub why: String,
    error: Error,
}

/// Batches for which a network with an open batch is made: sizes that are no other sizes by chance.
const BATCHES: [u32; 2] = [11, 13];

/// Makes a graph of a model.
pub fn import(model: &Model, options: &ImportOptions) -> Result<Imported> {
    attempt(model, options).map_err(|error| error.file(&model.path))
}

/// Nodes that keep a model from being read; none: it is read. An error: something else is wrong with it.
pub fn refused(model: &Model, options: &ImportOptions) -> Result<Vec<Refused>> {
    let file = File::of(model).map_err(|error| error.file(&model.path))?;
    let interface = Interface::of(model.graph(), options);
    let interface = interface.map_err(|error| error.file(&model.path))?;
    match file.convert(&interface, interface.open_batch()) {
        Ok(_) => Ok(Vec::new()),
        Err(_) => match file.convert(&interface, interface.fixed_batch()) {
            Ok(_) => Ok(Vec::new()),
            Err(Failure::Nodes(refused)) => Ok(refused),
            Err(Failure::Model(error)) => Err(error.file(&model.path)),
        },
    }
}

fn attempt(model: &Model, options: &ImportOptions) -> Result<Imported> {
    let file = File::of(model)?;
    let interface = Interface::of(model.graph(), options)?;
    let open = file.for_any_batch(&interface).ok().flatten();
    let mut warnings = file.warnings.borrow().clone();
    let mut graph = match open {
        Some(graph) => graph,
        None => {
            let made = file
                .convert(&interface, interface.fixed_batch())
                .map_err(Error::from)?;
            warnings.clone_from(&file.warnings.borrow());
            warnings.push(Warning::new(format!(
                "the network is for a batch of {}: some of its shapes cannot be followed for others",
                interface.batch
            )));
            warnings.extend(interface.mismatch(&made.graph).map(Warning::new));
            made.graph
        }
    };
    graph.file = Some(model.path.clone());
    if let Some(threshold) = options.zero_below {
        zero_below(&mut graph, threshold);
    }
    Ok(Imported {
        graph,
        training: Training::default(),
        preprocess: None,
        warnings: warnings
            .into_iter()
            .map(|warning| warning.file(&model.path))
            .collect(),
    })
}

/// Makes small weights of convolutions and inner products zeros.
fn zero_below(graph: &mut Graph, threshold: f32) {
    let weighted = |op: &Op| match op {
        Op::Convolution(op) | Op::Deconvolution(op) => Some(op.weights),
        Op::InnerProduct(op) => Some(op.weights),
        _ => None,
    };
    let mut ids: Vec<_> = graph
        .nodes
        .iter()
        .filter_map(|node| weighted(&node.op))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let weight = &mut graph.weights[id.0 as usize];
        let kept = |_, value: f32| if value.abs() <= threshold { 0.0 } else { value };
        *weight = Arc::new(weight.map(kept));
    }
}

/// A graph, and whether it was seen for one batch only what is so for all.
struct Made {
    graph: Graph,
    assumes: bool,
}

/// Why a graph could not be made.
enum Failure {
    Model(Error),
    Nodes(Vec<Refused>),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let refused = match failure {
            Failure::Model(error) => return error,
            Failure::Nodes(refused) => refused,
        };
        if let [only] = &refused[..] {
            return only.error.clone();
        }
        const SHOWN: usize = 20;
        let text = |one: &Refused| {
            let field = if one.field.is_empty() { "" } else { "." };
            format!(
                "\"{}\" ({}{field}{}): {}",
                one.node, one.op, one.field, one.why
            )
        };
        let mut list: Vec<String> = refused.iter().take(SHOWN).map(text).collect();
        if refused.len() > SHOWN {
            list.push(format!("and {} more", refused.len() - SHOWN));
        }
        Error::new(format!(
            "{} nodes that cannot be read: {}",
            refused.len(),
            list.join("; ")
        ))
        .hint("`skimjit inspect FILE --support` shows them as a table")
    }
}

/// A model whose names are known.
struct File<'a> {
    model: &'a Model,
    order: Order<'a>,
    opset: i64,
    /// Initializers that have been decoded.
    initializers: RefCell<HashMap<&'a str, Rc<Constant>>>,
    warnings: RefCell<Vec<Warning>>,
}

impl<'a> File<'a> {
    fn of(model: &'a Model) -> Result<Self> {
        Ok(Self {
            model,
            opset: model.opset()?,
            order: Order::of(model.graph())?,
            initializers: RefCell::default(),
            warnings: RefCell::default(),
        })
    }

    /// An initializer by name.
    fn initializer(&self, name: &str) -> Result<Option<Rc<Constant>>> {
        let Some((&name, &place)) = self.order.initializers.get_key_value(name) else {
            return Ok(None);
        };
        if let Some(known) = self.initializers.borrow().get(name) {
            return Ok(Some(Rc::clone(known)));
        }
        let (graph, folder) = (self.model.graph(), &self.model.folder);
        let decoded = match place {
            order::Initializer::Dense(index) => tensor::decode(&graph.initializer[index], folder),
            order::Initializer::Sparse(index) => {
                tensor::decode_sparse(&graph.sparse_initializer[index], folder)
            }
        };
        let decoded = decoded.map_err(|error| {
            let field = error
                .field
                .clone()
                .map_or_else(String::new, |field| format!(".{field}"));
            Error {
                field: Some(format!("initializer \"{name}\"{field}")),
                ..error
            }
        })?;
        let decoded = Rc::new(decoded);
        self.initializers
            .borrow_mut()
            .insert(name, Rc::clone(&decoded));
        Ok(Some(decoded))
    }

    /// The graph for the batch that is asked for, which is right for any other too; `None`: there is none.
    fn for_any_batch(
        &self,
        interface: &Interface<'a>,
    ) -> std::result::Result<Option<Graph>, Failure> {
        let follows = |graph: Graph| {
            let follows = graph
                .nodes
                .iter()
                .all(|node| node.derived != Derived::Shapes);
            let graph = follows
                .then(|| graph.with_batch(interface.batch).ok())
                .flatten();
            graph.filter(|graph| interface.mismatch(graph).is_none())
        };
        let made = self.convert(interface, interface.open_batch())?;
        let assumes = made.assumes;
        let Some(graph) = follows(made.graph) else {
            return Ok(None);
        };
        if assumes {
            let again = self.convert(interface, interface.other_batch())?;
            let same = follows(again.graph).is_some_and(|again| again.nodes == graph.nodes);
            return Ok(same.then_some(graph));
        }
        Ok(Some(graph))
    }

    /// The graph for a batch; the file says more than one batch in `build`.
    fn convert(
        &self,
        interface: &Interface<'a>,
        build: Build,
    ) -> std::result::Result<Made, Failure> {
        self.warnings.borrow_mut().clear();
        let mut making = Making {
            file: self,
            build,
            names: HashMap::new(),
            refused: Vec::new(),
        };
        interface
            .add_to(&mut making.build, &mut making.names)
            .map_err(Failure::Model)?;
        for &index in &self.order.nodes {
            making
                .node(&self.model.graph().node[index])
                .map_err(Failure::Model)?;
        }
        match making.refused.is_empty() {
            true => making.finish().map_err(Failure::Model),
            false => Err(Failure::Nodes(making.refused)),
        }
    }
}

/// A graph that is being made.
struct Making<'a, 'b> {
    file: &'b File<'a>,
    build: Build,
    /// What the names stand for; `None`: its node is refused.
    names: HashMap<&'a str, Option<Known>>,
    refused: Vec<Refused>,
}

impl<'a> Making<'a, '_> {
    /// What a name stands for; `None`: its node is refused.
    fn known(&self, name: &str) -> Result<Option<Known>> {
        if let Some(known) = self.names.get(name) {
            return Ok(known.clone());
        }
        match self.file.initializer(name)? {
            Some(constant) => Ok(Some(Known::Constant(constant))),
            None => Err(Error::new(format!("nothing that makes \"{name}\""))
                .expected("an input, an initializer or the result of a node")),
        }
    }

    /// Converts a node, or notes why it is refused. An error: the file is damaged.
    fn node(&mut self, proto: &'a NodeProto) -> Result<()> {
        let name = order::node_name(proto);
        // Before its operands: behind a node that is refused, the others have to be in the same table.
        let known = operator(self.file.model, proto).and_then(|row| {
            let attributes = Attributes::of(proto, row.attributes)?;
            Ok((row, attributes))
        });
        let operands = self.operands(proto, name)?;
        let begin = self.build.graph.nodes.len();
        let converted = match (known, operands) {
            (Err(error), _) => Err(error),
            (Ok((row, attributes)), Some(inputs)) => {
                self.convert(proto, name, row, attributes, inputs)
            }
            (Ok(_), None) => {
                self.forget(proto);
                return Ok(());
            }
        };
        match converted {
            Ok(results) => self.name(proto, name, begin, results),
            Err(error) => {
                self.refuse(proto, name, error);
                self.forget(proto);
                Ok(())
            }
        }
    }

    /// What the operands of a node stand for; `None`: a node that makes one is refused.
    fn operands(&self, proto: &'a NodeProto, name: &str) -> Result<Option<Vec<Option<Known>>>> {
        let mut inputs = Vec::new();
        for (index, input) in proto.input.iter().enumerate() {
            if input.is_empty() {
                inputs.push(None);
                continue;
            }
            let known = self.known(input);
            match known.map_err(|error| error.layer(name).field(node::field(index)))? {
                Some(known) => inputs.push(Some(known)),
                None => return Ok(None),
            }
        }
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        Ok(Some(inputs))
    }

    fn convert(
        &mut self,
        proto: &NodeProto,
        name: &str,
        row: &Row,
        attributes: Attributes<'_>,
        inputs: Vec<Option<Known>>,
    ) -> Result<Vec<Known>> {
        let used = |output: &String| self.file.order.is_used(output);
        let outputs = proto
            .output
            .iter()
            .rposition(used)
            .map_or(0, |last| last + 1);
        let constants = inputs
            .iter()
            .flatten()
            .all(|input| matches!(input, Known::Constant(_)));
        let mut node = Node {
            name,
            opset: self.file.opset,
            attributes,
            inputs,
            outputs,
            folder: &self.file.model.folder,
            build: &mut self.build,
            from: Default::default(),
        };
        let results = match constants && row.fold != Fold::Itself {
            true => fold::fold(node, row),
            false => (row.convert)(&mut node),
        };
        let results = results.map_err(spelling::spelled)?;
        match results.len() >= outputs {
            true => Ok(results),
            false => Err(Error::new(format!("{outputs} results"))
                .field("output")
                .expected(format!("at most {}", results.len()))),
        }
    }

    /// The results of a refused node stand for nothing.
    fn forget(&mut self, proto: &'a NodeProto) {
        for output in &proto.output {
            self.names.insert(output, None);
        }
    }

    fn refuse(&mut self, proto: &NodeProto, name: &str, error: Error) {
        let op = match proto.domain() {
            "" | "ai.onnx" => proto.op_type().to_owned(),
            domain => format!("{domain}.{}", proto.op_type()),
        };
        let field = error.field.clone().unwrap_or_default();
        let expected = error
            .expected
            .as_deref()
            .map(|text| format!(", expected {text}"));
        let why = format!("found {}{}", error.found, expected.unwrap_or_default());
        let dot = if field.is_empty() { "" } else { "." };
        let full = format!("{op}{dot}{field}");
        self.refused.push(Refused {
            node: name.to_owned(),
            op,
            field,
            why,
            error: Error {
                field: Some(full),
                layer: Some(name.to_owned()),
                ..error
            },
        });
    }

    /// Gives nodes and values of the graph the names of the file.
    fn name(
        &mut self,
        proto: &'a NodeProto,
        name: &str,
        begin: usize,
        results: Vec<Known>,
    ) -> Result<()> {
        let graph = &mut self.build.graph;
        let made = graph.nodes.len() - begin;
        for (index, node) in graph.nodes[begin..].iter_mut().enumerate() {
            if index + 1 < made {
                node.name = format!("{name}/{}", index + 1);
                node.part_of = Some(name.to_owned());
            } else {
                node.name = name.to_owned();
            }
            graph.values[node.output.0 as usize].name = format!("{name}/{}", index + 1);
        }
        let new: Vec<_> = graph.nodes[begin..]
            .iter()
            .map(|node| node.output)
            .collect();
        for (output, result) in proto.output.iter().zip(results) {
            if output.is_empty() {
                continue;
            }
            if let Known::Value(value) = &result
                && new.contains(&value.id)
            {
                graph.values[value.id.0 as usize].name.clone_from(output);
            }
            self.names.insert(output, Some(result));
        }
        Ok(())
    }

    /// Adds the outputs.
    fn finish(mut self) -> Result<Made> {
        let mut taken: HashSet<ValueId> = self.build.graph.inputs.iter().copied().collect();
        for output in &self.file.model.graph().output {
            let name = output.name();
            let at = |error: Error| error.field(format!("output \"{name}\""));
            let Some(known) = self.known(name).map_err(at)? else {
                return Err(at(Error::new("nothing").expected("the result of a node")));
            };
            let value = match known {
                Known::Value(value) => value,
                Known::Constant(constant) => {
                    let value = self.build.constant(name, &constant).map_err(at)?;
                    Value {
                        kind: constant.kind(),
                        ..value
                    }
                }
            };
            if value.kind != Kind::Float {
                let text =
                    format!("output \"{name}\" is of integers or conditions: they come as floats");
                self.file.warnings.borrow_mut().push(Warning::new(text));
            }
            let graph = &self.build.graph;
            let id = match !taken.insert(value.id) || graph.value(value.id).name != name {
                true => self
                    .build
                    .add(name, Op::Identity, &[value.id], Default::default())?,
                false => value.id,
            };
            self.build.graph.outputs.push(id);
        }
        let mut graph = self.build.graph;
        graph.name = self.file.model.name();
        graph.check()?;
        let assumes = self.build.assumes;
        Ok(Made { graph, assumes })
    }
}

/// The row of a node's operator.
fn operator(model: &Model, proto: &NodeProto) -> Result<&'static Row> {
    let op = proto.op_type();
    let is_own = matches!(proto.domain(), "" | "ai.onnx");
    if model
        .functions()
        .any(|function| function.name() == op && function.domain() == proto.domain())
    {
        return Err(Error::new("a function of the file")
            .expected("operators")
            .hint("inline functions before: onnx.inliner.inline_local_functions does it"));
    }
    match table::find(op).filter(|_| is_own) {
        Some(row) => Ok(row),
        None if proto
            .attribute
            .iter()
            .any(|one| one.g.is_some() || !one.graphs.is_empty()) =>
        {
            Err(Error::new("an operator with a graph inside")
                .expected("operators without control flow"))
        }
        None if is_own => {
            Err(Error::new("an operator that is not known").expected("one of SUPPORTED.md's"))
        }
        None => Err(
            Error::new(format!("an operator of the domain {:?}", proto.domain()))
                .expected("operators of ai.onnx"),
        ),
    }
}
