//! Update rules: what becomes of a parameter, its gradient and its history, in one pass.

use rayon::prelude::*;
pub use skimjit_caffe::solver::Rule;

/// Elements of a task.
const CHUNK: usize = 1 << 13;

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

/// What the learning rate of an iteration is multiplied by: Adam's means start at 0.
pub fn correction(rule: Rule, iteration: u64) -> f32 {
    let Rule::Adam { beta1, beta2, .. } = rule else {
        return 1.0;
    };
    let t = iteration as f64 + 1.0;
    let correction = (1.0 - f64::from(beta2).powf(t)).sqrt() / (1.0 - f64::from(beta1).powf(t));
    correction as f32
}

/// Turns gradients into what is subtracted.
fn turn(update: &Update<'_>, g: &mut [f32], (first, second): (&mut [f32], &mut [f32])) {
    let rate = update.rate * correction(update.rule, update.iteration);
    let each = g.iter_mut().zip(first);
    match update.rule {
        Rule::Sgd { momentum } => each.for_each(|(g, h)| {
            *h = rate * *g + momentum * *h;
            *g = *h;
        }),
        Rule::Nesterov { momentum } => each.for_each(|(g, h)| {
            let old = *h;
            *h = rate * *g + momentum * old;
            *g = (1.0 + momentum) * *h - momentum * old;
        }),
        Rule::AdaGrad { delta } => each.for_each(|(g, h)| {
            *h += *g * *g;
            *g = rate * *g / (h.sqrt() + delta);
        }),
        Rule::RmsProp { delta, decay } => each.for_each(|(g, h)| {
            *h = decay * *h + (1.0 - decay) * *g * *g;
            *g = rate * *g / (h.sqrt() + delta);
        }),
        Rule::AdaDelta { momentum, delta } => each.zip(second).for_each(|((g, h), h2)| {
            *h = momentum * *h + (1.0 - momentum) * *g * *g;
            let u = *g * ((*h2 + delta) / (*h + delta)).sqrt();
            *h2 = momentum * *h2 + (1.0 - momentum) * u * u;
            *g = rate * u;
        }),
        Rule::Adam {
            beta1,
            beta2,
            delta,
        } => each.zip(second).for_each(|((g, m), v)| {
            *m = beta1 * *m + (1.0 - beta1) * *g;
            *v = beta2 * *v + (1.0 - beta2) * *g * *g;
            *g = rate * *m / (v.sqrt() + delta);
        }),
    }
}

/// Regularisation that belongs to single elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Decay {
    /// None.
    #[default]
    None,
    /// λ·sign(w).
    L1(f32),
    /// λ·w.
    L2(f32),
}

/// What follows an update.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Threshold {
    /// Nothing.
    #[default]
    None,
    /// |w| ≤ t becomes 0.
    Fixed(f32),
    /// |w| ≤ t₀/(|x| + 1/factor) becomes 0, with x the update or the gradient.
    Adaptive {
        /// t₀.
        least: f32,
        /// Largest threshold over t₀.
        factor: f32,
        /// x is the gradient, as SkimCaffe documents it, instead of what the update subtracts, as its code does.
        by_gradient: bool,
    },
    /// All weights come closer to 0 by t.
    Soft(f32),
}

/// One update of one parameter.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// Rule.
    pub rule: Rule,
    /// Learning rate of the parameter.
    pub rate: f32,
    /// Iteration.
    pub iteration: u64,
    /// What gradients are multiplied by first: clipping, and the number of batches.
    pub scale: f32,
    /// Regularisation.
    pub decay: Decay,
    /// Threshold.
    pub threshold: Threshold,
    /// Factor of the threshold by element: (index / run) % length.
    pub factors: Option<(&'a [f32], usize)>,
}

/// A chunk of a parameter.
struct Part<'a> {
    data: &'a mut [f32],
    gradient: &'a mut [f32],
    history: Option<&'a mut [f32]>,
    history2: Option<&'a mut [f32]>,
    mask: Option<&'a mut [f32]>,
    shadow: Option<&'a mut [f32]>,
}

/// The chunks of an array, for ever `None` when there is none.
fn chunks(array: Option<&mut Vec<f32>>) -> impl Iterator<Item = Option<&mut [f32]>> {
    let parts = array
        .into_iter()
        .flat_map(|array| array.chunks_mut(CHUNK))
        .map(Some);
    parts.chain(std::iter::repeat_with(|| None))
}

