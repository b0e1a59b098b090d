//! Dynamic network surgery as its authors describe it (Guo, Yao and Chen 2016): weights below one
//! threshold are masked, masked ones that grow beyond a second one come back, and what is between stays as
//! it is. All weights train, masked ones unseen.

use super::gradual::shares;
use crate::param::prunable;
use crate::solver::method::{Context, Method};
use crate::solver::report::Metrics;
use crate::update::ParamState;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Deserialize;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;

/// The thresholds are this far below and above their mean.
const MARGIN: f64 = 0.1;

/// What is pruned, and when masks change.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurgeryOptions {
    /// Thresholds lie around mean + rate·deviation of a layer's magnitudes when the run starts.
    pub rate: f64,
    /// Rates of single layers.
    #[serde(default)]
    pub rates: BTreeMap<String, f64>,
    /// Masks change in an iteration n with probability (1 + gamma·n)^-power.
    #[serde(default = "usual_gamma")]
    pub gamma: f64,
    /// See `gamma`.
    #[serde(default = "usual_power")]
    pub power: f64,
    /// Iteration from which on masks stay.
    pub end: u64,
    /// Layers; all convolutions and inner products when empty.
    #[serde(default)]
    pub layers: Vec<String>,
}

fn usual_gamma() -> f64 {
    1e-4
}

fn usual_power() -> f64 {
    1.0
}

/// A parameter under surgery.
struct Patient {
    param: usize,
    /// Name of the parameter.
    name: String,
    /// The lower and the upper threshold; known from the start of the run.
    thresholds: [f32; 2],
    masked: Vec<bool>,
}

/// Dynamic network surgery.
pub struct Surgery {
    options: SurgeryOptions,
    patients: Vec<Patient>,
}

impl Surgery {
    /// Checks options; parameters are found when the run starts.
    pub fn new(options: SurgeryOptions) -> Result<Self> {
        let rates = options.rates.values().chain([&options.rate]);
        let numbers = rates.chain([&options.gamma, &options.power]);
        if numbers.into_iter().any(|x| !x.is_finite()) || options.gamma < 0.0 || options.power < 0.0
        {
            return Err(Error::new("numbers that are none, or negative ones")
                .field("rate, gamma, power")
                .expected("finite rates; gamma and power of 0 or more"));
        }
        Ok(Self {
            options,
            patients: Vec::new(),
        })
    }

    /// Whether masks change after so many iterations: a number drawn for each iteration, so that a resumed
    /// run draws the same ones.
    fn is_due(&self, iteration: u64, seed: u64) -> bool {
        if iteration > self.options.end {
            return false;
        }
        let chance = (1.0 + self.options.gamma * iteration as f64).powf(-self.options.power);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(iteration);
        // 53 bits of a double between 0 and 1.
        let drawn = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < chance || iteration == self.options.end
    }
}

/// Mean plus `rate` deviations of the magnitudes of all weights but zeros, and the margin on both sides.
fn thresholds(data: &[f32], rate: f64) -> [f32; 2] {
    let sizes = || {
        let sizes = data.iter().filter(|w| **w != 0.0);
        sizes.map(|w| f64::from(w.abs()))
    };
    let count = sizes().count().max(1) as f64;
    let mean = sizes().sum::<f64>() / count;
    let variance = sizes().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let middle = (mean + rate * variance.sqrt()).max(0.0);
    [1.0 - MARGIN, 1.0 + MARGIN].map(|factor| (factor * middle) as f32)
}

/// Decides anew which weights are masked, by the weights behind the mask.
fn decide(masked: &mut [bool], weights: &[f32], [lower, upper]: [f32; 2]) {
    for (masked, w) in masked.iter_mut().zip(weights) {
        let size = w.abs();
        *masked = size < lower || (*masked && size <= upper);
    }
}

/// Puts the mask in front of the weights. The update has just uncovered them.
fn cover(state: &mut ParamState, masked: &[bool]) {
    let all = state.data.iter_mut().zip(masked);
    all.filter(|(_, masked)| **masked)
        .for_each(|(w, _)| *w = 0.0);
}

impl Method for Surgery {
    fn start(&mut self, run: &mut Context<'_>) -> Result<()> {
        let params = run.engine.params();
        let named: Vec<String> = self.options.rates.keys().cloned().collect();
        prunable(params, &named, "rates")?;
        let rate = |layer: &str| self.options.rates.get(layer).copied();
        let patients = prunable(params, &self.options.layers, "layers")?.into_iter();
        let patients: Vec<(usize, f64)> = patients
            .map(|param| {
                (
                    param,
                    rate(&params[param].layer).unwrap_or(self.options.rate),
                )
            })
            .collect();
        for (param, rate) in patients {
            run.engine.edit(param, &mut |described, state| {
                // Weights behind masks come from a snapshot, unless the run is new.
                let shadow = state.shadow.get_or_insert_with(|| state.data.clone());
                self.patients.push(Patient {
                    param,
                    name: described.name(),
                    thresholds: thresholds(shadow, rate),
                    masked: state.data.iter().map(|w| *w == 0.0).collect(),
                });
            });
        }
        Ok(())
    }

