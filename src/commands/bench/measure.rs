//! Times of variants, by turns.

use super::report::{Kernel, Layer, Whole};
use crate::support::times::Times;
use crate::support::timing::{Repeat, Spread};
use crate::support::{args, noise};
use skimjit_program::progress;
use crate::commands::verify;
use skimjit::layer;
use skimjit::{CompileOptions, Engine, Error, Isa, Model, Result, Session};
use skimjit_models::{Error as InputError, Tensor};
use skimjit_runtime::machine::Peak;
use skimjit_runtime::{Choice, Profile};
use std::time::Duration;

/// Time for each layer's measurement when the number of runs is left open.
const LAYER_TIME: Duration = Duration::from_millis(400);
/// The same for the whole network.
const NET_TIME: Duration = Duration::from_secs(3);
/// Allowed difference from the reference, as a share of the largest value.
const TOLERANCE: f64 = 1e-4;

/// What does not change during a bench.
pub struct Measure {
    /// Without a batch.
    pub options: CompileOptions,
    pub isa: Isa,
    pub peak: Option<Peak>,
    pub iterations: Option<u32>,
    pub seed: u64,
}

/// Variants of one layer that were measured by turns.
pub struct Measured {
    /// The planner's choice.
    pub choice: Choice,
    pub kernels: Vec<Kernel>,
}

impl Measured {
    pub fn shape(&self) -> String {
        self.choice.shape.clone()
    }
    /// Takes the first kernel out whose variant is of that kind.
    pub fn take(&mut self, kind: fn(&str) -> bool) -> Option<Kernel> {
        let found = self.kernels.iter().position(|kernel| kind(&kernel.variant));
        found.map(|index| self.kernels.remove(index))
    }
}

impl Measure {
    pub fn options(&self, batch: u32) -> CompileOptions {
        CompileOptions {
            batch: Some(batch),
            ..self.options.clone()
        }
    }

    /// Best sparse and best dense variant of a network of one layer.
    pub fn layer(&self, model: &Model, batch: u32) -> Result<Layer> {
        let best = |choice: &Choice| {
            [
                named(choice, layer::is_sparse),
                named(choice, layer::is_dense),
            ]
            .to_vec()
        };
        let mut measured = self.variants(model, batch, best)?;
        let (sparse, dense) = (
            measured.take(layer::is_sparse),
            measured.take(layer::is_dense),
        );
        let choice = measured.choice;
        Ok(Layer {
            layer: choice.layer,
            kind: choice.kind,
            shape: choice.shape,
            density: choice.density.unwrap_or(1.0),
            chosen: choice.variant,
            sparse,
            dense,
        })
    }

    /// Variants of a network of one layer by turns: of each of the lists that `wanted` makes, the
    /// first that can compute it.
    pub fn variants(
        &self,
        model: &Model,
        batch: u32,
        wanted: impl Fn(&Choice) -> Vec<Vec<String>>,
    ) -> Result<Measured> {
        let options = self.options(batch);
        let planned = args::compile(model, &options)?;
        let Some(choice) = planned.plan().choices.first().cloned() else {
            let error = InputError::new("a network without layers");
            return Err(error.expected("a layer").into());
        };
        drop(planned);
        let (mut variants, mut engines) = (Vec::new(), Vec::new());
        for list in wanted(&choice) {
            if let Some((variant, engine)) = first_that_can(model, &options, list)? {
                variants.push(variant);
                engines.push(engine);
            }
        }
        let times = self.by_turns(&engines, &noise::inputs(model, batch, self.seed)?)?;
        let kernels = variants.into_iter().zip(times);
        let kernels = kernels.map(|(variant, spread)| self.kernel(variant, spread, batch, &choice));
        Ok(Measured {
            kernels: kernels.collect(),
            choice,
        })
    }

    fn kernel(&self, variant: String, spread: Spread, batch: u32, choice: &Choice) -> Kernel {
        let time_ms = spread.median_ms;
        let rate = |macs: u64| 2.0 * (macs * u64::from(batch)) as f64 / (time_ms.max(1e-9) * 1e6);
        let done = if layer::is_sparse(&variant) {
            choice.macs_nonzero
        } else {
            choice.macs
        };
        let threads = self.options.threads as f64;
        Kernel {
            variant,
            time_ms,
            spread,
            dense_equivalent_gflops: rate(choice.macs),
            gflops: rate(done),
            peak_share: self.peak.map(|peak| rate(done) / (peak.gflops * threads)),
        }
    }

    /// Times of each engine. All engines have to agree.
    fn by_turns(&self, engines: &[Engine], inputs: &[Tensor]) -> Result<Vec<Spread>> {
        let mut sessions: Vec<Session> = engines.iter().map(Engine::session).collect();
        let mut first: Option<Vec<Tensor>> = None;
        for (engine, session) in engines.iter().zip(&mut sessions) {
            let outputs = engine.run(session, inputs)?;
            agree(first.get_or_insert_with(|| outputs.clone()), &outputs)?;
        }
        let mut times = vec![Vec::new(); engines.len()];
        Repeat::new(self.iterations, LAYER_TIME).run(|| -> Result<()> {
            for ((engine, session), times) in engines.iter().zip(&mut sessions).zip(&mut times) {
                session.start_profile();
                engine.run(session, inputs)?;
                times.extend(
                    session
                        .profile()
                        .map(|profile| kernels_only(engine, profile)),
                );
            }
            Ok(())
        })?;
        Ok(times.iter().map(|times| Spread::of(times)).collect())
    }

