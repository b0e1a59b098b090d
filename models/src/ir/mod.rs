//! The graph: values, nodes, weights, shapes, patterns.

mod graph;
mod pattern;
mod shape;
mod tensor;
mod weight;

pub use graph::{Graph, Node, Value, ValueId, WeightId};
pub use pattern::{Pattern, PatternStats};
pub use shape::Shape;
pub use tensor::{Tensor, TensorRef};
pub use weight::{Elements, Weight};
