//! What pruning methods see of a run.

use super::report::Report;
use super::settings::Settings;
use crate::engine::{Engine, NetId};
use skimjit_models::{Result, Tensor};

/// The run at one iteration.
pub struct Context<'a> {
    /// Networks and parameters.
    pub engine: &'a mut dyn Engine,
    /// The training network.
    pub net: NetId,
    /// Iterations done.
    pub iteration: u64,
    /// The solver's settings; a method may change rates and thresholds for the iterations to come.
    pub settings: &'a mut Settings,
    /// What it has to say.
    pub report: &'a mut dyn Report,
}

/// A method that changes masks, weights or gradients as training goes on.
pub trait Method {
    /// Before the first iteration, after weights or a snapshot have been loaded.
    fn start(&mut self, _run: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
    /// After a batch's forward run, before its backward run; `inputs` are the batch.
    fn after_forward(&mut self, _run: &mut Context<'_>, _inputs: &[&Tensor]) -> Result<()> {
        Ok(())
    }
    /// After the update of an iteration; `iteration` counts it already.
    fn after_update(&mut self, _run: &mut Context<'_>) -> Result<()> {
        Ok(())
    }
    /// True when the run has reached what it was for.
    fn is_done(&self) -> bool {
        false
    }
    /// What a snapshot keeps of the method, beside weights, masks and shadows.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Takes what a snapshot kept.
    fn restore(&mut self, _state: serde_json::Value) -> Result<()> {
        Ok(())
    }
}