/// Applies an update. Afterwards the gradient is what was subtracted.
pub fn apply(update: &Update<'_>, state: &mut ParamState) {
    let count = state.data.len();
    state.history.resize_with(update.rule.histories(), Vec::new);
    state
        .history
        .iter_mut()
        .for_each(|history| history.resize(count, 0.0));
    let mut histories = state.history.iter_mut();
    let histories = chunks(histories.next()).zip(chunks(histories.next()));
    let rest = chunks(state.mask.as_mut()).zip(chunks(state.shadow.as_mut()));
    let arrays = state
        .data
        .chunks_mut(CHUNK)
        .zip(state.gradient.chunks_mut(CHUNK));
    let part = |(((data, gradient), (history, history2)), (mask, shadow))| Part {
        data,
        gradient,
        history,
        history2,
        mask,
        shadow,
    };
    let parts: Vec<Part<'_>> = arrays.zip(histories).zip(rest).map(part).collect();
    let parts = parts.into_par_iter().enumerate();
    parts.for_each(|(index, part)| step(update, index * CHUNK, part));
}

fn step(update: &Update<'_>, start: usize, part: Part<'_>) {
    let (data, gradient) = (part.data, part.gradient);
    if update.scale != 1.0 {
        gradient.iter_mut().for_each(|g| *g *= update.scale);
    }
    let each = gradient.iter_mut().zip(data.iter());
    match update.decay {
        Decay::L1(decay) if decay != 0.0 => each.for_each(|(g, w)| *g += decay * sign(*w)),
        Decay::L2(decay) if decay != 0.0 => each.for_each(|(g, w)| *g += decay * w),
        _ => {}
    }
    let by_gradient = matches!(
        update.threshold,
        Threshold::Adaptive {
            by_gradient: true,
            ..
        }
    );
    let gradients = by_gradient.then(|| gradient.to_vec());
    let histories = (
        part.history.unwrap_or_default(),
        part.history2.unwrap_or_default(),
    );
    turn(update, gradient, histories);
    if let Some(mask) = part.mask {
        gradient
            .iter_mut()
            .zip(mask)
            .for_each(|(g, mask)| *g *= *mask);
    }
    match part.shadow {
        Some(shadow) => {
            shadow
                .iter_mut()
                .zip(gradient.iter())
                .for_each(|(u, v)| *u -= v);
            data.copy_from_slice(shadow);
        }
        None => data
            .iter_mut()
            .zip(gradient.iter())
            .for_each(|(w, v)| *w -= v),
    }
    threshold(
        update,
        start,
        data,
        gradients.as_deref().unwrap_or(gradient),
    );
}

/// −1, 0 or 1.
fn sign(x: f32) -> f32 {
    f32::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}

