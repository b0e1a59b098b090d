//! Which layers have to be timed, and what their trials found.

use super::Planner;
use super::job::Job;
use super::select;
use super::trial::{Distance, Setting, Trial};
use crate::PlanError;
use crate::plan::Basis;
use crate::tune::{Times, TrialKey, Tuner};
use skimjit_kernels::jit::{Isa, SpecHasher};
use skimjit_kernels::{Variant, Weights, registry};
use skimjit_models::Pattern;
use std::hash::{Hash, Hasher};

/// Value and position, be it in a table or in code.
const BYTES_PER_NONZERO: u64 = 8;

/// Times that decide a layer.
#[derive(Clone)]
pub(super) struct Verdict {
    pub times: Times,
    pub basis: Basis,
}

/// A layer with several candidates worth a trial.
struct Survey {
    key: TrialKey,
    setting: Setting,
    distance: Distance,
    finalists: Vec<&'static dyn Variant>,
}

impl Survey {
    fn known(&self, times: &Times) -> bool {
        let mut names = self.finalists.iter().map(|variant| variant.name());
        names.all(|name| times.contains_key(name))
    }
}

impl Planner<'_> {
    /// Times of every layer with several candidates, remembered or measured; layers whose variant is
    /// named are left alone unless they are to be timed as well.
    pub(super) fn tune(
        &self,
        tuner: &Tuner,
        nodes: &[usize],
    ) -> Result<Vec<Option<Verdict>>, PlanError> {
        let distance = Distance::of_network(self.footprint_bytes(nodes).max(tuner.network_bytes));
        let surveys = self
            .options
            .map(nodes, |&node| self.survey(node, distance, tuner));
        let mut verdicts: Vec<Option<Verdict>> = surveys
            .iter()
            .map(|survey| recall(survey.as_ref()?, tuner))
            .collect();
        let open: Vec<(usize, &Survey)> = surveys
            .iter()
            .enumerate()
            .filter_map(|(node, survey)| Some((node, survey.as_ref()?)))
            .filter(|&(node, _)| verdicts[node].is_none())
            .collect();
        for (index, &(node, survey)) in open.iter().enumerate() {
            let layer = &self.graph.nodes[node].name;
            if tuner.frozen {
                let names: Vec<&str> = survey.finalists.iter().map(|v| v.name()).collect();
                return Err(PlanError::frozen(layer, &names, tuner.pool.threads()));
            }
            if let Some(on_trial) = &tuner.on_trial {
                on_trial(layer, index + 1, open.len());
            }
            // An equal layer may have been measured by now.
            verdicts[node] = recall(survey, tuner);
            if verdicts[node].is_none() {
                verdicts[node] = self.measure(node, survey, tuner)?;
            }
        }
        Ok(verdicts)
    }

    /// About what the kernels of the network read: weights that are not zero, and where they are.
    fn footprint_bytes(&self, nodes: &[usize]) -> u64 {
        let bytes = self.options.map(nodes, |&node| {
            let weights = self.graph.nodes[node].op.weights();
            let nonzeros = weights.iter().map(|&id| self.graph.weight(id).nonzeros());
            nonzeros.sum::<usize>() as u64 * BYTES_PER_NONZERO
        });
        bytes.into_iter().sum()
    }

    /// `None` when there is nothing to decide.
    fn survey(&self, node: usize, distance: Distance, tuner: &Tuner) -> Option<Survey> {
        let named = self.options.variants.get(&self.graph.nodes[node].name);
        let job = self.job(node)?;
        if !job.problem.is_weighted_sum() {
            return None;
        }
        let pattern = select::pattern(&job);
        let (candidates, _) = registry::candidates(&job.problem, &pattern, self.isa);
        let asked = |name: &String| candidates.iter().any(|c| c.variant.name() == name);
        if !tuner.named_too && named.is_some_and(asked) {
            return None;
        }
        let finalists = select::finalists(&candidates, pattern.density());
        if finalists.len() < 2 {
            return None;
        }
        let threads = tuner.pool.threads();
        let setting = self.setting(node, &job, threads);
        Some(Survey {
            key: key(&job, &pattern, (setting, distance), self.isa, threads),
            setting,
            distance,
            finalists,
        })
    }

    fn setting(&self, node: usize, job: &Job<'_>, threads: usize) -> Setting {
        let batch = self.batch as usize;
        match (job.columns, self.per_image[self.segment_of[node]]) {
            (true, _) => Setting::Columns,
            // Members compute an image each, or all of them share one.
            (_, true) if batch >= threads => Setting::Images(threads),
            (_, true) => Setting::Images(1),
            (_, false) => Setting::Tasks(batch),
        }
    }

    fn measure(
        &self,
        node: usize,
        survey: &Survey,
        tuner: &Tuner,
    ) -> Result<Option<Verdict>, PlanError> {
        let Some(job) = self.job(node) else {
            return Ok(None);
        };
        let pattern = select::pattern(&job);
        let weights = Weights {
            values: &job.weights,
            pattern: &pattern,
            bias: job.bias,
        };
        let built = self.options.map(&survey.finalists, |variant| {
            variant.build(&job.problem, weights, self.isa).ok()
        });
        let trial = Trial {
            problem: &job.problem,
            setting: survey.setting,
            distance: survey.distance,
            isa: self.isa,
            pool: &tuner.pool,
        };
        let outcome = trial.run(built)?;
        let names = survey.finalists.iter().map(|variant| variant.name());
        let times: Times = names.map(str::to_owned).zip(outcome.times).collect();
        if outcome.disturbed {
            // What else the machine did then says nothing about the kernels the next time.
            let basis = Basis::Disturbed;
            return Ok(Some(Verdict { times, basis }));
        }
        tuner.memory.keep(&survey.key, &times);
        Ok(Some(Verdict {
            times,
            basis: Basis::Measured,
        }))
    }
}

fn recall(survey: &Survey, tuner: &Tuner) -> Option<Verdict> {
    let times = tuner.memory.recall(&survey.key)?;
    survey.known(&times).then_some(Verdict {
        times,
        basis: Basis::Remembered,
    })
}

fn key(
    job: &Job<'_>,
    pattern: &Pattern,
    (setting, distance): (Setting, Distance),
    isa: Isa,
    threads: usize,
) -> TrialKey {
    // The text names every field of the problem.
    let problem = format!(
        "{:?}, {setting:?}, weights in {distance:?}, density {:.4}",
        job.problem,
        pattern.density()
    );
    let mut hasher = SpecHasher::new();
    hasher.write(problem.as_bytes());
    pattern.hash(&mut hasher);
    TrialKey {
        isa,
        threads,
        problem,
        hash: hasher.finish128(),
    }
}
