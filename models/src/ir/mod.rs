//! The graph: values, nodes, weights, shapes, patterns.

mod element;
mod graph;
mod pattern;
mod places;
mod shape;
mod tensor;
mod weight;

pub use element::ElementType;
pub use graph::{Derived, Graph, Node, Value, ValueId, WeightId};
pub use pattern::{Pattern, PatternStats};
pub use places::Places;
pub(crate) use places::PlacesWriter;
pub use shape::Shape;
pub use tensor::{Tensor, TensorRef};
pub use weight::{Elements, Weight};
