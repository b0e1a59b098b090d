//! What runs networks and holds their parameters: one per device.

use crate::net::Net;
use crate::param::Param;
use crate::update::{ParamState, Update};
use skimjit_models::{Result, Tensor, ValueId};

/// A network of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetId(pub usize);

/// Seconds that a node took in the last forward and the last backward run.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeTime {
    /// Forward.
    pub forward: f64,
    /// Backward; 0 when nothing below it is trained.
    pub backward: f64,
}

/// Runs networks forward and backward. The first network owns the parameters, the others share them by
/// layer name.
pub trait Engine {
    /// Adds a network.
    fn add(&mut self, net: Net) -> Result<NetId>;
    /// A network.
    fn net(&self, id: NetId) -> &Net;
    /// An engine of the same device, without networks.
    fn fresh(&self) -> Result<Box<dyn Engine>>;
    /// All parameters, in the order of the layers.
    fn params(&self) -> &[Param];
    /// Runs a network on values of its inputs, in the order of its graph. `turn` chooses random
    /// numbers: the same turn gives the same ones.
    fn forward(&mut self, id: NetId, inputs: &[&Tensor], turn: u64) -> Result<()>;
    /// Adds to the gradients of all parameters those of the last forward run's loss.
    fn backward(&mut self, id: NetId);
    /// Elements of a value after a forward run.
    fn value(&self, id: NetId, value: ValueId) -> Vec<f32>;
    /// Gradient of a value after a backward run, if it has one.
    fn value_gradient(&self, id: NetId, value: ValueId) -> Option<Vec<f32>>;
    /// Sets the gradient that a value starts with in the next backward runs, beside the loss
    /// (distillation). An empty one takes it away.
    fn seed_gradient(&mut self, id: NetId, value: ValueId, gradient: Vec<f32>);
    /// Lets a parameter be read and changed.
    fn edit(&mut self, param: usize, edit: &mut dyn FnMut(&Param, &mut ParamState));
    /// Lets a parameter be read. Cheaper than [`Engine::edit`] where parameters live on a device.
    fn read(&mut self, param: usize, read: &mut dyn FnMut(&Param, &ParamState));
    /// Bytes of values and gradients of a network, without parameters.
    fn bytes(&self, id: NetId) -> u64;
    /// All gradients become zero.
    fn clear_gradients(&mut self);
    /// Applies an update to a parameter.
    fn update(&mut self, param: usize, update: &Update<'_>);
    /// What went wrong with the device in a call that cannot tell. To be asked before results are kept: an
    /// engine that failed stays failed.
    fn check(&self) -> Result<()>;
    /// Times of the nodes of a network's graph; empty where the engine does not know them.
    fn times(&self, id: NetId) -> &[NodeTime];
}

/// Weighted sum of the losses of the last forward run.
pub fn loss(engine: &(impl Engine + ?Sized), id: NetId) -> f32 {
    let losses = &engine.net(id).training.losses;
    let weighted = losses.iter().map(|&(value, weight)| {
        let sum: f32 = engine.value(id, value).iter().sum();
        weight * sum
    });
    weighted.sum()
}
