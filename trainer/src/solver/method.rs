//! What pruning methods see of a run.

use super::report::Report;
use super::settings::Settings;
use crate::engine::{Engine, NetId};
use serde::Deserialize;
use skimjit_models::{Result, Tensor};
use std::collections::BTreeMap;

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

/// What a snapshot keeps of methods.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum MethodStates {
    /// Of those that keep something.
    ByName(BTreeMap<String, serde_json::Value>),
    /// Of all, in the order in which they were added: in older snapshots.
    ByPosition(Vec<serde_json::Value>),
}

impl Default for MethodStates {
    fn default() -> Self {
        Self::ByName(BTreeMap::new())
    }
}

impl MethodStates {
    /// Takes that of a method.
    pub fn take(&mut self, name: &str, position: usize) -> Option<serde_json::Value> {
        let state = match self {
            Self::ByName(states) => states.remove(name),
            Self::ByPosition(states) => states.get_mut(position).map(serde_json::Value::take),
        };
        state.filter(|state| !state.is_null())
    }
}
