//! Which variant computes a layer.

use super::analysis::Analysis;
use super::job::Job;
use super::kernel::Kernel;
use crate::Options;
use crate::kernel_store::{self, KernelStore};
use crate::plan::{Basis, Candidate, Choice};
use crate::tune::{self, Verdict};
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{KernelError, Variant, Weighting, Weights, registry};
use skimjit_models::Pattern;
use std::time::Instant;

/// A layer that kernels can compute, and which can.
pub(super) struct Layer<'g> {
    pub node: usize,
    pub name: &'g str,
    pub isa: Isa,
    pub job: Job<'g>,
    /// Where its weights are not zero.
    pub pattern: Pattern,
    /// Best estimate first.
    pub candidates: Vec<registry::Candidate>,
    refusals: Vec<registry::Refusal>,
}

/// A variant, built.
pub(super) struct Chosen<'g> {
    pub job: Job<'g>,
    pub label: &'static str,
    pub kernel: Kernel,
    pub choice: Choice,
}

/// Estimates that are this much worse than the best are believed.
const WORTH_A_TRIAL: f64 = 4.0;
/// The same for variants that leave zeros out, where there are hardly any: their code is large and
/// takes long to generate.
const WORTH_A_TRIAL_DENSE: f64 = 1.5;
/// Density from which on there are hardly any zeros.
const HARDLY_ANY_ZEROS: f64 = 0.75;
/// Most variants in a trial, the dense one not counted when it comes last.
const MOST_FINALISTS: usize = 4;

impl<'g> Layer<'g> {
    /// Of a node; `None` for those that are views or run on the reference.
    pub fn of(analysis: &Analysis<'g>, node: usize, isa: Isa) -> Option<Self> {
        let job = analysis.job(node)?;
        let pattern = job.pattern();
        let (candidates, refusals) = registry::candidates(&job.problem, &pattern, isa);
        Some(Self {
            node,
            name: &analysis.graph.nodes[node].name,
            isa,
            job,
            pattern,
            candidates,
            refusals,
        })
    }

