//! A node of the file as its converter sees it.

use super::attributes::Attributes;
use super::build::{Build, Known, Value};
use crate::constant::{Constant, Int, Source};
use crate::element::Kind;
use crate::external::Folder;
use skimjit_models::ops::{Activation, Binary, BinaryOp, PostOps, Reshape, Scale};
use skimjit_models::{Error, Op, Result, Shape, ValueId, Weight, WeightId};
use std::rc::Rc;
use std::sync::Arc;

/// A node, its operands, and the graph that it becomes a part of.
pub(crate) struct Node<'a> {
    /// Name, for nodes of the graph and for errors.
    pub name: &'a str,
    /// Version of the operators.
    pub opset: i64,
    pub attributes: Attributes<'a>,
    pub inputs: Vec<Option<Known>>,
    /// How many results the file uses, those left out behind the last not counted.
    pub outputs: usize,
    pub folder: &'a Folder,
    pub build: &'a mut Build,
    /// What attributes of the graph's nodes were computed from.
    pub from: Source,
}

impl Node<'_> {
    /// Operand `index`, where the file names one.
    pub fn input(&self, index: usize) -> Option<&Known> {
        self.inputs.get(index)?.as_ref()
    }

    pub fn has(&self, index: usize) -> bool {
        self.input(index).is_some()
    }

    fn missing(index: usize) -> Error {
        Error::new("nothing")
            .field(field(index))
            .expected("an operand")
    }

    /// Operand `index` as a value of the graph.
    pub fn value(&mut self, index: usize) -> Result<Value> {
        let name = self.name;
        match self
            .input(index)
            .ok_or_else(|| Self::missing(index))?
            .clone()
        {
            Known::Value(value) => Ok(value),
            Known::Constant(constant) => self
                .build
                .constant(&format!("{name}/input{index}"), &constant)
                .map_err(|error| error.field(field(index))),
        }
    }

    /// Operand `index` as a value of floats.
    pub fn float(&mut self, index: usize) -> Result<ValueId> {
        let value = self.value(index)?;
        match value.kind {
            Kind::Float => Ok(value.id),
            _ => Err(Error::new("integers or conditions")
                .field(field(index))
                .expected("floats")),
        }
    }

    /// Operand `index`, which must be known.
    pub fn constant(&self, index: usize) -> Result<Rc<Constant>> {
        match self.input(index) {
            None => Err(Self::missing(index)),
            Some(Known::Constant(constant)) => Ok(Rc::clone(constant)),
            Some(Known::Value(_)) => Err(Error::new("a tensor that the network computes")
                .field(field(index))
                .expected("an initializer or what follows from shapes")),
        }
    }

    /// Operand `index` as weights.
    pub fn weights(&self, index: usize) -> Result<Arc<Weight>> {
        let constant = self.constant(index)?;
        constant.as_weight().cloned().ok_or_else(|| {
            Error::new(format!("integers or nothing (dims {:?})", constant.dims))
                .field(field(index))
                .expected("floats")
        })
    }

    /// Operand `index` as weights of the graph.
    pub fn weight_id(&mut self, index: usize) -> Result<WeightId> {
        let weights = self.weights(index)?;
        Ok(self.build.weight(&weights))
    }

    /// Weights of the graph that the converter made.
    pub fn new_weight(&mut self, dims: &[u32], data: Vec<f32>) -> Result<WeightId> {
        let weight = Arc::new(Weight::dense(Shape::new(dims)?, data));
        // The graph keeps it, so that its place in memory stays its own.
        Ok(self.build.weight(&weight))
    }

    /// Integers of operand `index`.
    pub fn ints(&self, index: usize) -> Result<Vec<Int>> {
        let constant = self.constant(index)?;
        constant.as_ints().map(<[Int]>::to_vec).ok_or_else(|| {
            Error::new("floats")
                .field(field(index))
                .expected("integers")
        })
    }

    /// Integers as numbers; nodes that are made of them know that.
    pub fn numbers(&mut self, ints: &[Int]) -> Vec<i64> {
        let from = ints.iter().map(Int::source).max().unwrap_or_default();
        self.from = self.from.max(from);
        ints.iter().map(|int| int.at(self.build.batch)).collect()
    }

    /// Integers that are an attribute in older versions and operand `index` in newer ones; `None`: neither.
    pub fn ints_or_attribute(&mut self, index: usize, name: &str) -> Result<Option<Vec<i64>>> {
        match (self.attributes.ints(name)?, self.has(index)) {
            (Some(_), true) => Err(Error::new("an attribute and an operand")
                .field(name)
                .expected("one of both")),
            (Some(ints), false) => Ok(Some(ints.to_vec())),
            (None, true) => {
                let ints = self.ints(index)?;
                Ok(Some(self.numbers(&ints)))
            }
            (None, false) => Ok(None),
        }
    }

    /// Floats of operand `index`.
    pub fn floats(&mut self, index: usize) -> Result<Vec<f32>> {
        let constant = self.constant(index)?;
        self.from = self.from.max(constant.source());
        Ok(constant.to_floats(self.build.batch))
    }

    /// A number that operand `index` is.
    pub fn scalar(&mut self, index: usize) -> Result<f32> {
        let floats = self.floats(index)?;
        match floats[..] {
            [one] => Ok(one),
            _ => Err(Error::new(format!("{} elements", floats.len()))
                .field(field(index))
                .expected("one")),
        }
    }

    pub fn shape(&self, id: ValueId) -> &Shape {
        self.build.shape(id)
    }

    pub fn rank(&self, id: ValueId) -> usize {
        self.shape(id).rank()
    }

    /// An axis that may count from the end.
    pub fn axis(&self, id: ValueId, axis: i64, name: &str) -> Result<usize> {
        absolute(axis, self.rank(id), name)
    }

    /// Adds a node to the graph.
    pub fn add(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        self.build.add(self.name, op, inputs, self.from)
    }

    /// Adds a node to the graph; its result is the node's only one.
    pub fn result(&mut self, op: Op, inputs: &[ValueId]) -> Result<Vec<Known>> {
        let id = self.add(op, inputs)?;
        Ok(floats(id))
    }

    /// The same elements with other dims: 0 copies the axis, −1 is what is left.
    pub fn reshape(&mut self, id: ValueId, dims: &[i64]) -> Result<ValueId> {
        let reshape = Reshape {
            dims: dims.to_vec(),
            axis: 0,
            num_axes: -1,
        };
        self.add(Op::Reshape(reshape), &[id])
    }

    /// A function of two operands.
    pub fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> Result<ValueId> {
        let post = PostOps::default();
        self.add(Op::Binary(Binary { op, post }), &[a, b])
    }

    /// factor·x + offset along an axis.
    pub fn scale(
        &mut self,
        id: ValueId,
        axis: usize,
        scale: Option<WeightId>,
        bias: Option<WeightId>,
    ) -> Result<ValueId> {
        let scale = Scale {
            axis: axis as u32,
            scale,
            bias,
            add_operand: false,
        };
        self.add(Op::Scale(scale), &[id])
    }
}

