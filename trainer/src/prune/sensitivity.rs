//! How much each layer can lose: a network judged with one layer pruned at a time.

use crate::engine::Engine;
use crate::trial::{Judgement, Stream};
use serde::Serialize;
use skimjit_models::Result;
use skimjit_pruning::magnitude;

/// A layer at a level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point<J = Judgement> {
    /// Layer.
    pub layer: String,
    /// Index of the blob.
    pub index: usize,
    /// Its weights.
    pub weights: usize,
    /// Share of zeros that was asked for.
    pub level: f64,
    /// Share of zeros.
    pub sparsity: f64,
    /// What became of the network.
    #[serde(flatten)]
    pub judgement: J,
}

/// All layers at all levels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity<J = Judgement> {
    /// The network as it is.
    pub baseline: J,
    /// Layers in order, each with the levels in order.
    pub points: Vec<Point<J>>,
}

/// Judges the network with each of the parameters pruned alone, by magnitude, at each level. All
/// parameters are what they were afterwards.
pub fn scan(
    engine: &mut dyn Engine,
    stream: &Stream,
    params: &[usize],
    levels: &[f64],
    progress: &mut dyn FnMut(&Point),
) -> Result<Sensitivity> {
    let mut judge = |engine: &mut dyn Engine| stream.judge(engine);
    scan_by(engine, params, levels, &mut judge, progress)
}

/// As [`scan`], judged in another way.
pub fn scan_by<J>(
    engine: &mut dyn Engine,
    params: &[usize],
    levels: &[f64],
    judge: &mut dyn FnMut(&mut dyn Engine) -> Result<J>,
    progress: &mut dyn FnMut(&Point<J>),
) -> Result<Sensitivity<J>> {
    let mut sensitivity = Sensitivity {
        baseline: judge(engine)?,
        points: Vec::new(),
    };
    for &param in params {
        let mut dense = Vec::new();
        engine.edit(param, &mut |_, state| dense.clone_from(&state.data));
        for &level in levels {
            let mut sparsity = 0.0;
            engine.edit(param, &mut |_, state| {
                state.data.clone_from(&dense);
                magnitude::prune(&mut state.data, level);
                let zeros = state.data.iter().filter(|w| **w == 0.0).count();
                sparsity = zeros as f64 / dense.len().max(1) as f64;
            });
            let judged = judge(engine);
            engine.edit(param, &mut |_, state| state.data.clone_from(&dense));
            let of = &engine.params()[param];
            let point = Point {
                layer: of.layer.clone(),
                index: of.index,
                weights: dense.len(),
                level,
                sparsity,
                judgement: judged?,
            };
            progress(&point);
            sensitivity.points.push(point);
        }
    }
    Ok(sensitivity)
}