    pub fn weights(&self) -> Weights<'_> {
        Weights {
            values: self.job.values(),
            pattern: &self.pattern,
            bias: self.job.bias,
            element: self.job.element,
        }
    }

    /// Variants worth a trial, best estimate first: the best ones, and the best dense one of a layer with
    /// weights, so that zeros are never left out at a loss.
    pub fn finalists(&self) -> Vec<&'static dyn Variant> {
        let (candidates, density) = (&self.candidates, self.pattern.density());
        let best = candidates.first().map_or(0.0, |c| c.cost.cycles);
        let dense = |c: &registry::Candidate| c.variant.weighting() == Weighting::Dense;
        let worth = |c: &&registry::Candidate| {
            let factor = if density > HARDLY_ANY_ZEROS && !dense(c) {
                WORTH_A_TRIAL_DENSE
            } else {
                WORTH_A_TRIAL
            };
            c.cost.cycles <= best * factor
        };
        let worth = candidates.iter().filter(worth);
        let mut chosen: Vec<&registry::Candidate> = worth.take(MOST_FINALISTS).collect();
        if !chosen.iter().any(|c| dense(c)) {
            chosen.extend(candidates.iter().find(|c| dense(c)));
        }
        chosen.into_iter().map(|c| c.variant).collect()
    }

    /// Builds the first candidate that can be built: the variant that the options name, else the one that
    /// the times of a trial speak for, else the best estimate. `None` when no variant can compute the problem.
    pub fn choose(
        self,
        analysis: &Analysis<'_>,
        verdict: Option<&Verdict>,
        options: &Options,
    ) -> Option<Chosen<'g>> {
        let (first, basis) = self.favourite(options.variant(self.name), verdict);
        let described = describe(&self.candidates, verdict);
        let mut order: Vec<usize> = (0..self.candidates.len()).collect();
        // Stable: the favourite first, the rest as fallback.
        order.sort_by_key(|&index| Some(self.candidates[index].variant.name()) != first);
        let mut rejected = Vec::new();
        let mut chosen = None;
        for index in order {
            let registry::Candidate { variant, cost } = &self.candidates[index];
            if chosen.is_some() {
                rejected.push((variant.name().to_owned(), reason(&described[index])));
                continue;
            }
            let started = Instant::now();
            match self.kernel(*variant, options.kernels.as_deref()) {
                Ok(kernel) => chosen = Some((variant.name(), *cost, kernel, started.elapsed())),
                Err(error) => rejected.push((variant.name().to_owned(), error.to_string())),
            }
        }
        let refusals = self.refusals.iter();
        let relevant = refusals.filter(|r| !r.reason.other_family());
        rejected.extend(relevant.map(|r| (r.variant.name().to_owned(), r.reason.to_string())));
        let (label, cost, kernel, build_time) = chosen?;
        // One that another plan uses was shown when it was generated.
        if let (Some(inspector), Kernel::New(built, _)) = (&options.inspector, &kernel) {
            inspector.inspect(self.name, label, &self.job.problem, self.weights(), built);
        }
        let weighted = self.job.problem.is_weighted_sum();
        let density = weighted.then(|| self.pattern.density());
        let plain = analysis.choice(self.node, label);
        let choice = Choice {
            density,
            basis,
            candidates: described,
            code_bytes: kernel.code().len(),
            weight_bytes: kernel.packed_bytes(),
            build_ns: build_time.as_nanos() as u64,
            cycles: cost.cycles,
            macs_nonzero: (plain.macs as f64 * density.unwrap_or(1.0)).round() as u64,
            rejected,
            ..plain
        };
        Some(Chosen {
            job: self.job.without_weights(),
            label,
            kernel,
            choice,
        })
    }

    /// The kernel of a variant: another plan's, if it has the same one, or generated now.
    fn kernel(
        &self,
        variant: &dyn Variant,
        store: Option<&KernelStore>,
    ) -> Result<Kernel, KernelError> {
        let (problem, weights) = (&self.job.problem, self.weights());
        let key = store.map(|_| kernel_store::key(variant.name(), problem, weights, self.isa));
        let found = store.zip(key).and_then(|(store, key)| store.find(key));
        match found {
            Some(kernel) => Ok(Kernel::Shared(kernel)),
            None => {
                let mut built = variant.build(problem, weights, self.isa)?;
                built.shrink_to_fit();
                Ok(Kernel::New(Box::new(built), key))
            }
        }
    }

    /// The variant to try first, and why.
    fn favourite<'a>(
        &self,
        wanted: Option<&'a str>,
        verdict: Option<&Verdict>,
    ) -> (Option<&'a str>, Basis) {
        let mut names = self.candidates.iter().map(|c| c.variant.name());
        if wanted.is_some_and(|wanted| names.clone().any(|name| name == wanted)) {
            return (wanted, Basis::Named);
        }
        let timed = verdict.and_then(|verdict| {
            let name = tune::fastest(names.clone(), &verdict.times)?;
            Some((Some(name), verdict.basis))
        });
        let basis = match self.candidates.len() {
            0 | 1 => Basis::Only,
            _ => Basis::Estimated,
        };
        timed.unwrap_or((names.next(), basis))
    }
}

fn describe(candidates: &[registry::Candidate], verdict: Option<&Verdict>) -> Vec<Candidate> {
    let time = |name: &str| verdict.and_then(|v| v.times.get(name).copied().flatten());
    let described = |candidate: &registry::Candidate| Candidate {
        variant: candidate.variant.name().to_owned(),
        cycles: candidate.cost.cycles,
        code_bytes: candidate.cost.code_bytes,
        time_ns: time(candidate.variant.name()),
    };
    candidates.iter().map(described).collect()
}

/// Why a variant that could have been built was not.
fn reason(candidate: &Candidate) -> String {
    let estimate = format!("{:.0} cycles estimated", candidate.cycles);
    match candidate.time_ns {
        Some(ns) => format!("{:.4} ms measured, {estimate}", ns / 1e6),
        None => estimate,
    }
}
