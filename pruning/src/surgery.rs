//! Dynamic network surgery as its authors describe it (Guo, Yao and Chen 2016): weights below one
//! threshold are masked, masked ones that grow beyond a second one come back, and what is between stays as
//! it is. All weights train, masked ones unseen.

use crate::layer::{Layer, chosen};
use crate::method::{Method, Run, Start};
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

/// A layer under surgery.
struct Patient {
    layer: usize,
    name: String,
    /// Name of the parameter.
    parameter: String,
    /// The lower and the upper threshold; known from the start of the run.
    thresholds: [f32; 2],
    masked: Vec<bool>,
}

/// Dynamic network surgery.
pub struct Surgery {
    options: SurgeryOptions,
    seed: u64,
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
            seed: 0,
            patients: Vec::new(),
        })
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

impl Method for Surgery {
    fn start(&mut self, layers: &[Layer], at: Start, run: &mut dyn Run) -> Result<()> {
        self.seed = at.seed;
        let named: Vec<String> = self.options.rates.keys().cloned().collect();
        chosen(layers, &named, "rates")?;
        for index in chosen(layers, &self.options.layers, "layers")? {
            let layer = &layers[index];
            let own = self.options.rates.get(&layer.name).copied();
            let rate = own.unwrap_or(self.options.rate);
            let masked = run.zeros(index);
            let mut limits = [0.0; 2];
            run.see(index, &mut |weights| limits = thresholds(weights, rate));
            run.mask(index, Some(masked.iter().map(|masked| !masked).collect()));
            self.patients.push(Patient {
                layer: index,
                name: layer.name.clone(),
                parameter: layer.parameter.clone(),
                thresholds: limits,
                masked,
            });
        }
        Ok(())
    }

    /// A number is drawn for each iteration, so that a run that goes on draws the same ones.
    fn is_due(&self, iteration: u64) -> bool {
        if iteration > self.options.end {
            return false;
        }
        let chance = (1.0 + self.options.gamma * iteration as f64).powf(-self.options.power);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(iteration);
        // 53 bits of a double between 0 and 1.
        let drawn = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        drawn < chance || iteration == self.options.end
    }

    fn step(&mut self, iteration: u64, run: &mut dyn Run) {
        if !self.is_due(iteration) {
            return;
        }
        let mut reached = Vec::new();
        for patient in &mut self.patients {
            let (masked, limits) = (&mut patient.masked, patient.thresholds);
            run.see(patient.layer, &mut |weights| {
                decide(masked, weights, limits)
            });
            let kept: Vec<bool> = masked.iter().map(|masked| !*masked).collect();
            let zeros = kept.iter().filter(|kept| !**kept).count();
            reached.push((
                patient.name.clone(),
                zeros as f64 / kept.len().max(1) as f64,
            ));
            run.mask(patient.layer, Some(kept));
        }
        if iteration == self.options.end {
            run.event("masks stay from here on".to_owned(), Some(reached));
        }
    }

    fn end(&self) -> u64 {
        self.options.end
    }

    fn trains_behind_masks(&self) -> bool {
        true
    }

    fn save(&self) -> serde_json::Value {
        let patients = self.patients.iter();
        let thresholds = patients.map(|patient| (patient.parameter.clone(), patient.thresholds));
        serde_json::json!(thresholds.collect::<BTreeMap<_, _>>())
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<()> {
        let saved: Thresholds = serde_json::from_value(state)
            .map_err(|error| Error::new(format!("thresholds that cannot be read: {error}")))?;
        let patients = self.patients.iter();
        let names = patients.map(|patient| patient.parameter.clone());
        let (count, mut saved) = match saved {
            Thresholds::ByName(saved) => (saved.len(), saved),
            Thresholds::ByPosition(saved) => (saved.len(), names.zip(saved).collect()),
        };
        if count != self.patients.len() {
            return Err(Error::new(format!("thresholds of {count} layers"))
                .expected(format!("{}, as the recipe has", self.patients.len())));
        }
        for patient in &mut self.patients {
            patient.thresholds = saved.remove(&patient.parameter).ok_or_else(|| {
                Error::new("thresholds of other layers").expected(patient.parameter.clone())
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
    /// In the order of the parameters: in older snapshots.
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
        let mut surgery = Surgery::new(options()).unwrap();
        surgery.seed = 7;
        let count = |range: std::ops::Range<u64>| range.filter(|&n| surgery.is_due(n)).count();
        let (early, late) = (count(0..100), count(800..900));
        assert!(early > 55 && late < 25, "{early} {late}");
        assert!(surgery.is_due(1000));
        assert_eq!(count(1001..2000), 0);
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
