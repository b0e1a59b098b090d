//! Which layers have to be timed, and what their trials found.

use super::analysis::Analysis;
use super::select::Layer;
use super::trial::{Setting, Trial};
use crate::caches::Distance;
use crate::plan::Basis;
use crate::tune::{Times, TrialKey, Tuner, Verdict};
use crate::{Options, PlanError};
use skimjit_kernels::Variant;
use skimjit_kernels::jit::SpecHasher;
use std::hash::{Hash, Hasher};

/// Value and position, be it in a table or in code.
const BYTES_PER_NONZERO: u64 = 8;

/// A layer with several candidates worth a trial.
struct Survey<'a> {
    layer: &'a Layer<'a>,
    key: TrialKey,
    setting: Setting,
    finalists: Vec<&'static dyn Variant>,
}

/// Times of every layer with several candidates, remembered or measured; layers whose variant is
/// named are left alone unless they are to be timed as well.
pub(super) fn tune(
    analysis: &Analysis<'_>,
    layers: &[Option<Layer<'_>>],
    options: &Options,
    tuner: &Tuner,
) -> Result<Vec<Option<Verdict>>, PlanError> {
    let bytes = footprint_bytes(analysis, options).max(tuner.network_bytes);
    let stage = Tuning {
        analysis,
        options,
        tuner,
        distance: tuner.caches.distance(bytes),
    };
    let layers: Vec<Option<&Layer<'_>>> = layers.iter().map(Option::as_ref).collect();
    let surveys = options.map(&layers, |&layer| stage.survey(layer?));
    let recall = |survey: &Option<Survey<'_>>| survey.as_ref()?.recall(tuner);
    let mut verdicts: Vec<Option<Verdict>> = surveys.iter().map(recall).collect();
    let open = surveys.iter().zip(&mut verdicts);
    let open = open.filter_map(|(survey, verdict)| Some((survey.as_ref()?, verdict)));
    let open: Vec<_> = open.filter(|(_, verdict)| verdict.is_none()).collect();
    let count = open.len();
    for (number, (survey, verdict)) in (1..).zip(open) {
        let layer = survey.layer.name;
        if tuner.frozen {
            let names: Vec<&str> = survey.names().collect();
            return Err(PlanError::frozen(layer, &names, tuner.pool.threads()));
        }
        if let Some(on_trial) = &tuner.on_trial {
            on_trial(layer, number, count);
        }
        // An equal layer may have been measured by now.
        *verdict = match survey.recall(tuner) {
            Some(remembered) => Some(remembered),
            None => Some(stage.measure(survey)?),
        };
    }
    Ok(verdicts)
}

/// About what the kernels of the network read: weights that are not zero, and where they are.
fn footprint_bytes(analysis: &Analysis<'_>, options: &Options) -> u64 {
    let graph = analysis.graph;
    let bytes = options.map(&graph.nodes, |node| {
        let weights = node.op.weights();
        let nonzeros = weights.iter().map(|&id| graph.weight(id).nonzeros());
        nonzeros.sum::<usize>() as u64 * BYTES_PER_NONZERO
    });
    bytes.into_iter().sum()
}

/// What is common to the layers.
struct Tuning<'a> {
    analysis: &'a Analysis<'a>,
    options: &'a Options,
    tuner: &'a Tuner,
    distance: Distance,
}

impl Tuning<'_> {
    /// `None` when there is nothing to decide.
    fn survey<'a>(&self, layer: &'a Layer<'a>) -> Option<Survey<'a>> {
        if !layer.job.problem.is_weighted_sum() {
            return None;
        }
        let mut names = layer.candidates.iter().map(|c| c.variant.name());
        let named = self.options.variant(layer.name);
        if !self.tuner.named_too && named.is_some_and(|named| names.any(|name| name == named)) {
            return None;
        }
        let finalists = layer.finalists();
        if finalists.len() < 2 {
            return None;
        }
        let setting = self.setting(layer);
        Some(Survey {
            layer,
            key: self.key(layer, setting),
            setting,
            finalists,
        })
    }

    fn setting(&self, layer: &Layer<'_>) -> Setting {
        let threads = self.tuner.pool.threads();
        let batch = self.analysis.batch as usize;
        match (layer.job.columns, self.analysis.is_per_image(layer.node)) {
            (true, _) => Setting::Columns,
            // Members compute an image each, or all of them share one.
            (_, true) if batch >= threads => Setting::Images(threads),
            (_, true) => Setting::Images(1),
            (_, false) => Setting::Tasks(batch),
        }
    }

    fn key(&self, layer: &Layer<'_>, setting: Setting) -> TrialKey {
        // The text names every field of the problem. Files of earlier versions hold it.
        let problem = format!(
            "{:?}, {setting:?}, weights in {:?}, density {:.4}",
            layer.job.problem,
            self.distance,
            layer.pattern.density()
        );
        let mut hasher = SpecHasher::new();
        hasher.write(problem.as_bytes());
        layer.pattern.hash(&mut hasher);
        TrialKey {
            isa: layer.isa,
            threads: self.tuner.pool.threads(),
            problem,
            hash: hasher.finish128(),
        }
    }

    fn measure(&self, survey: &Survey<'_>) -> Result<Verdict, PlanError> {
        let Layer { job, isa, .. } = survey.layer;
        let weights = survey.layer.weights();
        let build = |variant: &&dyn Variant| variant.build(&job.problem, weights, *isa).ok();
        let built = self.options.map(&survey.finalists, build);
        let trial = Trial {
            problem: &job.problem,
            setting: survey.setting,
            distance: self.distance,
            caches: self.tuner.caches,
            isa: *isa,
            pool: &self.tuner.pool,
        };
        let outcome = trial.run(built)?;
        let times: Times = survey
            .names()
            .map(str::to_owned)
            .zip(outcome.times)
            .collect();
        // What else the machine did then says nothing about the kernels the next time.
        let basis = match outcome.disturbed {
            true => Basis::Disturbed,
            false => Basis::Measured,
        };
        if !outcome.disturbed {
            self.tuner.memory.keep(&survey.key, &times);
        }
        Ok(Verdict { times, basis })
    }
}

impl Survey<'_> {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.finalists.iter().map(|variant| variant.name())
    }

    fn recall(&self, tuner: &Tuner) -> Option<Verdict> {
        let times = tuner.memory.recall(&self.key)?;
        let known = self.names().all(|name| times.contains_key(name));
        known.then_some(Verdict {
            times,
            basis: Basis::Remembered,
        })
    }
}
