//! Where an engine keeps values, gradients and parameters, and what computes there.

use crate::layer::LayerSpec;
use crate::param::Role;
use crate::plan::Step;
use crate::update::{ParamState, Update};
use skimjit_models::{Result, Weight};
use std::sync::Arc;

/// Operands and result of a forward run.
pub struct Forward<'a, A> {
    /// Operands; of no use to a step in place, whose operand is the result.
    pub inputs: &'a [&'a A],
    /// Result, to be overwritten.
    pub output: &'a mut A,
    /// Chooses random numbers.
    pub turn: u64,
}

/// What a backward run needs and makes. Gradients of parameters are added to those that there are.
pub struct Backward<'a, A> {
    /// Operands of the forward run.
    pub inputs: &'a [&'a A],
    /// Its result.
    pub output: &'a A,
    /// Gradient of the result; a step in place turns it into that of the operand.
    pub output_gradient: &'a mut A,
    /// Gradients of the operands, to be overwritten; `None` where nobody wants them.
    pub input_gradients: &'a mut [Option<A>],
}

/// A kind of memory with its layers. Calls take effect in the order in which they are made; a call that fails may
/// say so later.
pub trait Memory: Sized {
    /// Elements of a value or a gradient.
    type Array: Default;
    /// A layer with what it keeps from the forward run for the backward run.
    type Layer;
    /// Calls come back when the work is done, so that a clock tells how long it took.
    const WAITS: bool;

    /// Another one of the same device, empty.
    fn fresh(&self) -> Result<Self>;
    /// So many zeros.
    fn allocate(&mut self, count: usize) -> Result<Self::Array>;
    /// Overwrites an array.
    fn write(&mut self, array: &mut Self::Array, data: &[f32]) -> Result<()>;
    /// The first elements of an array.
    fn read(&self, array: &Self::Array, count: usize) -> Result<Vec<f32>>;
    /// `sum += part`.
    fn add(&mut self, part: &Self::Array, sum: &mut Self::Array, count: usize) -> Result<()>;

    /// A layer; `None` for those that are left to the CPU. Of the graph's `weights` only constants have values.
    fn layer(&mut self, spec: &LayerSpec, weights: &[Arc<Weight>]) -> Result<Option<Self::Layer>>;
    /// Runs a layer forward.
    fn forward(
        &mut self,
        layer: &mut Self::Layer,
        step: &Step,
        run: Forward<'_, Self::Array>,
    ) -> Result<()>;
    /// Runs a layer backward.
    fn backward(
        &mut self,
        layer: &mut Self::Layer,
        step: &Step,
        run: Backward<'_, Self::Array>,
    ) -> Result<()>;

    /// Adds a parameter. They are numbered in the order in which they come.
    fn add_param(&mut self, data: Vec<f32>, role: Role) -> Result<()>;
    /// Lets a parameter be changed. After an error `edit` has seen old values of the right size.
    fn edit(&mut self, param: usize, edit: &mut dyn FnMut(&mut ParamState)) -> Result<()>;
    /// Lets a parameter be read; of an error as above.
    fn inspect(&mut self, param: usize, read: &mut dyn FnMut(&ParamState)) -> Result<()>;
    /// All gradients of parameters become zero.
    fn clear_gradients(&mut self) -> Result<()>;
    /// Applies an update to a parameter.
    fn update(&mut self, param: usize, update: &Update<'_>) -> Result<()>;
}
