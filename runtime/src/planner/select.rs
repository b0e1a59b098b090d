//! Which variant computes a layer.

use super::Planner;
use crate::PlanError;
use crate::plan::Choice;
use skimjit_kernels::{Built, KernelError, Problem, Weights, registry};
use skimjit_models::{Pattern, Shape};

impl Planner<'_> {
    /// Builds the first candidate that can be built, cheapest estimate first; `None` when no variant
    /// can compute the problem. Records the choice.
    pub(super) fn select(
        &mut self,
        node: usize,
        problem: &Problem,
        values: &[f32],
        bias: &[f32],
    ) -> Result<Option<(&'static str, Built)>, PlanError> {
        let (rows, cols) = matrix(problem, values.len());
        let pattern = Pattern::from_weights(rows, cols, values);
        let weights = Weights { values, pattern: &pattern, bias };
        let (mut candidates, refusals) = registry::candidates(problem, &pattern, self.isa);
        let layer = &self.graph.nodes[node].name;
        if let Some(wanted) = self.options.variants.get(layer) {
            // Stable: the wanted variant first, the rest as fallback.
            candidates.sort_by_key(|candidate| candidate.variant.name() != wanted);
        }
        let mut rejected = Vec::new();
        let mut chosen = None;
        for candidate in candidates {
            let name = candidate.variant.name();
            if chosen.is_some() {
                let cycles = candidate.cost.cycles;
                rejected.push((name.to_owned(), format!("{cycles:.0} cycles estimated")));
                continue;
            }
            match candidate.variant.build(problem, weights, self.isa) {
                Ok(built) => chosen = Some((name, candidate.cost, built)),
                Err(error @ (KernelError::Unsupported(_) | KernelError::CodeTooLarge(_))) => {
                    rejected.push((name.to_owned(), error.to_string()));
                }
            }
        }
        let family = |name: &str| {
            name.contains("conv") == matches!(problem, Problem::Conv(_))
                && name.contains("_fc") == matches!(problem, Problem::Fc(_))
        };
        let reasons = refusals.into_iter().filter(|refusal| family(refusal.variant));
        let reasons = reasons.filter(|refusal| !refusal.reason.0.starts_with("no"));
        rejected.extend(reasons.map(|r| (r.variant.to_owned(), r.reason.to_string())));
        let Some((name, cost, built)) = chosen else { return Ok(None) };
        let sparse = matches!(problem, Problem::Conv(_) | Problem::Fc(_));
        let mut choice = self.choice(node, name);
        choice.density = sparse.then(|| pattern.density());
        choice.code_bytes = built.code.bytes.len();
        choice.weight_bytes = built.packed.len();
        choice.cycles = cost.cycles;
        choice.rejected = rejected;
        if sparse {
            choice.macs_nonzero = (choice.macs as f64 * pattern.density()).round() as u64;
        }
        self.choices.push(choice);
        Ok(Some((name, built)))
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
