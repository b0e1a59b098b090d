//! The methods of `skimjit-pruning` in a run of this trainer.

use super::mask::{apply_mask, cover};
use crate::param::{Param, Role};
use crate::solver::method::{Context, Method};
use crate::solver::report::Metrics;
use skimjit_models::{Error, Result};
use skimjit_pruning::layer::Layer;
use skimjit_pruning::method::{self, Start};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A method that masks weights.
pub struct Masked {
    method: Box<dyn method::Method>,
    /// File that the method was made from, which its faults are in.
    file: Option<PathBuf>,
    /// Parameters by the method's layers.
    params: Vec<usize>,
    /// Masks in front of weights that train on, by parameter.
    covers: BTreeMap<usize, Vec<bool>>,
}

impl Masked {
    /// Layers are found when the run starts.
    pub fn new(method: Box<dyn method::Method>, file: Option<PathBuf>) -> Self {
        Self {
            method,
            file,
            params: Vec::new(),
            covers: BTreeMap::new(),
        }
    }

    /// The method, and the run as it sees it.
    fn parts<'a, 'b>(
        &'a mut self,
        context: &'a mut Context<'b>,
    ) -> (&'a mut dyn method::Method, Run<'a, 'b>) {
        let run = Run {
            behind: self.method.trains_behind_masks(),
            params: &self.params,
            covers: &mut self.covers,
            context,
        };
        (self.method.as_mut(), run)
    }

    fn cover(&self, context: &mut Context<'_>) {
        for (&param, kept) in &self.covers {
            let mut edit = |_: &Param, state: &mut _| cover(state, kept);
            context.engine.edit(param, &mut edit);
        }
    }
}

/// The layers of a network's parameters.
fn layers(params: &[Param]) -> (Vec<usize>, Vec<Layer>) {
    let prunable = params.iter().enumerate();
    let prunable = prunable.filter(|(_, param)| param.is_prunable());
    let layer = |(index, param): (usize, &Param)| {
        let dims = param.shape.dims().iter();
        let layer = Layer {
            name: param.layer.clone(),
            parameter: param.name(),
            dims: dims.map(|&dim| dim as usize).collect(),
            groups: param.groups as usize,
            has_positions: param.role == Role::Weight && param.shape.rank() == 4,
        };
        (index, layer)
    };
    prunable.map(layer).unzip()
}

impl Method for Masked {
    fn start(&mut self, context: &mut Context<'_>) -> Result<()> {
        let (params, layers) = layers(context.engine.params());
        self.params = params;
        let start = Start {
            iteration: context.iteration,
            seed: context.settings.seed,
        };
        let (method, mut run) = self.parts(context);
        let started = method.start(&layers, start, &mut run);
        let in_file = |error: Error| match &self.file {
            Some(file) => error.file(file),
            None => error,
        };
        started.map_err(in_file)
    }

    fn after_update(&mut self, context: &mut Context<'_>) -> Result<()> {
        let iteration = context.iteration;
        let (method, mut run) = self.parts(context);
        method.step(iteration, &mut run);
        self.cover(context);
        Ok(())
    }

    fn save(&self) -> serde_json::Value {
        self.method.save()
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<()> {
        self.method.restore(state)
    }
}

struct Run<'a, 'b> {
    /// Weights train on behind masks.
    behind: bool,
    params: &'a [usize],
    covers: &'a mut BTreeMap<usize, Vec<bool>>,
    context: &'a mut Context<'b>,
}

impl method::Run for Run<'_, '_> {
    fn see(&mut self, layer: usize, see: &mut dyn FnMut(&[f32])) {
        let (param, engine) = (self.params[layer], &mut self.context.engine);
        match self.behind {
            // Weights behind masks come from a snapshot, unless the run is new.
            true => engine.edit(param, &mut |_, state| {
                see(state.shadow.get_or_insert_with(|| state.data.clone()));
            }),
            false => engine.read(param, &mut |_, state| see(&state.data)),
        }
    }

    fn zeros(&mut self, layer: usize) -> Vec<bool> {
        let mut zeros = Vec::new();
        self.context
            .engine
            .read(self.params[layer], &mut |_, state| {
                zeros.extend(state.data.iter().map(|w| *w == 0.0));
            });
        zeros
    }

    fn mask(&mut self, layer: usize, kept: Option<Vec<bool>>) {
        let param = self.params[layer];
        match kept {
            Some(kept) if self.behind => {
                self.covers.insert(param, kept);
            }
            None if self.behind => {
                self.covers.remove(&param);
            }
            kept => self
                .context
                .engine
                .edit(param, &mut |_, state| match &kept {
                    Some(kept) => apply_mask(state, kept),
                    None => state.mask = None,
                }),
        }
    }

    fn event(&mut self, text: String, zeros: Option<Vec<(String, f64)>>) {
        let map = |zeros: Vec<(String, f64)>| {
            let pairs = zeros
                .into_iter()
                .map(|(layer, share)| (layer, share.into()));
            pairs.collect::<serde_json::Map<_, _>>().into()
        };
        self.context.report.metrics(&Metrics::Event {
            iteration: self.context.iteration,
            text,
            values: zeros.map_or(serde_json::Value::Null, map),
        });
    }

    fn line(&mut self, text: &str) {
        self.context.report.line(text);
    }
}
