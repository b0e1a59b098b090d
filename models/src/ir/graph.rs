//! A checked, topologically ordered graph of single-output nodes.

use super::{ElementType, Shape, Weight};
use crate::{Error, Op, Result};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// A blob at one point of the network. In-place layers get a fresh id each, with the same name.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct ValueId(pub u32);

/// A weight of the graph; shared parameters are one id used by several nodes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct WeightId(pub u32);

/// What a value is.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// Name, as in the network's file.
    pub name: String,
    /// Dims.
    pub shape: Shape,
    /// Type of the elements.
    #[serde(default)]
    pub element: ElementType,
}

/// Whether attributes were computed from the shapes of operands when the network was imported: then they say
/// nothing about other shapes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Default, Debug, serde::Serialize, serde::Deserialize,
)]
pub enum Derived {
    /// No.
    #[default]
    No,
    /// From their sizes along all axes but the first, which is the batch.
    Sizes,
    /// From the batch, too.
    Shapes,
}

/// One operation.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Name; that of its layer, unless the layer is several nodes.
    pub name: String,
    /// Name of the layer that the node is a part of, where the node has a name of its own.
    pub part_of: Option<String>,
    /// What it computes.
    pub op: Op,
    /// Operands, in the op's order.
    pub inputs: Vec<ValueId>,
    /// Result.
    pub output: ValueId,
    /// What the op's attributes were made from.
    #[serde(default)]
    pub derived: Derived,
}

/// A network: values, weights, and nodes in an order in which every operand is computed before use.
#[derive(Clone, Default, Debug)]
pub struct Graph {
    /// Network name.
    pub name: String,
    /// File that says what the network is, where it was read from one.
    pub file: Option<PathBuf>,
    /// All values, indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// All weights, indexed by [`WeightId`].
    pub weights: Vec<Arc<Weight>>,
    /// Nodes in execution order.
    pub nodes: Vec<Node>,
    /// Values fed from outside, in the file's order.
    pub inputs: Vec<ValueId>,
    /// Results, sorted by blob name as Caffe numbers them. Values listed here survive every pass.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// Name of the layer that it comes from, as its file has it.
    pub fn layer(&self) -> &str {
        self.part_of.as_deref().unwrap_or(&self.name)
    }
    /// Refuses operands of shapes that the attributes were not made for.
    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        let fixed = |shape: &'_ Shape| match self.derived {
            Derived::No => None,
            Derived::Sizes => Some(shape.with_batch(1)),
            Derived::Shapes => Some(shape.clone()),
        };
        let mut pairs = before.iter().zip(after).enumerate();
        match pairs.find(|(_, (before, after))| fixed(before) != fixed(after)) {
            Some((index, (before, after))) => Err(Error::new(format!("shape {after}"))
                .field(format!("input[{index}]"))
                .expected(format!("{before}, for which its attributes were computed"))),
            None => self.op.check_resize(before, after),
        }
    }
}

