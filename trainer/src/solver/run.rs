//! The state of a run: what an iteration changes, and snapshots keep.

use super::method::{Context, Method, MethodStates};
use super::report::Report;
use super::settings::Settings;
use super::treatment::Treatment;
use crate::engine::{Engine, NetId};
use skimjit_models::Result;
use std::time::Instant;

/// A run after an iteration.
pub struct Run {
    /// The solver definition; methods change it.
    pub settings: Settings,
    /// All networks.
    pub engine: Box<dyn Engine>,
    /// The training network.
    pub net: NetId,
    /// What updates do to each parameter.
    pub treatments: Vec<Treatment>,
    /// With the names that snapshots know them by.
    pub methods: Vec<(String, Box<dyn Method>)>,
    /// What a snapshot kept of methods that have not been added yet.
    pub kept: MethodStates,
    /// Iterations done.
    pub iteration: u64,
    /// Steps that the learning rate has taken.
    pub current_step: i32,
    /// When the process took it up.
    pub started: Instant,
    /// Iteration of the last snapshot.
    pub snapshot_at: Option<u64>,
}

impl Run {
    /// Adds a method; it starts now, with what a snapshot kept of it under its name. Further ones of a name count.
    pub fn add_method(
        &mut self,
        name: &str,
        mut method: Box<dyn Method>,
        report: &mut dyn Report,
    ) -> Result<()> {
        method.start(&mut self.context(report))?;
        let known = |name: &str| self.methods.iter().any(|(other, _)| other == name);
        let mut names = (2..).map(|number| format!("{name} {number}"));
        let name = match known(name) {
            false => Some(name.to_owned()),
            true => names.find(|name| !known(name)),
        };
        let name = name.unwrap_or_default();
        if let Some(state) = self.kept.take(&name, self.methods.len()) {
            method.restore(state)?;
        }
        self.methods.push((name, method));
        Ok(())
    }

    fn context<'a>(&'a mut self, report: &'a mut dyn Report) -> Context<'a> {
        Context {
            engine: self.engine.as_mut(),
            net: self.net,
            iteration: self.iteration,
            settings: &mut self.settings,
            report,
        }
    }

    /// True when a method has reached what the run was for.
    pub fn is_done(&self) -> bool {
        self.methods.iter().any(|(_, method)| method.is_done())
    }

    /// True when updates zero small weights of some parameter.
    pub fn has_thresholds(&self) -> bool {
        let params = self.engine.params().iter();
        let mut all = params.zip(&self.treatments);
        all.any(|(param, treatment)| treatment.has_threshold(param, &self.settings))
    }

    /// Has every method do something.
    pub fn run_methods(
        &mut self,
        report: &mut dyn Report,
        mut run: impl FnMut(&mut dyn Method, &mut Context<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut methods = std::mem::take(&mut self.methods);
        let mut context = self.context(report);
        let result = methods
            .iter_mut()
            .try_for_each(|(_, method)| run(method.as_mut(), &mut context));
        self.methods = methods;
        result
    }

    /// Updates all parameters.
    pub fn update(&mut self, rate: f32) -> Result<()> {
        let scale = self.gradient_scale();
        let (settings, iteration) = (&self.settings, self.iteration);
        for (index, treatment) in self.treatments.iter().enumerate() {
            let param = &self.engine.params()[index];
            let update = treatment.update(param, settings, rate, scale, iteration);
            match update {
                None => {}
                Some(update) if treatment.has_groups() => {
                    self.engine.edit(index, &mut |param, state| {
                        treatment.apply(param, state, settings, update.clone());
                    });
                }
                Some(update) => self.engine.update(index, &update),
            }
        }
        self.engine.check()
    }

    /// Clipping and the mean over the batches of an iteration. Caffe clips before it divides.
    fn gradient_scale(&mut self) -> f32 {
        let mean = 1.0 / self.settings.iter_size as f32;
        let Some(clip) = self.settings.clip else {
            return mean;
        };
        let mut squares = 0f64;
        for param in 0..self.treatments.len() {
            self.engine.read(param, &mut |_, state| {
                squares += state
                    .gradient
                    .iter()
                    .map(|&g| f64::from(g) * f64::from(g))
                    .sum::<f64>();
            });
        }
        let norm = squares.sqrt() as f32;
        if norm > clip {
            mean * clip / norm
        } else {
            mean
        }
    }
}
