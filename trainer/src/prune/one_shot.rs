//! Pruning without training: layer by layer, each so that its outputs on some batches change least.

use super::calibration::{Layout, Moments};
use super::magnitude::zeros_of;
use super::reconstruction;
use crate::engine::Engine;
use crate::net::Net;
use crate::param::{Param, Role};
use crate::trial::Stream;
use serde::Serialize;
use skimjit_models::{Error, Place, Result, ValueId, WeightId};

/// What becomes of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Index of the parameter.
    pub param: usize,
    /// Share of zeros.
    pub sparsity: f64,
}

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// Layer.
    pub layer: String,
    /// Its weights.
    pub weights: usize,
    /// Share of zeros.
    pub sparsity: f64,
    /// Mean square of what its outputs changed on the calibration set, over that of the outputs
    /// (around their means where the layer has an offset).
    pub error: f64,
    /// The same, had the smallest weights been zeroed.
    pub magnitude_error: f64,
    /// Blocks that the inputs of its filters were cut into to bound memory.
    pub blocks: usize,
}

/// Where a parameter is used.
struct Use {
    layout: Layout,
    inputs: Vec<ValueId>,
    /// Index of the offset's parameter.
    bias: Option<usize>,
}

/// Prunes parameters, in the order of the layers: later ones see what earlier ones have become.
/// `damping` is the share of the mean second moment that is added to all.
pub fn one_shot(
    engine: &mut dyn Engine,
    stream: &Stream,
    targets: &[Target],
    damping: f32,
    progress: &mut dyn FnMut(&LayerReport),
) -> Result<Vec<LayerReport>> {
    let mut targets = targets.to_vec();
    targets.sort_by_key(|target| target.param);
    let mut reports = Vec::new();
    for target in &targets {
        let Some(place) = find(engine, stream, target.param) else {
            let layer = &engine.params()[target.param].layer;
            return Err(Error::new("a layer that is not in the network of phase TEST, or of another type than Convolution and InnerProduct")
                .layer(layer.clone())
                .hint("leave it out of --layers"));
        };
        let report = prune(engine, stream, target, &place, damping)?;
        progress(&report);
        reports.push(report);
    }
    Ok(reports)
}

/// Parameters that [`one_shot`] can prune.
pub fn prunable(engine: &dyn Engine, stream: &Stream) -> Vec<usize> {
    let weights = |index: &usize| engine.params()[*index].role == Role::Weight;
    (0..engine.params().len())
        .filter(weights)
        .filter(|&index| find(engine, stream, index).is_some())
        .collect()
}

fn find(engine: &dyn Engine, stream: &Stream, param: usize) -> Option<Use> {
    let net = engine.net(stream.id());
    let wanted = weight_of(net, &engine.params()[param])?;
    let mut found: Option<Use> = None;
    for node in &net.graph.nodes {
        let weights = node.op.weights();
        if weights.first() != Some(&wanted) {
            continue;
        }
        let shape = |id: ValueId| net.graph.shape(id);
        let input = *node.inputs.first()?;
        let layout = Layout::of(&node.op, shape(input), shape(node.output))?;
        let of = |&id: &WeightId| {
            let mut all = engine.params().iter();
            all.position(|param| weight_of(net, param) == Some(id))
        };
        let bias = weights.get(1).and_then(of);
        match &mut found {
            Some(found) => {
                found.inputs.push(input);
                // One offset cannot make up for what several layers lose.
                found.bias = found.bias.filter(|&one| bias == Some(one));
            }
            None => {
                found = Some(Use {
                    layout,
                    inputs: vec![input],
                    bias,
                });
            }
        }
    }
    found
}

/// The weight of the graph that a parameter is.
fn weight_of(net: &Net, param: &Param) -> Option<WeightId> {
    let is = |place: &Place| place.layer == param.layer && place.index == param.index;
    let mut all = net.training.parameters.iter();
    let own = all.find(|parameter| parameter.places.iter().any(is));
    own.map(|parameter| parameter.weight)
}

fn prune(
    engine: &mut dyn Engine,
    stream: &Stream,
    target: &Target,
    place: &Use,
    damping: f32,
) -> Result<LayerReport> {
    let mut moments = Moments::new(place.layout.clone());
    stream.run(engine, &mut |engine| {
        for &input in &place.inputs {
            moments.add(&engine.value(stream.id(), input));
        }
        Ok(())
    })?;
    let (means, blocks) = (moments.means(), moments.blocks());
    let mut weights = Vec::new();
    engine.edit(target.param, &mut |_, state| {
        weights = std::mem::take(&mut state.data)
    });
    let layer = engine.params()[target.param].layer.clone();
    let zeros = zeros_of(weights.len(), target.sparsity);
    let units = moments.into_units(&weights, place.bias.is_some());
    let outcome = reconstruction::prune(&units, zeros, damping);
    let Some(outcome) = outcome else {
        engine.edit(target.param, &mut |_, state| {
            state.data = std::mem::take(&mut weights)
        });
        return Err(Error::new("inputs whose second moments are no numbers")
            .layer(layer)
            .expected("finite inputs")
            .hint("correct the weights or the data"));
    };
    drop(units);
    let pruned = place.layout.join(&outcome.weights);
    if let Some(bias) = place.bias {
        let shifts = shifts(&place.layout, &weights, &pruned, &means);
        engine.edit(bias, &mut |_, state| {
            let all = state.data.iter_mut().zip(&shifts);
            all.for_each(|(b, shift)| *b = (f64::from(*b) + shift) as f32);
        });
    }
    let found = pruned.iter().filter(|w| **w == 0.0).count();
    let report = LayerReport {
        layer,
        weights: pruned.len(),
        sparsity: found as f64 / pruned.len().max(1) as f64,
        error: outcome.error,
        magnitude_error: outcome.magnitude_error,
        blocks,
    };
    let mut pruned = Some(pruned);
    engine.edit(target.param, &mut |_, state| {
        state.data = pruned.take().unwrap_or_default()
    });
    Ok(report)
}

/// What the mean output of each filter lost.
fn shifts(layout: &Layout, before: &[f32], after: &[f32], means: &[f64]) -> Vec<f64> {
    let (before, after) = (layout.rows(before), layout.rows(after));
    let columns = layout.columns;
    let rows = before
        .chunks_exact(columns)
        .zip(after.chunks_exact(columns));
    rows.enumerate()
        .map(|(row, (before, after))| {
            let means = &means[row / layout.filters * columns..][..columns];
            let change = before.iter().zip(after).map(|(a, b)| f64::from(a - b));
            change.zip(means).map(|(w, mean)| w * mean).sum()
        })
        .collect()
}
