//! InnerProduct and Embed.

use super::layer::{Layer, param};
use super::store::Wanted;
use skimjit_models::ops::{Embed, InnerProduct, PostOps};
use skimjit_models::{Op, Result, Shape};

/// InnerProduct. `gemm_mode` and the `spmdm_` fields choose an implementation of the same result
/// and are ignored.
pub(super) fn inner_product(layer: &mut Layer<'_>) -> Result<()> {
    add_inner_product(layer, PostOps::default())
}

/// An inner product with `post` behind it.
pub(super) fn add_inner_product(layer: &mut Layer<'_>, post: PostOps) -> Result<()> {
    let inner = param(&layer.def.inner_product_param);
    let input = layer.shape(0);
    let axis = layer.axis("inner_product_param.axis", inner.axis(), &input)?;
    let outputs = layer.positive("inner_product_param.num_output", inner.num_output)?;
    // Fits: a checked shape has at most 2³¹ elements.
    let summed = input.count_of(axis as usize, input.rank()) as u32;
    let transpose = inner.transpose();
    let dims = if transpose {
        vec![summed, outputs]
    } else {
        vec![outputs, summed]
    };
    let shape = layer.checked_shape("inner_product_param.num_output", dims)?;
    let has_bias = inner.bias_term();
    let mut expected = vec![Wanted::new(shape, inner.weight_filler)];
    if has_bias {
        expected.push(Wanted::new(Shape::new([outputs])?, inner.bias_filler));
    }
    let ids = layer.prunable_weights(&expected)?;
    let (weights, bias) = (ids[0], ids.get(1).copied());
    layer.node(Op::InnerProduct(InnerProduct {
        outputs,
        axis,
        transpose,
        weights,
        bias,
        post,
    }))
}

/// Embed.
pub(super) fn embed(layer: &mut Layer<'_>) -> Result<()> {
    let embed = param(&layer.def.embed_param);
    let outputs = layer.positive("embed_param.num_output", embed.num_output)?;
    let rows = layer.positive("embed_param.input_dim", embed.input_dim)?;
    let has_bias = embed.bias_term();
    let table = layer.checked_shape("embed_param.num_output", vec![rows, outputs])?;
    let mut expected = vec![Wanted::new(table, embed.weight_filler)];
    if has_bias {
        expected.push(Wanted::new(Shape::new([outputs])?, embed.bias_filler));
    }
    let ids = layer.weights(&expected)?;
    let (weights, bias) = (ids[0], ids.get(1).copied());
    layer.node(Op::Embed(Embed {
        outputs,
        weights,
        bias,
    }))
}
