//! A network of the zoo with made-up weights.

use super::measure::Measure;
use super::report::Case;
use skimjit_program::progress;
use crate::commands::synth::usual_sparsity;
use skimjit::{Error, Model, Result, layer};
use skimjit_caffe::import;
use skimjit_caffe::zoo::{self, Net, Sparsity};
use skimjit_models::{Graph, passes};

/// Layers beside their dense kernels, and the whole network unless only some layers are wanted.
pub fn cases(
    measure: &Measure,
    net: &Net,
    sparsity: Option<Sparsity>,
    wanted: &[String],
    batches: &[u32],
) -> Result<Vec<Case>> {
    let sparsity = sparsity.unwrap_or_else(|| usual_sparsity(net));
    let graph = graph(net, sparsity, measure.seed)?;
    let singles = singles(&graph, wanted)?;
    let model = Model::from_graph(graph)?;
    let network = match sparsity {
        Sparsity::Published => format!("{}, published sparsities", net.name),
        Sparsity::Percent(percent) => format!("{}, {percent} % zeros", net.name),
    };
    let case = |&batch: &u32| {
        let mut case = Case {
            network: network.clone(),
            batch,
            verified_difference: 0.0,
            layers: Vec::new(),
            sweeps: Vec::new(),
            whole: None,
        };
        let whole = std::slice::from_ref(&model);
        for checked in if wanted.is_empty() { whole } else { &singles } {
            let difference = measure.verified(checked, batch)?;
            case.verified_difference = case.verified_difference.max(difference);
        }
        let bar = progress::bar("layers", singles.len() as u64);
        for single in &singles {
            case.layers.push(measure.layer(single, batch)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if wanted.is_empty() {
            let whole = progress::spin("whole network", || measure.whole(&model, batch));
            case.whole = Some(whole?);
        }
        Ok(case)
    };
    batches.iter().map(case).collect()
}

/// A network with made-up weights.
pub fn graph(net: &Net, sparsity: Sparsity, seed: u64) -> Result<Graph> {
    let made = progress::spin("making weights", || zoo::synthesize(net, sparsity, seed))?;
    Ok(import::import(made, Vec::new(), &import::ImportOptions::default())?.graph)
}

/// Networks of one layer each: the wanted ones, or all with weights.
pub fn singles(graph: &Graph, wanted: &[String]) -> Result<Vec<Model>> {
    let optimized = passes::optimize(graph.clone())?;
    let mut singles = Vec::new();
    for node in 0..optimized.nodes.len() {
        if wanted.is_empty() || wanted.contains(&optimized.nodes[node].name) {
            singles.extend(layer::single(&optimized, node)?);
        }
    }
    let is_made = |name: &&String| singles.iter().any(|single| single.graph().name == **name);
    let Some(missing) = wanted.iter().find(|name| !is_made(name)) else {
        return Ok(singles);
    };
    let nodes = optimized.nodes.iter();
    let weighted = nodes.filter(|node| !node.op.weights().is_empty());
    let names: Vec<&str> = weighted.map(|node| node.name.as_str()).collect();
    let list = names.join(", ");
    Err(Error::Usage(format!(
        "--layers: found \"{missing}\", expected one of: {list}"
    )))
}
