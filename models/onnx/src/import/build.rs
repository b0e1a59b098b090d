//! The graph while it is made.

use crate::constant::{Constant, Elements, Int, Source, shape};
use crate::element::Kind;
use skimjit_models::{Derived, Error, Graph, Op, Result, Shape, ValueId, Weight, WeightId};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Something that a name of the file stands for.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// A value that is computed when the network runs.
    Value(Value),
    /// A tensor that is known now.
    Constant(Rc<Constant>),
}

/// A value of the graph.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Value {
    pub id: ValueId,
    /// What its `f32` elements stand for.
    pub kind: Kind,
}

impl From<Constant> for Known {
    fn from(constant: Constant) -> Self {
        Self::Constant(Rc::new(constant))
    }
}

/// The graph so far. Its values have shapes for two batches, which is how it is seen what depends on the batch.
pub(crate) struct Build {
    pub graph: Graph,
    /// Images of the graph.
    pub batch: u32,
    /// Shapes of the values for another batch, where they are known.
    others: Vec<Option<Shape>>,
    /// That other batch.
    other: Option<u32>,
    /// What a fixed batch in the file is, which dims that the file says may mean.
    pub written_batch: Option<i64>,
    /// Something was seen for this batch only: another one has to give the same graph.
    pub assumes: bool,
    weights: HashMap<*const Weight, WeightId>,
    values: HashMap<WeightId, ValueId>,
    /// Of constant integers that are only moved: the graph computes with places in this list.
    pool: Option<Vec<Int>>,
}

impl Build {
    /// A graph for a batch, and shapes for another one.
    pub fn new(batch: u32, other: Option<u32>, written_batch: Option<i64>) -> Self {
        Self {
            graph: Graph::default(),
            batch,
            others: Vec::new(),
            other,
            written_batch,
            assumes: false,
            weights: HashMap::new(),
            values: HashMap::new(),
            pool: None,
        }
    }

    /// A graph of constants only, to be evaluated; `moves`: integers are only moved by it.
    pub fn scratch(batch: u32, moves: bool) -> Self {
        Self {
            pool: moves.then(Vec::new),
            ..Self::new(batch, None, None)
        }
    }

    /// Adds an input; the axes of `batched` ones that are 0 are the batch.
    pub fn input(&mut self, name: &str, dims: &[u32], batched: bool) -> Result<ValueId> {
        let with = |batch: u32| {
            let mut dims = dims.to_vec();
            if let (true, Some(first)) = (batched, dims.first_mut()) {
                *first = batch;
            }
            Shape::new(dims)
        };
        let id = self.graph.add_value(name, with(self.batch)?);
        let other = self.other.map(with).transpose()?;
        self.others.push(other);
        self.graph.inputs.push(id);
        Ok(id)
    }

