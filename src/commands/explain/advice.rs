//! What would make a network faster, computed from its layers' times and limits.

use super::Layer;
use super::limit::Speeds;
use crate::support::timing::median;
use serde::Serialize;
use skimjit::layer;
use std::collections::BTreeMap;

/// Most pieces of advice.
const MOST: usize = 3;
/// Density that pruning is assumed to reach.
const PRUNED: f64 = 0.15;
/// Layers this dense are worth pruning.
const WORTH_PRUNING: f64 = 0.3;
/// Share of its limit that a good kernel reaches.
const GOOD: f64 = 0.8;
/// Share of the limit that sparse kernels reach, where the network has none to learn it from.
const USUAL: f64 = 0.5;
/// Least share of the network's time that is worth a word.
const LEAST_SHARE: f64 = 0.01;

/// One thing to do.
#[derive(Serialize)]
pub struct Advice {
    /// In words.
    pub action: String,
    /// Time it saves, estimated.
    pub saves_ms: f64,
    /// Time of the network then.
    pub network_ms: f64,
}

/// The best pieces of advice, best first.
pub fn best(layers: &[Layer], speeds: &Speeds, total_ms: f64) -> Vec<Advice> {
    let mut all: Vec<Advice> = layers
        .iter()
        .filter_map(|layer| prune(layer, layers, speeds, total_ms))
        .chain(kernels(layers, total_ms))
        .filter(|advice| advice.saves_ms > LEAST_SHARE * total_ms)
        .collect();
    all.sort_by(|a, b| b.saves_ms.total_cmp(&a.saves_ms));
    all.truncate(MOST);
    all
}

fn advice(action: String, saves_ms: f64, total_ms: f64) -> Advice {
    Advice {
        action,
        saves_ms,
        network_ms: total_ms - saves_ms,
    }
}

/// Time of a layer if a share of its weights were zero: the limit then, over the share of the limit
/// that the network's sparse layers of its kind reach. `None` for layers without weights.
pub fn pruned_ms(layer: &Layer, layers: &[Layer], speeds: &Speeds, zeros: f64) -> Option<f64> {
    let density = layer.density?;
    let alike = layers
        .iter()
        .filter(|other| other.kind == layer.kind && layer::is_sparse(&other.variant));
    let reached: Vec<f64> = alike
        .filter(|other| other.time_ms > 0.0)
        .map(|other| other.limit.limit_ms / other.time_ms)
        .collect();
    let reached = if reached.is_empty() {
        USUAL
    } else {
        median(reached).clamp(0.05, 1.0)
    };
    let limit = speeds.pruned(
        &layer.limit,
        layer.macs,
        layer.weights,
        [density, 1.0 - zeros],
    );
    Some(limit.limit_ms / reached)
}

/// Pruning a dense layer; its kernel is expected to do as well as the network's other sparse ones.
fn prune(layer: &Layer, layers: &[Layer], speeds: &Speeds, total_ms: f64) -> Option<Advice> {
    let density = layer.density.filter(|&density| density > WORTH_PRUNING)?;
    let time_ms = pruned_ms(layer, layers, speeds, 1.0 - PRUNED)?;
    let action = format!(
        "prune {} ({:.0} % dense, {:.1} % of the time) to {:.0} % zeros: {:.3} ms instead of {:.3} ms",
        layer.layer,
        density * 1e2,
        layer.time_ms / total_ms * 1e2,
        (1.0 - PRUNED) * 1e2,
        time_ms,
        layer.time_ms,
    );
    Some(advice(action, layer.time_ms - time_ms, total_ms))
}

/// Better kernels, for all layers of a variant.
fn kernels(layers: &[Layer], total_ms: f64) -> Vec<Advice> {
    let mut variants: BTreeMap<&str, Vec<&Layer>> = BTreeMap::new();
    for layer in layers.iter().filter(|layer| layer.limit.limit_ms > 0.0) {
        variants.entry(&layer.variant).or_default().push(layer);
    }
    let saved = |layer: &&Layer| (layer.time_ms - layer.limit.limit_ms / GOOD).max(0.0);
    variants
        .into_iter()
        .map(|(variant, layers)| {
            let sum = |part: &dyn Fn(&&Layer) -> f64| layers.iter().map(part).sum::<f64>();
            let (time, limit) = (sum(&|l| l.time_ms), sum(&|l| l.limit.limit_ms));
            let many = match &layers[..] {
                [layer] => layer.layer.clone(),
                _ => format!("{} layers", layers.len()),
            };
            let action = format!(
                "a faster {variant} ({many}, {:.1} % of the time, {:.2} times the limit): {:.2} times \
                 the limit for each layer",
                time / total_ms * 1e2,
                time / limit,
                1.0 / GOOD
            );
            advice(action, sum(&saved), total_ms)
        })
        .collect()
}
