//! Pruning without training: layer by layer, each so that its outputs on some batches change least.

use crate::columns::Columns;
use crate::engine::Engine;
use crate::net::Net;
use crate::param::{Param, Role};
use crate::trial::Stream;
use serde::Serialize;
use skimjit_models::{Error, Op, Place, Result, Shape, ValueId, WeightId};
use skimjit_pruning::calibration::{Layout, Moments};

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
    /// How windows are gathered, of a convolution.
    windows: Option<Columns>,
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
        let (layout, windows) = layout(&node.op, shape(input), shape(node.output))?;
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
                    windows,
                    inputs: vec![input],
                    bias,
                });
            }
        }
    }
    found
}

/// How the weights of convolutions and inner products lie, and what the windows of convolutions are.
fn layout(op: &Op, input: &Shape, output: &Shape) -> Option<(Layout, Option<Columns>)> {
    match op {
        Op::Convolution(op) => {
            let groups = op.groups as usize;
            let plane = |shape: &Shape| [2, 3].map(|axis| shape.dim(axis) as usize);
            let windows = Columns {
                channels: input.dim(1) as usize / groups,
                input: plane(input),
                output: plane(output),
                window: op.window,
            };
            let layout = Layout {
                groups,
                filters: op.oc as usize / groups,
                columns: windows.rows(),
                transposed: false,
            };
            Some((layout, Some(windows)))
        }
        Op::InnerProduct(op) => {
            let layout = Layout {
                groups: 1,
                filters: op.outputs as usize,
                columns: input.count_of(op.axis as usize, input.rank()),
                transposed: op.transpose,
            };
            Some((layout, None))
        }
        _ => None,
    }
}

/// Adds a batch of a layer's inputs.
fn add(moments: &mut Moments, place: &Use, input: &[f32]) {
    let Some(windows) = &place.windows else {
        return moments.add_rows(input);
    };
    let plane = windows.channels * windows.input[0] * windows.input[1];
    let mut scratch = vec![0.0; windows.rows() * windows.columns()];
    for (index, image) in input.chunks_exact(plane).enumerate() {
        windows.gather(image, &mut scratch);
        moments.add_windows(index % place.layout.groups, &scratch, windows.columns());
    }
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
            add(&mut moments, place, &engine.value(stream.id(), input));
        }
        Ok(())
    })?;
    let mut weights = Vec::new();
    engine.edit(target.param, &mut |_, state| {
        weights = std::mem::take(&mut state.data)
    });
    let layer = engine.params()[target.param].layer.clone();
    let pruned = moments.prune(&weights, place.bias.is_some(), target.sparsity, damping);
    let Some(mut pruned) = pruned else {
        engine.edit(target.param, &mut |_, state| {
            state.data = std::mem::take(&mut weights)
        });
        return Err(Error::new("inputs whose second moments are no numbers")
            .layer(layer)
            .expected("finite inputs")
            .hint("correct the weights or the data"));
    };
    if let (Some(bias), Some(shifts)) = (place.bias, &pruned.shifts) {
        engine.edit(bias, &mut |_, state| {
            let all = state.data.iter_mut().zip(shifts);
            all.for_each(|(b, shift)| *b = (f64::from(*b) + shift) as f32);
        });
    }
    let found = pruned.weights.iter().filter(|w| **w == 0.0).count();
    let report = LayerReport {
        layer,
        weights: pruned.weights.len(),
        sparsity: found as f64 / pruned.weights.len().max(1) as f64,
        error: pruned.error,
        magnitude_error: pruned.magnitude_error,
        blocks: pruned.blocks,
    };
    engine.edit(target.param, &mut |_, state| {
        state.data = std::mem::take(&mut pruned.weights)
    });
    Ok(report)
}