    /// Adds a node; its shape for the other batch follows by the same rule.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[ValueId], from: Source) -> Result<ValueId> {
        let others: Option<Vec<&Shape>> = inputs.iter().map(|&id| self.other(id)).collect();
        let other = others.and_then(|shapes| op.infer_shape(&shapes, &self.graph.weights).ok());
        let id = self.graph.add_node(name, op, inputs.to_vec(), name)?;
        // Without operands, a node does not know the batch.
        let other = match (inputs.is_empty(), self.other) {
            (true, Some(_)) => Some(self.graph.shape(id).clone()),
            _ => other,
        };
        self.others.push(other);
        if let Some(node) = self.graph.nodes.last_mut() {
            node.derived = match from {
                Source::File => Derived::No,
                Source::Sizes => Derived::Sizes,
                Source::Batch => Derived::Shapes,
            };
        }
        Ok(id)
    }

    pub fn shape(&self, id: ValueId) -> &Shape {
        self.graph.shape(id)
    }

    fn other(&self, id: ValueId) -> Option<&Shape> {
        self.others.get(id.0 as usize)?.as_ref()
    }

    /// Whether the graph is made for any batch.
    pub fn is_open(&self) -> bool {
        self.other.is_some()
    }

    /// Shapes for both batches, as far as they are known.
    pub fn shapes(&self, id: ValueId) -> impl Iterator<Item = &Shape> {
        [Some(self.shape(id)), self.other(id)].into_iter().flatten()
    }

    /// A dim of a value, and what it depends on.
    pub fn dim(&self, id: ValueId, axis: usize) -> Int {
        let here = i64::from(self.shape(id).dim(axis));
        let fixed = Int {
            images: 0,
            rest: here,
            from: Source::Sizes,
        };
        let (Some(other), Some(shape)) = (self.other, self.other(id)) else {
            // Whether it depends on the batch isn't known.
            return Int {
                from: Source::Batch,
                ..fixed
            };
        };
        let step = i64::from(other) - i64::from(self.batch);
        let change = i64::from(shape.dim(axis)) - here;
        if change == 0 {
            return fixed;
        }
        match change % step {
            0 => Int {
                images: change / step,
                rest: here - change / step * i64::from(self.batch),
                from: Source::Sizes,
            },
            _ => Int {
                from: Source::Batch,
                ..fixed
            },
        }
    }

    /// Whether an axis of a value is the batch.
    pub fn is_batch(&self, id: ValueId, axis: usize) -> bool {
        let dim = self.dim(id, axis);
        axis < self.shape(id).rank() && (dim.images, dim.rest) == (1, 0)
    }

    /// A weight of the graph; the same one for the same tensor.
    pub fn weight(&mut self, weight: &Arc<Weight>) -> WeightId {
        let graph = &mut self.graph;
        *self.weights.entry(Arc::as_ptr(weight)).or_insert_with(|| {
            graph.weights.push(Arc::clone(weight));
            WeightId(graph.weights.len() as u32 - 1)
        })
    }

    /// A constant as a value of the graph.
    pub fn constant(&mut self, name: &str, constant: &Constant) -> Result<Value> {
        let kind = constant.kind();
        let weight = match (&constant.elements, &mut self.pool) {
            (Elements::Floats(Some(weight)), _) => Arc::clone(weight),
            (Elements::Floats(None), _) => {
                return Err(Error::new(format!("a tensor of dims {:?}", constant.dims))
                    .expected("one with elements"));
            }
            (Elements::Ints(_, ints), Some(pool)) => {
                let places = pool.len()..pool.len() + ints.len();
                pool.extend_from_slice(ints);
                small(places.end as i64)?;
                let places = places.map(|place| place as f32).collect();
                Arc::new(Weight::dense(shape(&constant.dims)?, places))
            }
            (Elements::Ints(_, ints), None) => {
                ints.iter().try_for_each(|int| small(int.at(self.batch)))?;
                let floats = constant.to_floats(self.batch);
                Arc::new(Weight::dense(shape(&constant.dims)?, floats))
            }
        };
        let weight = self.weight(&weight);
        if let Some(&id) = self.values.get(&weight) {
            return Ok(Value { id, kind });
        }
        let id = self.add(name, Op::Constant(weight), &[], constant.source())?;
        self.values.insert(weight, id);
        Ok(Value { id, kind })
    }

    /// What an evaluated value of a graph of constants is.
    pub fn evaluated(&self, value: Value, data: Vec<f32>, from: Source) -> Result<Constant> {
        let dims = self.shape(value.id).dims().iter();
        let dims = dims.map(|&dim| dim as usize).collect();
        let int = |element: &f32| match &self.pool {
            Some(pool) => pool[*element as usize],
            None => Int {
                from,
                ..Int::known(*element as i64)
            },
        };
        match value.kind {
            Kind::Float => Ok(Constant {
                from,
                ..Constant::floats(dims, data)?
            }),
            kind => Ok(Constant::ints(kind, dims, data.iter().map(int).collect())),
        }
    }
}

/// Integers that a float holds exactly.
fn small(value: i64) -> Result<()> {
    const LARGEST: i64 = 1 << 24;
    match value.abs() <= LARGEST {
        true => Ok(()),
        false => Err(Error::new(format!("the integer {value}"))
            .expected(format!("integers to compute with of at most {LARGEST}"))),
    }
}
