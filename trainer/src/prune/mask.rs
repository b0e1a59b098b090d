//! Masks: weights that are zero and stay so.

use crate::update::ParamState;

/// Zeroes weights and momentum outside of a mask, and keeps it.
pub fn apply_mask(state: &mut ParamState, kept: &[bool]) {
    let mask: Vec<f32> = kept.iter().map(|&kept| f32::from(u8::from(kept))).collect();
    for array in std::iter::once(&mut state.data).chain(&mut state.history) {
        array.iter_mut().zip(&mask).for_each(|(x, mask)| *x *= mask);
    }
    state.mask = Some(mask);
}

/// Puts a mask in front of weights that train on behind it. The update has just uncovered them.
pub fn cover(state: &mut ParamState, kept: &[bool]) {
    let all = state.data.iter_mut().zip(kept);
    all.filter(|(_, kept)| !**kept).for_each(|(w, _)| *w = 0.0);
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
        apply_mask(&mut state, &[true, false, false, true]);
        assert_eq!(state.data, [0.5, 0.0, 0.0, -0.4]);
        assert_eq!(state.history[0], [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(state.mask, Some(vec![1.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn covers_take_weights_only() {
        let mut state = ParamState {
            data: vec![0.5, 0.01],
            history: vec![vec![1.0; 2]],
            ..ParamState::default()
        };
        cover(&mut state, &[true, false]);
        assert_eq!(state.data, [0.5, 0.0]);
        assert_eq!((state.mask, state.history[0][1]), (None, 1.0));
    }
}