/// scale·x + shift.
pub(crate) fn affine(scale: f32, shift: f32) -> Activation {
    Activation::Power {
        power: 1.0,
        scale,
        shift,
    }
}

/// A single result of floats.
pub(crate) fn floats(id: ValueId) -> Vec<Known> {
    vec![Known::Value(Value {
        id,
        kind: Kind::Float,
    })]
}

/// How messages name an operand.
pub(crate) fn field(index: usize) -> String {
    format!("input[{index}]")
}

/// An axis of so many that may count from the end.
pub(crate) fn absolute(axis: i64, rank: usize, name: &str) -> Result<usize> {
    let rank = rank as i64;
    let index = if axis < 0 {
        axis.saturating_add(rank)
    } else {
        axis
    };
    match (0..rank).contains(&index) {
        true => Ok(index as usize),
        false => Err(Error::new(axis.to_string())
            .field(name)
            .expected(format!("-{rank} to {}", rank - 1))),
    }
}

/// Axes of so many that may count from the end, sorted and each once.
pub(crate) fn sorted_axes(axes: &[i64], rank: usize, name: &str) -> Result<Vec<usize>> {
    let axes: Result<Vec<usize>> = axes
        .iter()
        .map(|&axis| absolute(axis, rank, name))
        .collect();
    let mut axes = axes?;
    axes.sort_unstable();
    match axes.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(Error::new(format!("axis {} twice", two[0]))
            .field(name)
            .expected("each once")),
        None => Ok(axes),
    }
}
