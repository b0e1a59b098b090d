//! Gradual magnitude pruning: the smallest weights become zero, more of them as training goes on
//! (Zhu and Gupta 2017).

use crate::engine::{Engine, ParamState};
use crate::param::{Param, Role};
use crate::solver::method::{Context, Method};
use crate::solver::report::Metrics;
use serde::Deserialize;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;

/// How zeros are shared out among the layers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One threshold for all layers.
    #[default]
    Global,
    /// The same share in every layer.
    Uniform,
    /// More in layers with many weights for their dims (Erdős–Rényi kernel).
    Erk,
}

/// What is pruned, how far and when.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradualOptions {
    /// Share of zeros at the end, over all chosen layers.
    pub sparsity: f64,
    /// Share of zeros at the beginning.
    #[serde(default)]
    pub initial: f64,
    /// First iteration.
    #[serde(default)]
    pub begin: u64,
    /// Iteration at which `sparsity` is reached.
    pub end: u64,
    /// Iterations between two steps.
    #[serde(default = "usual_interval")]
    pub every: u64,
    /// How zeros are shared out.
    #[serde(default)]
    pub scope: Scope,
    /// Layers; all convolutions and inner products when empty.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Shares of single layers, instead of what `scope` gives them.
    #[serde(default)]
    pub targets: BTreeMap<String, f64>,
}

fn usual_interval() -> u64 {
    50
}

/// Gradual magnitude pruning.
pub struct Gradual {
    options: GradualOptions,
    /// Parameters that are pruned.
    params: Vec<usize>,
    /// Share of zeros of each at the end; `None`: by the common threshold.
    shares: Vec<Option<f64>>,
}

/// Share of zeros at iteration `n`: a cubic that is steep at first, when most weights are easy to do
/// without.
pub fn share_at(options: &GradualOptions, n: u64) -> f64 {
    let length = options.end.saturating_sub(options.begin).max(1) as f64;
    let t = (n.saturating_sub(options.begin) as f64 / length).min(1.0);
    options.sparsity + (options.initial - options.sparsity) * (1.0 - t).powi(3)
}

/// Parameters that are pruned: weights of the named layers, or of all.
pub fn chosen(params: &[Param], layers: &[String]) -> Result<Vec<usize>> {
    let prunable = |param: &Param| matches!(param.role, Role::Weight | Role::Winograd);
    let all = params
        .iter()
        .enumerate()
        .filter(|(_, param)| prunable(param));
    let known: Vec<&str> = all.clone().map(|(_, param)| param.layer.as_str()).collect();
    if let Some(missing) = layers.iter().find(|layer| !known.contains(&layer.as_str())) {
        return Err(Error::new(format!("layer {missing:?}"))
            .field("layers")
            .expected(format!("some of: {}", known.join(", "))));
    }
    let named = |param: &Param| layers.is_empty() || layers.contains(&param.layer);
    Ok(all
        .filter(|(_, param)| named(param))
        .map(|(index, _)| index)
        .collect())
}

impl Gradual {
    /// Checks options; parameters are found when the run starts.
    pub fn new(options: GradualOptions) -> Result<Self> {
        let shares = options
            .targets
            .values()
            .chain([&options.sparsity, &options.initial]);
        if let Some(wrong) = shares
            .into_iter()
            .find(|share| !(0.0..1.0).contains(*share))
        {
            return Err(Error::new(wrong.to_string())
                .field("sparsity")
                .expected("0 or more and less than 1"));
        }
        if options.every == 0 || options.end < options.begin {
            return Err(Error::new(format!(
                "{} to {} every {}",
                options.begin, options.end, options.every
            ))
            .field("begin, end, every")
            .expected("an end after the beginning, and steps of 1 or more"));
        }
        Ok(Self {
            options,
            params: Vec::new(),
            shares: Vec::new(),
        })
    }

