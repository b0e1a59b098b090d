//! InnerProduct.

use super::layer::{Layer, param};
use crate::ops::{InnerProduct, PostOps};
use crate::{Op, Result, Shape};

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
    let mut expected = vec![layer.checked_shape("inner_product_param.num_output", dims)?];
    if inner.bias_term() {
        expected.push(Shape::new([outputs])?);
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
