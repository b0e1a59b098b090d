//! What runs networks and holds their parameters: one per device.

use crate::net::Net;
use crate::param::Param;
use crate::solver::rule::{self, Update};
use skimjit_models::{Result, Tensor, ValueId};

/// A network of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetId(pub usize);

/// Values of a parameter.
#[derive(Clone, Debug, Default)]
pub struct ParamState {
    /// The parameter itself.
    pub data: Vec<f32>,
    /// Gradient of the loss, summed since the last update; then what the update subtracted.
    pub gradient: Vec<f32>,
    /// What the update rule remembers, in the order of a solverstate.
    pub history: Vec<Vec<f32>>,
    /// 1 where an element may change, 0 where it stays as it is.
    pub mask: Option<Vec<f32>>,
    /// Copy from which pruned weights can come back (dynamic network surgery).
    pub shadow: Option<Vec<f32>>,
}

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
    fn read(&mut self, param: usize, read: &mut dyn FnMut(&Param, &ParamState)) {
        self.edit(param, &mut |param, state| read(param, state));
    }
    /// Bytes of values and gradients of a network, without parameters.
    fn bytes(&self, id: NetId) -> u64;
    /// All gradients become zero.
    fn clear_gradients(&mut self) {
        for param in 0..self.params().len() {
            self.edit(param, &mut |_, state| state.gradient.fill(0.0));
        }
    }
    /// Applies an update to a parameter.
    fn update(&mut self, param: usize, update: &Update<'_>) {
        self.edit(param, &mut |_, state| rule::apply(update, state));
    }
    /// What went wrong with the device in a call that cannot tell. To be asked before results are kept: an
    /// engine that failed stays failed.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Times of the nodes of a network's graph; empty where the engine does not know them.
    fn times(&self, _id: NetId) -> Vec<NodeTime> {
        Vec::new()
    }
}

/// Weighted sum of the losses of the last forward run.
pub fn loss(engine: &(impl Engine + ?Sized), id: NetId) -> f32 {
    let losses = &engine.net(id).losses;
    let weighted = losses.iter().map(|&(value, weight)| {
        let sum: f32 = engine.value(id, value).iter().sum();
        weight * sum
    });
    weighted.sum()
}