    /// Prunes to what the schedule says of this iteration.
    fn prune(&self, engine: &mut dyn Engine, iteration: u64) -> Vec<(String, f64)> {
        let progress = share_at(&self.options, iteration);
        let scale = if self.options.sparsity > 0.0 {
            progress / self.options.sparsity
        } else {
            0.0
        };
        let common = self.threshold(engine, progress);
        let mut reached = Vec::new();
        for (&index, share) in self.params.iter().zip(&self.shares) {
            engine.edit(index, &mut |param, state| {
                let threshold = match share {
                    Some(share) => smallest(&state.data, share * scale),
                    None => common,
                };
                mask_below(state, threshold);
                let zeros = state.data.iter().filter(|w| **w == 0.0).count();
                reached.push((param.layer.clone(), zeros as f64 / state.data.len() as f64));
            });
        }
        reached
    }

    /// Magnitude at and below which weights go, over all layers without a share of their own.
    fn threshold(&self, engine: &mut dyn Engine, share: f64) -> f32 {
        let mut magnitudes = Vec::new();
        for (&index, own) in self.params.iter().zip(&self.shares) {
            if own.is_none() {
                engine.edit(index, &mut |_, state| {
                    magnitudes.extend_from_slice(&state.data)
                });
            }
        }
        smallest(&magnitudes, share)
    }
}

/// The magnitude that `share` of all elements do not exceed; negative when that is none.
pub fn smallest(data: &[f32], share: f64) -> f32 {
    let count = (share * data.len() as f64).round() as usize;
    if count == 0 {
        return -1.0;
    }
    let mut magnitudes: Vec<f32> = data.iter().map(|w| w.abs()).collect();
    let last = (count - 1).min(magnitudes.len() - 1);
    *magnitudes.select_nth_unstable_by(last, f32::total_cmp).1
}

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

/// Densities by dims, so that their mean over all weights is `density`: in proportion to
/// (oc + ic + kh + kw)/(oc·ic·kh·kw), and 1 at most.
pub fn erk(params: &[&Param], density: f64) -> Vec<f64> {
    let raw = |param: &&Param| {
        let sum: u32 = param.shape.dims().iter().sum();
        f64::from(sum) / param.shape.count() as f64
    };
    let raw: Vec<f64> = params.iter().map(raw).collect();
    let counts: Vec<f64> = params
        .iter()
        .map(|param| param.shape.count() as f64)
        .collect();
    let wanted = density * counts.iter().sum::<f64>();
    let mut dense = vec![false; params.len()];
    loop {
        let fixed: f64 = counts
            .iter()
            .zip(&dense)
            .filter(|(_, dense)| **dense)
            .map(|(count, _)| count)
            .sum();
        let free = raw
            .iter()
            .zip(&counts)
            .zip(&dense)
            .filter(|(_, dense)| !**dense);
        let sum: f64 = free.map(|((raw, count), _)| raw * count).sum();
        let factor = if sum > 0.0 {
            (wanted - fixed).max(0.0) / sum
        } else {
            0.0
        };
        let over = (0..raw.len()).find(|&index| !dense[index] && raw[index] * factor > 1.0);
        match over {
            Some(index) => dense[index] = true,
            None => {
                let of = |(raw, dense): (&f64, &bool)| if *dense { 1.0 } else { raw * factor };
                return raw.iter().zip(&dense).map(of).collect();
            }
        }
    }
}

impl Method for Gradual {
    fn start(&mut self, run: &mut Context<'_>) -> Result<()> {
        let params = run.engine.params();
        self.params = chosen(params, &self.options.layers)?;
        let targets: Vec<String> = self.options.targets.keys().cloned().collect();
        chosen(params, &targets).map_err(|error| error.field("targets"))?;
        let selected: Vec<&Param> = self.params.iter().map(|&index| &params[index]).collect();
        let by_scope: Vec<Option<f64>> = match self.options.scope {
            Scope::Global => vec![None; selected.len()],
            Scope::Uniform => vec![Some(self.options.sparsity); selected.len()],
            Scope::Erk => {
                let densities = erk(&selected, 1.0 - self.options.sparsity);
                densities
                    .into_iter()
                    .map(|density| Some(1.0 - density))
                    .collect()
            }
        };
        let own = |param: &&Param| self.options.targets.get(&param.layer).copied();
        self.shares = selected
            .iter()
            .zip(by_scope)
            .map(|(param, share)| own(param).or(share))
            .collect();
        Ok(())
    }

