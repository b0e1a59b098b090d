//! The CPU's layers.

use super::activation::{Activation, Copy, Dropout};
use super::batch_norm::BatchNorm;
use super::combine::{Concat, Eltwise, Slice};
use super::convolution::Convolution;
use super::inner_product::InnerProduct;
use super::layer::Layer;
use super::loss::Loss;
use super::lrn::Lrn;
use super::pooling::Pooling;
use super::reference::Reference;
use super::scale::{PRelu, Scale};
use super::softmax::Softmax;
use super::winograd::Winograd;
use crate::layer::{Kind, LayerSpec};
use skimjit_models::{Result, Weight};
use std::sync::Arc;

/// The layer of a node; `weights` are those of the graph, of which only constants have values.
pub fn layer(spec: &LayerSpec, weights: &[Arc<Weight>]) -> Result<Box<dyn Layer>> {
    let (inputs, output) = (&spec.inputs, &spec.output);
    Ok(match &spec.kind {
        Kind::Convolution(op) => Box::new(Convolution::new(op, &inputs[0], output)),
        Kind::Deconvolution(op) => Box::new(Convolution::transposed(op, &inputs[0], output)),
        Kind::Winograd(op) => Box::new(Winograd::new(op, &inputs[0], output)?),
        Kind::InnerProduct(op) => Box::new(InnerProduct::new(op, &inputs[0])),
        Kind::Pooling(op) => Box::new(Pooling::new(op, &inputs[0], output, None)),
        Kind::StochasticPooling(op, number) => {
            Box::new(Pooling::new(op, &inputs[0], output, Some(*number)))
        }
        Kind::Activation(op) => Box::new(Activation::new(op)),
        Kind::PRelu(slopes) => Box::new(PRelu::new(&inputs[0], *slopes)),
        Kind::Lrn(op) => Box::new(Lrn::new(op, &inputs[0])),
        Kind::BatchNorm(attributes) => Box::new(BatchNorm::new(attributes, &inputs[0])),
        Kind::Scale(attributes) => Box::new(Scale::new(attributes, &inputs[0])),
        Kind::Eltwise(op) => Box::new(Eltwise::new(op)),
        Kind::Concat(axis) => Box::new(Concat::new(*axis, inputs)),
        Kind::Slice(op) => Box::new(Slice::new(op, &inputs[0])),
        Kind::Copy => Box::new(Copy),
        Kind::Dropout(attributes) => Box::new(Dropout::new(attributes)),
        Kind::Softmax {
            axis,
            passes_gradient,
        } => Box::new(Softmax::new(*axis, &inputs[0], *passes_gradient)),
        Kind::Loss(kind) => Box::new(Loss::new(kind, inputs.clone(), weights.to_vec())),
        Kind::Reference(op) => Box::new(Reference::new(
            op.clone(),
            inputs.clone(),
            output.clone(),
            weights.to_vec(),
        )),
    })
}
