//! From which share of zeros on sparse kernels are faster than dense ones.

use crate::support::args;
use crate::support::noise::Noise;
use serde::Serialize;
use skimjit::{CompileOptions, Engine, Model, Result, layer};
use skimjit_models::{Op, Weight};
use skimjit_runtime::Candidate;
use std::collections::HashMap;
use std::sync::Arc;

/// Shares of zeros that are tried, from the middle towards the crossover.
const GRID: [f64; 8] = [0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97];
/// Where the search starts.
const START: usize = 3;
/// Seed of the patterns: always the same ones, so that the tune cache knows their times.
const SEED: u64 = 1;

/// Where the fastest sparse kernel takes as long as the fastest dense one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Crossover {
    /// At this share of zeros.
    At(f64),
    /// Dense kernels are faster as far as was tried: up to this share of zeros.
    Above(f64),
}

/// Finds crossovers; equal layers are tried once.
pub struct Finder<'a> {
    engine: &'a Engine,
    options: CompileOptions,
    known: HashMap<String, Option<Crossover>>,
}

impl<'a> Finder<'a> {
    pub fn new(engine: &'a Engine, options: &CompileOptions) -> Self {
        let plan = engine.plan();
        let weights = plan.choices.iter().map(|choice| choice.weight_bytes);
        let bytes = plan.code_bytes + weights.sum::<usize>();
        let mut options = CompileOptions {
            batch: Some(plan.batch as u32),
            isa: Some(plan.isa),
            variants: HashMap::new(),
            ..options.clone()
        };
        if let Some(tuning) = &mut options.tuning {
            tuning.network_bytes = bytes as u64;
        }
        Self {
            engine,
            options,
            known: HashMap::new(),
        }
    }

    /// Of a layer's shape; `None` for layers without weights, or without a sparse or dense kernel.
    pub fn find(&mut self, name: &str) -> Result<Option<Crossover>> {
        let graph = self.engine.graph();
        let Some(node) = graph.nodes.iter().position(|node| node.name == name) else {
            return Ok(None);
        };
        let Some(single) = layer::single(graph, node)? else {
            return Ok(None);
        };
        let only = &single.graph().nodes[0];
        let shape = format!("{:?} {}", only.op, single.graph().shape(only.inputs[0]));
        if let Some(&known) = self.known.get(&shape) {
            return Ok(known);
        }
        let found = search(|sparsity| self.ratio(&single, sparsity))?;
        self.known.insert(shape, found);
        Ok(found)
    }

    /// Keeps what was measured.
    pub fn save(&self) {
        self.options.tuning.iter().for_each(args::keep);
    }

    /// Time of the fastest sparse kernel over that of the fastest dense one.
    fn ratio(&self, single: &Model, sparsity: f64) -> Result<Option<f64>> {
        let engine = pruned(single, sparsity)?.compile(&self.options)?;
        let Some(choice) = engine.plan().choices.first() else {
            return Ok(None);
        };
        let best = |kind: fn(&str) -> bool, time: &dyn Fn(&Candidate) -> Option<f64>| {
            let some = choice.candidates.iter().filter(|c| kind(&c.variant));
            some.filter_map(time).min_by(f64::total_cmp)
        };
        let ratio = |time: &dyn Fn(&Candidate) -> Option<f64>| {
            Some(best(layer::is_sparse, time)? / best(layer::is_dense, time)?)
        };
        // Where one kind is not worth a trial, its estimate is far off the other's.
        Ok(ratio(&|c| c.time_ns).or_else(|| ratio(&|c| Some(c.cycles))))
    }
}

/// Walks from the middle of the grid until the ratio passes 1, and interpolates.
fn search(mut ratio: impl FnMut(f64) -> Result<Option<f64>>) -> Result<Option<Crossover>> {
    let Some(mut current) = ratio(GRID[START])? else {
        return Ok(None);
    };
    let up = current > 1.0;
    let mut index = START;
    loop {
        let next = if up { index + 1 } else { index.wrapping_sub(1) };
        let Some(&sparsity) = GRID.get(next) else {
            return Ok(Some(if up {
                Crossover::Above(GRID[index])
            } else {
                Crossover::At(0.0)
            }));
        };
        let Some(other) = ratio(sparsity)? else {
            return Ok(None);
        };
        if (other > 1.0) != up {
            let [a, b] = [current, other].map(f64::ln);
            let part = if a == b { 0.0 } else { a / (a - b) };
            return Ok(Some(Crossover::At(
                GRID[index] + part * (sparsity - GRID[index]),
            )));
        }
        (current, index) = (other, next);
    }
}

/// The layer with random weights, a share of them zero.
fn pruned(single: &Model, sparsity: f64) -> Result<Model> {
    let mut graph = single.graph().clone();
    let id = match &graph.nodes[0].op {
        Op::Convolution(op) => op.weights,
        Op::InnerProduct(op) => op.weights,
        _ => return Model::from_graph(graph),
    };
    let (mut values, mut keep) = (Noise::new(SEED), Noise::new(SEED ^ 0x5eed));
    let shape = graph.weight(id).shape().clone();
    let data = (0..shape.count()).map(|_| {
        let share = keep.bits() as f64 / u64::MAX as f64;
        if share < sparsity {
            0.0
        } else {
            values.uniform()
        }
    });
    graph.weights[id.0 as usize] = Arc::new(Weight::dense(shape.clone(), data.collect()));
    Model::from_graph(graph)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(ratio: impl Fn(f64) -> f64) -> Option<Crossover> {
        search(|sparsity| Ok(Some(ratio(sparsity)))).unwrap()
    }

    #[test]
    fn the_crossover_is_where_the_ratio_is_one() {
        for at in [0.1f64, 0.3, 0.45, 0.5, 0.62, 0.85, 0.93] {
            // Time proportional to density, faster than dense from `at` on.
            let found = find(|sparsity| (1.0 - sparsity) / (1.0 - at));
            let Some(Crossover::At(sparsity)) = found else {
                panic!("{at}: {found:?}");
            };
            assert!((sparsity - at).abs() < 0.03, "{at}: {sparsity}");
        }
        assert_eq!(find(|_| 2.0), Some(Crossover::Above(0.97)));
        assert_eq!(find(|_| 0.5), Some(Crossover::At(0.0)));
        assert_eq!(search(|_| Ok(None)).unwrap(), None);
    }
}
