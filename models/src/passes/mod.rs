//! Graph → graph rewrites that keep what the network computes.
//!
//! Each pass takes a checked graph ([`Graph::check`], [`Graph::infer_shapes`]) and returns one. The
//! values of `graph.outputs` survive with their names, in their order, and with the same numbers up
//! to rounding; every other value and every id may go. No value is left that nothing computes.

mod dead;
mod drop_identity;
mod fold_batch_norm;
mod fold_constants;
mod fuse_activations;
mod lower_binary;
mod merge_pads;
mod raise_strides;
mod recognise;
mod round_weights;
mod sink_permutes;
mod split_deconvolution;
mod uses;

pub use dead::run as dead;
pub use drop_identity::run as drop_identity;
pub use fold_batch_norm::run as fold_batch_norm;
pub use fold_constants::run as fold_constants;
pub use fuse_activations::run as fuse_activations;
pub use lower_binary::run as lower_binary;
pub use merge_pads::run as merge_pads;
pub use raise_strides::run as raise_strides;
pub use recognise::run as recognise;
pub use round_weights::{Rounded, inner_products_to_bf16};
pub use sink_permutes::run as sink_permutes;
pub use split_deconvolution::run as split_deconvolution;

use crate::{Graph, Result};

/// Checks the graph and runs all passes in the order in which each finds most to do.
pub fn optimize(mut graph: Graph) -> Result<Graph> {
    graph.check()?;
    graph.infer_shapes()?;
    // Without copies in between, the layers that belong together are neighbours; and a ReLU can
    // only be fused behind a convolution once the normalisation between them is folded.
    let graph = recognise(lower_binary(drop_identity(fold_constants(graph))));
    let graph = sink_permutes(graph);
    let graph = merge_pads(fold_batch_norm(graph));
    let graph = raise_strides(fuse_activations(graph));
    let mut graph = dead(split_deconvolution(graph));
    graph.infer_shapes()?;
    Ok(graph)
}