impl Graph {
    /// Adds a value.
    pub fn add_value(&mut self, name: impl Into<String>, shape: Shape) -> ValueId {
        self.values.push(Value {
            name: name.into(),
            shape,
            element: ElementType::F32,
        });
        ValueId(self.values.len() as u32 - 1)
    }
    /// Adds a weight.
    pub fn add_weight(&mut self, weight: impl Into<Weight>) -> WeightId {
        self.weights.push(Arc::new(weight.into()));
        WeightId(self.weights.len() as u32 - 1)
    }
    /// Infers the output shape, adds the value and the node.
    pub fn add_node(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<ValueId>,
        output: &str,
    ) -> Result<ValueId> {
        let shapes: Vec<&Shape> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = op
            .infer_shape(&shapes, &self.weights)
            .map_err(|error| error.layer(name))?;
        let output = self.add_value(output, shape);
        self.nodes.push(Node {
            name: name.to_owned(),
            part_of: None,
            op,
            inputs,
            output,
            derived: Derived::No,
        });
        Ok(output)
    }
    /// Value by id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }
    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.value(id).shape
    }
    /// Weight by id.
    pub fn weight(&self, id: WeightId) -> &Arc<Weight> {
        &self.weights[id.0 as usize]
    }
    /// Leaves only shapes and types of the weights: see [`Weight::let_go`].
    pub fn let_go_of_weights(&mut self) {
        for weight in &mut self.weights {
            *weight = Arc::new(weight.let_go());
        }
    }
    /// The last value of that name: in-place layers make several.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values
            .iter()
            .rposition(|value| value.name == name)
            .map(|index| ValueId(index as u32))
    }
    /// The same network for another batch size: axis 0 of the first input, and of the inputs that agree
    /// with it.
    pub fn with_batch(&self, batch: u32) -> Result<Self> {
        let first = self.inputs.first().map(|&id| self.shape(id).dim(0));
        let batched = |id: &&ValueId| Some(self.shape(**id).dim(0)) == first;
        let shapes = self.inputs.iter().filter(batched).map(|&id| {
            let shape = self.shape(id).with_batch(batch);
            Ok((id, Shape::new(shape.dims())?))
        });
        self.resized(shapes.collect::<Result<_>>()?)
    }
    /// The same network for inputs of other shapes, by blob name; the other inputs keep theirs. All
    /// other shapes follow by the layers' own rules, a layer that
    /// cannot follow is named by the error.
    pub fn with_input_shapes(&self, shapes: &[(&str, Shape)]) -> Result<Self> {
        let mut taken = HashSet::new();
        if let Some((name, _)) = shapes.iter().find(|(name, _)| !taken.insert(name)) {
            let found = Error::new("two shapes").field(format!("input \"{name}\""));
            return Err(found.expected("one"));
        }
        let named = |(name, shape): &(&str, Shape)| {
            let mut inputs = self.inputs.iter().copied();
            let id = inputs.find(|&id| self.value(id).name == *name);
            let id = id.ok_or_else(|| self.no_input(name))?;
            let (old, shape) = (self.shape(id), Shape::new(shape.dims())?);
            // Axes that count from the end became axes from the front at import.
            if shape.rank() != old.rank() {
                return Err(Error::new(format!("shape {shape}"))
                    .field(format!("input \"{name}\""))
                    .expected(format!("{} axes, like {old}", old.rank())));
            }
            Ok((id, shape))
        };
        self.resized(shapes.iter().map(named).collect::<Result<_>>()?)
    }
    fn no_input(&self, name: &str) -> Error {
        let names = self.inputs.iter().map(|&id| self.value(id).name.as_str());
        let names: Vec<&str> = names.collect();
        Error::new(format!("no input \"{name}\"")).expected(format!("one of: {}", names.join(", ")))
    }
    /// With other shapes of inputs, and what follows from them.
    fn resized(&self, inputs: Vec<(ValueId, Shape)>) -> Result<Self> {
        let mut graph = self.clone();
        for (id, shape) in inputs {
            graph.values[id.0 as usize].shape = shape;
        }
        for node in &self.nodes {
            let shapes = |graph: &'_ Self| -> Vec<Shape> {
                let inputs = node.inputs.iter();
                inputs.map(|&id| graph.shape(id).clone()).collect()
            };
            let (before, after) = (shapes(self), shapes(&graph));
            let (before, after): (Vec<_>, Vec<_>) =
                (before.iter().collect(), after.iter().collect());
            let followed = node.check_resize(&before, &after);
            let shape = followed.and_then(|()| node.op.infer_shape(&after, &self.weights));
            let shape = shape.map_err(|error| {
                let error = error.layer(node.name.clone());
                let difference = self.difference(&graph, node.derived != Derived::No);
                match difference {
                    Some(difference) => error.hint(difference),
                    None => error,
                }
            })?;
            graph.values[node.output.0 as usize].shape = shape;
        }
        Ok(graph)
    }
    /// What is asked for, when it is not what the network was made for; and how the file could be `imported`
    /// for it.
    fn difference(&self, resized: &Self, imported: bool) -> Option<String> {
        let shapes = |id: &ValueId| (self.shape(*id), resized.shape(*id));
        let changed = self.inputs.iter().filter(|id| {
            let (made, asked) = shapes(id);
            made != asked
        });
        let of_each = |text: &dyn Fn(&str, &Shape, &Shape) -> String| -> Vec<String> {
            let text = |id| {
                let (made, asked) = shapes(id);
                text(&self.value(*id).name, made, asked)
            };
            changed.clone().map(text).collect()
        };
        let differences =
            of_each(&|name, made, asked| format!("input \"{name}\" of {made}, not {asked}"));
        if differences.is_empty() {
            return None;
        }
        let mut hint = format!("the network was made for {}", differences.join(" and "));
        if imported {
            let options = of_each(&|name, _, asked| format!(" --input-shape {name}={asked}"));
            hint += &format!(": import the file again with{}", options.concat());
        }
        Some(hint)
    }
    /// Recomputes the shapes of all node outputs from the inputs' shapes.
    pub fn infer_shapes(&mut self) -> Result<()> {
        for node in &self.nodes {
            let shapes: Vec<&Shape> = node
                .inputs
                .iter()
                .map(|&id| &self.values[id.0 as usize].shape)
                .collect();
            let shape = node
                .op
                .infer_shape(&shapes, &self.weights)
                .map_err(|error| error.layer(node.name.clone()))?;
            self.values[node.output.0 as usize].shape = shape;
        }
        Ok(())
    }
    /// Checks ids, order and single assignment. For graphs that come from outside (artifacts).
    pub fn check(&self) -> Result<()> {
        let mut ready = vec![false; self.values.len()];
        let mut define = |id: ValueId, what: &str| match ready.get_mut(id.0 as usize) {
            Some(flag) if !*flag => {
                *flag = true;
                Ok(())
            }
            _ => Err(Error::new(format!("value {} as {what}", id.0))
                .expected("a value that exists and is assigned once")),
        };
        for &id in &self.inputs {
            define(id, "network input")?;
        }
        for node in &self.nodes {
            define(node.output, "output").map_err(|error| error.layer(node.name.clone()))?;
        }
        let mut known: std::collections::HashSet<ValueId> = self.inputs.iter().copied().collect();
        for node in &self.nodes {
            let weights_exist = node
                .op
                .weights()
                .iter()
                .all(|id| (id.0 as usize) < self.weights.len());
            if !weights_exist || !node.inputs.iter().all(|id| known.contains(id)) {
                return Err(Error::new("an operand that no earlier layer computes")
                    .layer(node.name.clone()));
            }
            known.insert(node.output);
        }
        match self.outputs.iter().find(|id| !known.contains(id)) {
            Some(id) => Err(Error::new(format!(
                "output value {} that nothing computes",
                id.0
            ))),
            None => Ok(()),
        }
    }
}
