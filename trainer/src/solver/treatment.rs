//! What the update does to each parameter.

use super::settings::Settings;
use crate::param::{Param, Role};
use crate::prune::lasso::Lasso;
use crate::prune::regularization::Regularization;
use crate::prune::winograd::Transform;
use crate::update::{Decay, ParamState, Threshold, Update, apply};
use skimjit_models::Result;

/// Regularisation and thresholds of a parameter.
pub struct Treatment {
    regularization: Regularization,
    lasso: Option<Lasso>,
    /// Of kernels under L1_Winograd, and of weights in the Winograd domain.
    transform: Option<Transform>,
    /// Factors of the threshold by position, of weights in the Winograd domain.
    factors: Option<(Vec<f32>, usize)>,
}

impl Treatment {
    /// Finds out what a parameter asks for.
    pub fn of(param: &Param, settings: &Settings) -> Result<Self> {
        let regularization = Regularization::of(param, settings)?;
        let transform = Transform::of(param);
        let domain = transform
            .as_ref()
            .filter(|_| param.role == Role::Winograd && settings.winograd_adjust_threshold);
        let positions =
            |transform: &Transform| (transform.output_factors(), param.shape.count_of(2, 4));
        Ok(Self {
            regularization,
            lasso: Lasso::of(param, settings)?,
            factors: domain.map(positions),
            transform: transform.filter(|_| regularization == Regularization::L1Winograd),
        })
    }
    /// True when pruned weights can come back.
    pub fn needs_shadow(&self) -> bool {
        self.regularization.is_surgery()
    }

    /// The regularisation terms.
    pub fn term(&self, param: &Param, data: &[f32], settings: &Settings) -> f64 {
        let decay = settings.weight_decay * param.decay_mult;
        let lasso = self.lasso.as_ref().map_or(0.0, |lasso| lasso.term(data));
        let own = match &self.transform {
            Some(transform) => transform.term(decay, data),
            None => self.regularization.term(decay, data),
        };
        own + lasso
    }

    /// The update that is due: regularisation, rule and thresholds of single elements. `None` for
    /// parameters that stay.
    pub fn update(
        &self,
        param: &Param,
        settings: &Settings,
        rate: f32,
        scale: f32,
        iteration: u64,
    ) -> Option<Update<'_>> {
        let prunable = param.is_prunable();
        if param.lr_mult == 0.0 && !prunable && !settings.threshold_all {
            return None;
        }
        let decay = settings.weight_decay * param.decay_mult;
        let mut update = Update {
            rule: settings.rule,
            rate: rate * param.lr_mult,
            iteration,
            scale,
            decay: Decay::None,
            threshold: Threshold::None,
            factors: self
                .factors
                .as_ref()
                .map(|(factors, run)| (factors.as_slice(), *run)),
        };
        let may_prune = prunable || settings.threshold_all;
        match self.regularization {
            Regularization::L2 => update.decay = Decay::L2(decay),
            Regularization::L1 => update.decay = Decay::L1(decay),
            Regularization::Ista => {
                update.decay = Decay::L1(decay);
                update.threshold = Threshold::Soft(rate * decay);
            }
            Regularization::L1Dns => update.decay = Decay::L1(decay),
            Regularization::L2Dns => update.decay = Decay::L2(decay),
            Regularization::L1Winograd => {}
        }
        if may_prune && settings.prune_threshold > 0.0 {
            update.threshold = match self.regularization {
                Regularization::L1 => adaptive(settings),
                Regularization::L1Dns | Regularization::L2Dns => {
                    Threshold::Fixed(settings.prune_threshold)
                }
                _ => update.threshold,
            };
        }
        Some(update)
    }

    /// True when updates zero small elements.
    pub fn has_threshold(&self, param: &Param, settings: &Settings) -> bool {
        let groups = self.transform.is_some() && settings.prune_threshold > 0.0;
        let update = self.update(param, settings, 0.0, 1.0, 0);
        groups || update.is_some_and(|update| update.threshold != Threshold::None)
    }

    /// True when groups of elements are regularised or thresholded: before and after the update, see
    /// [`Treatment::apply`].
    pub fn has_groups(&self) -> bool {
        self.transform.is_some() || self.lasso.is_some()
    }

    /// The update with what belongs to groups of elements.
    pub fn apply(
        &self,
        param: &Param,
        state: &mut ParamState,
        settings: &Settings,
        mut update: Update<'_>,
    ) {
        let decay = settings.weight_decay * param.decay_mult;
        self.add_gradients(state, decay, update.scale);
        update.scale = 1.0;
        apply(&update, state);
        if let Some(transform) = &self.transform {
            transform.prune(
                &mut state.data,
                settings.prune_threshold,
                settings.winograd_adjust_threshold,
            );
        }
    }

    /// Gradients of terms that belong to groups of elements, after scaling those of the loss.
    fn add_gradients(&self, state: &mut ParamState, decay: f32, scale: f32) {
        state.gradient.iter_mut().for_each(|g| *g *= scale);
        if let Some(transform) = &self.transform {
            transform.add_gradient(decay, &state.data, &mut state.gradient);
        }
        if let Some(lasso) = &self.lasso {
            lasso.add(&state.data, &mut state.gradient);
        }
    }
}

fn adaptive(settings: &Settings) -> Threshold {
    let (least, factor) = (settings.prune_threshold, settings.max_threshold_factor);
    if factor < 2.0 {
        return Threshold::Fixed(least);
    }
    Threshold::Adaptive {
        least,
        factor,
        by_gradient: settings.threshold_by_gradient,
    }
}
