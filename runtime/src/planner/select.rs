//! Which variant computes a layer.

use super::Planner;
use super::job::Job;
use crate::plan::Choice;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{Built, Cost, Problem, Weights, registry};
use skimjit_models::{Pattern, Shape};

/// A variant, built.
pub(super) struct Chosen {
    pub label: &'static str,
    pub built: Built,
    cost: Cost,
    /// Non-zero weights over weights, for layers with weights.
    density: Option<f64>,
    /// Other variants and why not they.
    rejected: Vec<(String, String)>,
}

/// Builds the first candidate that can be built: the `wanted` variant, else the cheapest estimate.
/// `None` when no variant can compute the problem.
pub(super) fn choose(job: &Job<'_>, isa: Isa, wanted: Option<&str>) -> Option<Chosen> {
    let problem = &job.problem;
    let (rows, cols) = matrix(problem, job.weights.len());
    let pattern = Pattern::from_weights(rows, cols, &job.weights);
    let weights = Weights {
        values: &job.weights,
        pattern: &pattern,
        bias: job.bias,
    };
    let (mut candidates, refusals) = registry::candidates(problem, &pattern, isa);
    // Stable: the wanted variant first, the rest as fallback.
    candidates.sort_by_key(|candidate| wanted != Some(candidate.variant.name()));
    let mut rejected = Vec::new();
    let mut chosen = None;
    for candidate in candidates {
        let (name, cost) = (candidate.variant.name(), candidate.cost);
        if chosen.is_some() {
            rejected.push((
                name.to_owned(),
                format!("{:.0} cycles estimated", cost.cycles),
            ));
            continue;
        }
        match candidate.variant.build(problem, weights, isa) {
            Ok(built) => chosen = Some((name, cost, built)),
            Err(error) => rejected.push((name.to_owned(), error.to_string())),
        }
    }
    let relevant = refusals
        .into_iter()
        .filter(|refusal| !refusal.reason.other_family());
    rejected.extend(relevant.map(|r| (r.variant.to_owned(), r.reason.to_string())));
    let (label, cost, built) = chosen?;
    let weighted = matches!(problem, Problem::Conv(_) | Problem::Fc(_));
    let density = weighted.then(|| pattern.density());
    Some(Chosen {
        label,
        built,
        cost,
        density,
        rejected,
    })
}

impl Planner<'_> {
    /// Records a kernel.
    pub(super) fn record(&mut self, node: usize, chosen: &Chosen) {
        let mut choice = self.choice(node, chosen.label);
        choice.density = chosen.density;
        choice.code_bytes = chosen.built.code.bytes.len();
        choice.weight_bytes = chosen.built.packed.len();
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
            code_bytes: 0,
            weight_bytes: 0,
            cycles: 0.0,
            macs_nonzero: macs,
            macs,
            rejected: vec![],
        }
    }
}

/// Rows and columns of the weights.
fn matrix(problem: &Problem, weights: usize) -> (u32, u32) {
    match problem {
        Problem::Conv(problem) => (problem.dst.c, problem.cols()),
        Problem::Fc(problem) => (problem.outputs, problem.inputs),
        _ => (u32::from(weights > 0), weights as u32),
    }
}
