//! Graph → plan: which kernel for which layer, in which layout, in which order.
//!
//! Stages, each of which needs only what the ones before it made: an [`Analysis`] of the network; the [`Layer`]s
//! that kernels can compute, each with its candidates; the candidate that is chosen and built
//! ([`select::Chosen`]), after trials if there is a tuner; [`drafts::Drafts`] of steps; and the plan, in which
//! buffers have places, code is published and loops are settled ([`link`]).

mod analysis;
mod drafts;
mod job;
mod kernel;
mod link;
mod lower;
mod rearrange;
mod select;
mod trial;
mod tune;

use crate::arena::give_back;
use crate::plan::Plan;
use crate::{Options, PlanError};
use analysis::Analysis;
use select::Layer;
use skimjit_kernels::jit::Isa;
use skimjit_models::{Graph, ValueId};

/// Plans a graph (already optimised) for its batch.
pub fn plan(graph: &Graph, isa: Isa, options: &Options) -> Result<Plan, PlanError> {
    let mut analysis = Analysis::of(graph, options)?;
    let nodes: Vec<usize> = (0..graph.nodes.len()).collect();
    let layer = |&node: &usize| Layer::of(&analysis, node, isa);
    // Code generation and packing take most of the time of a load, and layers are independent.
    let chosen = match &options.tuner {
        // What only the kernel of a layer needs, its pattern above all, is gone before the next one is made.
        None => options.map(&nodes, |node| layer(node)?.choose(&analysis, None, options)),
        // Trials come first and one at a time: code generation on other cores would disturb them.
        Some(tuner) => {
            let layers = options.map(&nodes, layer);
            let verdicts = tune::tune(&analysis, &layers, options, tuner)?;
            let decided = layers.into_iter().zip(verdicts).collect();
            options.map_owned(decided, |(layer, verdict)| {
                layer?.choose(&analysis, verdict.as_ref(), options)
            })
        }
    };
    for node in nodes.into_iter().filter(|&node| chosen[node].is_none()) {
        analysis.split_sum(node);
    }
    let (drafts, choices) = lower::lower(&analysis, chosen, isa)?;
    // What generating code took is not to be there beside the second copy of all code.
    give_back();
    let (batch, per_image) = (analysis.batch as usize, &analysis.per_image[..]);
    let ports = |values: &[ValueId]| values.iter().map(|&value| analysis.port(value)).collect();
    Ok(Plan {
        coupled: analysis.is_coupled(),
        inputs: ports(&graph.inputs),
        outputs: ports(&graph.outputs),
        choices,
        ..link::link(drafts, (isa, batch, per_image), options)?
    })
}
