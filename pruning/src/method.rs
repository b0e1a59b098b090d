//! What a method is, and what it sees of a run.

use crate::layer::Layer;
use skimjit_models::Result;

/// A run as methods see it: weights, wherever they lie, and somebody to tell. Layers go by their index in the list that
/// the method was started with.
pub trait Run {
    /// Shows the weights of a layer: what the network computes with, or what is behind the mask for a method that
    /// [trains behind masks](Method::trains_behind_masks).
    fn see(&mut self, layer: usize, see: &mut dyn FnMut(&[f32]));
    /// Where the network computes with zeros.
    fn zeros(&mut self, layer: usize) -> Vec<bool>;
    /// Masks a layer: where `kept` is false, weights and what the update rule remembers of them become zero and stay
    /// so. `None` takes the mask away.
    fn mask(&mut self, layer: usize, kept: Option<Vec<bool>>);
    /// Tells of something, with shares of zeros by layer where it is about them.
    fn event(&mut self, text: String, zeros: Option<Vec<(String, f64)>>);
    /// A line for whoever watches the run.
    fn line(&mut self, text: &str);
}

/// Where a method starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start {
    /// Iterations done.
    pub iteration: u64,
    /// Seed of what methods draw.
    pub seed: u64,
}

/// Decides which weights are masked as training goes on. Iterations are counted from 1: step 1 follows the first update.
pub trait Method: Send {
    /// Before the first iteration, or where a run goes on after some.
    fn start(&mut self, layers: &[Layer], at: Start, run: &mut dyn Run) -> Result<()>;
    /// Whether there is something to decide after an iteration.
    fn is_due(&self, iteration: u64) -> bool;
    /// Decides, where it is due; otherwise nothing happens.
    fn step(&mut self, iteration: u64, run: &mut dyn Run);
    /// The iteration after which masks stay.
    fn end(&self) -> u64;
    /// True when masked weights train on, unseen by the network, and can come back.
    fn trains_behind_masks(&self) -> bool {
        false
    }
    /// What is to be kept for a run that goes on later, beside weights and masks.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Takes what was kept.
    fn restore(&mut self, _state: serde_json::Value) -> Result<()> {
        Ok(())
    }
}

/// Weights that are larger than a magnitude, and not zero.
pub fn above(weights: &[f32], threshold: f32) -> Vec<bool> {
    let kept = weights.iter().map(|w| *w != 0.0 && w.abs() > threshold);
    kept.collect()
}

/// The weights of a layer, copied.
pub fn weights(run: &mut dyn Run, layer: usize) -> Vec<f32> {
    let mut all = Vec::new();
    run.see(layer, &mut |weights| all.extend_from_slice(weights));
    all
}