    /// The planned network and its dense plan, by turns.
    pub fn whole(&self, model: &Model, batch: u32) -> Result<Whole> {
        let options = self.options(batch);
        let planned = args::compile(model, &options)?;
        let dense = |choice: &Choice| {
            let variant = named(choice, layer::is_dense).into_iter().next()?;
            Some((choice.layer.clone(), variant))
        };
        let variants = planned.plan().choices.iter().filter_map(dense).collect();
        let dense = CompileOptions {
            variants,
            ..options
        };
        let dense = args::compile(model, &dense)?;
        let inputs = noise::inputs(model, batch, self.seed)?;
        let mut sides = [planned, dense].map(|engine| (engine.session(), engine, Vec::new()));
        for (session, engine, _) in &mut sides {
            engine.run(session, &inputs)?;
        }
        Repeat::new(self.iterations, NET_TIME).run(|| -> Result<()> {
            for (session, engine, times) in &mut sides {
                session.start_profile();
                engine.run(session, &inputs)?;
                times.extend(session.profile().map(Times::of));
            }
            Ok(())
        })?;
        let [spread, dense_spread] = sides.map(|(_, _, times)| Spread::of(&times));
        spread.note("bench");
        let (time_ms, dense_time_ms) = (spread.median_ms, dense_spread.median_ms);
        let per_second = |ms: f64| f64::from(batch) * 1e3 / ms.max(1e-9);
        Ok(Whole {
            time_ms,
            dense_time_ms,
            spread,
            dense_spread,
            images_per_second: per_second(time_ms),
            dense_images_per_second: per_second(dense_time_ms),
        })
    }

    /// Largest difference from the reference; an error when it is too large.
    pub fn verified(&self, model: &Model, batch: u32) -> Result<f64> {
        let options = self.options(batch);
        let inputs = noise::usual_inputs(model, options.batch)?;
        let options = args::settle(model, &options)?;
        let found = progress::spin("verifying", || {
            skimjit::verify::verify(model, &options, &inputs, TOLERANCE)
        })?;
        if let Some(failed) = found.first_failure() {
            return Err(verify::failure(failed, TOLERANCE));
        }
        let checks = found.layers.iter().chain(&found.outputs);
        Ok(checks.fold(0.0, |most, check| check.relative.max(most)))
    }
}

/// An error when two variants' outputs differ.
fn agree(expected: &[Tensor], found: &[Tensor]) -> Result<()> {
    for (expected, found) in expected.iter().zip(found) {
        let (mut largest, mut difference) = (f32::MIN_POSITIVE, 0.0f32);
        for (a, b) in expected.data().iter().zip(found.data()) {
            let step = (a - b).abs();
            largest = largest.max(a.abs());
            difference = difference.max(if step.is_nan() { f32::INFINITY } else { step });
        }
        let relative = f64::from(difference / largest);
        if relative > TOLERANCE {
            return Err(Error::Check(format!(
                "variants of one layer: found a difference of {relative:.3e} of the largest value, \
                 expected at most {TOLERANCE:.0e}"
            )));
        }
    }
    Ok(())
}

/// Variants of that kind: the chosen one, others by estimate, then those that refuse.
pub fn named(choice: &Choice, kind: fn(&str) -> bool) -> Vec<String> {
    let estimated = choice.candidates.iter().map(|candidate| &candidate.variant);
    // What could compute the layer is among these too, with its estimate in words.
    let refusing = choice.rejected.iter().map(|(name, _)| name);
    let all = std::iter::once(&choice.variant).chain(estimated);
    let mut names: Vec<String> = Vec::new();
    for name in all.chain(refusing).filter(|name| kind(name)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The first of the variants that does not refuse the layer.
fn first_that_can(
    model: &Model,
    options: &CompileOptions,
    variants: Vec<String>,
) -> Result<Option<(String, Engine)>> {
    for variant in variants {
        match layer::force(model, options, &variant) {
            Ok(engine) => return Ok(Some((variant, engine))),
            Err(Error::Usage(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A run without the copies at the network's ends, which a layer inside a network does not have.
fn kernels_only(engine: &Engine, profile: &Profile) -> Times {
    let copies = ["copy", "output", "to columns", "from columns"];
    let steps = profile.steps();
    let copied: u64 = steps
        .iter()
        .filter(|step| copies.contains(&step.label))
        .map(|step| step.time_ns)
        .sum();
    let mut times = Times::of(profile);
    times.wall = times.wall.saturating_sub(copied / engine.threads() as u64);
    times
}
