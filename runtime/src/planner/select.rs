//! Which variant computes a layer.

use super::Planner;
use super::job::Job;
use super::kernel::Kernel;
use super::tune::Verdict;
use crate::KernelInspector;
use crate::kernel_store::{self, KernelStore};
use crate::plan::{Basis, Candidate, Choice};
use crate::tune;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Cost, KernelError, Problem, Variant, Weighting, Weights, registry};
use skimjit_models::{Pattern, Shape};
use std::time::Instant;

/// A variant, built.
pub(super) struct Chosen {
    pub label: &'static str,
    pub kernel: Kernel,
    cost: Cost,
    /// Non-zero weights over weights, for layers with weights.
    density: Option<f64>,
    basis: Basis,
    candidates: Vec<Candidate>,
    /// Other variants and why not they.
    rejected: Vec<(String, String)>,
    build_ns: u64,
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

/// Variants worth a trial, best estimate first: the best ones, and the best dense one of a layer with
/// weights, so that zeros are never left out at a loss.
pub(super) fn finalists(
    candidates: &[registry::Candidate],
    density: f64,
) -> Vec<&'static dyn Variant> {
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
    let mut chosen: Vec<&registry::Candidate> = candidates
        .iter()
        .filter(worth)
        .take(MOST_FINALISTS)
        .collect();
    if !chosen.iter().any(|c| dense(c)) {
        chosen.extend(candidates.iter().find(|c| dense(c)));
    }
    chosen.into_iter().map(|c| c.variant).collect()
}

/// Where the weights of a job are not zero.
pub(super) fn pattern(job: &Job<'_>) -> Pattern {
    let [rows, cols] = job.problem.matrix().map(|n| n as u32);
    Pattern::from_weights(rows, cols, &job.weights)
}

/// Builds the first candidate that can be built: the `wanted` variant, else the one that the times
/// of a trial speak for, else the best estimate. `None` when no variant can compute the problem.
pub(super) fn choose(
    job: &Job<'_>,
    isa: Isa,
    wanted: Option<&str>,
    verdict: Option<&Verdict>,
    store: Option<&KernelStore>,
) -> Option<Chosen> {
    let problem = &job.problem;
    let pattern = pattern(job);
    let (candidates, refusals) = registry::candidates(problem, &pattern, isa);
    let (first, basis) = favourite(&candidates, wanted, verdict);
    let described = describe(&candidates, verdict);
    let weights = Weights {
        values: &job.weights,
        pattern: &pattern,
        bias: job.bias,
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    // Stable: the favourite first, the rest as fallback.
    order.sort_by_key(|&index| Some(candidates[index].variant.name()) != first);
    let mut rejected = Vec::new();
    let mut chosen = None;
    for index in order {
        let registry::Candidate { variant, cost } = &candidates[index];
        if chosen.is_some() {
            rejected.push((variant.name().to_owned(), reason(&described[index])));
            continue;
        }
        let started = Instant::now();
        match kernel(*variant, problem, weights, isa, store) {
            Ok(kernel) => {
                chosen = Some((variant.name(), *cost, kernel, started.elapsed()));
            }
            Err(error) => rejected.push((variant.name().to_owned(), error.to_string())),
        }
    }
    let relevant = refusals.into_iter().filter(|r| !r.reason.other_family());
    rejected.extend(relevant.map(|r| (r.variant.name().to_owned(), r.reason.to_string())));
    let (label, cost, kernel, time) = chosen?;
    Some(Chosen {
        label,
        kernel,
        cost,
        density: problem.is_weighted_sum().then(|| pattern.density()),
        basis,
        candidates: described,
        rejected,
        build_ns: time.as_nanos() as u64,
    })
}

/// Shows a kernel to an inspector.
pub(super) fn inspect(
    inspector: &dyn KernelInspector,
    layer: &str,
    job: &Job<'_>,
    chosen: &Chosen,
) {
    let weights = Weights {
        values: &job.weights,
        pattern: &pattern(job),
        bias: job.bias,
    };
    // One that another plan uses was shown when it was generated.
    if let Kernel::New(built, _) = &chosen.kernel {
        inspector.inspect(layer, chosen.label, &job.problem, weights, built);
    }
}

/// The kernel of a variant: another plan's, if it has the same one, or generated now.
fn kernel(
    variant: &dyn Variant,
    problem: &Problem,
    weights: Weights<'_>,
    isa: Isa,
    store: Option<&KernelStore>,
) -> Result<Kernel, KernelError> {
    let key = store
        .map(|_| kernel_store::key(variant.name(), problem, weights.values, weights.bias, isa));
    let found = store.zip(key).and_then(|(store, key)| store.find(key));
    match found {
        Some(kernel) => Ok(Kernel::Shared(kernel)),
        None => Ok(Kernel::New(
            Box::new(variant.build(problem, weights, isa)?),
            key,
        )),
    }
}

/// The variant to try first, and why.
fn favourite<'a>(
    candidates: &[registry::Candidate],
    wanted: Option<&'a str>,
    verdict: Option<&Verdict>,
) -> (Option<&'a str>, Basis) {
    let mut names = candidates.iter().map(|c| c.variant.name());
    if wanted.is_some_and(|wanted| names.clone().any(|name| name == wanted)) {
        return (wanted, Basis::Named);
    }
    let timed = verdict.and_then(|verdict| {
        let name = tune::fastest(names.clone(), &verdict.times)?;
        Some((Some(name), verdict.basis))
    });
    let basis = match candidates.len() {
        0 | 1 => Basis::Only,
        _ => Basis::Estimated,
    };
    timed.unwrap_or((names.next(), basis))
}