    fn after_update(&mut self, run: &mut Context<'_>) -> Result<()> {
        let due = self.is_due(run.iteration, run.settings.seed);
        let mut reached = Vec::new();
        for patient in &mut self.patients {
            run.engine.edit(patient.param, &mut |param, state| {
                if due && let Some(weights) = &state.shadow {
                    decide(&mut patient.masked, weights, patient.thresholds);
                }
                cover(state, &patient.masked);
                let zeros = patient.masked.iter().filter(|masked| **masked).count();
                let share = zeros as f64 / patient.masked.len().max(1) as f64;
                reached.push((param.layer.clone(), share));
            });
        }
        if run.iteration == self.options.end {
            run.report.metrics(&Metrics::Event {
                iteration: run.iteration,
                text: "masks stay from here on".to_owned(),
                values: shares(reached),
            });
        }
        Ok(())
    }

    fn save(&self) -> serde_json::Value {
        let patients = self.patients.iter();
        let thresholds = patients.map(|patient| (patient.name.clone(), patient.thresholds));
        serde_json::json!(thresholds.collect::<BTreeMap<_, _>>())
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<()> {
        let saved: Thresholds = serde_json::from_value(state)
            .map_err(|error| Error::new(format!("thresholds that cannot be read: {error}")))?;
        let names = self.patients.iter().map(|patient| patient.name.clone());
        let (count, mut saved) = match saved {
            Thresholds::ByName(saved) => (saved.len(), saved),
            Thresholds::ByPosition(saved) => (saved.len(), names.zip(saved).collect()),
        };
        if count != self.patients.len() {
            return Err(Error::new(format!("thresholds of {count} layers"))
                .expected(format!("{}, as the recipe has", self.patients.len())));
        }
        for patient in &mut self.patients {
            patient.thresholds = saved.remove(&patient.name).ok_or_else(|| {
                Error::new("thresholds of other layers").expected(patient.name.clone())
            })?;
        }
        Ok(())
    }
}

/// What a snapshot keeps.
#[derive(Deserialize)]
#[serde(untagged)]
enum Thresholds {
    /// By parameter.
    ByName(BTreeMap<String, [f32; 2]>),
    /// In the order of the parameters, see [`crate::solver::method::MethodStates`].
    ByPosition(Vec<[f32; 2]>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SurgeryOptions {
        SurgeryOptions {
            rate: 1.0,
            rates: BTreeMap::new(),
            gamma: 0.01,
            power: 1.0,
            end: 1000,
            layers: vec![],
        }
    }

    #[test]
    fn what_is_between_the_thresholds_stays() {
        let mut masked = [false, false, false, true, true, true];
        let weights = [0.05, -0.1, 0.2, -0.05, 0.1, -0.2];
        decide(&mut masked, &weights, [0.09, 0.11]);
        assert_eq!(masked, [true, false, false, true, true, false]);
    }

    #[test]
    fn thresholds_lie_around_mean_and_deviation() {
        // Magnitudes 1 and 3: mean 2, deviation 1; the zero does not count.
        let [lower, upper] = thresholds(&[1.0, -3.0, 0.0], 0.5);
        assert!((lower - 0.9 * 2.5).abs() < 1e-6 && (upper - 1.1 * 2.5).abs() < 1e-6);
        assert_eq!(thresholds(&[1.0, -3.0], -9.0), [0.0, 0.0]);
    }

    #[test]
    fn masks_change_less_and_less_often_and_not_after_the_end() {
        let surgery = Surgery::new(options()).unwrap();
        let count = |range: std::ops::Range<u64>| range.filter(|&n| surgery.is_due(n, 7)).count();
        let (early, late) = (count(0..100), count(800..900));
        assert!(early > 55 && late < 25, "{early} {late}");
        assert!(surgery.is_due(1000, 7));
        assert_eq!(count(1001..2000), 0);
    }

    #[test]
    fn covered_weights_come_back() {
        let mut state = ParamState {
            data: vec![0.5, 0.01],
            ..ParamState::default()
        };
        let mut masked = vec![false, false];
        decide(&mut masked, &[0.5, 0.01], [0.1, 0.2]);
        cover(&mut state, &masked);
        assert_eq!(state.data, [0.5, 0.0]);
        decide(&mut masked, &[0.5, 0.3], [0.1, 0.2]);
        assert_eq!(masked, [false, false]);
    }

    #[test]
    fn impossible_options_are_refused() {
        for wrong in [
            SurgeryOptions {
                rate: f64::NAN,
                ..options()
            },
            SurgeryOptions {
                power: -1.0,
                ..options()
            },
        ] {
            assert!(Surgery::new(wrong).is_err());
        }
    }
}