fn threshold(update: &Update<'_>, start: usize, data: &mut [f32], compared: &[f32]) {
    let factor = |index: usize| match update.factors {
        Some((factors, run)) => factors[(start + index) / run % factors.len()],
        None => 1.0,
    };
    let cut = |w: &mut f32, t: f32| {
        if w.abs() <= t {
            *w = 0.0;
        }
    };
    match update.threshold {
        Threshold::None => {}
        Threshold::Fixed(t) => data
            .iter_mut()
            .enumerate()
            .for_each(|(index, w)| cut(w, t * factor(index))),
        Threshold::Adaptive {
            least,
            factor: largest,
            ..
        } => {
            for (index, (w, x)) in data.iter_mut().zip(compared).enumerate() {
                cut(w, least / (x.abs() + 1.0 / largest) * factor(index));
            }
        }
        Threshold::Soft(t) => data
            .iter_mut()
            .for_each(|w| *w = sign(*w) * (w.abs() - t).max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updated(rule: Rule, decay: Decay, threshold: Threshold, steps: u64) -> ParamState {
        let mut state = ParamState {
            data: vec![1.0, -2.0, 0.001, 0.0],
            gradient: vec![0.0; 4],
            ..ParamState::default()
        };
        for iteration in 0..steps {
            state.gradient.copy_from_slice(&[0.5, -0.25, 0.0, 1.0]);
            let update = Update {
                rule,
                rate: 0.1,
                iteration,
                scale: 1.0,
                decay,
                threshold: threshold.clone(),
                factors: None,
            };
            apply(&update, &mut state);
        }
        state
    }

    fn close(found: &[f32], expected: [f32; 4]) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{found:?} {expected:?}");
        }
    }

    /// Checklist 43.
    #[test]
    fn rules_by_hand() {
        let none = || (Decay::None, Threshold::None);
        let after = |rule, steps| {
            let (decay, threshold) = none();
            updated(rule, decay, threshold, steps).data
        };
        // Two steps of h = 0.1·g + 0.9·h: 0.1·g·(1 + 1.9).
        close(
            &after(Rule::Sgd { momentum: 0.9 }, 2),
            [1.0 - 0.145, -2.0 + 0.0725, 0.001, -0.29],
        );
        // First step (1 + 0.9)·0.1·g; second 1.9·0.19·g − 0.9·0.1·g.
        close(
            &after(Rule::Nesterov { momentum: 0.9 }, 2),
            [1.0 - 0.2305, -2.0 + 0.11525, 0.001, -0.461],
        );
        close(
            &after(Rule::AdaGrad { delta: 1e-8 }, 1),
            [0.9, -1.9, 0.001, -0.1],
        );
        let adam = Rule::Adam {
            beta1: 0.9,
            beta2: 0.999,
            delta: 1e-8,
        };
        close(&after(adam, 3), [0.7, -1.7, 0.001, -0.3]);
        let rms = Rule::RmsProp {
            delta: 1e-8,
            decay: 0.75,
        };
        close(&after(rms, 1), [0.8, -1.8, 0.001, -0.2]);
        let ada_delta = Rule::AdaDelta {
            momentum: 0.75,
            delta: 1.0,
        };
        let first = 0.1 * 0.5 * (1.0f32 / (0.25 * 0.25 + 1.0)).sqrt();
        assert!((after(ada_delta, 1)[0] - (1.0 - first)).abs() < 1e-6);
    }

    /// Checklist 46, 47.
    #[test]
    fn decay_and_thresholds() {
        let sgd = Rule::Sgd { momentum: 0.0 };
        close(
            &updated(sgd, Decay::L2(0.1), Threshold::None, 1).data,
            [0.94, -1.955, 0.00099, -0.1],
        );
        close(
            &updated(sgd, Decay::L1(0.005), Threshold::Fixed(0.001), 1).data,
            [0.9495, -1.9745, 0.0, -0.1],
        );
        close(
            &updated(sgd, Decay::None, Threshold::Soft(0.05), 1).data,
            [0.9, -1.925, 0.0, -0.05],
        );
        // t = 1e-4/(0 + 1/12.5) = 1.25e-3 where nothing was subtracted; 1e-4/(0.1 + 0.08) else.
        let adaptive = Threshold::Adaptive {
            least: 1e-4,
            factor: 12.5,
            by_gradient: false,
        };
        close(
            &updated(sgd, Decay::None, adaptive, 1).data,
            [0.95, -1.975, 0.0, -0.1],
        );
    }

    /// Checklist 48.
    #[test]
    fn masks_and_shadows() {
        let mut state = ParamState {
            data: vec![1.0, 0.0],
            gradient: vec![1.0, 1.0],
            mask: Some(vec![1.0, 0.0]),
            ..ParamState::default()
        };
        let update = Update {
            rule: Rule::Sgd { momentum: 0.5 },
            rate: 0.1,
            iteration: 0,
            scale: 0.5,
            decay: Decay::None,
            threshold: Threshold::Fixed(0.2),
            factors: None,
        };
        apply(&update, &mut state);
        assert_eq!(state.data, [0.95, 0.0]);
        assert_eq!(state.history[0], [0.05, 0.05], "history is not masked");
        state.mask = None;
        state.shadow = Some(vec![0.15, -0.3]);
        state.history[0].fill(0.0);
        state.gradient = vec![-2.0, 0.0];
        apply(&update, &mut state);
        assert_eq!(state.shadow.as_deref(), Some(&[0.25, -0.3][..]));
        assert_eq!(state.data, [0.25, -0.3], "what was pruned comes back");
    }
}