    fn after_update(&mut self, run: &mut Context<'_>) -> Result<()> {
        let options = &self.options;
        let inside = (options.begin..=options.end).contains(&run.iteration);
        let due = inside && (run.iteration - options.begin).is_multiple_of(options.every);
        if !due && run.iteration != options.end {
            return Ok(());
        }
        let reached = self.prune(run.engine, run.iteration);
        run.report.metrics(&Metrics::Event {
            iteration: run.iteration,
            text: format!(
                "pruned to {:.2} %",
                100.0 * share_at(&self.options, run.iteration)
            ),
            values: reached
                .into_iter()
                .map(|(layer, share)| (layer, share.into()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        });
        Ok(())
    }
}

/// Weights that are zero when the run starts stay zero.
pub struct Frozen {
    /// Layers; all convolutions and inner products when empty.
    pub layers: Vec<String>,
}

impl Method for Frozen {
    fn start(&mut self, run: &mut Context<'_>) -> Result<()> {
        for index in chosen(run.engine.params(), &self.layers)? {
            run.engine
                .edit(index, &mut |_, state| mask_below(state, 0.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skimjit_models::Shape;
    use skimjit_models::caffe::proto::layer_parameter::ConnectivityMode;

    fn options(sparsity: f64) -> GradualOptions {
        GradualOptions {
            sparsity,
            initial: 0.0,
            begin: 100,
            end: 300,
            every: 50,
            scope: Scope::Global,
            layers: vec![],
            targets: BTreeMap::new(),
        }
    }

    fn param(layer: &str, dims: &[u32]) -> Param {
        Param {
            layer: layer.to_owned(),
            index: 0,
            role: Role::Weight,
            shape: Shape::new(dims).unwrap(),
            groups: 1,
            lr_mult: 1.0,
            decay_mult: 1.0,
            regularization: None,
            breadth_decay_mult: 0.0,
            kernel_shape_decay_mult: 0.0,
            block_group_lasso: vec![],
            connectivity: ConnectivityMode::Connected,
        }
    }

    #[test]
    fn the_schedule_is_cubic() {
        let options = options(0.8);
        for (n, share) in [
            (0, 0.0),
            (100, 0.0),
            (200, 0.8 - 0.8 / 8.0),
            (300, 0.8),
            (900, 0.8),
        ] {
            assert!((share_at(&options, n) - share).abs() < 1e-12, "{n}");
        }
    }

    #[test]
    fn thresholds_take_the_smallest() {
        let data = [0.5, -0.1, 0.3, -0.4];
        assert_eq!(smallest(&data, 0.5), 0.3);
        assert_eq!(smallest(&data, 0.0), -1.0);
        let mut state = ParamState {
            data: data.to_vec(),
            gradient: vec![0.0; 4],
            history: vec![vec![1.0; 4]],
            ..ParamState::default()
        };
        mask_below(&mut state, 0.3);
        assert_eq!(state.data, [0.5, 0.0, 0.0, -0.4]);
        assert_eq!(state.history[0], [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(state.mask, Some(vec![1.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn erk_keeps_the_mean_and_small_layers() {
        let params = [
            param("a", &[20, 1, 5, 5]),
            param("b", &[50, 20, 5, 5]),
            param("c", &[500, 800]),
            param("d", &[10, 500]),
        ];
        let params: Vec<&Param> = params.iter().collect();
        let densities = erk(&params, 0.1);
        let total: f64 = params.iter().map(|param| param.shape.count() as f64).sum();
        let kept: f64 = params
            .iter()
            .zip(&densities)
            .map(|(param, d)| d * param.shape.count() as f64)
            .sum();
        assert!((kept / total - 0.1).abs() < 1e-9);
        assert!(densities.iter().all(|d| (0.0..=1.0).contains(d)));
        assert_eq!(densities[0], 1.0, "{densities:?}");
        assert!(densities[2] < densities[3]);
    }

    #[test]
    fn impossible_options_are_refused() {
        for wrong in [
            options(1.0),
            options(-0.1),
            GradualOptions {
                end: 50,
                ..options(0.5)
            },
            GradualOptions {
                every: 0,
                ..options(0.5)
            },
        ] {
            assert!(Gradual::new(wrong).is_err());
        }
        let known = [param("a", &[2, 2])];
        assert!(chosen(&known, &["b".to_owned()]).is_err());
    }
}
