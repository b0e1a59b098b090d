//! Networks of one layer, with a kernel variant of one's choice.

use crate::{CompileOptions, Engine, Error, Model, Result};
use skimjit_models::ops::InnerProduct;
use skimjit_models::{Graph, Op};
use skimjit_runtime::kernels::{Weighting, registry};

/// A convolution or inner product of `graph` on its own, with its weights; `None` for other layers.
pub fn single(graph: &Graph, node: usize) -> Result<Option<Model>> {
    let node = &graph.nodes[node];
    let mut single = Graph {
        name: node.name.clone(),
        ..Graph::default()
    };
    let mut op = node.op.clone();
    if !matches!(
        op,
        Op::Convolution(_) | Op::InnerProduct(InnerProduct { axis: 1, .. })
    ) {
        return Ok(None);
    }
    for id in op.weights_mut() {
        single.weights.push(graph.weight(*id).clone());
        id.0 = single.weights.len() as u32 - 1;
    }
    let input = single.add_value("data", graph.shape(node.inputs[0]).clone());
    single.inputs.push(input);
    let output = single.add_node(&node.name, op, vec![input], "result")?;
    single.outputs.push(output);
    Ok(Some(Model::from_graph(single)?))
}

/// Compiles a network of one layer with that variant, or says why not.
pub fn force(model: &Model, options: &CompileOptions, variant: &str) -> Result<Engine> {
    let layers = model.graph().nodes.iter().map(|node| node.name.clone());
    let variants = layers.map(|layer| (layer, variant.to_owned())).collect();
    let engine = model.compile(&CompileOptions {
        variants,
        ..options.clone()
    })?;
    let Some(choice) = engine.plan().choices.first() else {
        return Err(Error::Usage(
            "found a network without layers, expected one".to_owned(),
        ));
    };
    if choice.variant == variant {
        return Ok(engine);
    }
    let reason = choice.rejected.iter().find(|(name, _)| name == variant);
    let known = choice.rejected.iter().map(|(name, _)| name.as_str());
    let known: Vec<&str> = std::iter::once(choice.variant.as_str())
        .chain(known)
        .collect();
    Err(Error::Usage(match reason {
        Some((_, reason)) => format!(
            "variant {variant} refuses layer \"{}\": {reason}",
            choice.layer
        ),
        None => format!(
            "variant: found \"{variant}\", expected one of: {}",
            known.join(", ")
        ),
    }))
}

/// True for variants that leave zero weights out.
pub fn is_sparse(variant: &str) -> bool {
    weighting(variant) == Some(Weighting::Sparse)
}

/// True for variants that multiply with zero weights.
pub fn is_dense(variant: &str) -> bool {
    weighting(variant) == Some(Weighting::Dense)
}

fn weighting(variant: &str) -> Option<Weighting> {
    registry::find(variant).map(|variant| variant.weighting())
}
