//! The network: what is to be computed, and nothing about the machine that computes it.
//!
//! A network is a [`Graph`] of [`Op`]s, whatever format it came in; every op knows its shape rule and a slow, obvious
//! reference; [`interpreter`] runs a whole graph with those references and is the oracle that the
//! engine is compared with.
#![forbid(unsafe_code)]

pub mod artifact;
mod closest;
pub mod error;
mod imported;
pub mod interpreter;
pub mod ir;
pub mod ops;
pub mod passes;
pub mod percent;
pub mod preprocess;
mod warning;

pub use closest::closest;
pub use error::{Error, ErrorKind, Result};
pub use imported::{BlockLasso, Connectivity, Imported, Parameter, Place, Training};
pub use ir::{
    Derived, ElementType, Elements, Graph, Node, Pattern, PatternStats, Places, Shape, Tensor,
    TensorRef, Value, ValueId, Weight, WeightId,
};
pub use ops::Op;
pub use percent::Percent;
pub use preprocess::Preprocess;
pub use warning::{Care, Tally, Warning};
