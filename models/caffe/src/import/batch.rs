//! BatchReindex and Filter, and what may follow a Filter.

use super::layer::Layer;
use skimjit_models::{Error, Graph, Op, Result, Shape, ValueId};
use std::collections::HashMap;

/// BatchReindex.
pub(super) fn batch_reindex(layer: &mut Layer<'_>) -> Result<()> {
    layer.node(Op::BatchReindex)
}

/// Filter: one node per top; the last bottom selects.
pub(super) fn filter(layer: &mut Layer<'_>) -> Result<()> {
    let bottoms = layer.inputs.len();
    if layer.tops() + 1 != bottoms {
        return Err(layer
            .fault("top", format!("{} tops", layer.tops()))
            .expected(format!("{}, one less than bottoms", bottoms - 1)));
    }
    let inputs = layer.inputs.clone();
    for (top, &input) in inputs[..bottoms - 1].iter().enumerate() {
        layer.top(top, Op::Filter, vec![input, inputs[bottoms - 1]])?;
    }
    layer.warn(
        "shapes do not follow data: the chosen images come first, the rest of the batch is computed \
         from zeros; as many images count as the selector has elements that are not 0",
    );
    Ok(())
}

/// Refuses layers for which the images of zeros behind a Filter's chosen ones would count: those that
/// combine images, and those that pair them with images that the same selector did not choose.
pub(super) fn check_filtered(graph: &Graph) -> Result<()> {
    // Selector of each value that comes from a Filter.
    let mut selectors: HashMap<ValueId, ValueId> = HashMap::new();
    for node in &graph.nodes {
        let plain = || !node.inputs.iter().any(|id| selectors.contains_key(id));
        if matches!(node.op, Op::Filter) && plain() {
            selectors.insert(node.output, node.inputs[1]);
            continue;
        }
        let of = |id: &ValueId| selectors.get(id).copied();
        let Some(selector) = node.inputs.iter().find_map(of) else {
            continue;
        };
        let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
        let alike = node.inputs.iter().all(|id| of(id) == Some(selector));
        if !alike || !node.op.per_image(&shapes) {
            return Err(Error::new(
                "a bottom of which a Filter layer decides how many images there are",
            )
            .layer(node.name.clone())
            .field("bottom")
            .expected("the same number of images in every run")
            .hint("end the network at the Filter layer, or filter its results afterwards"));
        }
        selectors.insert(node.output, selector);
    }
    Ok(())
}
