//! Masks: weights that are zero and stay so.

use crate::param::prunable;
use crate::solver::method::{Context, Method};
use crate::update::ParamState;
use skimjit_models::Result;

/// Zeroes what does not exceed a magnitude, for ever, with its momentum.
pub fn mask_below(state: &mut ParamState, threshold: f32) {
    let mask: Vec<f32> = state
        .data
        .iter()
        .map(|w| f32::from(u8::from(*w != 0.0 && w.abs() > threshold)))
        .collect();
    apply_mask(state, mask);
}

/// Zeroes weights and momentum outside of a mask, and keeps it.
pub fn apply_mask(state: &mut ParamState, mask: Vec<f32>) {
    for array in std::iter::once(&mut state.data).chain(&mut state.history) {
        array.iter_mut().zip(&mask).for_each(|(x, mask)| *x *= mask);
    }
    state.mask = Some(mask);
}

/// Weights that are zero when the run starts stay zero.
pub struct Frozen {
    /// Layers; all convolutions and inner products when empty.
    pub layers: Vec<String>,
}

impl Method for Frozen {
    fn start(&mut self, run: &mut Context<'_>) -> Result<()> {
        for index in prunable(run.engine.params(), &self.layers, "layers")? {
            run.engine
                .edit(index, &mut |_, state| mask_below(state, 0.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_take_weights_and_momentum() {
        let mut state = ParamState {
            data: vec![0.5, -0.1, 0.3, -0.4],
            gradient: vec![0.0; 4],
            history: vec![vec![1.0; 4]],
            ..ParamState::default()
        };
        mask_below(&mut state, 0.3);
        assert_eq!(state.data, [0.5, 0.0, 0.0, -0.4]);
        assert_eq!(state.history[0], [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(state.mask, Some(vec![1.0, 0.0, 0.0, 1.0]));
    }
}
