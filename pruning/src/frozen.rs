//! Zeros stay zeros: fine-tuning.

use crate::layer::{Layer, chosen};
use crate::method::{Method, Run, Start, above, weights};
use skimjit_models::Result;

/// Weights that are zero when the run starts stay zero.
pub struct Frozen {
    /// Layers; all convolutions and inner products when empty.
    pub layers: Vec<String>,
}

impl Method for Frozen {
    fn start(&mut self, layers: &[Layer], _at: Start, run: &mut dyn Run) -> Result<()> {
        for layer in chosen(layers, &self.layers, "layers")? {
            let kept = above(&weights(run, layer), 0.0);
            run.mask(layer, Some(kept));
        }
        Ok(())
    }
    fn is_due(&self, _iteration: u64) -> bool {
        false
    }
    fn step(&mut self, _iteration: u64, _run: &mut dyn Run) {}
    fn end(&self) -> u64 {
        0
    }
}