fn describe(candidates: &[registry::Candidate], verdict: Option<&Verdict>) -> Vec<Candidate> {
    let time = |name: &str| verdict.and_then(|v| v.times.get(name).copied().flatten());
    let candidates = candidates.iter();
    candidates
        .map(|candidate| Candidate {
            variant: candidate.variant.name().to_owned(),
            cycles: candidate.cost.cycles,
            code_bytes: candidate.cost.code_bytes,
            time_ns: time(candidate.variant.name()),
        })
        .collect()
}

/// Why a variant that could have been built was not.
fn reason(candidate: &Candidate) -> String {
    let estimate = format!("{:.0} cycles estimated", candidate.cycles);
    match candidate.time_ns {
        Some(ns) => format!("{:.4} ms measured, {estimate}", ns / 1e6),
        None => estimate,
    }
}

impl Planner<'_> {
    /// Records a kernel.
    pub(super) fn record(&mut self, node: usize, chosen: &Chosen) {
        let mut choice = self.choice(node, chosen.label);
        choice.density = chosen.density;
        choice.basis = chosen.basis;
        choice.candidates.clone_from(&chosen.candidates);
        choice.build_ns = chosen.build_ns;
        choice.code_bytes = chosen.kernel.code().len();
        choice.weight_bytes = chosen.kernel.packed_bytes();
        choice.cycles = chosen.cost.cycles;
        choice.rejected.clone_from(&chosen.rejected);
        let density = chosen.density.unwrap_or(1.0);
        choice.macs_nonzero = (choice.macs as f64 * density).round() as u64;
        self.choices.push(choice);
    }

    /// Records a node that needs no kernel.
    pub(super) fn note(&mut self, node: usize, how: &str) {
        let choice = self.choice(node, how);
        self.choices.push(choice);
    }

    fn choice(&self, node: usize, variant: &str) -> Choice {
        let described = &self.graph.nodes[node];
        let shapes: Vec<&Shape> = described.inputs.iter().map(|&id| self.shape(id)).collect();
        let macs = described.op.macs(&shapes, &self.graph.weights) / u64::from(self.batch.max(1));
        Choice {
            layer: described.name.clone(),
            kind: described.op.name(),
            shape: self.shape(described.output).to_string(),
            density: None,
            variant: variant.to_owned(),
            basis: Basis::Only,
            candidates: vec![],
            code_bytes: 0,
            weight_bytes: 0,
            build_ns: 0,
            cycles: 0.0,
            macs_nonzero: macs,
            macs,
            rejected: vec![],
        }
    }
}
